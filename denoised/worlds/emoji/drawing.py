"""Scenes as pictures, and the ground truth that comes with them: masks, edges, depth and key points.

Everything is vectorised over scenes and has no randomness. `size` is the side of the picture in pixels, 32
or 64 or any other multiple of 16.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.worlds.emoji.atlas import ACCESSORIES, BACKGROUNDS, STYLES, TEXTURES, load_atlas
from denoised.worlds.emoji.scenes import SLOTS, Scenes

EDGE = 0.35  # change of colour between neighbouring pixels, of 2, that counts as an edge
# Where an accessory's sprite lies when it is worn: glasses lens on eye, hat brim on the crown. In fractions
# of the sprite: the two lens centres, and the middle of the brim.
_LENSES, _LENS_Y = (0.28, 0.72), 0.5
_BRIM = (0.5, 0.80)
_HAT_SIDE = 0.5  # of the side of the wearer's box


def render(scenes: Scenes, size: int = 32) -> Tensor:
    """The pictures: (n, 3, size, size) float32 in [-1, 1]."""
    placed, coverage = _foreground(scenes, size)
    picture = _backgrounds(size)[scenes.background, scenes.texture]
    picture.mul_(1 - coverage).add_(placed)
    for number, (style, _, _) in enumerate(STYLES):
        rows = (scenes.style == number).nonzero().squeeze(1)
        if style != "none" and len(rows):
            picture[rows] = _styled(style, picture[rows], placed[rows], coverage[rows])
    return picture.mul_(2).sub_(1)


def masks(scenes: Scenes, size: int = 32) -> Tensor:
    """(n, 4, size, size) float32 in [0, 1]: how much of each pixel each slot's thing covers.

    What a thing wears is not part of it: see `accessory_masks`.
    """
    covered = []
    for slot in range(SLOTS):
        canvas = torch.zeros(len(scenes), 4, size, size)
        _paint_things(canvas, scenes, slot)
        covered.append(canvas[:, 3])
    return torch.stack(covered, dim=1)


def accessory_masks(scenes: Scenes, size: int = 32) -> Tensor:
    """(n, 1, size, size) float32 in [0, 1]: how much of each pixel the glasses or the hat covers."""
    canvas = torch.zeros(len(scenes), 4, size, size)
    _paint_worn(canvas, scenes)
    return canvas[:, 3:]


def edges(scenes: Scenes, size: int = 64) -> Tensor:
    """(n, 1, size, size) float32, 0 or 1: where the colours of the objects change sharply or they end.

    Found by Sobel's filter on the scene before any style, on a background that no object has the colour of
    (grey of 0.5), so that it shows neither texture nor background.
    """
    placed, coverage = _foreground(scenes, size)
    channels = torch.cat([2 * (placed + (1 - coverage) * 0.5), 2 * coverage], dim=1)
    return (_sobel(channels).amax(dim=1, keepdim=True) > EDGE).float()


def depth(scenes: Scenes, size: int = 64) -> Tensor:
    """(n, 1, size, size) float32 in [0, 1]: the painter's order. 0 is the background, 1 the front-most thing.

    A pixel belongs to the last thing that covers at least half of it.
    """
    covered = masks(scenes, size) >= 0.5
    count = (scenes.side > 0).sum(dim=1).view(-1, 1, 1, 1)
    layer = torch.arange(1, SLOTS + 1).view(1, -1, 1, 1) / count
    return torch.where(covered, layer, 0.0).amax(dim=1, keepdim=True)


def keypoints(scenes: Scenes) -> Tensor:
    """(n, 4, 3, 2) float32: x and y in [0, 1] of each slot's left eye, right eye and crown.

    nan where a slot is empty or its thing has no face seen from the front.
    """
    things = scenes.things()
    points = _keypoints()[things]  # of slot -1 too, overwritten below
    corner = torch.stack([scenes.x - scenes.side / 2, scenes.y - scenes.side / 2], dim=2)
    points = corner[:, :, None] + points * scenes.side[:, :, None, None]
    return torch.where((things >= 0)[:, :, None, None], points, torch.nan)


@lru_cache(maxsize=1)
def _keypoints() -> Tensor:
    points = torch.full((len(load_atlas().all), 3, 2), torch.nan)
    for i, thing in enumerate(load_atlas().all):
        if thing.wearable:
            points[i] = torch.tensor(thing.keypoints)
    return points


def _foreground(scenes: Scenes, size: int) -> tuple[Tensor, Tensor]:
    """Everything but the background: premultiplied colour (n, 3, …) and coverage (n, 1, …)."""
    canvas = torch.zeros(len(scenes), 4, size, size)
    for slot in range(SLOTS):
        _paint_things(canvas, scenes, slot)
        if slot == 0:
            _paint_worn(canvas, scenes)
    return canvas[:, :3], canvas[:, 3:]


def _paint_things(canvas: Tensor, scenes: Scenes, slot: int) -> None:
    """Paint one slot's things over the canvas (n, 4, size, size), in place."""
    numbers = scenes.things()[:, slot]
    rows = (numbers >= 0).nonzero().squeeze(1)
    x, y, side = scenes.x[rows, slot], scenes.y[rows, slot], scenes.side[rows, slot]
    _paint(canvas, rows, False, numbers[rows], x, y, side)


def _paint_worn(canvas: Tensor, scenes: Scenes) -> None:
    """Paint what the first things wear over the canvas, in place."""
    rows = (scenes.accessory > 0).nonzero().squeeze(1)
    left, right, crown = keypoints(scenes[rows])[:, 0].unbind(1)
    glasses = scenes.accessory[rows] == [a[0] for a in ACCESSORIES].index("glasses")
    side = torch.where(
        glasses, (right - left)[:, 0] / (_LENSES[1] - _LENSES[0]), _HAT_SIDE * scenes.side[rows, 0]
    )
    x = torch.where(glasses, (left + right)[:, 0] / 2, crown[:, 0] + (0.5 - _BRIM[0]) * side)
    y = torch.where(glasses, left[:, 1] + (0.5 - _LENS_Y) * side, crown[:, 1] + (0.5 - _BRIM[1]) * side)
    _paint(canvas, rows, True, scenes.accessory[rows] - 1, x, y, side)


def _paint(
    canvas: Tensor, rows: Tensor, accessories: bool, numbers: Tensor, x: Tensor, y: Tensor, side: Tensor
) -> None:
    """Paint sprites over rows of the canvas, in place, each in its box (centre x, y and side, in fractions)."""
    if not len(rows):
        return
    size = canvas.shape[-1]
    pixels, left, top = side * size, (x - side / 2) * size, (y - side / 2) * size
    corners = torch.stack([pixels, left, top])
    whole = ((corners - corners.round()).abs() < 1e-3).all(dim=0)
    # Whole pixels, as in full scenes: copy a picture that was scaled once. Sampling anew costs five times that.
    for width in pixels[whole].round().long().unique().tolist():
        chosen = (whole & (pixels.round() == width)).nonzero().squeeze(1)
        layer = _scaled(accessories, width)[numbers[chosen]]
        # Every window of the canvas as a view: an index for each window, not for each pixel.
        windows = canvas.unfold(2, width, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)
        where = rows[chosen], top[chosen].round().long(), left[chosen].round().long()
        windows[where] = windows[where] * (1 - layer[:, 3:]) + layer
    rest = (~whole).nonzero().squeeze(1)
    if len(rest):
        layer = _sampled(accessories, numbers[rest], x[rest], y[rest], side[rest], size)
        if len(rest) == len(canvas):  # all of them: no need to gather
            canvas.mul_(1 - layer[:, 3:]).add_(layer)
        else:
            canvas[rows[rest]] = canvas[rows[rest]] * (1 - layer[:, 3:]) + layer


@lru_cache(maxsize=2)
def _sprites(accessories: bool) -> tuple[Tensor, Tensor]:
    """The sprites and the same at half their size."""
    sprites = load_atlas().accessories if accessories else load_atlas().sprites
    return sprites, F.avg_pool2d(sprites, 2)


@lru_cache(maxsize=16)
def _scaled(accessories: bool, width: int) -> Tensor:
    """(sprites, 4, width, width): every sprite scaled to `width` pixels."""
    count = len(_sprites(accessories)[0])
    middle, one = torch.full((count,), 0.5), torch.ones(count)
    return _sampled(accessories, torch.arange(count), middle, middle, one, width)


def _sampled(accessories: bool, numbers: Tensor, x: Tensor, y: Tensor, side: Tensor, size: int) -> Tensor:
    """(n, 4, size, size): sprites moved and scaled into their boxes, bilinearly, without aliasing."""
    full, halved = _sprites(accessories)
    scale = 1 / side
    zero = torch.zeros_like(scale)
    theta = torch.stack(
        [
            torch.stack([scale, zero, (1 - 2 * x) * scale], dim=1),
            torch.stack([zero, scale, (1 - 2 * y) * scale], dim=1),
        ],
        dim=1,
    )
    # Where a sprite is minified, draw finer than asked and average, and start from one averaged before:
    # bilinear sampling alone would skip pixels.
    fine = size * 2 if size < full.shape[-1] else size
    small = side * fine < 0.75 * full.shape[-1]
    placed = torch.empty(len(numbers), 4, fine, fine)
    for bank, chosen in ((full, ~small), (halved, small)):
        rows = chosen.nonzero().squeeze(1)
        if len(rows):
            grid = F.affine_grid(theta[rows], [len(rows), 4, fine, fine], align_corners=False)
            placed[rows] = F.grid_sample(bank[numbers[rows]], grid, align_corners=False)
    return F.avg_pool2d(placed, fine // size) if fine > size else placed


@lru_cache(maxsize=4)
def _backgrounds(size: int) -> Tensor:
    """(backgrounds, textures, 3, size, size) in [0, 1]."""
    colours = torch.tensor([rgb for _, _, rgb in BACKGROUNDS], dtype=torch.float32) / 255
    # The second colour of a texture: lighter on dark backgrounds, darker on light ones.
    dark = colours.mean(dim=1, keepdim=True) < 0.62
    second = torch.where(dark, colours + 0.35 * (1 - colours), 0.8 * colours)
    pixel = (torch.arange(size) + 0.5) * 64 / size
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    patterns = {
        "plain": torch.zeros(size, size),
        "striped": ((x // 8) % 2).float(),
        "dotted": ((((x % 16) - 8) ** 2 + ((y % 16) - 8) ** 2) < 4.2**2).float(),
        "checked": ((x // 8 + y // 8) % 2).float(),
    }
    pattern = torch.stack([patterns[texture] for texture, _, _ in TEXTURES])[None, :, None]
    return colours[:, None, :, None, None] * (1 - pattern) + second[:, None, :, None, None] * pattern


def _styled(style: str, picture: Tensor, placed: Tensor, coverage: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) in [0, 1] in another style."""
    size = picture.shape[-1]
    if style == "mosaic":  # sixteen tiles a side
        return F.interpolate(F.adaptive_avg_pool2d(picture, 16), size=(size, size), mode="nearest")
    if style == "greyscale":
        return _luma(picture).expand(-1, 3, -1, -1)
    if style == "sketch":  # dark lines on white paper, the objects alone
        lines = _sobel(2 * _luma(placed + (1 - coverage)))
        return (1 - 0.9 * lines.clamp(max=1)).expand(-1, 3, -1, -1)
    # A sticker: a white rim around the object, and a thin grey line around the rim.
    width = max(1, size // 32)
    rim = F.max_pool2d(coverage, 2 * width + 1, 1, width)
    line = F.max_pool2d(coverage, 2 * width + 3, 1, width + 1)
    picture = picture * (1 - line) + 0.55 * line
    picture = picture * (1 - rim) + rim
    return picture * (1 - coverage) + placed


def _luma(picture: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601
    return (picture * weights).sum(dim=1, keepdim=True)


def _sobel(channels: Tensor) -> Tensor:
    """The size of each channel's gradient per pixel, same shape."""
    n, c, h, w = channels.shape
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    kernels = torch.stack([kernel, kernel.T])[:, None]
    padded = F.pad(channels.reshape(n * c, 1, h, w), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernels).square().sum(dim=1).sqrt().reshape(n, c, h, w)

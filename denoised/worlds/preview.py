"""What each world looks like: one picture with a caption for each thing in it, for a person and for the site."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from denoised.language import Language
from denoised.pictures import grid
from denoised.worlds.clips import MOTIONS, Clips, render_clips, sample_clips
from denoised.worlds.emoji import render, sample_scenes
from denoised.worlds.fashion_mnist import CLASSES, FashionMnist, load_fashion_mnist
from denoised.worlds.toys import TOYS, Density, toy

COLUMNS, ROWS = 6, 4  # of emoji scenes
PLAIN_BELOW = 64  # pixels: too few for the small things of full scenes
CLIPS_TO_CHOOSE_FROM = 400
CLOTHES = 16  # of each class


@dataclass(frozen=True)
class Preview:
    """A picture, and what is on it in reading order."""

    picture: Image.Image
    captions: list[str]


def preview_emoji(seed: int, size: int, language: Language) -> Preview:
    """COLUMNS × ROWS scenes of `size` pixels: everything there is, or single objects below 64 pixels."""
    scenes = sample_scenes(COLUMNS * ROWS, seed, "test", "plain" if size < PLAIN_BELOW else "full")
    return Preview(grid(render(scenes, size), COLUMNS), scenes.captions(language))


def preview_clips(seed: int, size: int, language: Language) -> Preview:
    """A contact strip: one clip of each motion, a row each, its frames from left to right."""
    clips = choose_clips(seed)
    return Preview(grid(render_clips(clips, size).flatten(0, 1), clips.frames), clips.captions(language))


def choose_clips(seed: int) -> Clips:
    """One clip of each motion: the first that the seed draws."""
    clips = sample_clips(CLIPS_TO_CHOOSE_FROM, seed, "test")
    motions = clips.motion.tolist()
    return clips[[motions.index(motion) for motion in range(len(MOTIONS)) if motion in motions]]


def preview_fashion_mnist(folder: Path | None, seed: int, language: Language) -> Preview:
    """A row of test pictures, at twice their size, for each class. DenoisedError as `load_fashion_mnist`."""
    clothes, chosen = choose_clothes(folder, seed)
    doubled = clothes.pictures[chosen.flatten()].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    captions = [CLASSES[number].to(language) for number in clothes.labels[chosen[:, 0]].tolist()]
    return Preview(grid(-doubled.expand(-1, 3, -1, -1), chosen.shape[1]), captions)


def choose_clothes(folder: Path | None, seed: int) -> tuple[FashionMnist, Tensor]:
    """The test split, and the numbers of equally many of its pictures for each class: (classes, many) int64.

    Classes that have none are left out. DenoisedError as `load_fashion_mnist`.
    """
    clothes = load_fashion_mnist(folder, "test")
    shuffled = torch.randperm(len(clothes), generator=torch.Generator().manual_seed(seed))
    rows = [shuffled[clothes.labels[shuffled] == number] for number in range(len(CLASSES))]
    rows = [row for row in rows if len(row)]
    return clothes, torch.stack([row[: min(CLOTHES, *map(len, rows))] for row in rows])


# --- toy densities ---------------------------------------------------------------------------------------

PAIRS = 2  # densities beside each other; each is a pair of panels
POINTS = 800  # that are drawn of each density
ARROWS = 19  # a side
NOISE = 0.15  # of the noised panels, as a fraction of the density's spread
COLOURS = 64  # of a published panel: shades of two colours and of ink
_FINER = 3  # drawn this many times larger, then averaged
_GAP, _MARGIN, _TITLE = 8, 24, 26  # pixels between a pair's panels, around a pair, and above its panels
_INK, _GREY, _FRAME = (28, 33, 48), (110, 116, 130), (205, 209, 217)
_COLD, _WARM = (120, 183, 224), (240, 148, 84)  # where a density is highest


def preview_toys(seed: int, size: int, language: Language) -> Preview:
    """For each toy density two panels of `size` pixels: points of it, and the exact score under noise.

    An arrow points from x along the score of x_0 + s eps. Its length is that of s² times the score, so that it
    ends at the mean of all x_0 that may have become x, unless that is further than arrows may reach.
    """
    pairs = [_pair(name, seed, size) for name in TOYS]
    width, height = pairs[0].width + _MARGIN, pairs[0].height + _MARGIN
    rows = -(-len(pairs) // PAIRS)
    sheet = Image.new("RGB", (PAIRS * width + _MARGIN, rows * height + _MARGIN), "white")
    for number, pair in enumerate(pairs):
        sheet.paste(pair, (_MARGIN + number % PAIRS * width, _MARGIN + number // PAIRS * height))
    return Preview(sheet, [f"{name}: {each.name.to(language)}" for name, each in TOYS.items()])


def _pair(name: str, seed: int, size: int) -> Image.Image:
    """One density: its name, its points and its score."""
    density = toy(name)
    points = density.sample(POINTS, seed)
    extent, s = framing(density, seed)
    square = Window(torch.zeros(2), torch.full((2,), extent))
    clean, noised = _heat(density, square, 0.0, size, _COLD), _heat(density, square, s, size, _WARM)
    _dots(clean, points, square)
    _arrows(noised, density, square, s)

    pair = Image.new("RGB", (2 * size + _GAP, size + _TITLE), "white")
    draw, font = ImageDraw.Draw(pair), ImageFont.load_default(max(10, size // 16))
    draw.text((0, _TITLE // 2), name, _INK, font, anchor="lm")
    draw.text((pair.width, _TITLE // 2), f"score, s = {s:.2f}", _GREY, font, anchor="rm")
    for left, panel in ((0, clean), (size + _GAP, noised)):
        pair.paste(panel.resize((size, size), Image.Resampling.BOX), (left, _TITLE))
        draw.rectangle((left, _TITLE, left + size - 1, _TITLE + size - 1), outline=_FRAME)
    return pair


def points_over(density: Density, points: Tensor, size: int) -> tuple[Image.Image, int]:
    """Points (n, 2) over the density they ought to follow, and how many lie outside the picture.

    `size` pixels wide, or high where the density is higher than wide; both axes have one scale.
    """
    window = window_on(density)
    panel = _heat(density, window, 0.0, size, _COLD)
    _dots(panel, points, window)
    outside = int(((points - window.centre).abs() > window.half).any(dim=1).sum())
    small = panel.resize(window.pixels(size), Image.Resampling.BOX)
    return _in_shades(small), outside


def _in_shades(picture: Image.Image) -> Image.Image:
    """The picture in COLOURS colours: even steps from white to the density's, so that no rings appear, and to ink."""
    white, cold, ink = (torch.tensor(each, dtype=torch.float64) for each in ((255, 255, 255), _COLD, _INK))
    ramps = ((white, cold, COLOURS // 2), (white, ink, COLOURS // 4), (cold, ink, COLOURS // 4))
    shades = torch.cat(
        [torch.lerp(a, b, torch.linspace(0, 1, n).double()[:, None]) for a, b, n in ramps]
    ).round()
    pixels = torch.from_numpy(np.array(picture)).double()
    nearest = torch.cdist(pixels.reshape(-1, 3), shades).argmin(dim=1).to(torch.uint8)
    drawn = Image.fromarray(nearest.reshape(pixels.shape[:2]).numpy(), mode="P")
    drawn.putpalette(shades.to(torch.uint8).flatten().tolist())
    return drawn


@dataclass(frozen=True)
class Window:
    """A rectangle of the plane: its centre (2,), and how far it reaches from there along each axis (2,)."""

    centre: Tensor
    half: Tensor

    def pixels(self, size: int) -> tuple[int, int]:
        """Width and height of a picture of it whose longer side has `size` pixels."""
        width, height = (size * self.half / self.half.max()).round().int().tolist()
        return width, height


def window_on(density: Density) -> Window:
    """The window that shows a density, a fifth wider than a sample of it, and at most 2.5 times as long as wide."""
    points = density.sample(POINTS, 0)
    low, high = points.amin(dim=0), points.amax(dim=0)
    half = 1.2 * (high - low) / 2
    return Window((low + high) / 2, half.clamp(min=0.4 * float(half.max())))


def framing(density: Density, seed: int) -> tuple[float, float]:
    """How far a density's panels reach from 0 each way, and the noise level of the second of them."""
    points = density.sample(POINTS, seed)
    return 1.2 * float(points.abs().max()), NOISE * float(points.std(dim=0).mean())


def _heat(density: Density, window: Window, s: float, size: int, colour: tuple[int, int, int]) -> Image.Image:
    """The density in a window, white to `colour`, as the root of its height; _FINER times `window.pixels(size)`."""
    width, height = window.pixels(size)
    log = density.log_prob(_lattice(width, height, window), 1.0, s)
    shade = ((log - log.max()) / 2).exp()[..., None]
    pixels = 255 + shade * (torch.tensor(colour) - 255)
    picture = Image.fromarray(pixels.round().to(torch.uint8).numpy())
    return picture.resize((_FINER * width, _FINER * height), Image.Resampling.BICUBIC)


def _lattice(width: int, height: int, window: Window) -> Tensor:
    """(height, width, 2) float64: the centres of as many cells, the first row uppermost."""
    x, y = ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in (width, height))
    grid_y, grid_x = torch.meshgrid(-y, x, indexing="ij")
    return window.centre + window.half * torch.stack([grid_x, grid_y], dim=2)


def _on(panel: Image.Image, points: Tensor, window: Window) -> Tensor:
    """Points (..., 2) in pixels of the panel, whose vertical axis points down."""
    place = (points - window.centre) / window.half * torch.tensor([1.0, -1.0])
    return (place + 1) / 2 * torch.tensor([panel.width, panel.height])


def _dots(panel: Image.Image, points: Tensor, window: Window) -> None:
    draw, radius = ImageDraw.Draw(panel), max(panel.size) / 260
    for x, y in _on(panel, points, window).tolist():
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), _INK)


def _arrows(panel: Image.Image, density: Density, window: Window, s: float) -> None:
    draw, line = ImageDraw.Draw(panel), max(1, round(panel.width / 320))
    extent = float(window.half.max())
    start = _lattice(ARROWS, ARROWS, window).reshape(-1, 2)
    step = s**2 * density.score(start, 1.0, s)
    length = step.norm(dim=1, keepdim=True).clamp(min=1e-12 * extent)
    longest = 0.85 * 2 * extent / ARROWS
    step = step * (longest / length * torch.tanh(length / longest))
    tails, tips = (_on(panel, each, window).tolist() for each in (start, start + step))
    for (x0, y0), (x1, y1) in zip(tails, tips, strict=True):
        reach = math.hypot(x1 - x0, y1 - y0)
        if reach < 2 * line:  # where the score is nothing, a dot
            draw.ellipse((x0 - line, y0 - line, x0 + line, y0 + line), _INK)
            continue
        angle, head = math.atan2(y1 - y0, x1 - x0), min(6.0 * line, 0.6 * reach)
        wings = [
            (x1 - head * math.cos(angle + turn), y1 - head * math.sin(angle + turn)) for turn in (-0.45, 0.45)
        ]
        draw.line((x0, y0, x1 - head / 2 * math.cos(angle), y1 - head / 2 * math.sin(angle)), _INK, line)
        draw.polygon([(x1, y1), *wings], _INK)

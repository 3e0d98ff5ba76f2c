"""The emoji world: small scenes drawn from an embedded atlas, with exact captions, boxes and masks.

A scene is one object, somewhere, at some size, on a plain background. `sample_scenes` draws what is in
the scenes, `render` draws the pictures. Both are vectorised, and scene i of a seed does not depend on how
many scenes are asked for. Every object misses one background in training (`held_out_background`), so that
"new combinations" can be tested.

Pictures are (n, 3, size, size) float32 in [-1, 1], the range diffusion networks work in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from denoised.project import find_root
from denoised.worlds.korean import with_particle

Split = Literal["train", "test", "compositions"]

# Name in English, in Korean (as it stands before a noun), and sRGB colour.
BACKGROUNDS: tuple[tuple[str, str, tuple[int, int, int]], ...] = (
    ("red", "빨간", (214, 69, 65)),
    ("orange", "주황", (240, 150, 60)),
    ("yellow", "노란", (246, 214, 92)),
    ("green", "초록", (88, 168, 92)),
    ("mint", "민트색", (140, 216, 188)),
    ("sky-blue", "하늘색", (150, 206, 240)),
    ("blue", "파란", (60, 104, 190)),
    ("purple", "보라", (132, 92, 176)),
    ("pink", "분홍", (246, 176, 196)),
    ("brown", "갈색", (132, 94, 70)),
    ("grey", "회색", (150, 152, 156)),
    ("white", "흰", (250, 250, 250)),
)
SIZES = (0.6, 0.95)  # an object's box as a fraction of the picture's side
# Scenes of different splits never share a random stream, whatever the seed.
_SPLIT_STREAM: dict[Split, int] = {"train": 0, "test": 1, "compositions": 2}


@dataclass(frozen=True)
class Object:
    """One entry of the atlas: its id, group, emoji and names."""

    id: str
    emoji: str
    group: str
    en: str
    ko: str


@dataclass(frozen=True)
class Atlas:
    """The embedded objects and their pictures.

    `sprites`: (objects, 4, 64, 64) float32 in [0, 1], premultiplied RGBA.
    """

    objects: tuple[Object, ...]
    sprites: Tensor

    def index(self, object_id: str) -> int:
        """The class number of an object; ValueError names the known ids."""
        ids = [o.id for o in self.objects]
        if object_id not in ids:
            raise ValueError(f"unknown object {object_id!r}; the emoji world has {', '.join(ids)}")
        return ids.index(object_id)


@dataclass(frozen=True)
class Scenes:
    """n scenes as columns, each of shape (n,).

    `object` and `background` are class numbers (int64); `x`, `y` the centre and `size` the side of the
    object's box, as fractions of the picture's side (float32), so that a scene has no resolution.
    """

    object: Tensor
    background: Tensor
    x: Tensor
    y: Tensor
    size: Tensor

    def __len__(self) -> int:
        return len(self.object)

    def boxes(self) -> Tensor:
        """(n, 4) float32: left, top, right, bottom of each object's box in [0, 1]."""
        half = self.size / 2
        return torch.stack([self.x - half, self.y - half, self.x + half, self.y + half], dim=1)

    def captions(self, language: Literal["ko", "en"]) -> list[str]:
        """One exact sentence for each scene."""
        objects = load_atlas().objects
        pairs = zip(self.object.tolist(), self.background.tolist(), strict=True)
        return [caption(objects[o], b, language) for o, b in pairs]


def caption(thing: Object, background: int, language: Literal["ko", "en"]) -> str:
    """The sentence for `thing` on a background, with the right article or particle."""
    name_en, name_ko, _ = BACKGROUNDS[background]
    if language == "ko":
        return f"{name_ko} 배경에 {with_particle(thing.ko, '이', '가')} 있다"
    return f"{_article(thing.en)} on {_article(name_en.replace('-', ' '))} background"


def _article(noun: str) -> str:
    if noun == "grapes":  # the atlas's one plural
        return noun
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"  # "a unicorn": no other name starts with u


@lru_cache(maxsize=1)
def load_atlas(folder: Path | None = None) -> Atlas:
    """Read `data/emoji/` once: names from objects.json, pictures from atlas.png."""
    folder = folder or find_root() / "data" / "emoji"
    index = json.loads((folder / "objects.json").read_text(encoding="utf-8"))
    fields = ("id", "emoji", "group", "en", "ko")
    objects = tuple(Object(**{k: entry[k] for k in fields}) for entry in index["objects"])
    tile, columns = index["tile"], index["columns"]
    with Image.open(folder / "atlas.png") as picture:
        pixels = torch.from_numpy(np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255)
    rows = pixels.shape[0] // tile
    tiles = pixels.reshape(rows, tile, columns, tile, 4).permute(0, 2, 4, 1, 3)
    tiles = tiles.reshape(-1, 4, tile, tile)[: len(objects)]
    alpha = tiles[:, 3:]
    return Atlas(objects, torch.cat([tiles[:, :3] * alpha, alpha], dim=1).contiguous())


def held_out_background(objects: Tensor) -> Tensor:
    """The one background each object never has in the train and test splits."""
    return (5 * objects + 3) % len(BACKGROUNDS)


def sample_scenes(n: int, seed: int, split: Split = "train") -> Scenes:
    """Draw what is in `n` scenes.

    "train" and "test" have the same distribution from disjoint random streams; "compositions" has only
    the object and background pairs that both leave out.
    """
    stream = np.random.SeedSequence([seed, _SPLIT_STREAM[split]]).generate_state(1, np.uint64)[0]
    # One uniform row a scene keeps scene i independent of n.
    u = torch.from_numpy(np.random.Generator(np.random.PCG64(stream)).random((n, 5)))
    count = len(BACKGROUNDS)
    objects = (u[:, 0] * len(load_atlas().objects)).long()
    held_out = held_out_background(objects)
    if split == "compositions":
        background = held_out
    else:
        background = (u[:, 1] * (count - 1)).long()
        background = background + (background >= held_out).long()  # skip the held-out one
    size = SIZES[0] + (SIZES[1] - SIZES[0]) * u[:, 2]
    x = size / 2 + (1 - size) * u[:, 3]  # the box stays inside the picture
    y = size / 2 + (1 - size) * u[:, 4]
    return Scenes(objects, background, x.float(), y.float(), size.float())


def _place(scenes: Scenes, size: int) -> Tensor:
    """(n, 4, size, size) premultiplied RGBA of each object alone, moved and scaled into its box."""
    sprites = load_atlas().sprites
    # Draw finer than asked where the sprite would be minified, then average: no aliasing.
    fine = size * 2 if size < sprites.shape[-1] else size
    scale = 1 / scenes.size
    zero = torch.zeros_like(scale)
    theta = torch.stack(
        [
            torch.stack([scale, zero, (1 - 2 * scenes.x) * scale], dim=1),
            torch.stack([zero, scale, (1 - 2 * scenes.y) * scale], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [len(scenes), 4, fine, fine], align_corners=False)
    placed = F.grid_sample(sprites[scenes.object], grid, align_corners=False)
    return F.avg_pool2d(placed, fine // size) if fine > size else placed


def render(scenes: Scenes, size: int = 32) -> Tensor:
    """The pictures: (n, 3, size, size) float32 in [-1, 1]."""
    placed = _place(scenes, size)
    colours = torch.tensor([rgb for _, _, rgb in BACKGROUNDS], dtype=torch.float32) / 255
    background = colours[scenes.background][:, :, None, None]
    picture = placed[:, :3] + (1 - placed[:, 3:]) * background
    return picture.mul_(2).sub_(1)


def masks(scenes: Scenes, size: int = 32) -> Tensor:
    """(n, 1, size, size) float32 in [0, 1]: how much of each pixel the object covers."""
    return _place(scenes, size)[:, 3:]

"""The emoji world's vocabulary: objects with their pictures and names, colours, textures, styles, relations.

Orders are class orders of the checkpoints in zoo/: entries are only ever appended.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from denoised.project import find_root

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
# What each is called before the noun it describes: (id, English, Korean). The first of each says nothing.
TEXTURES = (
    ("plain", "", ""),
    ("striped", "striped", "줄무늬"),
    ("dotted", "dotted", "물방울무늬"),
    ("checked", "checked", "체크무늬"),
)
SIZES = (("small", "small", "작은"), ("medium", "", ""), ("large", "large", "큰"))
ACCESSORIES = (
    ("none", "", ""),
    ("glasses", "wearing glasses", "안경을 쓴"),
    ("hat", "wearing a hat", "모자를 쓴"),
)
STYLES = (
    ("none", "", ""),
    ("mosaic", "a mosaic of", "모자이크로 그린"),
    ("sketch", "a sketch of", "스케치로 그린"),
    ("greyscale", "a greyscale picture of", "흑백으로 그린"),
    ("sticker", "a sticker of", "스티커로 만든"),
)
# Of the first object to the second; in Korean, the noun of place that follows the second.
RELATIONS = (
    ("left of", "to the left of", "왼쪽에"),
    ("right of", "to the right of", "오른쪽에"),
    ("above", "above", "위에"),
    ("below", "below", "아래에"),
)
COUNTS = (("", ""), ("two", "두"), ("three", "세"), ("four", "네"))  # of one to four


@dataclass(frozen=True)
class Object:
    """One emoji of the atlas.

    `ko_counter` is the noun that Korean counts it with. `keypoints`, of wearable objects only, are the left
    eye, the right eye and the crown in fractions of the object's box.
    """

    id: str
    emoji: str
    group: str
    en: str
    en_plural: str
    ko: str
    ko_counter: str
    keypoints: tuple[tuple[float, float], ...] = ()

    @property
    def wearable(self) -> bool:
        """Whether glasses and hats fit: a face seen from the front."""
        return bool(self.keypoints)


@dataclass(frozen=True)
class Atlas:
    """The embedded objects and their pictures.

    `objects` is the vocabulary that checkpoints are trained on. `held_out` are further emoji that no
    checkpoint has seen, numbered after `objects`: subjects for personalisation.
    `sprites` (objects + held out, 4, 64, 64) and `accessories` (2, 4, 64, 64: glasses, hat): float32 in
    [0, 1], premultiplied RGBA.
    """

    objects: tuple[Object, ...]
    held_out: tuple[Object, ...]
    sprites: Tensor
    accessories: Tensor

    @property
    def all(self) -> tuple[Object, ...]:
        """Objects by their number, the held-out ones after the others."""
        return self.objects + self.held_out

    def index(self, object_id: str) -> int:
        """The number of an object; ValueError names the known ids."""
        ids = [o.id for o in self.all]
        if object_id not in ids:
            raise ValueError(f"unknown object {object_id!r}; the emoji world has {', '.join(ids)}")
        return ids.index(object_id)


@lru_cache(maxsize=1)
def load_atlas(folder: Path | None = None) -> Atlas:
    """Read `data/emoji/` once: names from objects.json, pictures from the three sheets beside it."""
    folder = folder or find_root() / "data" / "emoji"
    index = json.loads((folder / "objects.json").read_text(encoding="utf-8"))

    def sheet(name: str, count: int) -> Tensor:
        return _tiles(folder / name, index["tile"], index["columns"])[:count]

    objects, held_out = (
        tuple(_object(entry, index["tile"]) for entry in index[part]) for part in ("objects", "held_out")
    )
    sprites = torch.cat([sheet("atlas.png", len(objects)), sheet("held-out.png", len(held_out))])
    return Atlas(objects, held_out, sprites, sheet("accessories.png", len(index["accessories"])))


@lru_cache(maxsize=1)
def wearable() -> Tensor:
    """(objects + held out,) bool: who can wear glasses or a hat."""
    return torch.tensor([thing.wearable for thing in load_atlas().all])


def _object(entry: dict[str, object], tile: int) -> Object:
    fields = {k: entry[k] for k in ("id", "emoji", "group", "en", "en_plural", "ko", "ko_counter")}
    points = entry.get("keypoints", {})
    assert isinstance(points, dict)
    return Object(**fields, keypoints=tuple((x / tile, y / tile) for x, y in points.values()))  # type: ignore[arg-type]


def _tiles(path: Path, tile: int, columns: int) -> Tensor:
    """The tiles of a sheet, row by row: (n, 4, tile, tile), premultiplied."""
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255)
    rows = pixels.shape[0] // tile
    tiles = pixels.reshape(rows, tile, columns, tile, 4).permute(0, 2, 4, 1, 3).reshape(-1, 4, tile, tile)
    alpha = tiles[:, 3:]
    return torch.cat([tiles[:, :3] * alpha, alpha], dim=1).contiguous()

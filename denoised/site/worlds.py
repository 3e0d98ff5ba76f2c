"""The worlds' pages: their pictures with captions and facts, and the emoji world's vocabulary.

The pictures are drawn beforehand (`denoised world NAME --publish`) and lie in site/assets/worlds: building the
site draws nothing and so needs no torch. For the same reason the vocabulary's lists are read out of the source
of `denoised.worlds.emoji.atlas` instead of being imported.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from denoised.language import Language
from denoised.site.sheets import (
    Count,
    Layout,
    Line,
    Model,
    Positive,
    Sheet,
    open_sheet,
    png_size,
    read_json,
)
from denoised.site.text import plain

NAMES = ("emoji", "clips", "toys", "fashion-mnist")
ATLAS = Path(__file__).parents[1] / "worlds" / "emoji" / "atlas.py"
LISTS = ("BACKGROUNDS", "TEXTURES", "SIZES", "ACCESSORIES", "STYLES", "RELATIONS", "COUNTS")

# About how many CSS pixels wide each is on a page.
_TILE = 128  # a tile
_FRAME = 48  # of one tile in a row of them
_THUMB, _THUMBS = 64, 4  # of one tile in the list of worlds, and how many
_SPRITE = 40  # of a picture in the vocabulary


class Fact(Model):
    """One exact fact of a tile, in no language: a box, a count, a number of modes."""

    name: Line
    value: Line


class Tile(Model):
    """What one tile shows: its caption in both languages, and facts."""

    ko: Line
    en: Line
    facts: tuple[Fact, ...] = ()


class Pictures(Model):
    """site/assets/worlds/<name>.json: what `command` drew with `seed` into the picture of the same name.

    With `columns`, `width` and `height` the picture is a sheet of tiles, without them it is shown whole. `frames`
    tiles, which then are a row of the sheet, share one caption; with `seconds` they are played in that time.
    """

    seed: int
    command: Annotated[str, Field(pattern=r"^denoised [^\n]+$")]
    columns: Positive | None = None
    width: Positive | None = None
    height: Positive | None = None
    gap: Count = 2
    frames: Positive = 1
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    pixelated: bool = True
    tiles: Annotated[tuple[Tile, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _a_row_has_one_caption(self) -> Self:
        given = [each is not None for each in (self.columns, self.width, self.height)]
        if any(given) and not all(given):
            raise ValueError("`columns`, `width` and `height` come together")
        if self.frames > 1 and self.frames != self.columns:
            raise ValueError(f"{self.frames} `frames` need as many `columns`, not {self.columns}")
        return self

    @property
    def layout(self) -> Layout | None:
        """How the tiles lie; None where the picture is a whole."""
        if self.columns is None or self.width is None or self.height is None:
            return None
        return Layout(columns=self.columns, width=self.width, height=self.height, gap=self.gap)


@dataclass(frozen=True)
class Drawn:
    """A picture with what is known of it: a sheet of tiles, or a whole."""

    path: Path
    size: tuple[int, int]
    sheet: Sheet | None
    pictures: Pictures


@dataclass(frozen=True)
class World:
    """A world's pictures, and a second sheet that shows its ground truth; None where one is not drawn."""

    name: str
    drawn: Drawn | None
    truth: Drawn | None


class Thing(BaseModel):
    """An object of the emoji world in words; it can wear glasses and a hat where it has `keypoints`."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    id: Line
    group: Line
    en: Line
    ko: Line
    en_plural: str = ""
    ko_counter: str = ""
    keypoints: dict[str, JsonValue] = {}


class _Objects(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    tile: Positive
    columns: Positive
    objects: tuple[Thing, ...]
    held_out: tuple[Thing, ...]
    accessories: tuple[Thing, ...]


@dataclass(frozen=True)
class Named:
    """A word of the vocabulary in both languages; `rgb` for colours."""

    en: str
    ko: str
    rgb: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """Every word that a caption of the emoji world can be made of, and the pictures of its objects."""

    objects: tuple[Thing, ...]
    held_out: tuple[Thing, ...]
    sheets: dict[str, Sheet]  # of `objects` and `held_out`
    words: dict[str, tuple[Named, ...]]


def gather_worlds(root: Path) -> tuple[World, ...]:
    """The worlds with the pictures that lie in the project at `root`.

    Raises DenoisedError (FINDINGS) where a picture and its description do not fit together.
    """
    folder = root / "site" / "assets" / "worlds"
    return tuple(World(name, _drawn(folder, name), _drawn(folder, f"{name}-truth")) for name in NAMES)


def _drawn(folder: Path, name: str) -> Drawn | None:
    picture, facts = folder / f"{name}.png", folder / f"{name}.json"
    if not (picture.is_file() and facts.is_file()):
        return None
    shown = "site/assets/worlds/"
    pictures = read_json(facts, Pictures, shown + facts.name)
    size = png_size(picture, shown + picture.name)
    if pictures.layout is None:
        return Drawn(picture, size, None, pictures)
    tiles = len(pictures.tiles) * pictures.frames
    return Drawn(picture, size, open_sheet(picture, pictures.layout, tiles, shown + picture.name), pictures)


def read_vocabulary(root: Path) -> Vocabulary:
    """The emoji world's words and sprites. Raises DenoisedError (FINDINGS) where they cannot be read."""
    folder = root / "data" / "emoji"
    index = read_json(folder / "objects.json", _Objects, "data/emoji/objects.json")
    layout = Layout(columns=index.columns, width=index.tile, height=index.tile, gap=0)
    sheets = {
        part: open_sheet(folder / name, layout, len(things), f"data/emoji/{name}")
        for part, name, things in (
            ("objects", "atlas.png", index.objects),
            ("held_out", "held-out.png", index.held_out),
        )
    }
    lists = _literals(ATLAS, LISTS)
    words = {
        "backgrounds": tuple(
            Named(en.replace("-", " "), ko, ",".join(map(str, rgb))) for en, ko, rgb in lists["BACKGROUNDS"]
        ),
        # "" is a word that is never said: a plain background, a medium size, nothing worn, no style, one.
        **{
            name.lower(): tuple(Named(en, ko) for *_, en, ko in lists[name] if en)
            for name in ("TEXTURES", "SIZES", "COUNTS", "ACCESSORIES", "STYLES", "RELATIONS")
        },
    }
    return Vocabulary(index.objects, index.held_out, sheets, words)


def _literals(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The values of a module's constants, without running it; KeyError where one is not a plain literal."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(targets[0], ast.Name) and targets[0].id in names:
            assert isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            found[targets[0].id] = ast.literal_eval(node.value)
    return {name: found[name] for name in names}


# --- as a page shows them --------------------------------------------------------------------------------


def drawn_view(drawn: Drawn, language: Language) -> dict[str, Any]:
    """A picture and its captions, ready to print in one language: tile by tile where it is a sheet."""
    pictures = drawn.pictures
    other: Language = "en" if language == "ko" else "ko"
    return {
        "file": drawn.path.name,
        "size": drawn.size,
        "captions": [
            {
                "text": plain(getattr(tile, language)),
                "translation": plain(getattr(tile, other)),
                "facts": [{"name": plain(each.name), "value": plain(each.value)} for each in tile.facts],
            }
            for tile in pictures.tiles
        ],
        "seed": pictures.seed,
        "command": Markup("<code>{}</code>").format(plain(pictures.command)),
        "pixelated": pictures.pixelated,
        "frames": pictures.frames,
        **(_tiles(drawn.sheet, pictures) if drawn.sheet else {"tiles": (), "rows": (), "motion": None}),
    }


def _tiles(sheet: Sheet, pictures: Pictures) -> dict[str, Any]:
    """Where each caption's tile or row of tiles is, and how a row is played."""
    layout, frames = sheet.layout, pictures.frames
    scale, row_scale = (max(1, round(wanted / layout.width)) for wanted in (_TILE, _FRAME))
    firsts = range(0, len(pictures.tiles) * frames, frames)
    motion = None
    if pictures.seconds is not None:
        shift = -frames * (layout.width + layout.gap) * scale
        motion = {"frames": frames, "seconds": f"{pictures.seconds:g}", "shift": f"{shift:g}"}
    return {
        "width": layout.width * scale,
        "tiles": [sheet.cut(first, scale) for first in firsts] if frames == 1 or motion else (),
        "rows": [sheet.cut(first, row_scale, frames) for first in firsts] if frames > 1 else (),
        "motion": motion,
    }


def thumbs_view(drawn: Drawn) -> dict[str, Any]:
    """A few of a sheet's tiles for the list of worlds; of a picture that is a whole no tiles, but the picture."""
    view: dict[str, Any] = {"file": drawn.path.name, "pixelated": drawn.pictures.pixelated, "tiles": []}
    if drawn.sheet is not None:
        scale, step = _THUMB / drawn.sheet.layout.width, drawn.pictures.frames
        count = min(_THUMBS, len(drawn.pictures.tiles))
        view["tiles"] = [drawn.sheet.cut(number * step, scale) for number in range(count)]
    return view


def vocabulary_view(vocabulary: Vocabulary) -> dict[str, Any]:
    """The vocabulary as tables: objects by group, those that nothing was trained on, and the other words."""

    def rows(part: str, things: Sequence[Thing]) -> list[dict[str, Any]]:
        scale = _SPRITE / vocabulary.sheets[part].layout.width
        return [
            {"thing": thing, "cut": vocabulary.sheets[part].cut(number, scale), "group": thing.group}
            for number, thing in enumerate(things)
        ]

    objects = rows("objects", vocabulary.objects)
    groups = dict.fromkeys(thing.group for thing in vocabulary.objects)
    return {
        "count": len(objects),
        "groups": [(group, [row for row in objects if row["group"] == group]) for group in groups],
        "held_out": rows("held_out", vocabulary.held_out),
        "words": vocabulary.words,
    }

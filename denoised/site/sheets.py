"""Strictly read JSON, and sheets: one PNG of equal tiles in rows, shown tile by tile.

A page shows a tile as a window over the whole picture, so that one file serves many tiles, each with its own
text under it, and nothing has to be cut when the site is built.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from denoised.errors import DenoisedError, Exit
from denoised.language import say

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Line = Annotated[str, Field(min_length=1, max_length=2000)]

T = TypeVar("T")

_PNG = b"\x89PNG\r\n\x1a\n"


class Model(BaseModel):
    """What a JSON file of ours holds: the types as they are written, and no key that nobody reads."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Text(Model):
    """One text in both languages."""

    ko: Line
    en: Line


class Layout(Model):
    """How tiles lie in their sheet: `columns` a row, each width × height pixels, `gap` pixels between them."""

    columns: Positive
    width: Positive
    height: Positive
    gap: Count = 2


@dataclass(frozen=True)
class Cut:
    """One tile on a page: the styles of the window and of the whole picture behind it, in CSS pixels."""

    window: str
    picture: str


@dataclass(frozen=True)
class Sheet:
    """A picture of tiles that was found to have the size that its layout needs."""

    path: Path
    layout: Layout

    def cut(self, index: int, scale: float, span: int = 1) -> Cut:
        """Tile `index`, or `span` tiles of a row from there on, at `scale` CSS pixels a pixel."""
        layout = self.layout
        row, column = divmod(index, layout.columns)
        left, top = column * (layout.width + layout.gap), row * (layout.height + layout.gap)
        width = span * (layout.width + layout.gap) - layout.gap
        whole = layout.columns * (layout.width + layout.gap) - layout.gap
        return Cut(
            f"width:{width * scale:g}px;height:{layout.height * scale:g}px",
            f"width:{whole * scale:g}px;margin:{-top * scale:g}px 0 0 {-left * scale:g}px",
        )


def open_sheet(path: Path, layout: Layout, tiles: int, shown: str) -> Sheet:
    """The sheet at `path` with so many tiles; errors call it `shown`.

    Raises DenoisedError (FINDINGS) where it is no PNG or has another size than its layout needs.
    """
    rows = -(-tiles // layout.columns)
    wanted = (
        layout.columns * (layout.width + layout.gap) - layout.gap,
        rows * (layout.height + layout.gap) - layout.gap,
    )
    if (found := png_size(path, shown)) != wanted:
        sizes = [f"{width}×{height}" for width, height in (found, wanted)]
        raise DenoisedError(
            say(
                ko=f"{shown}: {sizes[0]} 픽셀인데, 타일 {tiles}개에는 {sizes[1]} 픽셀이 필요하다",
                en=f"{shown}: it has {sizes[0]} pixels, but its {tiles} tiles need {sizes[1]}",
            ),
            code=Exit.FINDINGS,
        )
    return Sheet(path, layout)


def png_size(path: Path, shown: str) -> tuple[int, int]:
    """Width and height from a PNG's header. Raises DenoisedError (FINDINGS) where the file is no PNG."""
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) < 24 or not head.startswith(_PNG) or head[12:16] != b"IHDR":
        raise DenoisedError(
            say(ko=f"{shown}: PNG 그림이 아니다", en=f"{shown}: it is not a PNG picture"), code=Exit.FINDINGS
        )
    width, height = struct.unpack(">II", head[16:])
    return width, height


def read_json(path: Path, kind: type[T] | TypeAdapter[T], shown: str) -> T:
    """What a JSON file holds, as a model or a type; errors call the file `shown`.

    Raises DenoisedError (FINDINGS) that names every wrong value by its place, and the first key that stands
    twice or number that is not finite.
    """
    adapter: TypeAdapter[T] = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text, object_pairs_hook=_each_once, parse_constant=_not_finite)
        return adapter.validate_json(text)
    except ValidationError as error:
        found = [_said(each["loc"], each["msg"]) for each in error.errors()]
        raise DenoisedError(f"{shown}: " + "; ".join(found), code=Exit.FINDINGS) from error
    except ValueError as error:
        raise DenoisedError(f"{shown}: {error}", code=Exit.FINDINGS) from error


def _said(place: tuple[int | str, ...], message: str) -> str:
    """`quality.3.value: Input should be a valid number`"""
    where = ".".join(map(str, place))
    return (f"{where}: " if where else "") + message.removeprefix("Value error, ")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(say(ko=f"`{twice}`가 두 번 있다", en=f"`{twice}` stands twice"))
    return found


def _not_finite(name: str) -> NoReturn:
    raise ValueError(say(ko=f"{name}은 유한한 수가 아니다", en=f"{name} is not a finite number"))

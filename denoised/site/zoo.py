"""The zoo's checkpoints as the site reads them: a manifest and what lies beside it in zoo/<name>/.

    manifest.json   facts, files with their hashes, measured quality as rows
    losses.json     the mean loss of every so many steps
    quality.json    quality along training
    prompts.json    sentences, what a judge read in the pictures drawn from them; prompts.png, those pictures
    samples.png     pictures
    README.md       the model card, whose first block of Python loads the checkpoint

Only the manifest must be there. Keys of a manifest that no page shows are left alone: other code may read them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, model_validator

from denoised.errors import DenoisedError, Exit
from denoised.files import sha256_of
from denoised.language import Language, say
from denoised.site.sheets import (
    Count,
    Finite,
    Layout,
    Line,
    Model,
    Positive,
    Sheet,
    Text,
    open_sheet,
    png_size,
    read_json,
)

Unit = Literal["share", "dB", "distance", "number"]
Better = Literal["higher", "lower"]
Split = Literal["test", "compositions", "train"]
Attribute = Literal[
    "object", "second", "relation", "count", "background", "texture", "accessory", "style", "size"
]
State = Literal["right", "differs", "missing"]

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROGRESS = ("step", "pictures", "hours")  # columns of quality.json that are not quality

Metric = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@\[\]-]{1,80}$")]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Row(Model):
    """One measured quality.

    `floor` is what it must reach, or not exceed where lower is `better`; `chance` what guessing gives; `real` what
    the same measurement gives on real scenes. `n`: pictures, prompts or captions that were measured.
    """

    name: Metric
    en: Line
    ko: Line
    value: Finite
    unit: Unit = "share"
    better: Better = "higher"
    n: Positive | None = None
    floor: Finite | None = None
    chance: Finite | None = None
    real: Finite | None = None
    split: Split | None = None
    language: Language | None = None
    headline: bool = False

    @model_validator(mode="after")
    def _a_share_is_one(self) -> Self:
        if self.unit == "share":
            for name in ("value", "floor", "chance", "real"):
                if (number := getattr(self, name)) is not None and not 0 <= number <= 1:
                    raise ValueError(f"`{name}` is {number:g}, but a share lies between 0 and 1")
        return self

    @property
    def reached(self) -> bool | None:
        """Whether the value is at its floor or beyond; None without a floor."""
        if self.floor is None:
            return None
        return self.value >= self.floor if self.better == "higher" else self.value <= self.floor


class File(Model):
    """A file of a checkpoint, as its manifest knows it."""

    bytes: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """The part of zoo/<name>/manifest.json that a page shows."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    files: dict[Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")], File]
    license: Line
    about: Text | None = None
    parameters: Positive | dict[Line, Positive] | None = None
    recipe: Line | None = None
    hours: Amount | None = None
    hardware: Line | None = None
    steps: Positive | None = None
    pictures_seen: Positive | None = None
    config: dict[str, JsonValue] | None = None
    origin: Line | None = None
    protocol: Text | None = None
    quality: tuple[Row, ...] = ()
    samples: Text | None = None
    limits: Text | None = None

    @model_validator(mode="after")
    def _rows_differ(self) -> Self:
        keys = [(row.name, row.split, row.language) for row in self.quality]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(f"quality: `{twice[0]}` stands twice for the same split and language")
        return self

    @property
    def parameter_count(self) -> int | None:
        """Parameters of all parts together."""
        return sum(self.parameters.values()) if isinstance(self.parameters, dict) else self.parameters

    @property
    def headline(self) -> tuple[Row, ...]:
        """The rows that speak for the checkpoint in a list: at most three that say so, else the first."""
        return tuple(row for row in self.quality if row.headline)[:3] or self.quality[:1]


class Curve(Model):
    """The mean loss of each `every` training steps; named where a checkpoint has several networks."""

    every: Positive
    loss: Annotated[tuple[Finite, ...], Field(min_length=1)]
    en: str = ""
    ko: str = ""


class Measured(Text):
    """What a column of quality.json is called. What it leaves out is that of the manifest's row of its name."""

    unit: Unit | None = None
    better: Better | None = None
    floor: Finite | None = None


class History(Model):
    """quality.json: at each `step` what was measured, by the metric's name."""

    rows: Annotated[tuple[dict[Metric, Finite], ...], Field(min_length=1)]
    metrics: dict[Metric, Measured] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        steps = [row.get("step") for row in self.rows]
        known = [step for step in steps if step is not None]
        if len(known) < len(steps):
            raise ValueError(f"rows.{steps.index(None)}: it has no `step`")
        if sorted(set(known)) != known:
            raise ValueError("rows: `step` must rise from row to row")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics, in the order of their first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row if name not in _PROGRESS))


class Prompt(Model):
    """A sentence, and whether a judge read in the picture what the sentence speaks of."""

    prompt: Line
    language: Language
    read: dict[Attribute, bool]


class Prompts(Layout):
    """prompts.json: what lies in prompts.png, tile by tile, and how it was drawn."""

    guidance: Amount
    steps: Positive
    seed: int
    command: Line | None = None
    tiles: Annotated[tuple[Prompt, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with all that its folder holds."""

    name: str
    manifest: Manifest
    states: dict[str, State]  # of each file of the manifest, compared with what lies in the folder
    losses: tuple[Curve, ...]
    history: History | None
    prompts: Prompts | None
    prompts_sheet: Sheet | None
    samples: Path | None
    samples_size: tuple[int, int] | None
    code: str  # that loads it; "" where the card has none

    @property
    def pictures(self) -> list[Path]:
        """The pictures that its page shows, where they lie."""
        sheet = [self.prompts_sheet.path] if self.prompts_sheet else []
        return [*([self.samples] if self.samples else []), *sheet]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.bytes for file in self.manifest.files.values())


def gather_zoo(root: Path) -> tuple[Checkpoint, ...]:
    """The checkpoints of the project at `root`, by name. Files are compared with their hashes, and not parsed.

    A file that is missing or differs is not an error: the page says so. Raises DenoisedError (FINDINGS) where a
    manifest or what describes the pictures and curves beside it cannot be read.
    """
    return tuple(
        _read(path.parent, f"zoo/{path.parent.name}")
        for path in sorted((root / "zoo").glob("*/manifest.json"))
    )


def _read(folder: Path, shown: str) -> Checkpoint:
    if not _NAME.fullmatch(folder.name):
        raise DenoisedError(
            say(
                ko=f"{shown}: 이름은 소문자, 숫자, 붙임표로만 쓴다",
                en=f"{shown}: a name has small letters, digits and hyphens only",
            ),
            code=Exit.FINDINGS,
        )
    manifest = read_json(folder / "manifest.json", Manifest, f"{shown}/manifest.json")
    losses, history, prompts = (folder / f"{name}.json" for name in ("losses", "quality", "prompts"))
    asked = read_json(prompts, Prompts, f"{shown}/prompts.json") if prompts.is_file() else None
    drawn = folder / "prompts.png"
    samples = folder / "samples.png"
    size = png_size(samples, f"{shown}/samples.png") if samples.is_file() else None
    card = folder / "README.md"
    code = _CODE.search(card.read_text(encoding="utf-8")) if card.is_file() else None
    return Checkpoint(
        name=folder.name,
        manifest=manifest,
        states={name: _state(folder / name, file) for name, file in manifest.files.items()},
        losses=_curves(losses, f"{shown}/losses.json") if losses.is_file() else (),
        history=read_json(history, History, f"{shown}/quality.json") if history.is_file() else None,
        prompts=asked,
        prompts_sheet=(
            open_sheet(drawn, asked, len(asked.tiles), f"{shown}/prompts.png")
            if asked and drawn.is_file()
            else None
        ),
        samples=samples if size else None,
        samples_size=size,
        code=code[1].rstrip("\n") if code else "",
    )


def _curves(path: Path, shown: str) -> tuple[Curve, ...]:
    one_or_more: TypeAdapter[Curve | tuple[Curve, ...]] = TypeAdapter(Curve | tuple[Curve, ...])
    found = read_json(path, one_or_more, shown)
    return (found,) if isinstance(found, Curve) else found


def _state(path: Path, file: File) -> State:
    if not path.is_file():
        return "missing"
    return "right" if path.stat().st_size == file.bytes and sha256_of(path) == file.sha256 else "differs"

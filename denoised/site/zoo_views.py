"""A checkpoint as its pages show it: facts, quality against its floors, curves, and prompts with a verdict each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from markupsafe import Markup

from denoised.language import Language
from denoised.numbers import percent, short, wilson
from denoised.site import plot
from denoised.site.text import plain
from denoised.site.words import Words
from denoised.site.zoo import Checkpoint, Curve, History, Row, Unit

_TILE = 128  # CSS pixels that a prompt's picture is about as wide as
_SAMPLES = 700  # and the whole picture of samples at most, unless it is larger itself
_MOST = 200  # points of a loss curve; more are averaged


def amount(value: float, unit: Unit, *, apart_from: float | None = None) -> str:
    """A value in its unit: `96.1 %`, `31.2 dB`, `97.5`."""
    if unit == "share":
        return percent(value, apart_from=apart_from)
    return f"{short(value)} dB" if unit == "dB" else short(value)


def quality_view(checkpoint: Checkpoint, words: Words, language: Language) -> dict[str, Any]:
    """The rows of measured quality, which columns they need, and how many floors were reached."""
    rows = checkpoint.manifest.quality
    with_floor = [row for row in rows if row.reached is not None]
    return {
        "rows": [_row(row, words, language) for row in rows],
        "columns": [
            name
            for name in ("floor", "chance", "real")
            if any(getattr(row, name) is not None for row in rows)
        ],
        "intervals": any(row.unit == "share" and row.n for row in rows),
        "floors": len(with_floor),
        "reached": sum(bool(row.reached) for row in with_floor),
    }


def _row(row: Row, words: Words, language: Language) -> dict[str, Any]:
    value = amount(row.value, row.unit, apart_from=row.floor)
    floor = amount(row.floor, row.unit) if row.floor is not None else ""
    low, high = wilson(row.value, row.n) if row.unit == "share" and row.n else (None, None)
    about = [words(language, f"zoo.split.{row.split}")] if row.split else []
    about += [words(language, f"zoo.prompts.{row.language}")] if row.language else []
    return {
        "name": plain(row.name),
        "text": plain(getattr(row, language)),
        "about": ", ".join(each.unescape() for each in about),
        "value": value,
        "interval": f"[{100 * low:.1f}, {100 * high:.1f}]" if low is not None and high is not None else "",
        "better": row.better,
        "n": row.n,
        "floor": floor,
        "below": row.reached is False,
        "chance": amount(row.chance, row.unit) if row.chance is not None else "",
        "real": amount(row.real, row.unit) if row.real is not None else "",
    }


def summary_view(checkpoint: Checkpoint, words: Words, language: Language) -> dict[str, Any]:
    """What a list of checkpoints says of one: sizes, time, and the rows that speak for it."""
    manifest = checkpoint.manifest
    count = manifest.parameter_count
    facts: list[tuple[str, str]] = [("size", _size(checkpoint.size))]
    if count is not None:
        facts.insert(0, ("parameters", _millions(count)))
    if manifest.hours is not None:
        facts.append(("hours", short(manifest.hours)))
    if manifest.hardware is not None:
        facts.append(("hardware", plain(manifest.hardware)))
    return {
        "name": checkpoint.name,
        "about": plain(getattr(manifest.about, language)) if manifest.about else "",
        "facts": facts,
        "headline": [_row(row, words, language) for row in manifest.headline],
        "command": plain(manifest.recipe) if manifest.recipe else "",
        "samples": checkpoint.samples is not None,
    }


def samples_width(checkpoint: Checkpoint) -> int:
    """How many CSS pixels wide the picture of samples is shown: a whole multiple of its own width, up to 3."""
    assert checkpoint.samples_size is not None
    width = checkpoint.samples_size[0]
    return width * min(3, max(1, _SAMPLES // width))


def facts_view(checkpoint: Checkpoint) -> list[tuple[str, Markup | str]]:
    """Every fact of the manifest that is a line of text, by the key of its name."""
    manifest = checkpoint.manifest
    facts: list[tuple[str, Markup | str]] = []
    if manifest.parameter_count is not None:
        parts = manifest.parameters if isinstance(manifest.parameters, dict) else {}
        said = ", ".join(f"{plain(name)} {count:,}" for name, count in parts.items())
        facts.append(("parameters", f"{manifest.parameter_count:,}" + (f" ({said})" if said else "")))
    facts.append(("size", f"{_size(checkpoint.size)} ({checkpoint.size:,} B)"))
    for name, value in (
        ("steps", f"{manifest.steps:,}" if manifest.steps else None),
        ("pictures_seen", f"{manifest.pictures_seen:,}" if manifest.pictures_seen else None),
        ("hours", short(manifest.hours) if manifest.hours is not None else None),
        ("hardware", manifest.hardware),
        ("origin", manifest.origin),
        ("license", manifest.license),
    ):
        if value is not None:
            facts.append((name, plain(value)))
    if manifest.config is not None:
        text = json.dumps(manifest.config, ensure_ascii=False)
        facts.append(("config", Markup("<code>{}</code>").format(plain(text))))
    return facts


def files_view(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """The files with size and hash, and whether what lies in the folder is that."""
    return [
        {
            "path": plain(name),
            "bytes": f"{file.bytes:,}",
            "sha256": file.sha256,
            "state": checkpoint.states[name],
        }
        for name, file in sorted(checkpoint.manifest.files.items())
    ]


def prompts_view(checkpoint: Checkpoint, words: Words, language: Language) -> dict[str, Any] | None:
    """The prompts in groups by their language, each with its picture and what the judge read in it."""
    prompts, sheet = checkpoint.prompts, checkpoint.prompts_sheet
    if prompts is None:
        return None
    scale = max(1, round(_TILE / prompts.width))
    groups = []
    for spoken in ("en", "ko"):
        members = [(number, tile) for number, tile in enumerate(prompts.tiles) if tile.language == spoken]
        tiles = [
            {
                "prompt": plain(tile.prompt),
                "cut": sheet.cut(number, scale) if sheet else None,
                "read": [
                    {"text": words(language, f"attribute.{name}"), "right": right}
                    for name, right in tile.read.items()
                ],
            }
            for number, tile in members
        ]
        if tiles:
            right = sum(all(tile.read.values()) for _, tile in members)
            groups.append({"language": spoken, "tiles": tiles, "right": right})
    how = words(
        language, "zoo.prompts.how", guidance=short(prompts.guidance), steps=prompts.steps, seed=prompts.seed
    )
    return {
        "how": how,
        "groups": groups,
        "width": prompts.width * scale,
        "drawn": sheet is not None,
        "command": prompts.command,
    }


def plots_view(checkpoint: Checkpoint, words: Words, language: Language) -> list[dict[str, Any]]:
    """A plot of each loss and of each kind of quality against training steps."""
    x_label = words(language, "zoo.plot.steps").unescape()
    found = []
    for number, curve in enumerate(checkpoint.losses, 1):
        name = plain(getattr(curve, language))
        label = words(language, "zoo.plot.loss").unescape()
        said = words(language, "zoo.plot.loss.title").unescape()
        title = f"{said}, {name}" if name else said
        series = [plot.Series(name or label, _thinned(curve))]
        svg = plot.curves(series, id=f"loss-{number}", title=title, x_label=x_label, y_label=label)
        caption = words(language, "zoo.plot.loss.caption", title=title, every=curve.every)
        found.append({"svg": svg, "caption": caption})
    if checkpoint.history is None:
        return found
    metrics = _metrics(checkpoint, checkpoint.history, language)
    shares = [metric.series for metric in metrics if metric.unit == "share"]
    if shares:
        label, title = (
            words(language, key).unescape() for key in ("zoo.plot.shares", "zoo.plot.shares.title")
        )
        svg = plot.curves(shares, id="quality-1", title=title, x_label=x_label, y_label=label, ceiling=100.0)
        found.append({"svg": svg, "caption": words(language, "zoo.plot.quality.caption", title=title)})
    alone = [metric.series for metric in metrics if metric.unit != "share"]
    for number, each in enumerate(alone, 2):
        title = words(language, "zoo.plot.quality", what=each.name).unescape()
        svg = plot.curves([each], id=f"quality-{number}", title=title, x_label=x_label, y_label=each.name)
        found.append({"svg": svg, "caption": words(language, "zoo.plot.quality.caption", title=title)})
    return found


def _thinned(curve: Curve) -> tuple[plot.Point, ...]:
    """The curve at the ends of its intervals, several together where there are more than _MOST."""
    together = -(-len(curve.loss) // _MOST)
    parts = [curve.loss[start : start + together] for start in range(0, len(curve.loss), together)]
    ends = [min((k + 1) * together, len(curve.loss)) * curve.every for k in range(len(parts))]
    return tuple(plot.Point(float(end), fmean(part)) for end, part in zip(ends, parts, strict=True))


@dataclass(frozen=True)
class _Metric:
    """A column of the history with all that is known of it."""

    text: str
    unit: Unit
    floor: str  # "≥ 98 %"; "" where it has none
    points: tuple[plot.Point, ...]  # shares in percent

    @property
    def series(self) -> plot.Series:
        kept = f" ({self.floor})" if self.floor else ""
        return plot.Series(plot.shortened(self.text, kept=kept), self.points)


def _metrics(checkpoint: Checkpoint, history: History, language: Language) -> list[_Metric]:
    """The history's metrics: named by the history itself, else by the manifest's row, else by their own name."""
    found = []
    for name in history.names:
        values = [(row["step"], row[name]) for row in history.rows if name in row]
        row = next((row for row in checkpoint.manifest.quality if row.name == name), None)
        sources = [source for source in (history.metrics.get(name), row) if source is not None]
        units = [source.unit for source in sources if source.unit is not None]
        possible: Unit = "share" if all(0 <= value <= 1 for _, value in values) else "number"
        unit = units[0] if units else possible
        floors = [source.floor for source in sources if source.floor is not None]
        lower = any(source.better == "lower" for source in sources)
        floor = f"{'≤' if lower else '≥'} {amount(floors[0], unit)}" if floors else ""
        found.append(
            _Metric(
                text=plain(getattr(sources[0], language)) if sources else name,
                unit=unit,
                floor=floor,
                points=tuple(
                    plot.Point(step, 100 * value if unit == "share" else value) for step, value in values
                ),
            )
        )
    return found


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"

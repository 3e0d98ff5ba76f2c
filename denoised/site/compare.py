"""The page of comparisons: what samplers make of one checkpoint under one protocol, and what is not shown.

Two results stand in one plot only where everything but the sampler is the same: the checkpoint's files by their
hashes, the metric with its version, its extractor with its weights, the reference set by its hash, the number of
pictures; against seconds also the machine. Records say all of this, so nothing here is listed by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from denoised.lab.schema import Arm, Metric, Record
from denoised.language import Language
from denoised.numbers import measured
from denoised.site import plot
from denoised.site.library import Item
from denoised.site.text import plain
from denoised.site.views import nfe, settings_text, three
from denoised.site.words import Words

TAG = "sampler"  # of the papers that are compared
BUDGETS = ("steps", "nfe")  # settings that say how long an arm samples
CLASSES = "classes"  # the setting that says which classes a network was asked for
FIRST = "ddim"  # the paper whose line stands in every plot
LINES = 6  # in a plot: as many as there are colours

Files = tuple[tuple[str, str], ...]  # paths and their hashes


@dataclass(frozen=True)
class Protocol:
    """All that must be the same."""

    metric: str
    implementation: tuple[str, str]  # with its version
    extractor: tuple[str | None, Files]  # with the weights that were read
    reference: tuple[str, int, str]  # name, pictures, hash
    n: int
    model: str
    classes: str  # which ones were asked for, as the arm says it; "" where it says nothing
    checkpoint: Files


@dataclass(frozen=True)
class Drawn:
    """One arm of a record at one budget."""

    item: Item
    record: Record
    arm: Arm
    metric: Metric
    local: bool
    also: tuple[Item, ...] = ()  # papers whose records hold the very same numbers

    @property
    def others(self) -> dict[str, Any]:
        """Its settings beside the budget and what its whole group has in common."""
        return {key: value for key, value in self.arm.settings.items() if key not in (*BUDGETS, CLASSES)}

    @property
    def line(self) -> tuple[str, str, str]:
        """What it shares with the other points of its line."""
        return (self.item.paper.id, self.arm.name, settings_text(self.others))

    @property
    def numbers(self) -> tuple[Any, ...]:
        return (nfe(self.arm), *((each.seed, each.value) for each in self.metric.per_seed))

    @property
    def label(self) -> str:
        """`EDM: heun`; `DDIM` where arm and paper are called the same."""
        name, paper = self.arm.name, self.item.paper.name
        text = paper if name.lower() in (paper.lower(), self.item.paper.id) else f"{paper}: {name}"
        return f"{text} ({', '.join(f'{k} = {v}' for k, v in self.others.items())})" if self.others else text


@dataclass(frozen=True)
class LeftOut:
    """A paper tagged as a sampler whose results, or some of them, are not compared, and the key of the reason."""

    item: Item
    reason: str


def sort_out(items: Sequence[Item]) -> tuple[dict[Protocol, list[Drawn]], list[LeftOut]]:
    """The mini results of every sampler by their protocol, the largest group first, and what is left out."""
    groups: dict[Protocol, list[Drawn]] = {}
    out: list[LeftOut] = []
    for item in items:
        result = item.results["mini"]
        record = result.record
        if record is None:
            continue
        for arm in record.arms:
            for metric in arm.metrics:
                if not metric.name.startswith("fid[") or metric.reference is None:
                    continue
                files = _under(record, _model(record).get("folder"))
                reason = (
                    "tag" if TAG not in item.paper.tags
                    else "trained" if arm.cost.parameters_trained
                    else "budget" if not any(key in arm.settings for key in BUDGETS)
                    else "checkpoint" if not files
                    else None
                )  # fmt: skip
                if reason is None:
                    groups.setdefault(_protocol(record, arm, metric, files), []).append(
                        Drawn(item, record, arm, metric, result.local)
                    )
                elif LeftOut(item, reason) not in out:
                    out.append(LeftOut(item, reason))
    ordered = sorted(groups.items(), key=lambda each: (-_papers(each[1]), str(each[0])))
    return {protocol: _once(members) for protocol, members in ordered}, out


def _model(record: Record) -> dict[str, Any]:
    """What the record's settings say of its checkpoint."""
    settings = record.config.get("settings")
    model = settings.get("model") if isinstance(settings, dict) else None
    return model if isinstance(model, dict) else {}


def _under(record: Record, folder: str | None) -> Files:
    """The files in a folder that the run read."""
    if not folder:
        return ()
    return tuple(
        sorted((each.path, each.sha256) for each in record.inputs if each.path.startswith(f"{folder}/"))
    )


def _protocol(record: Record, arm: Arm, metric: Metric, checkpoint: Files) -> Protocol:
    assert metric.reference is not None
    name = metric.name.partition("[")[2].rstrip("]")
    reference = metric.reference
    return Protocol(
        metric.name,
        (metric.implementation.name, metric.implementation.version),
        (metric.extractor, _under(record, f"zoo/{name}")),
        (reference.name, reference.n, reference.sha256),
        metric.n,
        str(_model(record).get("name", "")),
        str(arm.settings.get(CLASSES, "")),
        checkpoint,
    )


def _papers(members: Sequence[Drawn]) -> int:
    return len({each.item.paper.id for each in members})


def _once(members: list[Drawn]) -> list[Drawn]:
    """The members without lines that another paper's record holds point for point, as baselines are; see `also`."""
    lines: dict[tuple[str, str, str], list[Drawn]] = {}
    for each in members:
        lines.setdefault(each.line, []).append(each)
    # A baseline belongs to the paper that is called so, else to the one with most points, else to the older one.
    ranked = sorted(
        lines.values(),
        key=lambda line: (
            line[0].arm.name != line[0].item.paper.id,
            -len(line),
            str(line[0].item.paper.published),
            line[0].line,
        ),
    )
    kept: list[list[Drawn]] = []
    for line in ranked:
        for at, owner in enumerate(kept):
            same = line[0].line[1:] == owner[0].line[1:]
            if same and {each.numbers for each in line} <= {each.numbers for each in owner}:
                held = {each.numbers for each in line}
                kept[at] = [
                    replace(each, also=(*each.also, line[0].item)) if each.numbers in held else each
                    for each in owner
                ]
                break
        else:
            kept.append(line)
    return [each for line in kept for each in line]


# --- as the page shows them ------------------------------------------------------------------------------


def comparison_views(items: Sequence[Item], words: Words, language: Language) -> dict[str, Any]:
    """The groups with their plots and tables, and what is left out with the reasons."""
    groups, out = sort_out(items)
    return {
        "groups": [
            _group(number, protocol, members, words, language)
            for number, (protocol, members) in enumerate(groups.items(), 1)
        ],
        "left_out": [
            {"id": each.item.paper.id, "paper": plain(each.item.paper.name), "reason": each.reason}
            for each in out
        ],
    }


def _group(
    number: int, protocol: Protocol, members: list[Drawn], words: Words, language: Language
) -> dict[str, Any]:
    def charts(kind: str, chosen: Sequence[Drawn], machine: str) -> list[dict[str, Any]]:
        found = []
        for part, lines in enumerate(_plots(_lines(chosen)), 1):
            key = "plot.x" if kind == "nfe" else "compare.x.seconds"
            title = words(language, f"compare.plot.{kind}", metric=plain(protocol.metric))
            svg = plot.lines(
                [_series(line, kind) for line in lines],
                id=f"comparison-{number}-{kind}-{part}{machine}",
                title=title.unescape(),
                x_label=words(language, key, n=protocol.n).unescape(),
                y_label=words(language, "plot.better.lower", metric=plain(protocol.metric)).unescape(),
                round_ticks=kind == "seconds",
            )
            found.append({"svg": svg, "caption": title})
        return found

    machines: dict[tuple[Any, ...], list[Drawn]] = {}
    for each in members:
        env = each.record.environment
        machine = (env.gpu or env.cpu, env.threads, _batch(each.record), env.torch)
        machines.setdefault(machine, []).append(each)
    weights = [sha256 for path, sha256 in protocol.checkpoint if path.endswith(".safetensors")]
    by_cost = sorted(members, key=lambda each: (nfe(each.arm), each.metric.value, each.line))
    return {
        "id": f"comparison-{number}",
        "metric": plain(protocol.metric),
        "model": plain(protocol.model),
        "classes": plain(protocol.classes),
        "hash": (weights or [protocol.checkpoint[0][1]])[0][:16],
        "n": protocol.n,
        "reference": plain(protocol.reference[0]),
        "reference_n": protocol.reference[1],
        "charts": charts("nfe", members, ""),
        "machines": [
            {
                "cpu": plain(str(machine[0])),
                "threads": machine[1],
                "batch": machine[2],
                "torch": plain(machine[3]),
                "charts": charts("seconds", chosen, f"-{place}"),
            }
            for place, (machine, chosen) in enumerate(sorted(machines.items(), key=lambda m: str(m[0])), 1)
        ],
        "rows": [
            {
                "papers": [
                    {"id": item.paper.id, "name": plain(item.paper.name)} for item in (each.item, *each.also)
                ],
                "arm": plain(each.arm.name),
                "at": settings_text(each.arm.settings),
                "nfe": three(nfe(each.arm)),
                "value": measured(each.metric.value, each.metric.interval),
                "seconds": three(each.arm.cost.seconds),
                "local": each.local,
            }
            for each in by_cost
        ],
    }


def _batch(record: Record) -> Any:
    settings = record.config.get("settings")
    return settings.get("batch") if isinstance(settings, dict) else None


def _lines(members: Sequence[Drawn]) -> list[list[Drawn]]:
    """The points of each line, the older paper's first."""
    lines: dict[tuple[str, str, str], list[Drawn]] = {}
    for each in members:
        lines.setdefault(each.line, []).append(each)
    return sorted(lines.values(), key=lambda line: (str(line[0].item.paper.published), line[0].line))


def _plots(lines: list[list[Drawn]]) -> list[list[list[Drawn]]]:
    """The lines in as many plots as keep each legible; one line stands in all of them, to measure by."""
    first = next((line for line in lines if line[0].line[:2] == (FIRST, FIRST)), lines[0])
    rest = [line for line in lines if line is not first]
    size = LINES - 1
    return [[first, *rest[i : i + size]] for i in range(0, max(len(rest), 1), size)]


def _series(line: Sequence[Drawn], kind: str) -> plot.Series:
    points = tuple(
        plot.Point(
            nfe(each.arm) if kind == "nfe" else each.arm.cost.seconds,
            each.metric.value,
            each.metric.interval,
            tuple(seed.value for seed in each.metric.per_seed),
            plain(", ".join(f"{k} = {v}" for k, v in each.arm.settings.items())),
        )
        for each in line
    )
    return plot.Series(plot.shortened(plain(line[0].label)), points)

"""A record as a page shows it: numbers as text, checks made, provenance as facts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from markupsafe import Markup

from denoised.lab.schema import Arm, Metric, Record
from denoised.language import Language
from denoised.numbers import between, decimals, measured, short
from denoised.site import plot
from denoised.site.library import Item, Result
from denoised.site.text import plain
from denoised.site.words import Words

# How a claim's relation is printed, and the key of its words
RELATIONS = {"<": ("<", "less"), ">": (">", "more"), "<=": ("≤", "no-more"), ">=": ("≥", "no-less")}


@dataclass(frozen=True)
class ClaimView:
    """One decided claim, ready to print."""

    metric: str
    at: str
    arm: str
    than: str
    relation: str
    word: str
    verdict: str
    arm_value: str
    than_value: str
    effect: str
    interval: str
    margin: str
    sample: Markup  # n = 256 × 3 seeds


@dataclass(frozen=True)
class RecordView:
    """One record, ready to print in one language."""

    scale: str
    result: Result
    seeds: Markup
    interval_over: str  # "seeds", or "samples" of a single seed
    machine: str
    claims: tuple[ClaimView, ...]
    metrics: tuple[dict[str, Any], ...]
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    checks: tuple[dict[str, Any], ...]
    facts: tuple[dict[str, Any], ...]
    record_url: str


def settings_text(settings: Mapping[str, object]) -> str:
    """`steps = 10, eta = 0.5`."""
    return plain(", ".join(f"{key} = {value}" for key, value in settings.items()))


def claim_views(record: Record, words: Words, language: Language) -> tuple[ClaimView, ...]:
    """Every claim of a record with the numbers it stands on."""
    views = []
    for claim in record.claims:
        arm, than = record.of_claim(claim)
        assert arm is not None and than is not None  # the schema holds every claim to its arms
        halves = [(each[1] - each[0]) / 2 for each in (arm.interval, than.interval) if each]
        places = max(map(decimals, halves), default=None)  # alike, so that the two can be compared by eye
        views.append(
            ClaimView(
                metric=plain(claim.metric),
                at=settings_text(claim.at),
                arm=plain(claim.arm),
                than=plain(claim.than),
                relation=RELATIONS[claim.relation][0],
                word=RELATIONS[claim.relation][1],
                verdict=claim.verdict,
                arm_value=measured(arm.value, arm.interval, places),
                than_value=measured(than.value, than.interval, places),
                effect=measured(claim.effect, claim.interval).split(" ± ")[0],
                interval=between(claim.interval) if claim.interval else "",
                margin=short(claim.margin) if claim.margin else "",
                sample=_sample(arm, words, language),
            )
        )
    return tuple(views)


def record_view(item: Item, scale: str, words: Words, language: Language) -> RecordView | None:
    """The record of one scale; None where there is no good one."""
    result = item.results[scale]
    record = result.record
    if record is None:
        return None
    metrics = list({metric.name: metric for arm in record.arms for metric in arm.metrics}.values())
    costs = _costs(record)
    return RecordView(
        scale=scale,
        result=result,
        seeds=words(language, "count.seeds", n=len(record.seeds.finished)),
        interval_over="seeds" if len(record.seeds.finished) > 1 else "samples",
        machine=_machine(record, words, language),
        claims=claim_views(record, words, language),
        metrics=tuple(_metric(metric) for metric in metrics),
        columns=tuple(costs),
        rows=tuple(
            {
                "name": plain(arm.name),
                "at": settings_text(arm.settings),
                "numbers": [_value(arm.metric(metric.name)) for metric in metrics],
                "costs": [column[index] for column in costs.values()],
            }
            for index, arm in enumerate(record.arms)
        ),
        checks=tuple(_checks(item, record, words, language)),
        facts=tuple({"key": key, "value": value} for key, value in _facts(record, words, language)),
        record_url=f"../../../api/records/{item.paper.id}/{scale}.json",
    )


def _sample(metric: Metric, words: Words, language: Language) -> Markup:
    seeds = words(language, "count.seeds", n=len(metric.per_seed))
    return words(language, "claim.sample", n=metric.n, seeds=seeds)


def nfe(arm: Arm) -> float:
    """Network evaluations per sample: samples x calls over samples."""
    return arm.cost.network_samples / arm.metrics[0].n


def _value(metric: Metric | None) -> str:
    return measured(metric.value, metric.interval) if metric else "–"


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "name": plain(metric.name),
        "n": metric.n,
        "arrow": "↑" if metric.higher_is_better else "↓",
        "better": "higher" if metric.higher_is_better else "lower",
        "extractor": plain(metric.extractor) if metric.extractor else "",
        "reference": metric.reference,
        "implementation": plain(f"{metric.implementation.name} {metric.implementation.version}"),
    }


def _costs(record: Record) -> dict[str, list[str]]:
    """The columns of cost that say something, by the key of their heading."""
    arms = record.arms
    columns: dict[str, list[float | None]] = {
        "nfe": [nfe(arm) for arm in arms],
        "seconds": [arm.cost.seconds for arm in arms],
        "rate": [arm.cost.images_per_second for arm in arms],
        "memory": [arm.cost.peak_memory_mb for arm in arms],
        "trained": [arm.cost.parameters_trained for arm in arms],
    }
    return {
        name: [
            "–" if value is None else f"{value:,}" if name == "trained" else three(value) for value in values
        ]
        for name, values in columns.items()
        if any(values)
    }


def three(value: float) -> str:
    """Three significant digits, which is more than a timing deserves."""
    return short(float(f"{value:.3g}"))


def _machine(record: Record, words: Words, language: Language) -> str:
    environment = record.environment
    cpu = environment.gpu or environment.cpu
    return words(language, "machine.threads", cpu=plain(cpu), n=environment.threads)


def _checks(item: Item, record: Record, words: Words, language: Language) -> list[dict[str, Any]]:
    """What speaks for and against trusting the record, computed here and never read from it."""
    code = record.code
    if code.commit is None or code.dirty is None:
        commit = ("check.commit.unknown", False)
    else:
        commit = ("check.commit.no", False) if code.dirty else ("check.commit.yes", True)
    runner = item.method is not None and item.method.sha256 == code.runner_sha256
    entry = item.entry_sha256 == record.paper.entry_sha256
    seeds = set(record.seeds.asked) == set(record.seeds.finished)
    found = [
        ("check.hash", True),
        ("check.seeds.yes" if seeds else "check.seeds.no", seeds),
        commit,
        ("check.runner.yes" if runner else "check.runner.no", runner),
        ("check.entry.yes" if entry else "check.entry.no", entry),
    ]
    return [{"text": words(language, key), "good": good} for key, good in found]


def _facts(record: Record, words: Words, language: Language) -> list[tuple[str, Markup | str]]:
    none = words(language, "fact.none")
    env, code = record.environment, record.code
    inputs = Markup("<br>").join(
        Markup("<code>{}</code> ({:,} B) <code>{}</code>").format(
            plain(each.path), each.bytes, each.sha256[:16]
        )
        for each in record.inputs
    )
    return [
        (
            "seeds",
            words(
                language,
                "fact.seeds.value",
                seeds=", ".join(map(str, record.seeds.finished)),
                n=len(record.seeds.finished),
                asked=len(record.seeds.asked),
            ),
        ),
        ("config", Markup("<code>{}</code>").format(plain(json.dumps(record.config, ensure_ascii=False)))),
        ("cpu", plain(env.cpu)),
        ("threads", str(env.threads)),
        ("gpu", plain(env.gpu) if env.gpu else none),
        ("driver", plain(env.driver) if env.driver else none),
        ("platform", plain(env.platform)),
        ("container", plain(env.container) if env.container else none),
        (
            "libraries",
            plain(f"Python {env.python}, torch {env.torch}, diffusers {env.diffusers}, numpy {env.numpy}"),
        ),
        ("version", plain(code.version)),
        ("commit", Markup("<code>{}</code>").format(code.commit[:12]) if code.commit else none),
        ("started", plain(record.time.started[:19].replace("T", " "))),
        ("seconds", three(record.time.seconds)),
        ("inputs", inputs or none),
        ("runner", Markup("<code>{}</code>").format(code.runner_sha256)),
        ("key", Markup("<code>{}</code>").format(record.key)),
        ("sha256", Markup("<code>{}</code>").format(record.sha256)),
    ]


def plots(item: Item, scale: str, words: Words, language: Language) -> list[dict[str, Any]]:
    """The plots of a record: for each metric, and for each value of the settings that one arm has at equal cost.

    Against network evaluations where they vary in an arm, else arm by arm.
    """
    record = item.results[scale].record
    if record is None:
        return []
    found: list[dict[str, Any]] = []
    names = list(dict.fromkeys(metric.name for arm in record.arms for metric in arm.metrics))
    for name in names:
        chosen = [(arm, metric) for arm in record.arms if (metric := arm.metric(name)) is not None]
        better = "higher" if chosen[0][1].higher_is_better else "lower"
        y_label = words(language, f"plot.better.{better}", metric=plain(name)).unescape()
        for panel, there in _panels(chosen).items():
            costs: dict[str, set[float]] = {}
            for arm, _ in there:
                costs.setdefault(arm.name, set()).add(nfe(arm))
            varies = any(len(each) > 1 for each in costs.values())
            title = words(language, "plot.nfe" if varies else "plot.arms", metric=plain(name))
            if panel:
                title = words(language, "plot.panel", title=title, panel=panel)
            sample = _sample(there[0][1], words, language)
            drawn: dict[str, Any] = {
                "id": f"plot-{scale}-{len(found) + 1}",
                "title": title.unescape(),
                "y_label": y_label,
                "panel": panel,
            }
            if varies:
                x_label = words(language, "plot.x").unescape()
                svg = plot.lines(_by_arm(there, sample.unescape()), x_label=x_label, **drawn)
            else:
                svg = plot.dots(_arm_by_arm(there, sample.unescape()), **drawn)
            caption = words(language, "plot.caption", title=title, sample=sample)
            found.append({"svg": svg, "caption": caption})
    return found


def _panels(chosen: Sequence[tuple[Arm, Metric]]) -> dict[str, list[tuple[Arm, Metric]]]:
    """The arms by those of their settings that differ between arms of one name and one cost, such as the task."""
    apart: set[str] = set()
    for (arm, _), (other, _) in combinations(chosen, 2):
        if arm.name == other.name and nfe(arm) == nfe(other):
            keys = arm.settings.keys() | other.settings.keys()
            apart |= {key for key in keys if arm.settings.get(key) != other.settings.get(key)}
    panels: dict[str, list[tuple[Arm, Metric]]] = {}
    for arm, metric in chosen:
        text = settings_text({key: value for key, value in arm.settings.items() if key in apart})
        panels.setdefault(text, []).append((arm, metric))
    return panels


def _by_arm(chosen: Sequence[tuple[Arm, Metric]], note: str) -> list[plot.Series]:
    """A line for each name of an arm, over network evaluations."""
    series: dict[str, list[plot.Point]] = {}
    for arm, metric in chosen:
        series.setdefault(plain(arm.name), []).append(_point(nfe(arm), metric, note))
    return [plot.Series(name, tuple(points)) for name, points in series.items()]


def _arm_by_arm(chosen: Sequence[tuple[Arm, Metric]], note: str) -> list[plot.Series]:
    """A series for each arm, by its name alone where that tells it from the others."""
    count = Counter(arm.name for arm, _ in chosen)
    return [
        plot.Series(
            plain(arm.name if count[arm.name] == 1 else f"{arm.name} {settings_text(arm.settings)}"),
            (_point(0.0, metric, note),),
        )
        for arm, metric in chosen
    ]


def _point(x: float, metric: Metric, note: str) -> plot.Point:
    return plot.Point(x, metric.value, metric.interval, tuple(each.value for each in metric.per_seed), note)

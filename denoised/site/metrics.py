"""The metrics' page: what each metric carries, read out of the source, and how fast they were measured to be.

Building the site imports no torch, so the decorators of `denoised.metrics` are read instead of being run.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoised.site.sheets import Line, Model, read_json

METRICS = Path(__file__).parents[1] / "metrics"
BENCHMARK = "site/assets/benchmarks/metrics.json"


@dataclass(frozen=True)
class MetricFacts:
    """The arguments of one `@metric(...)`, and where it stands."""

    name: str
    better: str
    low: float | None
    high: float | None
    least: int
    version: str
    function: str  # dotted name


class Row(Model):
    """One comparison: CPU seconds of both sides, and how far their values are apart, relatively."""

    name: Line
    ours: float
    theirs: float
    difference: float
    pictures_per_second: float | None = None  # of the extractor, ours


class Environment(Model):
    """What the comparison ran on."""

    torch: Line
    torchmetrics: Line
    cpu: Line
    threads: int


class Benchmark(Model):
    """What `benchmarks/metrics.py --write` measured."""

    environment: Environment
    rows: tuple[Row, ...]


def read_facts(folder: Path = METRICS) -> tuple[MetricFacts, ...]:
    """The facts of every metric, by module and then as they stand in it."""
    found = []
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for scope, function in _functions(tree):
            for call in function.decorator_list:
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Name)
                    and call.func.id == "metric"
                ):
                    given: dict[str, Any] = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
                    facts = {"low": None, "high": None, "least": 1, "version": "1"} | given
                    where = ".".join(["denoised", "metrics", path.stem, *scope, function.name])
                    found.append(MetricFacts(ast.literal_eval(call.args[0]), function=where, **facts))
    return tuple(found)


def _functions(tree: ast.Module) -> list[tuple[list[str], ast.FunctionDef]]:
    """The functions of a module and of its classes, with the names of the classes."""
    found: list[tuple[list[str], ast.FunctionDef]] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.append(([], node))
        elif isinstance(node, ast.ClassDef):
            found += [([node.name], part) for part in node.body if isinstance(part, ast.FunctionDef)]
    return found


def read_benchmark(root: Path) -> Benchmark | None:
    """What was measured of the metrics' speed; None where nothing was."""
    path = root / BENCHMARK
    return read_json(path, Benchmark, BENCHMARK) if path.exists() else None


# --- as a page shows them --------------------------------------------------------------------------------


def metric_rows(metrics: Sequence[MetricFacts]) -> list[dict[str, Any]]:
    """The table of facts; bounds as "0 … 1", with ∞ where there is none, functions below `denoised.metrics`."""

    def bounds(metric: MetricFacts) -> str:
        low = "−∞" if metric.low is None else f"{metric.low:g}".replace("-", "−")
        return f"{low} … {'∞' if metric.high is None else f'{metric.high:g}'}"

    return [
        {
            **vars(metric),
            "bounds": bounds(metric),
            "function": metric.function.removeprefix("denoised.metrics."),  # what the column says already
        }
        for metric in metrics
    ]


def benchmark_view(benchmark: Benchmark) -> dict[str, Any]:
    """The table of speeds."""
    rows = [
        {
            "name": row.name,
            "ours": f"{row.ours:.3g}",
            "theirs": f"{row.theirs:.3g}",
            "faster": f"{row.theirs / row.ours:.3g}×",
            "difference": f"{row.difference:.0e}" if row.difference else "0",
        }
        for row in benchmark.rows
    ]
    rates = [row.pictures_per_second for row in benchmark.rows if row.pictures_per_second is not None]
    return {"environment": benchmark.environment, "rows": rows, "rates": [f"{rate:.0f}" for rate in rates]}

"""How fast sampling was measured to be, by `benchmarks/sampling.py --write`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from denoised.site.sheets import Line, Model, read_json

BENCHMARK = "site/assets/benchmarks/sampling.json"


class Row(Model):
    """One comparison: CPU seconds of both sides, how far their pictures are apart, evaluations of each."""

    name: Line
    ours: float
    theirs: float
    difference: float
    nfe: int | None = None


class Environment(Model):
    """What the comparison ran on, and how much was drawn."""

    torch: Line
    diffusers: Line
    cpu: Line
    threads: int
    steps: int
    batch: int


class Sampling(Model):
    """The whole file."""

    environment: Environment
    rows: tuple[Row, ...]


def read_sampling(root: Path) -> Sampling | None:
    """What was measured of sampling's speed; None where nothing was."""
    path = root / BENCHMARK
    return read_json(path, Sampling, BENCHMARK) if path.exists() else None


def sampling_view(sampling: Sampling) -> dict[str, Any]:
    """The table of speeds."""
    return {
        "environment": sampling.environment,
        "rows": [
            {
                "name": row.name,
                "ours": _seconds(row.ours),
                "theirs": _seconds(row.theirs),
                "faster": f"{row.theirs / row.ours:.2f}×",
                "difference": f"{row.difference:.0e}" if row.difference else "0",
                "nfe": "–" if row.nfe is None else str(row.nfe),
            }
            for row in sampling.rows
        ],
    }


def _seconds(value: float) -> str:
    """`1.23 s`, `45.6 µs`."""
    return f"{value:.3g} s" if value >= 0.01 else f"{value * 1e6:.3g} µs"

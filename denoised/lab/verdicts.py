"""The statistics that decide a verdict, used by whoever writes a record and by whoever reads it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Literal

CONFIDENCE = 0.95

Verdict = Literal["holds", "fails", "inconclusive"]
Relation = Literal["<", ">", "<=", ">="]


def t_quantile(df: int) -> float:
    """The t with P(|T| <= t) = 0.95 for Student's t with `df` degrees of freedom.

    The distribution function is the finite sum for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and
    26.7.4) in theta = atan(t / sqrt(df)); it is inverted by bisection, to double precision.
    """

    def inside(theta: float) -> float:
        sin, cos = math.sin(theta), math.cos(theta)
        term = cos if df % 2 else 1.0
        total = 0.0
        for k in range(df % 2, df - 1, 2):
            total += term
            term *= cos * cos * (k + 1) / (k + 2)
        return 2 / math.pi * (theta + sin * total) if df % 2 else sin * total

    low, high = 0.0, math.pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if inside(middle) < CONFIDENCE else (low, middle)
    return math.sqrt(df) * math.tan(middle)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % Student t interval of the mean of `values`, one value a seed; None for fewer than two."""
    if len(values) < 2:
        return None
    mean, half = fmean(values), t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def verdict(relation: Relation, bounds: tuple[float, float] | None, margin: float = 0.0) -> Verdict:
    """What the interval of the paired differences `arm - than` says of the claim `arm <relation> than`.

    "<" and ">": `holds` where the whole interval lies beyond the margin on the claimed side, `fails` where it
    lies beyond zero on the other side. "<=" and ">=" claim that `arm` is not worse by more than the margin:
    `holds` where the whole interval lies on the good side of it, `fails` where it lies on the bad side.
    `inconclusive`: anything else, or no interval at all (a single seed).
    """
    if bounds is None:
        return "inconclusive"
    low, high = bounds if relation in (">", ">=") else (-bounds[1], -bounds[0])
    if relation in ("<", ">"):
        return "holds" if low > margin else "fails" if high < 0 else "inconclusive"
    return "holds" if low >= -margin else "fails" if high < -margin else "inconclusive"

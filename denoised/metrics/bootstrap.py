"""How sure a value is where there is but one seed: by drawing the samples themselves again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CONFIDENCE = 0.95
RESAMPLES = 400


def bootstrap_interval(
    statistic: Callable[[Tensor], float], n: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % basic bootstrap interval (Davison and Hinkley 1997, Eq. 5.6) of a statistic of n samples.

    `statistic`: its value on rows (n,) int64, drawn with replacement. The basic interval turns the quantiles
    around the value on all rows: what resampling adds to a distance, which grows with repeated samples, is
    taken off instead of counted twice. Says nothing of what else varies with the seed. Raises ValueError for
    fewer than two samples.
    """
    if n < 2:
        raise ValueError(f"resampling needs two samples or more, not {n}")
    random = torch.Generator().manual_seed(seed)
    value = statistic(torch.arange(n))
    drawn = [statistic(torch.randint(n, (n,), generator=random)) for _ in range(resamples)]
    tails = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=torch.float64)
    low, high = torch.tensor(drawn, dtype=torch.float64).quantile(tails).tolist()
    return 2 * value - high, 2 * value - low


def mean_interval(values: Tensor) -> tuple[float, float]:
    """The bootstrap interval of the mean of values (n,), all resamples at once."""
    values = values.double()
    return bootstrap_interval(lambda rows: float(values[rows].mean()), len(values))

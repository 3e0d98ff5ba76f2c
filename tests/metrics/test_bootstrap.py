"""Bootstrap intervals: that they cover what they should, and mend the bias of a distance."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from denoised.metrics.bootstrap import bootstrap_interval, mean_interval
from denoised.metrics.distances import frechet_distance


def test_the_interval_of_a_mean_by_scipy() -> None:
    values = torch.randn(80, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    theirs = scipy.stats.bootstrap(
        (values.numpy(),), np.mean, method="basic", n_resamples=9999, rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = bootstrap_interval(lambda rows: float(values[rows].mean()), 80, resamples=4000)
    assert low == pytest.approx(theirs.low, abs=0.02) and high == pytest.approx(theirs.high, abs=0.02)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    random = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(200):
        low, high = mean_interval(torch.randn(50, generator=random))
        inside += low <= 0 <= high
    assert 0.88 < inside / 200 < 0.99


def test_resampling_does_not_move_a_distance_away_from_its_value() -> None:
    """Repeated samples make a Fréchet distance grow; the basic interval takes that off again."""
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(60, 20, generator=random), torch.randn(500, 20, generator=random) + 0.5
    value = frechet_distance(a, b)
    resampled = frechet_distance(a[torch.randint(60, (60,), generator=random)], b)
    low, high = bootstrap_interval(lambda rows: frechet_distance(a[rows], b), 60, resamples=100)
    assert resampled > value and low < value < resampled and high - low < value


def test_the_same_seed_gives_the_same_interval_and_one_sample_none() -> None:
    values = torch.arange(10.0)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(torch.ones(10)) == (1, 1)
    with pytest.raises(ValueError, match="two samples or more, not 1"):
        mean_interval(values[:1])

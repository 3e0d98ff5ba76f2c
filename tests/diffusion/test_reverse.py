"""DDPM's reverse step against Bayes' rule for Gaussians."""

from __future__ import annotations

import math

import pytest
import torch

from denoised.diffusion.denoiser import Prediction
from denoised.diffusion.reverse import posterior
from denoised.diffusion.schedule import Schedule


@pytest.mark.parametrize(("t", "t_next"), [(999, 998), (600, 450), (20, 0)])
def test_the_posterior_weighs_what_was_before_and_what_came_after_by_their_precisions(
    t: int, t_next: int
) -> None:
    """q(x_{t_next} | x_t, x0) ∝ N(x_{t_next}; sqrt(ᾱ') x0, 1 - ᾱ') N(x_t; r x_{t_next}, 1 - r²), r² = ᾱ / ᾱ'."""
    schedule = Schedule.linear()
    x0, x = torch.tensor([[0.3], [-1.0]]).double(), torch.tensor([[1.1], [0.4]]).double()
    r2 = schedule.alpha_bar(t) / schedule.alpha_bar(t_next)
    a, s = schedule.level(t_next)
    precision = 1 / s**2 + r2 / (1 - r2)
    expected = (a * x0 / s**2 + math.sqrt(r2) * x / (1 - r2)) / precision
    mean, variance = posterior(x, Prediction(x0, x, 1.0, 1.0), t, t_next, schedule)
    torch.testing.assert_close(mean, expected)
    assert variance == pytest.approx(1 / precision)


def test_the_last_step_ends_in_x0() -> None:
    x0, x = torch.tensor([[0.3], [-1.0]]), torch.tensor([[1.1], [0.4]])
    mean, variance = posterior(x, Prediction(x0, x, 1.0, 1.0), 30, -1, Schedule.cosine())
    torch.testing.assert_close(mean, x0)
    assert variance == 0

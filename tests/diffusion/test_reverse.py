"""DDPM's reverse step against Bayes' rule for Gaussians, and as a model for the bound."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from denoised.diffusion.bounds import chain
from denoised.diffusion.denoiser import Prediction
from denoised.diffusion.reverse import fixed_variance, posterior
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


def test_a_model_of_the_bound_has_either_variance_and_clips_x0() -> None:
    schedule = Schedule.linear()
    steps = chain(schedule, [900, 500, 100, 0])

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.full_like(x, 3.0)  # x0

    x, k = torch.full((4, 1), 0.7).double(), torch.arange(4)
    small_mean, small = fixed_variance(network, "sample", steps, "small")(x, k)
    mean, large = fixed_variance(network, "sample", steps, "large")(x, k)
    torch.testing.assert_close(mean, small_mean)
    for i, (t, t_next) in enumerate([(900, 500), (500, 100), (100, 0)]):
        clipped = Prediction(torch.ones(1, 1).double(), x[:1], 1.0, 1.0)
        expected, variance = posterior(x[:1], clipped, t, t_next, schedule)
        assert float(mean[i]) == pytest.approx(float(expected))
        assert float(small[i].exp()) == pytest.approx(variance)
        beta = 1 - schedule.alpha_bar(t) / schedule.alpha_bar(t_next)
        assert float(large[i].exp()) == pytest.approx(beta)
    assert float(mean[3]) == pytest.approx(1)
    assert float(large[3]) == float(small[3]) == float(small[2])

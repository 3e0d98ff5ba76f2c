"""The SDEs against their own equations: marginals solve the moment equations, the flow carries Gaussians along."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from denoised.diffusion.continuous import Level, Levels
from denoised.diffusion.denoiser import Prediction
from denoised.diffusion.schedule import Schedule
from denoised.diffusion.sde import (
    SDE,
    VE,
    VP,
    flow,
    level_of,
    reverse_drift,
    score,
    time_of,
    transition,
    with_divergence,
)

BOTH = pytest.mark.parametrize("sde", [VP(), VE()])


@BOTH
def test_the_marginals_solve_the_moment_equations(sde: SDE) -> None:
    """da/dt = f a and ds²/dt = 2 f s² + g²: Eq. 29 is the solution of Eq. 9 and 11."""
    h = 1e-5
    for t in (0.01, 0.3, 0.7, 0.99):
        (a0, s0), (a, s), (a1, s1) = (sde.marginal(t + d) for d in (-h, 0.0, h))
        assert (a1 - a0) / (2 * h) == pytest.approx(sde.drift(t) * a, rel=1e-6, abs=1e-9)
        slope = 2 * sde.drift(t) * s**2 + sde.diffusion(t) ** 2
        assert (s1**2 - s0**2) / (2 * h) == pytest.approx(slope, rel=1e-6)


def test_the_two_ends() -> None:
    assert VP().marginal(0.0) == (1.0, 0.0)
    assert VP().marginal(1.0) == pytest.approx((math.exp(-20.1 / 4), math.sqrt(1 - math.exp(-20.1 / 2))))
    assert VE().marginal(0.0) == (1.0, 0.01)
    assert VE().marginal(1.0) == pytest.approx((1.0, 50.0))


@BOTH
def test_time_inverts_the_noise_level(sde: SDE) -> None:
    for t in (1e-6, 1e-3, 0.2, 1.0):
        a, s = sde.marginal(t)
        assert sde.time(s / a) == pytest.approx(t, rel=1e-9)


def test_the_area_under_beta_says_how_noisy_it_is() -> None:
    """s² / a² = exp(∫β) - 1, for numbers and tensors, and the time of an area is found again."""
    sde = VP()
    times = torch.tensor([1e-6, 0.2, 1.0], dtype=torch.float64)
    for t, area in zip(times.tolist(), sde.area(times).tolist(), strict=True):
        a, s = sde.marginal(t)
        assert area == pytest.approx(math.log1p((s / a) ** 2))
        assert area == pytest.approx(sde.area(t)) and sde.time_of_area(area) == pytest.approx(t)
    slope = (sde.area(0.5 + 1e-4) - sde.area(0.5 - 1e-4)) / 2e-4
    assert slope == pytest.approx(sde.beta(0.5))


def test_ddpm_s_timesteps_lie_evenly_on_the_vp_sde() -> None:
    """Its betas are β_min / N … β_max / N on a line (appendix C), so timestep i is near the time (i + 1) / N."""
    levels = Levels(Schedule.linear())
    for i in (0, 99, 499, 999):
        assert time_of(VP(), levels, i) == pytest.approx((i + 1) / 1000, abs=4e-3)


def gaussian(mean: float, deviation: float) -> tuple[Levels, type[Exact]]:
    class Bound(Exact):
        m, d = mean, deviation

    return Levels(Schedule.cosine()), Bound


class Exact:
    """What a perfect network says of data N(m, d²), at any level."""

    m, d = 0.0, 1.0

    @classmethod
    def predict(cls, x: Tensor, level: Level) -> Prediction:
        variance = (level.a * cls.d) ** 2 + level.s**2
        eps = level.s * (x - level.a * cls.m) / variance
        return Prediction((x - level.s * eps) / level.a, eps, torch.tensor(level.a), torch.tensor(level.s))


@BOTH
def test_a_network_of_another_schedule_gives_the_score(sde: SDE) -> None:
    levels, exact = gaussian(0.3, 0.5)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    for t in (0.005, 0.5, 1.0):
        a, s = sde.marginal(t)
        expected = -(x - 0.3 * a) / ((0.5 * a) ** 2 + s**2)
        torch.testing.assert_close(score(exact.predict, levels, sde, x, t), expected, rtol=1e-9, atol=1e-12)


@BOTH
def test_the_flow_keeps_the_standard_score_of_gaussians(sde: SDE) -> None:
    """Eq. 13 moves N(a m, a² d² + s²) along with t: (x - a m) / sqrt(a² d² + s²) is constant on its paths."""
    levels, exact = gaussian(0.3, 0.5)
    t, h = 0.4, 1e-5

    def path(at: float) -> Tensor:
        a, s = sde.marginal(at)
        return 0.3 * a + math.hypot(0.5 * a, s) * torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]

    x = path(t)
    slope = flow(sde, x, t, score(exact.predict, levels, sde, x, t))
    torch.testing.assert_close(slope, (path(t + h) - path(t - h)) / (2 * h), rtol=1e-6, atol=1e-8)


@BOTH
def test_the_reverse_sde_and_the_flow_differ_by_half_of_the_score(sde: SDE) -> None:
    x = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    s = torch.tensor([[0.5], [3.0]], dtype=torch.float64)
    difference = flow(sde, x, 0.6, s) - reverse_drift(sde, x, 0.6, s)
    torch.testing.assert_close(difference, sde.diffusion(0.6) ** 2 / 2 * s)


def test_the_divergence_averages_to_the_trace() -> None:
    """Eq. 40 over all sign vectors is the trace exactly; one of them is, where the Jacobian is diagonal."""
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    probes = torch.tensor(list(product([-1.0, 1.0], repeat=3)), dtype=torch.float64)
    x = torch.zeros(len(probes), 3, dtype=torch.float64)
    velocity, divergence = with_divergence(lambda x: x @ matrix.T + 1, x, probes)
    torch.testing.assert_close(velocity, torch.ones_like(x))
    assert float(divergence.mean()) == pytest.approx(float(matrix.trace()))
    _, diagonal = with_divergence(lambda x: x * matrix.diagonal(), x, probes)
    torch.testing.assert_close(diagonal, matrix.trace().expand(len(x)))


@BOTH
def test_transitions_compose(sde: SDE) -> None:
    near, far = sde.marginal(0.2), sde.marginal(0.7)
    ratio, noise = transition(near, far)
    assert ratio * near[0] == pytest.approx(far[0])
    assert (ratio * near[1]) ** 2 + noise**2 == pytest.approx(far[1] ** 2)


def test_levels_outside_of_the_schedule() -> None:
    levels = Levels(Schedule.cosine())
    below = level_of(levels, levels.first.sigma / 4)
    assert below.t == 0 and below.sigma == pytest.approx(levels.first.sigma / 4)
    assert level_of(levels, 1.0) == levels.at_sigma(1.0)
    with pytest.raises(ValueError, match="sigma must lie in"):
        level_of(levels, 2 * levels.last.sigma)

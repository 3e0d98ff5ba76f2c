"""Noise levels between timesteps: against the schedule at whole ones, against diffusers in between."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from denoised.diffusion.continuous import Level, Levels, predict_at, predict_through
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.schedule import Schedule

SCHEDULES = [Schedule.linear(), Schedule.cosine()]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("t", [0, 1, 500, 998, 999])
def test_at_whole_timesteps_a_level_is_the_schedules(schedule: Schedule, t: int) -> None:
    alpha_bar = float(schedule.alpha_bar(t))
    level = Levels(schedule).at_timestep(t)
    assert level.a == pytest.approx(math.sqrt(alpha_bar), rel=1e-9)
    assert level.s == pytest.approx(math.sqrt(1 - alpha_bar), rel=1e-9)
    assert level.sigma == pytest.approx(math.sqrt((1 - alpha_bar) / alpha_bar), rel=1e-9)
    assert math.exp(2 * level.lam) == pytest.approx(float(schedule.snr(t)), rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_timestep_lambda_and_sigma_name_one_level(schedule: Schedule) -> None:
    levels = Levels(schedule)
    for t in np.linspace(0, 999, 41):
        level = levels.at_timestep(float(t))
        assert level.a**2 + level.s**2 == pytest.approx(1, abs=1e-12)
        assert levels.at_lambda(level.lam).t == pytest.approx(t, abs=1e-9)
        assert levels.at_sigma(level.sigma).t == pytest.approx(t, abs=1e-6)
    assert levels.first == levels.at_timestep(0) and levels.last == levels.at_timestep(999)


def test_between_timesteps_it_is_what_diffusers_finds() -> None:
    scheduler = EulerDiscreteScheduler(num_train_timesteps=1000)
    alpha_bar = Schedule.linear().alpha_bar(torch.arange(1000)).numpy()
    log_sigmas = np.log((1 - alpha_bar) / alpha_bar) / 2
    levels = Levels(Schedule.linear())
    for sigma in (0.011, 0.2, 1.0, 7.7, 80.0, 157.0):
        assert levels.at_sigma(sigma).t == pytest.approx(
            float(scheduler._sigma_to_t(np.array(sigma), log_sigmas))
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_timesteps_of_many_sigmas_are_those_of_each(schedule: Schedule) -> None:
    levels = Levels(schedule)
    sigmas = torch.logspace(
        math.log10(levels.first.sigma), math.log10(levels.last.sigma), 50, dtype=torch.float64
    )[1:-1]
    expected = torch.tensor([levels.at_sigma(sigma).t for sigma in sigmas.tolist()], dtype=torch.float64)
    torch.testing.assert_close(levels.timesteps(sigmas), expected)
    beyond = torch.tensor([levels.first.sigma / 2, levels.last.sigma * 2])
    assert levels.timesteps(beyond).tolist() == [0, 999]


def test_nearest_is_nearest_in_sigma_and_never_outside() -> None:
    levels = Levels(Schedule.cosine())
    low, high = levels.at_timestep(300), levels.at_timestep(301)
    assert levels.nearest(0.51 * low.sigma + 0.49 * high.sigma) == low
    assert levels.nearest(0.49 * low.sigma + 0.51 * high.sigma) == high
    assert levels.nearest(0.0) == levels.first and levels.nearest(1e9) == levels.last


def test_levels_outside_the_schedule_are_refused() -> None:
    levels = Levels(Schedule.linear())
    with pytest.raises(ValueError, match=r"timestep must lie in 0 … 999, not 999\.5"):
        levels.at_timestep(999.5)
    with pytest.raises(ValueError, match=r"lambda must lie in -5\.059 … 4\.605, not 6"):
        levels.at_lambda(6)
    with pytest.raises(ValueError, match=r"sigma must lie in 0\.01 … 157\.4, not 0\.002"):
        levels.at_sigma(0.002)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_whole_level_is_asked_like_its_timestep(kind: str) -> None:
    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.sin(x * (1 + t.reshape(-1, 1)))

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    denoiser = Denoiser(network, Schedule.cosine(), kind)  # type: ignore[arg-type]
    whole, level = denoiser(x, 250), Levels(denoiser.schedule).at_timestep(250)
    real = predict_at(denoiser, x, level)
    torch.testing.assert_close(real.eps, whole.eps)
    torch.testing.assert_close(real.x0, whole.x0)
    assert (denoiser.calls, denoiser.samples) == (2, 8)


def test_the_network_is_told_the_real_timestep() -> None:
    asked: list[Tensor] = []

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        asked.append(t)
        return x

    predict_at(Denoiser(network, Schedule.linear()), torch.zeros(2, 3), Level(10.25, 0.0))
    torch.testing.assert_close(asked[0], torch.full((2,), 10.25))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_bare_network_says_the_same_and_can_be_differentiated(kind: str) -> None:
    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.sin(x * (1 + t.reshape(-1, 1)))

    denoiser = Denoiser(network, Schedule.cosine(), kind)  # type: ignore[arg-type]
    level = Levels(denoiser.schedule).at_timestep(123.4)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    through = predict_through(network, kind, x, level)  # type: ignore[arg-type]
    torch.testing.assert_close(through.eps, predict_at(denoiser, x.detach(), level).eps)
    (gradient,) = torch.autograd.grad(through.eps.sum(), x)
    assert float(gradient.abs().min()) > 0
    assert denoiser.calls == 1

"""DPM-Solver against DDIM, diffusers' singlestep scheduler, exact flows and its order conditions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DPMSolverSinglestepScheduler
from torch import Tensor

from denoised.diffusion.continuous import Level, Levels
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.samplers import ddim_step
from denoised.diffusion.schedule import Schedule
from denoised.errors import DenoisedError
from runners.fast_sampling.dpm_solver import (
    Config,
    log_snr_grid,
    network_rows,
    orders,
    reproduce,
    sample,
    solve,
    step_1,
    step_2,
    step_3,
    time_grid,
)
from tests.runners.pixel_lab import pixel_lab

LINEAR = Levels(Schedule.linear())


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_order_one_is_ddim(kind: str) -> None:
    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.sin(x + t.reshape(-1, 1) / 300)

    denoiser = Denoiser(network, Schedule.cosine(), kind)  # type: ignore[arg-type]
    levels, timesteps = Levels(denoiser.schedule), [980, 700, 350, 90, 3, 0]
    ours = sample(denoiser, noise(5, 3), [levels.at_timestep(t) for t in timesteps], [1] * 5)
    theirs = noise(5, 3)
    for t, t_next in pairwise(timesteps):
        theirs = ddim_step(denoiser(theirs, t), t_next, denoiser.schedule)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # real timesteps are float32


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:__array__ implementation:DeprecationWarning")
def test_step_for_step_with_diffusers(order: int) -> None:
    """The same timesteps; diffusers takes s_1 from them, wherever it lies between s and t. (Its third order has
    another predictor at s_2 than Algorithm 2.)"""
    scheduler = DPMSolverSinglestepScheduler(
        algorithm_type="dpmsolver",
        solver_order=order,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
        beta_schedule="linear",
    )
    scheduler.set_timesteps(10)
    weight = noise(3, 3) / 3

    def eps(x: Tensor, level: Level) -> Tensor:
        return torch.tanh(torch.einsum("oc,nchw->nohw", weight, x)) * (1 + level.t / 1000)

    theirs = noise(2, 3, 4, 4)
    for t in scheduler.timesteps:
        theirs = scheduler.step(eps(theirs, Level(float(t), 0.0)), t, theirs).prev_sample
    grid = [LINEAR.at_timestep(t) for t in [*scheduler.timesteps.tolist(), 0]]
    x = noise(2, 3, 4, 4)
    if order == 1:
        x = solve(eps, x, grid, [1] * 10, LINEAR)
    else:
        for i in range(0, 10, 2):
            x = step_2(eps, x, grid[i], grid[i + 1], grid[i + 2])
    torch.testing.assert_close(x, theirs, rtol=1e-3, atol=1e-3)  # their tables are float32


@pytest.mark.parametrize(("order", "low", "high"), [(1, 1.8, 2.3), (2, 3.5, 4.6), (3, 6.8, 9.5)])
def test_order_of_convergence(order: int, low: float, high: float) -> None:
    """Of Gaussian data the flow is known: halving the steps divides the error by two to the order."""
    mean, deviation = 0.3, 0.5

    def spread(level: Level) -> float:
        return math.hypot(level.a * deviation, level.s)

    def eps(x: Tensor, level: Level) -> Tensor:
        return level.s * (x - level.a * mean) / spread(level) ** 2

    errors = []
    for steps in (20, 40, 80):
        grid = log_snr_grid(LINEAR, -3.0, steps)
        start, end = grid[0], grid[-1]
        x = torch.linspace(-2, 2, 9, dtype=torch.float64)
        exact = end.a * mean + (x - start.a * mean) * spread(end) / spread(start)
        errors.append(float((solve(eps, x, grid, [order] * steps, LINEAR) - exact).abs().max()))
    assert all(low < coarse / fine < high for coarse, fine in pairwise(errors))


def test_one_step_is_exact_where_the_noise_does_not_change() -> None:
    """Data at one point: ε is the same all along the way, and the linear part is solved exactly."""
    s, t = LINEAR.at_lambda(-4.0), LINEAR.at_lambda(4.0)
    start, point = noise(7), 0.4
    x = s.a * point + s.s * start

    def eps(x: Tensor, level: Level) -> Tensor:
        return (x - level.a * point) / level.s

    for order in (1, 2, 3):
        torch.testing.assert_close(solve(eps, x, [s, t], [order], LINEAR), t.a * point + t.s * start)


def test_third_order_is_exact_where_the_noise_is_linear_in_lambda() -> None:
    s, t = LINEAR.at_lambda(-1.0), LINEAR.at_lambda(1.5)
    s_1, s_2 = (LINEAR.at_lambda(-1 + 2.5 * r) for r in (1 / 3, 2 / 3))
    x = step_3(lambda x, level: 0 * x + 2 * level.lam, torch.ones(1, dtype=torch.float64), s, s_1, s_2, t)
    # α_t ∫ e^(-λ) 2 λ dλ from λ_s to λ_t, of Proposition 3.1
    integral = -2 * ((t.lam + 1) * math.exp(-t.lam) - (s.lam + 1) * math.exp(-s.lam))
    assert x.item() == pytest.approx(t.a / s.a - t.a * integral, rel=1e-9)


def test_step_two_at_the_middle_is_algorithm_1() -> None:
    s, t = LINEAR.at_lambda(-2.0), LINEAR.at_lambda(0.0)
    middle, x = LINEAR.at_lambda(-1.0), noise(4)

    def eps(x: Tensor, level: Level) -> Tensor:
        return torch.sin(3 * x) * level.lam

    u = step_1(x, eps(x, s), s, middle)
    torch.testing.assert_close(step_2(eps, x, s, middle, t), step_1(x, eps(u, middle), s, t))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("nfe", [1, 2, 3, 10, 12, 15, 20])
def test_the_budget_is_spent_exactly(order: int, nfe: int) -> None:
    steps = orders(nfe, order)
    assert sum(steps) == nfe
    denoiser = Denoiser(lambda x, t, _: x, Schedule.linear())
    sample(denoiser, torch.zeros(2, 1), log_snr_grid(LINEAR, -5.1, len(steps)), steps)
    assert (denoiser.calls, denoiser.samples) == (nfe, 2 * nfe)


def test_dpm_solver_fast_ends_on_lower_orders() -> None:
    assert orders(15, 3) == [3, 3, 3, 3, 2, 1]
    assert orders(10, 3) == [3, 3, 3, 1]
    assert orders(20, 3) == [3] * 6 + [2]


@pytest.mark.parametrize("schedule", [Schedule.linear(), Schedule.cosine()])
def test_all_grids_share_both_ends(schedule: Schedule) -> None:
    levels = Levels(schedule)
    even = log_snr_grid(levels, -5.1, 8)
    uniform, quadratic = (time_grid(levels, -5.1, 8, power) for power in (1, 2))
    for grid in (even, uniform, quadratic):
        assert grid[0].lam == pytest.approx(max(-5.1, levels.last.lam)) and grid[-1] == levels.first
        assert len(grid) == 9
    assert [b.lam - a.lam for a, b in pairwise(even)] == pytest.approx([(even[8].lam - even[0].lam) / 8] * 8)
    assert [a.t - b.t for a, b in pairwise(uniform)] == pytest.approx([uniform[0].t / 8] * 8)
    roots = [math.sqrt(level.t + 1) for level in quadratic]
    assert [a - b for a, b in pairwise(roots)] == pytest.approx([(roots[0] - 1) / 8] * 8)


def test_reproduce_compares_at_equal_evaluations() -> None:
    lab, config = pixel_lab(), Config(nfe=[3, 10], exact_nfe=12, exact_images=2)
    reproduce(lab, config)
    names = ["ddim", "dpm-solver-2", "dpm-solver-3"]
    assert [(arm.name, arm.settings, arm.calls, arm.samples) for arm in lab.arms] == [
        (name, {"nfe": nfe}, nfe, 4 * nfe) for nfe in (3, 10) for name in names
    ]
    assert all(arm.metrics["psnr[ode]"].n == 2 for arm in lab.arms)
    assert network_rows(config, images=4) == sum(arm.samples for arm in lab.arms) + 2 * 12
    assert [(c.metric, c.arm, c.relation, c.than, c.at) for c in lab.claims] == [
        (metric, name, relation, "ddim", {"nfe": 10})
        for name in names[1:]
        for metric, relation in (("fid[effnet-lite0]", "<"), ("psnr[ode]", ">"))
    ]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nfe must be a list of numbers of at least 1, not \[0\]"):
        Config(nfe=[0])
    with pytest.raises(ValueError, match="ddim_grid must be uniform or quadratic, not 'cubic'"):
        Config(ddim_grid="cubic")
    with pytest.raises(ValueError, match="exact_nfe must be above 20, the largest nfe, not 20"):
        Config(exact_nfe=20)
    with pytest.raises(ValueError, match="exact_images must be at least 1, not 0"):
        Config(exact_images=0)
    lab = pixel_lab()
    with pytest.raises(
        DenoisedError, match=r"lambda_min must be below 5\.05, where the schedule ends, not 6"
    ):
        reproduce(lab, Config(lambda_min=6))
    assert not lab.arms

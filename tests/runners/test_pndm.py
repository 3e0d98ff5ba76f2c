"""PNDM against diffusers' published vectors and scheduler, classical solvers, DDIM and exact flows."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import PNDMScheduler
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.samplers import ddim_step
from denoised.diffusion.schedule import Schedule, timesteps
from runners.fast_sampling.pndm import Config, multistep, network_rows, reproduce, sample, solve, transfer
from tests.runners.pixel_lab import pixel_lab

LINEAR = Schedule.linear()


def dummy_sample() -> Tensor:
    """The stand-in sample of diffusers' scheduler tests: 768 numbers from 0 to 1, as (4, 3, 8, 8)."""
    numbers = torch.arange(768, dtype=torch.float64) / 768
    deterministic: Tensor = numbers.reshape(3, 8, 8, 4).permute(3, 0, 1, 2)
    return deterministic


def dummy(x: Tensor, t: int) -> Tensor:
    """Their stand-in network."""
    return x * t / (t + 1)


def transfer_of_v(x: Tensor, v: Tensor, t: int, t_next: int) -> Tensor:
    """diffusers averages raw outputs, here v, and turns the average into ε at the start of the step."""
    a, s = LINEAR.signal_and_noise(t, x)
    return transfer(x, a * v + s * x, t, t_next, LINEAR)


# Sums and means of |x| that diffusers' own test-suite publishes (tests/schedulers/test_scheduler_pndm.py). Its last
# step ends at timestep 0.
@pytest.mark.parametrize(
    ("kind", "total", "mean"), [("epsilon", 198.1318, 0.2580), ("v_prediction", 67.3986, 0.0878)]
)
def test_published_vectors(kind: str, total: float, mean: float) -> None:
    move = transfer_of_v if kind == "v_prediction" else partial(transfer, schedule=LINEAR)
    x = solve(dummy, move, dummy_sample(), [*timesteps(1000, 10, "leading"), 0])
    assert x.abs().sum().item() == pytest.approx(total, abs=1e-2)
    assert x.abs().mean().item() == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize("warm_up", ["runge-kutta", "plms"])
@pytest.mark.parametrize(
    "steps", [5, 10, 25]
)  # even strides: halfway between others diffusers uses two timesteps
def test_step_for_step_with_diffusers(warm_up: str, steps: int) -> None:
    scheduler = PNDMScheduler(
        beta_schedule="linear",
        skip_prk_steps=warm_up == "plms",
        set_alpha_to_one=True,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(steps)
    scheduler.alphas_cumprod = LINEAR.alpha_bar(torch.arange(1000))  # theirs is float32
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 8, generator=random, dtype=torch.float64)
    weight = torch.randn(3, 3, generator=random, dtype=torch.float64) / 3

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.tanh(torch.einsum("oc,nchw->nohw", weight, x)) * (1 + t.reshape(-1, 1, 1, 1) / 1000)

    denoiser = Denoiser(network, LINEAR)
    ours = sample(denoiser, x, timesteps(1000, steps, "leading"), warm_up=warm_up)
    theirs = x
    for t in scheduler.timesteps:
        theirs = scheduler.step(network(theirs, t.expand(2), None), t, theirs).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert denoiser.calls == len(scheduler.timesteps)


@pytest.mark.parametrize(("warm_up", "extra"), [("runge-kutta", 9), ("plms", 1)])
def test_the_warm_up_costs_evaluations(warm_up: str, extra: int) -> None:
    denoiser = Denoiser(lambda x, t, _: x, LINEAR)
    sample(denoiser, torch.zeros(3, 1), timesteps(1000, 12, "leading"), warm_up=warm_up)
    assert (denoiser.calls, denoiser.samples) == (12 + extra, 3 * (12 + extra))


@pytest.mark.parametrize(("t", "t_next"), [(900, 850), (20, 0), (0, -1)])
def test_the_transfer_is_a_ddim_step(t: int, t_next: int) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prediction = Denoiser(lambda x, t, _: torch.sin(x), LINEAR)(x, t)
    torch.testing.assert_close(
        transfer(x, prediction.eps, t, t_next, LINEAR), ddim_step(prediction, t_next, LINEAR)
    )


def test_nothing_to_average_leaves_ddims_exact_step() -> None:
    """Data at one point: ε never changes, and any number of steps ends on the point."""

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = LINEAR.signal_and_noise(t, x)
        return (x - a * 0.4) / s

    x = torch.randn(5, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for warm_up in ("runge-kutta", "plms"):
        drawn = sample(Denoiser(network, LINEAR), x, timesteps(1000, 6, "leading"), warm_up=warm_up)
        torch.testing.assert_close(drawn, torch.full_like(drawn, 0.4))


def test_with_the_classical_transfer_it_is_a_classical_solver_of_order_four() -> None:
    """x' = x along t = 1 … 0 in units of T: Runge-Kutta and Adams-Bashforth, whose error falls by sixteen."""
    T = 96_000
    errors = []
    for steps in (40, 80, 160):
        c = T // steps
        x = solve(
            lambda x, t: x,
            lambda x, slope, t, t_next: x + (t_next - t) / T * slope,
            torch.ones(1, dtype=torch.float64),
            list(range(T, -1, -c)),
        )
        errors.append(abs(x.item() - math.exp(-1)))
    assert all(14 < coarse / fine < 19 for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("known", [1, 2, 3, 4])
def test_multistep_weights_integrate_polynomials(known: int) -> None:
    """k gradients at t = 0, -1, … give the mean over the next step, exactly for degree k - 1."""
    for degree in range(known):
        history = [torch.tensor(float(-i)) ** degree for i in reversed(range(known))]
        assert multistep(history).item() == pytest.approx(1 / (degree + 1), abs=1e-6)


@pytest.mark.parametrize("warm_up", ["runge-kutta", "plms"])
def test_second_order_convergence_to_the_exact_flow(warm_up: str) -> None:
    """Of Gaussian data the flow is known: halving the steps divides the error by four, the transfer's order."""
    T, mean, deviation = 64_000, 0.3, 0.5
    schedule = Schedule.linear(T, 1e-4 * 1000 / T, 0.02 * 1000 / T)

    def gradient(x: Tensor, t: int) -> Tensor:
        a, s = schedule.signal_and_noise(t, x)
        return s * (x - a * mean) / (a**2 * deviation**2 + s**2)

    errors = []
    for steps in (75, 150, 300):
        grid = list(range(40_000, 3_999, -36_000 // steps))
        x = torch.linspace(-2, 2, 9, dtype=torch.float64)
        drawn = solve(gradient, partial(transfer, schedule=schedule), x, grid, warm_up)
        (a, s), (b, r) = (schedule.signal_and_noise(t, x) for t in (grid[0], grid[-1]))
        exact = (
            b * mean
            + (x - a * mean) * ((b * deviation) ** 2 + r**2).sqrt() / ((a * deviation) ** 2 + s**2).sqrt()
        )
        errors.append(float((drawn - exact).abs().max()))
    assert all(3.8 < coarse / fine < 4.2 for coarse, fine in pairwise(errors))


def test_a_cosine_schedule_must_not_be_entered_at_its_last_timestep() -> None:
    """Why both arms take the leading grid: from T - 1 the averages are multiplied by hundreds."""
    schedule = Schedule.cosine()

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = schedule.signal_and_noise(t, x)
        return s * x / (a**2 * 0.25 + s**2)  # data N(0, 0.5²)

    x, denoiser = torch.ones(1, 1, dtype=torch.float64), Denoiser(network, schedule)
    assert float(sample(denoiser, x, timesteps(1000, 11, "leading"))) == pytest.approx(0.5, abs=0.02)
    assert abs(float(sample(denoiser, x, timesteps(1000, 11, "trailing")))) > 100


def test_reproduce_counts_the_warm_up() -> None:
    lab, config = pixel_lab(), Config(nfe=[13, 20])
    reproduce(lab, config)
    assert [(arm.name, arm.settings, arm.calls, arm.samples) for arm in lab.arms] == [
        (name, {"nfe": nfe}, nfe, 4 * nfe) for nfe in (13, 20) for name in ("pndm", "ddim")
    ]
    assert network_rows(config, images=4) == sum(arm.samples for arm in lab.arms)
    assert [(c.metric, c.arm, c.relation, c.than, c.at) for c in lab.claims] == [
        ("fid[effnet-lite0]", "pndm", "<", "ddim", {"nfe": 20})
    ]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="warm_up must be runge-kutta or plms, not 'none'"):
        Config(warm_up="none")
    with pytest.raises(ValueError, match=r"nfe must be at least 13, since runge-kutta takes 9 .* not \[12\]"):
        Config(nfe=[12])
    assert Config(nfe=[3], warm_up="plms").nfe == [3]
    with pytest.raises(ValueError, match="nfe must be at least 3, since plms"):
        Config(nfe=[2], warm_up="plms")
    with pytest.raises(ValueError, match="runge-kutta needs 4 timesteps or more, not 3"):
        sample(Denoiser(lambda x, t, _: x, LINEAR), torch.zeros(1, 1), [20, 10, 0])

"""DDIM against diffusers' published vectors, against its scheduler step by step, and against exact scores."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Prediction, predict
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, timesteps
from runners.foundations import ddpm
from runners.foundations.ddim import Config, ddim_step, sample, sigma


def dummy(x: Tensor, t: int) -> Tensor:
    """The stand-in network of diffusers' scheduler tests."""
    return x * t / (t + 1)


def dummy_sample(flip: bool = False) -> Tensor:
    """Their stand-in sample: 768 numbers from 0 to 1, as (4, 3, 8, 8)."""
    numbers = torch.arange(768)
    numbers = numbers.flip(-1) if flip else numbers
    return numbers.reshape(3, 8, 8, 4).div(768).permute(3, 0, 1, 2)


def run_dummy(x: Tensor, grid: list[int], kind: str) -> Tensor:
    schedule = Schedule.linear()
    for t, t_next in pairwise([*grid, -1]):
        a, s = schedule.signal_and_noise(t, x)
        prediction = predict(dummy(x, t), x, a, s, kind)  # type: ignore[arg-type]
        # diffusers clips x0 and leaves eps as it is
        clipped = Prediction(prediction.x0.clamp(-1, 1), prediction.eps, a, s)
        x = ddim_step(x, clipped, t, t_next, schedule)
    return x


# Sums and means of |x| that diffusers' own test-suite publishes (tests/schedulers/test_scheduler_ddim.py).
@pytest.mark.parametrize(
    ("kind", "total", "mean"), [("epsilon", 172.0067, 0.223967), ("v_prediction", 52.5302, 0.0684)]
)
def test_published_vectors(kind: str, total: float, mean: float) -> None:
    x = run_dummy(dummy_sample(), timesteps(1000, 10, "leading"), kind)
    assert x.abs().sum().item() == pytest.approx(total, abs=1e-2)
    assert x.abs().mean().item() == pytest.approx(mean, abs=1e-3)


def test_published_vector_from_a_noised_start() -> None:
    grid = timesteps(1000, 10, "leading")[8:]
    start = Schedule.linear().add_noise(dummy_sample(), dummy_sample(flip=True), torch.tensor(grid[:1]))
    assert run_dummy(start, grid, "epsilon").abs().sum().item() == pytest.approx(354.5418, abs=1e-2)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip", [False, True])
def test_step_for_step_with_diffusers(eta: float, clip: bool) -> None:
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=clip,
    )
    scheduler.set_timesteps(20)
    schedule = Schedule.from_config(dict(scheduler.config))
    scheduler.alphas_cumprod = schedule.alpha_bar(torch.arange(1000))  # theirs is float32: see test_schedule
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 8, generator=random, dtype=torch.float64)
    weight = torch.randn(3, 3, generator=random, dtype=torch.float64) / 3

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.tanh(torch.einsum("oc,nchw->nohw", weight, x)) * (1 + t.reshape(-1, 1, 1, 1) / 1000)

    ours = sample(
        Denoiser(network, schedule, "v_prediction"),
        x,
        timesteps(1000, 20, "trailing"),
        eta=eta,
        clip=clip,
        generator=SampleGenerators(0, range(2)),
    )
    noise = SampleGenerators(0, range(2))
    theirs = x
    for t in scheduler.timesteps:
        output = network(theirs, t.expand(2), None)
        last = int(t) == int(scheduler.timesteps[-1])
        drawn = noise.randn_like(theirs) if eta > 0 and not last else torch.zeros_like(theirs)
        theirs = scheduler.step(
            output, t, theirs, eta=eta, use_clipped_model_output=clip, variance_noise=drawn
        ).prev_sample
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def gaussian_denoiser(schedule: Schedule, mean: float, deviation: float) -> Denoiser:
    """The exact denoiser of data N(mean, deviation²): E[x0 | x_t], in closed form."""

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = schedule.signal_and_noise(t, x)
        gain = a * deviation**2 / (a**2 * deviation**2 + s**2)
        return mean + gain * (x - a * mean)

    return Denoiser(network, schedule, "sample")


def test_first_order_convergence_to_the_exact_flow() -> None:
    schedule, mean, deviation = Schedule.linear(), 0.3, 0.5
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(-1, 1)
    a, s = schedule.signal_and_noise(999, x)
    # The probability-flow ODE of Gaussian data keeps every point's standard score.
    exact = mean + deviation * (x - a * mean) / (a**2 * deviation**2 + s**2).sqrt()
    errors = []
    for steps in (25, 50, 100):
        denoiser = gaussian_denoiser(schedule, mean, deviation)
        drawn = sample(denoiser, x, timesteps(1000, steps, "trailing"), clip=False)
        errors.append((drawn - exact).abs().max().item())
        assert denoiser.calls == steps and denoiser.samples == steps * 9
    assert all(1.6 < coarse / fine < 2.6 for coarse, fine in pairwise(errors))


def test_eta_one_is_ddpm() -> None:
    schedule = Schedule.cosine()
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 3, 4, 4, generator=random, dtype=torch.float64)
    denoiser = gaussian_denoiser(schedule, 0.1, 0.7)
    for steps in (7, 50):
        grid = timesteps(1000, steps, "trailing")
        ours = sample(denoiser, x, grid, eta=1.0, generator=SampleGenerators(5, range(3)))
        theirs = ddpm.sample(denoiser, x, grid, variance="small", generator=SampleGenerators(5, range(3)))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_no_noise_at_the_last_step_and_none_at_eta_zero() -> None:
    schedule = Schedule.linear()
    assert sigma(schedule, 100, -1, eta=1.0) == 0
    assert sigma(schedule, 500, 400, eta=0.0) == 0
    assert sigma(schedule, 500, 400, eta=0.5) == pytest.approx(sigma(schedule, 500, 400, eta=1.0) / 2)


def test_impossible_settings_are_refused() -> None:
    zeros, one = torch.zeros(1, 3, 2, 2), torch.ones(())
    with pytest.raises(ValueError, match="eta > 0 draws noise: pass a generator"):
        ddim_step(zeros, Prediction(zeros, zeros, one, one), 500, 400, Schedule.linear(), eta=1.0)
    with pytest.raises(ValueError, match=r"steps must be a list of numbers of at least 1, not \[0\]"):
        Config(steps=[0])

"""EDM against diffusers' published vectors and schedulers, DDIM, exact flows and the paper's algebra."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import EDMEulerScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from torch import Tensor

from denoised.diffusion.continuous import Levels
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule
from denoised.errors import DenoisedError
from runners.foundations import ddim
from runners.foundations.edm import (
    Config,
    denoiser_of_sigma,
    network_rows,
    original_grid,
    preconditioning,
    reproduce,
    rho_grid,
    sample,
    solve,
)
from tests.runners.pixel_lab import pixel_lab

# what diffusers itself does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def dummy_sample() -> Tensor:
    """The stand-in sample of diffusers' scheduler tests: 768 numbers from 0 to 1, as (4, 3, 8, 8)."""
    numbers = torch.arange(768, dtype=torch.float64) / 768
    deterministic: Tensor = numbers.reshape(3, 8, 8, 4).permute(3, 0, 1, 2)
    return deterministic


# Sums and means of |x| that diffusers' own test-suite publishes, for its stand-in network x t / (t + 1).
@pytest.mark.parametrize(
    ("second_order", "total", "mean"), [(False, 10.0807, 0.0131), (True, 0.1233, 0.0002)]
)
def test_published_vectors(second_order: bool, total: float, mean: float) -> None:
    scheduler = EulerDiscreteScheduler(num_train_timesteps=1100)
    scheduler.set_timesteps(10)  # only for its grid: at broken timesteps its sigmas are interpolated
    sigmas, times = scheduler.sigmas.double().tolist(), [*scheduler.timesteps.tolist(), 0.0]
    x = dummy_sample() * sigmas[0]
    for (sigma, t), (sigma_next, t_next) in pairwise(zip(sigmas, times, strict=True)):

        def denoise(
            x: Tensor, at: float, first: float = sigma, t: float = t, t_next: float = t_next
        ) -> Tensor:
            if at == first:
                return x - at * x * t / (t + 1)
            return x - at * x / math.hypot(1, at) * t_next / (t_next + 1)

        # Their loop takes the network's scaled input for the state itself.
        x = solve(denoise, x / math.hypot(1, sigma), [sigma, sigma_next], second_order=second_order)
    assert x.abs().sum().item() == pytest.approx(total, abs=1e-2)
    assert x.abs().mean().item() == pytest.approx(mean, abs=1e-3)


def test_published_vector_of_the_preconditioned_network() -> None:
    """EDMEulerScheduler: σ_data = 0.5, the ρ = 7 grid from 80 to 0.002, Euler steps."""
    sigmas = rho_grid(10, 0.002, 80.0)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        skip, out, scale, noise = preconditioning(sigma, 0.5)
        return skip * x + out * (scale * x * noise / (noise + 1))

    x = solve(denoise, dummy_sample() * math.hypot(80, 1), sigmas, second_order=False)
    assert x.abs().sum().item() == pytest.approx(34.1855, abs=1e-2)
    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(10)
    torch.testing.assert_close(scheduler.sigmas.double(), torch.tensor(sigmas).double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, HeunDiscreteScheduler])
def test_step_for_step_with_diffusers(kind: type) -> None:
    """The same grid, its sigmas and the same v-prediction network."""
    scheduler = kind(beta_start=1e-4, beta_end=0.02, prediction_type="v_prediction", use_karras_sigmas=True)
    scheduler.set_timesteps(8)
    random = torch.Generator().manual_seed(0)
    start = torch.randn(2, 3, 4, 4, generator=random, dtype=torch.float64)
    weight = torch.randn(3, 3, generator=random, dtype=torch.float64) / 3

    def network(x: Tensor, t: float) -> Tensor:
        return torch.tanh(torch.einsum("oc,nchw->nohw", weight, x)) * (1 + t / 1000)

    theirs = start * scheduler.sigmas[0].double()
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(theirs, t).double(), float(t))
        theirs = scheduler.step(output, t, theirs).prev_sample
    levels = Levels(Schedule.linear())
    sigmas = rho_grid(8, levels.first.sigma, levels.last.sigma)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        level = levels.at_sigma(sigma)  # diffusers interpolates t rather than rounding σ
        return level.a * (level.a * x) - level.s * network(level.a * x, level.t)

    ours = solve(denoise, start * sigmas[0], sigmas, second_order=kind is HeunDiscreteScheduler)
    torch.testing.assert_close(ours, theirs.double(), rtol=2e-3, atol=2e-3)  # their tables are float32


def gaussian(mean: float, deviation: float) -> Denoiser:
    """The exact denoiser of data N(mean, deviation²) on the linear schedule, in float64."""
    schedule = Schedule.linear()

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = schedule.signal_and_noise(t.long(), x)
        return mean + a * deviation**2 / (a**2 * deviation**2 + s**2) * (x - a * mean)

    return Denoiser(network, schedule, "sample")


@pytest.mark.parametrize(("second_order", "low", "high"), [(False, 1.7, 2.4), (True, 3.4, 4.8)])
def test_order_of_convergence(second_order: bool, low: float, high: float) -> None:
    """Of Gaussian data the flow is known: halving the steps halves Euler's error and quarters Heun's."""
    mean, deviation, start, end = 0.3, 0.5, 20.0, 0.01
    x = torch.linspace(-2, 2, 9, dtype=torch.float64) * start
    exact = mean + (x - mean) * math.hypot(deviation, end) / math.hypot(deviation, start)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return (deviation**2 * x + sigma**2 * mean) / (deviation**2 + sigma**2)

    errors = [
        (solve(denoise, x, rho_grid(n + 1, end, start)[:-1], second_order=second_order) - exact).abs().max()
        for n in (40, 80, 160)
    ]
    assert all(low < float(coarse / fine) < high for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("parameterisation", ["epsilon", "v_prediction"])
def test_euler_on_the_original_grid_is_ddim(parameterisation: str) -> None:
    schedule = Schedule.cosine()

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.sin(x + t.reshape(-1, 1) / 300)

    denoiser = Denoiser(network, schedule, parameterisation)  # type: ignore[arg-type]
    levels = Levels(schedule)
    sigmas = original_grid(levels, 9, levels.first.sigma, 80.0)
    grid = [round(levels.at_sigma(sigma).t) for sigma in sigmas[:-1]]
    assert grid[-1] == 0 and all(abs((a - b) - (c - d)) <= 1 for (a, b), (c, d) in pairwise(pairwise(grid)))
    noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = sample(denoiser, noise, sigmas, second_order=False)
    start = levels.at_timestep(grid[0])
    theirs = ddim.sample(denoiser, start.s * noise, grid, clip=False)  # x_t = a x, and a σ = s
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_n_heun_steps_cost_2n_minus_1_evaluations() -> None:
    denoiser = gaussian(0.0, 1.0)
    sample(denoiser, torch.zeros(3, 1, dtype=torch.float64), rho_grid(18, 0.002, 80.0))
    assert (denoiser.calls, denoiser.samples) == (35, 105)  # the paper's 18 steps


def test_the_grid_is_eq_5() -> None:
    sigmas = rho_grid(5, 0.002, 80.0)
    assert sigmas[0] == pytest.approx(80) and sigmas[4] == pytest.approx(0.002) and sigmas[5] == 0
    assert sigmas[2] ** (1 / 7) == pytest.approx((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2)
    # ρ = 1 is even in σ; a larger ρ takes shorter steps near the data
    assert rho_grid(5, 1.0, 9.0, rho=1) == pytest.approx([9, 7, 5, 3, 1, 0])
    assert sigmas[3] < rho_grid(5, 0.002, 80.0, rho=3)[3]


@pytest.mark.parametrize("sigma", [0.002, 0.3, 1.0, 80.0])
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_preconditioning_keeps_input_and_target_at_unit_variance(sigma: float, sigma_data: float) -> None:
    skip, out, scale, _ = preconditioning(sigma, sigma_data)
    assert scale**2 * (sigma_data**2 + sigma**2) == pytest.approx(1)
    # the target (y - c_skip (y + n)) / c_out, for y ~ N(0, σ_data²) and n ~ N(0, σ²)
    variance = ((1 - skip) ** 2 * sigma_data**2 + skip**2 * sigma**2) / out**2
    assert variance == pytest.approx(1)


def test_v_prediction_is_preconditioning_for_data_of_unit_variance() -> None:
    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.cos(3 * x)

    schedule, x = Schedule.cosine(), torch.linspace(-3, 3, 7, dtype=torch.float64).reshape(-1, 1)
    denoise = denoiser_of_sigma(Denoiser(network, schedule, "v_prediction"), None, x)
    for t in (0, 400, 900):
        sigma = Levels(schedule).at_timestep(t).sigma
        skip, out, scale, _ = preconditioning(sigma, 1.0)
        # v points from the data to the noise, F from the noise to the data
        torch.testing.assert_close(denoise(x, sigma), skip * x - out * torch.cos(3 * scale * x))


def test_churn_keeps_the_marginal_distribution() -> None:
    """With the exact denoiser of Gaussian data, fresh noise must not change where samples end."""
    deviation, n = 0.5, 20_000

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return x * deviation**2 / (deviation**2 + sigma**2)

    noise = SampleGenerators(0, range(2))
    start = torch.randn(2, n // 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigmas = rho_grid(60, 0.002, 80.0)
    x = solve(denoise, math.hypot(deviation, 80) * start, sigmas, s_churn=20, s_tmin=0.05, generator=noise)
    assert x.std().item() == pytest.approx(deviation, rel=0.03)
    plain = solve(denoise, math.hypot(deviation, 80) * start, sigmas)
    correlation = torch.corrcoef(torch.stack([x.flatten(), plain.flatten()]))[0, 1].item()
    assert abs(correlation) < 0.2  # 20 times (1 + 20/60) forgets the start


def test_no_noise_is_drawn_outside_the_churned_levels() -> None:
    class Counting:
        drawn = 0

        def randn_like(self, x: Tensor) -> Tensor:
            self.drawn += 1
            return torch.zeros_like(x)

    sigmas, noise = [8.0, 4.0, 2.0, 1.0, 0.0], Counting()
    solve(lambda x, sigma: 0 * x, torch.ones(1), sigmas, s_churn=1, s_tmin=2, s_tmax=4, generator=noise)
    assert noise.drawn == 2
    with pytest.raises(ValueError, match="s_churn > 0 draws noise: pass a generator"):
        solve(lambda x, sigma: 0 * x, torch.ones(1), sigmas, s_churn=1)


def test_reproduce_compares_at_equal_evaluations() -> None:
    lab = pixel_lab()
    config = Config(nfe=[3, 11])
    reproduce(lab, config)
    assert [(arm.name, arm.settings, arm.calls, arm.samples) for arm in lab.arms] == [
        ("heun", {"nfe": 3}, 3, 12),
        ("euler", {"nfe": 3}, 3, 12),
        ("heun", {"nfe": 11}, 11, 44),
        ("euler", {"nfe": 11}, 11, 44),
    ]
    assert [(c.arm, c.relation, c.than, c.at) for c in lab.claims] == [("heun", "<", "euler", {"nfe": 11})]
    assert sum(arm.samples for arm in lab.arms) == network_rows(config, images=4)


def test_impossible_settings_are_refused() -> None:
    for nfe in ([], [1], [8]):
        with pytest.raises(ValueError, match="nfe must be odd numbers of at least 3"):
            Config(nfe=nfe)
    with pytest.raises(ValueError, match=r"sigma_min must lie between 0 and sigma_max = 80\.0, not 90"):
        Config(sigma_min=90)
    with pytest.raises(ValueError, match="rho must be above 0, not 0"):
        Config(rho=0)
    with pytest.raises(ValueError, match="must be at least 0"):
        Config(s_churn=-1)
    lab = pixel_lab()
    with pytest.raises(DenoisedError, match=r"nfe must be at most 99\d, the timesteps the schedule has"):
        reproduce(lab, Config(nfe=[11, 1001]))
    with pytest.raises(DenoisedError, match=r"must overlap with 0\.00\d+ … 2.*e\+04"):
        reproduce(lab, Config(sigma_min=1e-4, sigma_max=2e-4))
    assert not lab.arms

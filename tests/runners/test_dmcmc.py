"""DMCMC: the Gibbs and Langevin steps against Gaussian data, integrators against exact flows, costs against budgets."""

import math

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, per_row
from denoised.errors import DenoisedError
from runners.fast_sampling.dmcmc import (
    Config,
    denoiser_of_sigma,
    detail,
    draw_sigma,
    heun,
    initialise,
    langevin,
    langevin_gibbs,
    network_rows,
    plan,
    reproduce,
    reverse_diffusion,
)
from runners.foundations import edm
from tests.runners.pixel_lab import pixel_lab
from tests.runners.test_ddpm import OneGenerator

SPREAD = 0.5  # standard deviation of the Gaussian data below


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """D(x; σ) of data N(0, SPREAD²)."""
    return per_row(SPREAD**2 / (SPREAD**2 + sigma.square()), x) * x


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_detail_band_keeps_white_noise_and_drops_what_is_smooth() -> None:
    x = noise(8, 3, 16, 16)
    assert detail(x).shape == (8, 3 * 8 * 8)
    assert detail(x).square().mean().item() == pytest.approx(1, abs=0.1)
    ramp = torch.arange(16.0).expand(16, 16) + 3 * torch.arange(16.0)[:, None]
    assert detail(ramp.expand(1, 3, 16, 16)).abs().max() == 0


def test_sigma_is_drawn_from_its_posterior() -> None:
    """On a grid of two levels the odds are the ratio of two Gaussian likelihoods of the detail."""
    x, sigmas, band = noise(1, 1, 2, 4) * 0.9, torch.tensor([0.5, 1.0], dtype=torch.float64), 0.2
    variances = sigmas.square() + band
    squares = float(detail(x).square().sum())
    first, second = (math.exp(-squares / (2 * v)) / v for v in variances.tolist())  # two coefficients
    drawn = draw_sigma(x.expand(4000, -1, -1, -1), band, sigmas, OneGenerator(3))
    assert (drawn == 1).double().mean().item() == pytest.approx(second / (first + second), abs=0.03)


@pytest.mark.parametrize("true", [0.3, 1.0, 7.0])
def test_sigma_is_found_to_a_few_percent_in_a_picture(true: float) -> None:
    smooth = torch.linspace(-1, 1, 32, dtype=torch.float64).expand(16, 3, 32, 32)
    sigmas = torch.logspace(-2, 2, 1000, dtype=torch.float64)
    drawn = draw_sigma(smooth + true * noise(16, 3, 32, 32), 0.0, sigmas, SampleGenerators(1, range(16)))
    assert drawn.mean().item() == pytest.approx(true, rel=0.03)


def test_langevin_keeps_the_noised_data() -> None:
    """At a fixed σ its stationary law is p(x | σ) = N(0, SPREAD² + σ²), up to the step's own error, η / 4 at most."""
    n, step = 2000, 0.05
    sigma = torch.full((n,), 1.0, dtype=torch.float64)
    x = noise(n, 1, 2, 2) * math.sqrt(SPREAD**2 + 1)
    generator = OneGenerator(7)
    for _ in range(20):
        x = langevin(gaussian, x, sigma, step, generator)
    assert x.square().mean().item() == pytest.approx(SPREAD**2 + 1, abs=0.06)


def test_one_langevin_step_at_the_largest_stable_size_denoises_and_noises_again() -> None:
    """η = 2 σ²: x + η/2 score is D(x; σ), and the fresh noise has the standard deviation sqrt(2) σ."""
    x, sigma = noise(2, 3, 4, 4), torch.tensor([1.0, 1.0], dtype=torch.float64)
    after = langevin(gaussian, x, sigma, 2.0, SampleGenerators(0, range(2)))
    fresh = SampleGenerators(0, range(2)).randn_like(x)
    torch.testing.assert_close(after, gaussian(x, sigma) + math.sqrt(2) * fresh)


def test_of_every_stretch_the_state_with_the_least_noise_is_kept() -> None:
    seen: list[Tensor] = []
    levels = iter([[3.0, 1.0], [2.0, 5.0], [4.0, 4.0], [6.0, 0.5]])

    def draw(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.tensor(next(levels), dtype=x.dtype)

    start = noise(2, 1, 2, 2)
    x, sigma = langevin_gibbs(
        gaussian, start, torch.ones(2, dtype=torch.float64), [2, 2], draw, 0.1, SampleGenerators(0, range(2))
    )
    assert sigma.tolist() == [2.0, 1.0, 4.0, 0.5]
    torch.testing.assert_close(x, torch.stack([seen[1][0], seen[0][1], seen[2][0], seen[3][1]]))


def test_heun_is_edms_where_all_rows_start_at_one_sigma() -> None:
    x = 5 * noise(3, 1, 2, 2)
    ours = heun(gaussian, x, torch.full((3,), 5.0, dtype=torch.float64), 9, Config())

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return gaussian(x, torch.full((len(x),), sigma, dtype=torch.float64))

    torch.testing.assert_close(ours, edm.solve(denoise, x, edm.rho_grid(5, 0.02, 5.0)))


def test_every_row_is_integrated_from_its_own_sigma() -> None:
    sigma = torch.tensor([0.5, 8.0], dtype=torch.float64)
    x = per_row((SPREAD**2 + sigma.square()).sqrt(), torch.ones(2, 1, 1, 1))  # one standard score each
    exact = torch.full((2, 1, 1, 1), SPREAD, dtype=torch.float64)
    torch.testing.assert_close(heun(gaussian, x, sigma, 201, Config()), exact, atol=1e-3, rtol=0)


def test_reverse_diffusion_ends_in_the_data() -> None:
    n = 4000
    sigma = torch.full((n,), 10.0, dtype=torch.float64)
    x = noise(n, 1, 1, 1) * math.sqrt(SPREAD**2 + 100)
    drawn = reverse_diffusion(gaussian, x, sigma, 200, Config(), OneGenerator(2))
    assert drawn.std().item() == pytest.approx(SPREAD, rel=0.05)


def test_rows_at_levels_of_their_own_are_what_they_are_alone() -> None:
    """`Denoiser.between` with one level for each picture, and t in log σ between timesteps."""

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.tanh(x) * (1 + t.reshape(-1, 1, 1, 1) / 1000)

    denoise = denoiser_of_sigma(Denoiser(network, Schedule.cosine(), "v_prediction"))
    x, sigma = noise(3, 1, 2, 2), torch.tensor([0.05, 1.0, 60.0], dtype=torch.float64)
    alone = torch.cat([denoise(x[i : i + 1], sigma[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(denoise(x, sigma), alone)


@pytest.mark.parametrize(("nfe", "rounds"), [(11, 4), (19, 4), (15, 8), (9, 50)])
def test_a_plan_spends_its_budget_to_the_last_evaluation(nfe: int, rounds: int) -> None:
    how, config = plan(nfe, rounds, Config()), Config()
    assert config.start_nfe + how.burn_in + rounds * (how.skip + how.solve) == rounds * nfe
    assert how.burn_in >= config.burn_in and how.solve % 2 == 1


def test_chains_repeat_with_the_seed_and_stay_above_their_own_noise() -> None:
    config = Config(chains=3)
    how = plan(11, 4, config)
    x, sigma = initialise(gaussian, noise(3, 3, 32, 32), how, 4, SPREAD**2, config, 5)
    again, _ = initialise(gaussian, noise(3, 3, 32, 32), how, 4, SPREAD**2, config, 5)
    assert x.shape == (12, 3, 32, 32) and sigma.shape == (12,)
    torch.testing.assert_close(x, again)
    assert float(sigma.min()) > 0.9 * math.sqrt(config.step)  # noise of that size was just added


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="nfe must be odd numbers of at least 5"):
        Config(nfe=[10])
    with pytest.raises(ValueError, match="start_nfe must be odd and at least 3, not 4"):
        Config(start_nfe=4)
    with pytest.raises(ValueError, match="rise in this order"):
        Config(start_sigma=200.0)
    with pytest.raises(ValueError, match="step must be above 0, not 0"):
        Config(step=0)
    with pytest.raises(ValueError, match="chains and burn_in must be at least 1"):
        Config(chains=0)
    with pytest.raises(DenoisedError, match="chains"):
        reproduce(pixel_lab(images=4), Config(chains=3))
    with pytest.raises(DenoisedError, match="nfe"):
        reproduce(pixel_lab(images=4), Config(chains=4))
    with pytest.raises(DenoisedError, match="sigma_max"):
        reproduce(pixel_lab(images=4), Config(chains=1, sigma_max=1e6, start_nfe=3, burn_in=1))


def test_reproduce_spends_the_same_on_both_starting_points() -> None:
    lab, config = pixel_lab(images=4), Config(nfe=[11], chains=2, start_nfe=3, burn_in=1)
    reproduce(lab, config)
    assert [(arm.name, arm.settings["integrator"]) for arm in lab.arms] == [
        (name, integrator) for integrator in ("heun", "reverse-diffusion") for name in ("dlg", "prior")
    ]
    assert [arm.samples for arm in lab.arms] == [44] * 4
    assert sum(arm.samples for arm in lab.arms) == network_rows(config, 4)
    assert all(arm.settings["classes"] == "none" for arm in lab.arms)
    assert [(c.metric, c.arm, c.relation, c.than, c.at) for c in lab.claims] == [
        ("fid[effnet-lite0]", "dlg", "<", "prior", {"integrator": integrator, "nfe": 11})
        for integrator in ("heun", "reverse-diffusion")
    ]

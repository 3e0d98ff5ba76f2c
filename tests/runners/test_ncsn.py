"""NCSN: its loss has the score as its minimum, its dynamics are exact where they can be, and its oracle finds the modes."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from denoised.diffusion.continuous import Levels
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule
from denoised.errors import DenoisedError
from denoised.metrics.scores import mode_share_error
from denoised.worlds.toys import GaussianMixture, two_modes
from runners.foundations.ncsn import (
    Config,
    Stream,
    as_denoiser,
    geometric,
    langevin,
    loss,
    nearest_mode,
    network_rows,
    picture_score,
    point_score,
    reproduce,
    sample,
    train,
)
from tests.runners.pixel_lab import pixel_lab


def test_the_ladder_is_geometric() -> None:
    sigmas = geometric(20.0, 1.0, 10)
    assert sigmas[0] == 20 and sigmas[-1] == pytest.approx(1)
    assert all(a / b == pytest.approx(20 ** (1 / 9)) for a, b in pairwise(sigmas))


def test_the_loss_is_smallest_at_the_score_of_the_noisy_data() -> None:
    """Denoising score matching (Eq. 2): its minimum over functions is ∇ log q_σ, here of a known mixture."""
    density, sigma = two_modes(distance=2.0), torch.full((20_000, 1), 0.7)
    x0 = density.sample(len(sigma), seed=0)

    def at(change: float, shift: float = 0.0) -> float:
        def score(x: Tensor, s: Tensor) -> Tensor:
            return change * density.score(x, 1.0, float(s[0])) + shift

        return float(loss(score, x0, sigma.double(), torch.Generator().manual_seed(1)))

    best = at(1.0)
    assert all(best < other for other in (at(0.8), at(1.2), at(1.0, shift=0.2), at(1.0, shift=-0.2)))


def test_every_level_weighs_the_same() -> None:
    """With λ(σ) = σ² (Eq. 6) a network that says nothing costs d / 2 at any level. § 4.2"""
    x0 = torch.zeros(20_000, 2)
    for sigma in (0.01, 1.0, 20.0):
        level = torch.full((len(x0), 1), sigma)
        value = loss(lambda x, s: torch.zeros_like(x), x0, level, torch.Generator().manual_seed(0))
        assert float(value) == pytest.approx(1.0, rel=0.03)


def test_langevin_has_the_stationary_variance_of_its_step() -> None:
    """On N(0, v) a step is x ← (1 - α / 2v) x + sqrt(α) z, whose variance settles at v / (1 - α / 4v)."""
    v, alpha = 2.0, 1.0
    x = langevin(lambda x, _: -x / v, torch.zeros(40_000, 1), [1.0], [60], alpha, Stream(0))
    assert float(x.var()) == pytest.approx(v / (1 - alpha / (4 * v)), rel=0.03)


def test_the_steps_of_all_levels_are_equally_bold() -> None:
    """α_i = ε σ_i² / σ_L²: on data at one point every level shrinks x by the same factor, 1 - α / 2σ² (§ 4.3)."""
    seen: list[float] = []

    class Silent:
        def randn_like(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    def score(x: Tensor, sigma: float) -> Tensor:
        seen.append(float(x))
        return -x / sigma**2

    langevin(score, torch.ones(1, dtype=torch.float64), [8.0, 4.0, 2.0], [2, 2, 2], 0.4, Silent())
    assert [b / a for a, b in pairwise(seen)] == pytest.approx([1 - 0.4 / 8] * 5)


def test_with_the_true_score_annealing_finds_the_weights_and_one_level_does_not() -> None:
    """Figure 3, with the density's own score at every level."""
    density, generator = two_modes(), torch.Generator().manual_seed(0)
    start = 8 * (2 * torch.rand(400, 2, generator=generator, dtype=torch.float64) - 1)
    sigmas = geometric(20.0, 1.0, 10)

    def error(ladder: list[float], steps: list[int]) -> float:
        x = langevin(lambda x, s: density.score(x, 1.0, s), start, ladder, steps, 0.1, Stream(1))
        return mode_share_error(nearest_mode(x, density), density.weights)

    assert error(sigmas, [100] * 10) < 0.06
    assert error(sigmas[-1:], [1000]) > 0.2


def test_training_finds_the_score() -> None:
    """At levels where the data are one Gaussian, the score is linear and known."""
    density = GaussianMixture.isotropic(torch.tensor([[1.0, -1.0]]), 1.0)
    config = Config(train_steps=400, train_batch=128, hidden=64, sigma_max=4.0, sigma_min=1.0)
    score = point_score(as_denoiser(train(density, [4.0, 2.0, 1.0], config, seed=0)))
    for sigma in (4.0, 1.0):
        x = density.sample(500, seed=1) + sigma * density.sample(500, seed=2)
        error = (score(x.float(), sigma) - density.score(x, 1.0, sigma)).norm(dim=1).mean()
        assert float(error) < 0.15 * float(density.score(x, 1.0, sigma).norm(dim=1).mean())


def test_the_picture_score_is_that_of_noisy_data() -> None:
    """Of a perfect variance-preserving network for N(m, d²): the score of N(m, d² + σ²)."""
    schedule, m, d = Schedule.cosine(), 0.2, 0.6

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        sigma = Levels(schedule).at_timestep(float(t[0])).sigma
        a, s = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
        eps = s * (x - a * m) / ((a * d) ** 2 + s**2)
        return a * eps - s * (x - s * eps) / a  # v

    score = picture_score(Denoiser(network, schedule, "v_prediction"), None)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    for sigma in (0.02, 0.3, 2.0):
        torch.testing.assert_close(score(x, sigma), -(x - m) / (d**2 + sigma**2), rtol=1e-4, atol=1e-5)


def test_pictures_start_evenly_spread_and_count_every_step() -> None:
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    denoiser = Denoiser(network, Schedule.cosine(), "epsilon")
    noise = SampleGenerators(0, range(8))
    x = noise.randn(3, 32, 32)
    sample(denoiser, x, [2.0, 1.0], steps_each=[3, 2], step=0.1, generator=noise)
    assert (denoiser.calls, denoiser.samples) == (5, 40)
    start = seen[0] * math.hypot(1, 2)  # the network sees x / sqrt(1 + σ²)
    assert float(start.abs().max()) <= 1 + 1e-5
    assert float(start.var()) == pytest.approx(1 / 3, rel=0.03)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"levels must be a list of numbers of at least 2, not \[1\]"):
        Config(levels=[1])
    with pytest.raises(
        ValueError, match=r"picture_sigma_min must lie between 0 and picture_sigma_max = 2\.0"
    ):
        Config(picture_sigma_min=3.0)
    with pytest.raises(ValueError, match="step must lie between 0 and 4 sigma_min²"):
        Config(step=5.0)
    with pytest.raises(ValueError, match="picture_levels at least 2"):
        Config(picture_levels=1)
    lab = pixel_lab()
    with pytest.raises(DenoisedError, match="which the network knows"):
        reproduce(lab, Config(picture_sigma_min=1e-4))
    assert not lab.arms


def test_reproduce_gives_both_arms_equal_steps_and_states_the_claims() -> None:
    lab = pixel_lab(images=4)
    config = Config(levels=[2, 3], steps_each=4, chains=10, train_steps=3, picture_levels=3, picture_steps=2)
    reproduce(lab, config)
    mixture = [(arm.name, arm.settings["levels"]) for arm in lab.arms[:-2]]
    assert mixture == [(name, n) for n in (2, 3) for name in ("annealed", "single", "exact")]
    assert all(arm.settings["steps"] == 4 * arm.settings["levels"] for arm in lab.arms[:-2])
    assert [arm.samples for arm in lab.arms[3:6]] == [120, 120, 0]
    assert lab.arms[0].parameters_trained == lab.arms[1].parameters_trained > 0
    assert [(arm.name, arm.calls, arm.samples) for arm in lab.arms[-2:]] == [
        ("annealed-pictures", 6, 24),
        ("single-pictures", 6, 24),
    ]
    assert [(c.metric, c.arm, c.relation, c.than, c.at, c.margin) for c in lab.claims] == [
        ("mode-share-error", "annealed", "<", "single", {"levels": 3}, 0.0),
        ("mode-share-error", "annealed", "<=", "exact", {"levels": 3}, 0.05),
        ("fid[effnet-lite0]", "annealed-pictures", "<", "single-pictures", {}, 0.0),
    ]
    assert network_rows(config, 4) == sum(arm.samples for arm in lab.arms[-2:])

"""VDM: its schedules, the gradient that lowers the variance, and a bound that is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from denoised.diffusion.bounds import LEVELS, to_levels
from denoised.diffusion.log_snr import Gamma, beta_linear, cosine, linear
from denoised.diffusion.random import SampleGenerators
from runners.foundations.vdm import (
    Config,
    LearnedSchedule,
    backward,
    decoder_nll,
    ends,
    estimates,
    even_times,
    network_rows,
    reproduce,
    signal_and_noise,
    squared_error,
)
from tests.runners.pixel_lab import pixel_lab

LOW, HIGH = -13.3, 5.0


def learned(units: int = 16) -> LearnedSchedule:
    """A learned schedule with weights that someone has moved."""
    schedule = LearnedSchedule(LOW, HIGH, units).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return schedule


SCHEDULES: dict[str, Gamma] = {
    "learned": learned(),
    "linear": linear(LOW, HIGH),
    "cosine": cosine(LOW, HIGH),
    "beta-linear": beta_linear(LOW, HIGH),
}
EVERY = pytest.mark.parametrize("name", SCHEDULES)


@EVERY
def test_schedules_rise_from_end_to_end(name: str) -> None:
    gamma, slope = SCHEDULES[name](torch.linspace(0, 1, 101, dtype=torch.float64))
    assert float(gamma[0].detach()) == pytest.approx(LOW, abs=1e-6)
    assert float(gamma[-1].detach()) == pytest.approx(HIGH, abs=1e-6)
    assert bool((gamma.diff() > 0).all() and (slope > 0).all())


@EVERY
def test_slopes_are_derivatives(name: str) -> None:
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    gamma, slope = SCHEDULES[name](t)
    (expected,) = torch.autograd.grad(gamma.sum(), t)
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-9)


def test_signal_and_noise() -> None:
    """α² / σ² = exp(-γ), α² + σ² = 1. § 3.2."""
    gamma = torch.tensor([-13.3, 0.0, 5.0], dtype=torch.float64)
    a, s = signal_and_noise(gamma, torch.zeros(3, 1))
    torch.testing.assert_close((a**2 / s**2)[:, 0], (-gamma).exp())
    torch.testing.assert_close(a**2 + s**2, torch.ones(3, 1, dtype=torch.float64))


class Small(nn.Module):
    """ε̂(z, γ) with a bend in both."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.3, -0.2], dtype=torch.float64))

    def forward(self, z: Tensor, gamma: Tensor) -> Tensor:
        return torch.tanh(self.w[0] * z + self.w[1] * torch.sin(gamma)[:, None])


def test_one_pass_gives_the_gradients_of_the_loss_and_of_its_square() -> None:
    """§ 5.3: the network's gradient is that of mean L, the schedule's that of mean L², both as autograd has them."""
    network, schedule = Small(), learned()
    generator = torch.Generator().manual_seed(1)
    x, noise = (torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = even_times(6, generator)
    gamma, slope = schedule(t)
    loss = slope * squared_error(network, x, gamma, noise) / 2 / 3
    by_network = torch.autograd.grad(loss.mean(), list(network.parameters()), retain_graph=True)
    by_schedule = torch.autograd.grad(loss.square().mean(), list(schedule.parameters()))
    network.zero_grad()
    schedule.zero_grad()
    torch.testing.assert_close(backward(network, schedule, x, t, noise), loss.detach())
    for parameter, expected in zip(network.parameters(), by_network, strict=True):
        torch.testing.assert_close(parameter.grad, expected)
    for parameter, expected in zip(schedule.parameters(), by_schedule, strict=True):
        torch.testing.assert_close(parameter.grad, expected)
    schedule.zero_grad()


def best(z: Tensor, gamma: Tensor) -> Tensor:
    """E[ε | z] for unit Gaussian data: σ z."""
    return torch.sigmoid(gamma).sqrt()[:, None] * z


# E‖ε - ε̂‖² = α² of each dimension, so its diffusion term is known, whatever lies between the ends. § 5.1
EXACT = (math.log1p(math.exp(-LOW)) - math.log1p(math.exp(-HIGH))) / 2


@EVERY
def test_the_bound_depends_on_the_ends_alone(name: str) -> None:
    """Eq. 17 by quadrature with t = u⁶, which puts its points where DDPM's schedule needs them."""
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    with torch.no_grad():
        gamma, slope = SCHEDULES[name](u**6)
    integral = (6 * u**5 * slope * torch.sigmoid(-gamma) / 2).mean()
    assert float(integral) == pytest.approx(EXACT, rel=1e-4)


@pytest.mark.parametrize("name", ["learned", "linear", "cosine"])
def test_the_estimates_agree_with_it(name: str) -> None:
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        nats = estimates(best, SCHEDULES[name], x, seed=5, draws=100, batch=10_000)
    assert len(nats) == 50_000
    assert float(nats.mean()) == pytest.approx(4 * EXACT, rel=0.02)


def test_a_schedule_learned_for_a_fixed_denoiser_has_less_variance() -> None:
    """Least where γ' is in proportion to 1 / sqrt(E‖ε - ε̂‖⁴): here steep at both sides of where the error falls."""
    schedule, generator = LearnedSchedule(LOW, HIGH, 32).double(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(schedule.parameters(), 0.03)
    x = torch.randn(256, 4, generator=generator, dtype=torch.float64)
    for _ in range(400):
        optimizer.zero_grad()
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        backward(best, schedule, x, even_times(len(x), generator), noise)
        optimizer.step()

    def deviation(gamma: Gamma) -> float:
        fresh = torch.randn(400, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return float(estimates(best, gamma, fresh, seed=9, draws=50, batch=20_000).std())

    with torch.no_grad():
        assert deviation(lambda t: schedule(t)) < 0.95 * deviation(linear(LOW, HIGH))
        assert deviation(linear(LOW, HIGH)) < deviation(cosine(LOW, HIGH))


def test_even_times_are_even_and_shuffled() -> None:
    t = even_times(64, torch.Generator().manual_seed(0))
    ordered = t.sort().values
    torch.testing.assert_close(ordered.diff(), torch.full((63,), 1 / 64, dtype=torch.float64))
    assert float(ordered[0]) >= 0 and float(ordered[-1]) < 1 and not torch.equal(t, ordered)


def test_the_decoder_is_a_distribution_over_the_grey_levels() -> None:
    values = torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
    for gamma in (-13.3, -8.0):
        z = torch.full((LEVELS, 1), 0.1234, dtype=torch.float64)
        total = (-decoder_nll(values[:, None], z, gamma)).exp().sum()
        assert float(total) == pytest.approx(1)
    clean = values[:, None] / math.sqrt(1 + math.exp(-13.3))
    assert float(decoder_nll(values[:, None], clean, -13.3).max()) < 1e-6
    far = decoder_nll(torch.ones(1, 1), torch.full((1, 1), -1.0), -13.3)  # where float32 has nothing left
    assert float(far) == pytest.approx(2.0**2 / 2 * math.exp(13.3), rel=1e-3)


def test_the_ends_are_the_prior_and_the_decoder() -> None:
    config = Config(gamma_min=-13.3, gamma_max=5.0)
    x = to_levels(torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    a2, s2 = 1 / (1 + math.exp(5)), 1 / (1 + math.exp(-5))
    prior = 0.5 * (a2 * x.double() ** 2 + s2 - 1 - math.log(s2)).flatten(1).sum(1)
    found = ends(x, config, SampleGenerators(0, range(4)))
    assert bool((found >= prior - 1e-12).all())
    assert float((found - prior).mean()) < 0.1  # z_0 hardly ever falls nearer to another level


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma_min must be below gamma_max = 5\.0"):
        Config(gamma_min=6.0)
    with pytest.raises(ValueError, match="must be at least 1"):
        Config(train_steps=0)
    with pytest.raises(ValueError, match="margin must be above 0"):
        Config(margin=0.0)


def test_reproduce_measures_one_network_under_every_schedule() -> None:
    lab = pixel_lab()
    config = Config(
        train_steps=2, train_batch=4, channels=[8, 8, 8], bound_images=3, bound_draws=5, schedule_units=4
    )
    reproduce(lab, config)
    assert [arm.name for arm in lab.arms] == ["learned", "linear", "cosine", "beta-linear"]
    assert [arm.parameters_trained for arm in lab.arms] == [13, 0, 0, 0]
    for arm in lab.arms:
        assert {name: m.n for name, m in arm.metrics.items()} == {
            "bits-per-dimension": 15,
            "estimate-deviation": 15,
        }
    assert len({arm.metrics["bits-per-dimension"].value for arm in lab.arms}) == 4
    claims = [(c.metric, c.arm, c.relation, c.than, c.margin) for c in lab.claims]
    assert claims[2:5] == [
        ("estimate-deviation", "learned", "<", "beta-linear", 0.0),
        ("bits-per-dimension", "learned", "<=", "linear", 0.1),
        ("bits-per-dimension", "learned", ">=", "linear", 0.1),
    ]
    assert [claim[3] for claim in claims] == [
        "linear",
        "cosine",
        "beta-linear",
        *["linear"] * 2,
        *["cosine"] * 2,
    ]
    assert network_rows(config, 4) == 3 * 2 * 4 + 4 * 15

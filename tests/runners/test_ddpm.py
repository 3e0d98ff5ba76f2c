"""DDPM against diffusers' published vector, and its equations against the cases where they are exact."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from denoised.diffusion.bounds import bin_log_likelihood, chain, prior_kl
from denoised.diffusion.denoiser import Denoiser, Prediction
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.lab.likelihoods import bits
from runners.foundations.ddpm import (
    MEASURING,
    Config,
    loss,
    network_rows,
    nll,
    posterior,
    reproduce,
    sample,
    simple_weight,
    train,
    vlb_weight,
)
from tests.runners.pixel_lab import pixel_lab
from tests.runners.test_ddim import dummy, dummy_sample


class OneGenerator:
    """Noise drawn for the whole batch at once, as diffusers' tests do."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def randn_like(self, x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=self.generator, dtype=x.dtype)


# Published by diffusers' own test-suite (tests/schedulers/test_scheduler_ddpm.py).
@pytest.mark.parametrize(("kind", "total"), [("epsilon", 258.9606), ("v_prediction", 202.0296)])
def test_published_vectors(kind: str, total: float) -> None:
    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return dummy(x, int(t[0]))

    denoiser = Denoiser(network, Schedule.linear(), kind)  # type: ignore[arg-type]
    x = sample(denoiser, dummy_sample(), timesteps(1000, 1000, "trailing"), generator=OneGenerator(0))
    assert x.abs().sum().item() == pytest.approx(total, abs=1e-2)


def test_the_large_variance_is_exact_for_unit_gaussian_data() -> None:
    """Section 3.2: σ² = β is optimal for x0 ~ N(0, I). The reverse step is then N(sqrt(1 - β) x_t, β)."""
    schedule = Schedule.linear()
    x = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    for t, t_next in ((999, 998), (500, 400), (20, 0)):
        a, s = schedule.signal_and_noise(t, x)
        prediction = Prediction(a * x, s * x, a, s)  # E[x0 | x_t] = a x_t
        mean, deviation = posterior(x, prediction, t, t_next, schedule, "large")
        beta = 1 - schedule.alpha_bar(t) / schedule.alpha_bar(t_next)
        torch.testing.assert_close(mean, (1 - beta) ** 0.5 * x)
        assert deviation**2 == pytest.approx(beta)


def test_the_small_variance_is_exact_for_a_single_point() -> None:
    """Section 3.2: σ² = β̃ is optimal for data at one point, whose noisy marginals it reproduces."""
    schedule, point = Schedule.linear(), 0.4
    x = torch.zeros(1, 1, dtype=torch.float64)
    for t, t_next in ((999, 900), (500, 499), (20, 0)):
        a, s = schedule.signal_and_noise(t, x)

        def step(
            x: Tensor, a: Tensor = a, s: Tensor = s, t: int = t, t_next: int = t_next
        ) -> tuple[Tensor, float]:
            prediction = Prediction(torch.full_like(x, point), (x - a * point) / s, a, s)
            return posterior(x, prediction, t, t_next, schedule, "small")

        mean, deviation = step(a * point + 0 * x)
        slope = step(a * point + 1 + 0 * x)[0] - mean
        assert mean.item() == pytest.approx(point * float(schedule.alpha_bar(t_next)) ** 0.5)
        variance = float(slope) ** 2 * float(s) ** 2 + deviation**2
        assert variance == pytest.approx(1 - float(schedule.alpha_bar(t_next)))


def test_equation_11_is_the_posterior_mean() -> None:
    schedule, t = Schedule.linear(), 300
    random = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(2, 3, generator=random, dtype=torch.float64) for _ in range(2))
    a, s = schedule.signal_and_noise(t, x)
    mean, _ = posterior(x, Prediction((x - s * eps) / a, eps, a, s), t, t - 1, schedule, "small")
    beta = schedule.beta[t]
    torch.testing.assert_close(
        mean, (x - beta / (1 - schedule.alpha_bar(t)) ** 0.5 * eps) / (1 - beta).sqrt()
    )


def test_the_bound_weighs_small_t_most() -> None:
    schedule = Schedule.linear()
    t = torch.arange(1000)
    beta, alpha_bar = schedule.beta, schedule.alpha_bar(t)
    torch.testing.assert_close(vlb_weight(schedule, t), beta**2 / (2 * beta * (1 - beta) * (1 - alpha_bar)))
    assert vlb_weight(schedule, t).argmax() == 0
    assert bool((simple_weight(schedule, t) == 1).all())


class Linear(nn.Module):
    """ε_θ(x, t) = w x: its best w under L_simple is known in closed form for unit Gaussian data."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return self.w * x


def test_training_finds_the_closed_form() -> None:
    """x_t ~ N(0, I) whatever t, so the best w is E[ε x_t] = E[sqrt(1 - ᾱ_t)] over uniform t."""
    schedule, random = Schedule.linear(), torch.Generator().manual_seed(0)

    def batches() -> Iterator[tuple[Tensor, None]]:
        while True:
            yield torch.randn(256, 3, 2, 2, generator=random), None

    config = Config(train_steps=400, learning_rate=0.02, ema=0.98)
    network = train(Linear(), lambda n: n, batches(), schedule, simple_weight, config, random)
    expected = (1 - schedule.alpha_bar(torch.arange(1000))).sqrt().mean()
    assert float(network.w) == pytest.approx(float(expected), abs=0.02)  # type: ignore[arg-type]


def test_the_loss_of_a_perfect_network_is_zero() -> None:
    schedule, x0 = Schedule.linear(), torch.full((8, 3, 2, 2), 0.3)

    def perfect(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = schedule.signal_and_noise(t, x)
        return (x - a * 0.3) / s

    value = loss(perfect, x0, None, schedule, vlb_weight, torch.Generator().manual_seed(0))
    assert float(value) < 1e-6


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="variance must be small or large, not 'huge'"):
        Config(variance="huge")
    with pytest.raises(ValueError, match="must be at least 1"):
        Config(train_steps=0)
    with pytest.raises(
        ValueError, match="sample_steps must be from 1 to 1000, the trained timesteps, not 1001"
    ):
        Config(sample_steps=1001)
    with pytest.raises(ValueError, match="bound_draws must be 0"):
        Config(bound_draws=-1)


def test_the_bound_of_a_network_that_knows_the_data_is_what_the_variances_cost() -> None:
    """Each KL term is then that of β̃ against β alone, ½ (r - 1 - log r) with r = β̃ / β; no term is random."""
    schedule, lab = Schedule.linear(), pixel_lab(batch=1)
    value = 51 / 127.5 - 1  # one of the 256 grey levels
    pictures = torch.full((2, 3, 2, 2), value, dtype=torch.float64)

    def perfect(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = schedule.signal_and_noise(t, x)
        return (x - a * value) / s

    steps = chain(schedule, range(999, -1, -1))
    log_r = (steps.log_small - steps.log_large)[:-1]
    decoder = -bin_log_likelihood(torch.tensor(value), torch.tensor(value), steps.log_small[-1])
    each = 0.5 * (log_r.exp() - 1 - log_r).sum() + decoder
    nats = 12 * float(each) + float(prior_kl(pictures, schedule, 999)[0])
    got = bits(lab, nll(perfect, schedule, Config(bound_draws=0)), pictures, MEASURING)
    torch.testing.assert_close(
        got, torch.full((2,), nats / 12 / math.log(2), dtype=torch.float64), rtol=1e-6, atol=0
    )


def test_reproduce_trains_both_networks_alike_and_states_both_claims() -> None:
    lab = pixel_lab(images=4)
    config = Config(
        train_steps=2, train_batch=4, channels=[8, 8, 8], sample_steps=3, bound_images=6, bound_draws=2
    )
    reproduce(lab, config)
    assert [arm.name for arm in lab.arms] == ["l_simple", "l_vlb"]
    simple, vlb = lab.arms
    assert simple.parameters_trained == vlb.parameters_trained > 0
    for arm in lab.arms:
        assert (arm.calls, arm.samples) == (3, 12)  # neither training nor measuring is a cost of sampling
        assert arm.metrics["bits-per-dimension"].n == 6
        assert arm.images is not None and arm.images.shape == (4, 3, 16, 16)
    assert simple.images is not None and vlb.images is not None
    assert not torch.equal(simple.images, vlb.images)
    assert [(c.metric, c.arm, c.relation, c.than) for c in lab.claims] == [
        ("fid[effnet-lite0]", "l_simple", "<", "l_vlb"),
        ("bits-per-dimension", "l_vlb", "<", "l_simple"),
    ]
    assert network_rows(config, 4) == 2 * (3 * 2 * 4 + 3 * 4 + 3 * 6)

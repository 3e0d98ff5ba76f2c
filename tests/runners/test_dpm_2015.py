"""DPM (2015): its bound where it is exact, its start, and what training gains."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from denoised.diffusion.bounds import bound as bound_of_a_chain
from denoised.diffusion.bounds import chain, normal_nll, posterior_mean, rows, term
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule
from runners.foundations.dpm_2015 import Config, Model, bound, measure, network_rows, reproduce, sample, train
from tests.runners.pixel_lab import pixel_lab


def model(steps: int = 6, units: int = 5, points: int = 20) -> Model:
    generator = torch.Generator().manual_seed(0)
    return Model(steps, units, 1e-3, torch.randn(points, 2, generator=generator), generator)


def randn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_an_untrained_model_is_the_isotropic_gaussian_and_its_bound_is_tight_at_every_point() -> None:
    """Then p(x^(0…T)) is the forward process of N(0, I), so K is the log-likelihood whatever β is."""
    points = torch.tensor([[0.0, 0.0], [1.5, -0.5], [-2.0, 2.0]], dtype=torch.float64)
    exact = normal_nll(points, torch.zeros(2), torch.zeros(2)).sum(1) / (2 * math.log(2))
    for steps in (2, 6):
        start = model(steps)
        many = points.repeat_interleave(4000, 0)
        got = measure(start, many, 1, torch.Generator().manual_seed(0)).reshape(3, 4000)
        error = got.std(1) / 4000**0.5
        assert bool(((got.mean(1) - exact).abs() < 4 * error + 1e-6).all())
        x = sample(
            start, torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1)), torch.Generator()
        )
        torch.testing.assert_close(x.T.cov(), torch.eye(2), atol=0.05, rtol=0)


def test_the_terms_are_those_of_the_discrete_bound() -> None:
    """The same chain as tables of `denoised.diffusion.bounds`: term by term, but for the last step's density."""
    own = model().double()
    with torch.no_grad():
        own.read_mean.copy_(0.3 * randn(*own.read_mean.shape))
        own.read_variance.copy_(0.3 * randn(*own.read_variance.shape))
    x0, eps = randn(4, 2), randn(6, 4, 2, seed=2)
    schedule = Schedule(own.beta().detach().flatten())
    steps = chain(schedule, range(5, -1, -1))
    x = torch.stack([schedule.add_noise(x0, eps[t], torch.full((4,), t)) for t in range(6)])
    means, variances = own(x[1:])
    total = torch.zeros(4, dtype=torch.float64)
    for index in range(5):
        t = 5 - index
        k = torch.full((4,), index)
        total += term(steps, k, x0, x[t], means[t - 1], variances[t - 1])
    beta = float(schedule.beta[0])
    total += normal_nll(x0, (1 - beta) ** 0.5 * x[0], torch.tensor(beta).log()).sum(1)
    a = float(schedule.alpha_bar(5))
    prior = torch.distributions.Normal(a**0.5 * x0, (1 - a) ** 0.5)
    total += torch.distributions.kl_divergence(prior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(bound(own, x0, eps), total, rtol=1e-5, atol=1e-5)


def test_the_true_reverse_of_the_gaussian_agrees_with_the_shared_bound() -> None:
    """An untrained model's steps as a `Reverse` of the shared module: equal expectations, but for the decoder's bins."""
    own = model(12).double()
    with torch.no_grad():
        own.beta_logits.fill_(-1.0)
        own.get_buffer("first_beta").fill_(0.2)  # far wider than a bin
    schedule = Schedule(own.beta().detach().flatten())
    steps = chain(schedule, range(11, -1, -1))

    def reverse(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        beta = schedule.beta[steps.t[k]][:, None]
        return (1 - beta).sqrt() * x, rows(steps.log_large, k, x)

    x0 = torch.full((4000, 2), 51 / 127.5 - 1, dtype=torch.float64)
    theirs = bound_of_a_chain(reverse, x0, steps, SampleGenerators(0, range(4000))).mean() / 2
    ours = measure(own, x0, 1, torch.Generator().manual_seed(3)).mean() * math.log(2)
    assert float(theirs - ours) == pytest.approx(math.log(127.5), abs=0.02)
    assert float(posterior_mean(steps, torch.tensor([11]), x0[:1], x0[:1]).sum()) == pytest.approx(-1.2)


def test_the_noise_schedule_is_learned_but_for_its_first_step() -> None:
    own = model()
    bound(own, randn(8, 2).float(), randn(6, 8, 2).float()).mean().backward()
    assert own.beta_logits.grad is not None and bool((own.beta_logits.grad != 0).all())
    assert own.beta()[0].item() == pytest.approx(1e-3)
    assert not own.get_buffer("first_beta").requires_grad
    assert bool((own.beta() > 0).all() and (own.beta() < 1).all())
    alpha_bar = (1 - own.beta()).prod().item()
    assert alpha_bar == pytest.approx(1 / (1 + math.exp(4)), rel=1e-4)


def test_training_finds_a_narrow_gaussian_that_the_start_does_not_know() -> None:
    """Points along a line: one coordinate has a standard deviation of 0.1, which costs log2(10) / 2 bits less."""
    points = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.1])
    config = Config(steps=[8], units=8, updates=250, rows=512, learning_rate=2e-2, ema=0.9)
    trained = train(points, 8, config, torch.Generator().manual_seed(0), pixel_lab())
    held_out = randn(500, 2, seed=5) * torch.tensor([1.0, 0.1])
    entropy = math.log2(2 * math.pi * math.e) / 2 - math.log2(10) / 2
    bits = measure(trained, held_out, 4, torch.Generator().manual_seed(1)).mean().item()
    start = measure(model(8), held_out, 4, torch.Generator().manual_seed(1)).mean().item()
    assert start == pytest.approx(math.log2(2 * math.pi) / 2 + (1 + 0.01) / 4 / math.log(2), abs=0.1)
    assert entropy - 0.1 < bits < entropy + 0.4
    drawn = sample(
        trained, torch.randn(2000, 2, generator=torch.Generator().manual_seed(2)), torch.Generator()
    )
    assert drawn[:, 1].std().item() < 0.25 < 0.7 < drawn[:, 0].std().item()


def test_measuring_draws_other_noise_than_training_and_repeats() -> None:
    own, points = model(), randn(16, 2)
    first, again, other = (measure(own, points, 2, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert own.centre.dtype == torch.float32  # measured on a copy


def test_reproduce_holds_every_length_against_the_gaussian() -> None:
    lab = pixel_lab(images=50)
    config = Config(steps=[4, 2], updates=3, rows=16, units=4, draws=1)
    reproduce(lab, config)
    assert [(arm.name, arm.settings["steps"]) for arm in lab.arms] == [
        ("chain", 2),
        ("gaussian", 2),
        ("chain", 4),
        ("gaussian", 4),
        ("shortest-chain", 4),
        ("exact-density", 4),
    ]
    bits = [arm.metrics["bits-per-dimension"].value for arm in lab.arms]
    assert bits[4] == bits[0] and bits[1] == bits[3]
    assert bits[5] < bits[1] - 0.5  # what there is to gain
    assert [(c.arm, c.relation, c.than, c.at) for c in lab.claims] == [
        ("chain", "<", "gaussian", {"steps": 4}),
        ("chain", "<", "shortest-chain", {"steps": 4}),
    ]
    # 3 updates of 8 points × 1 learned step and of 4 points × 3; 50 points once in each learned step
    assert network_rows(config, 50) == 3 * 3 * (8 * 1 + 4 * 3) + (1 + 3) * 50


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps must be a list of numbers from 2 to rows = 2560, not \[1\]"):
        Config(steps=[1])
    with pytest.raises(ValueError, match="from 2 to rows = 10"):
        Config(steps=[20], rows=10)
    with pytest.raises(ValueError, match=r"first_beta must be between 0 and 0\.5"):
        Config(first_beta=0.0)
    with pytest.raises(ValueError, match="must be at least 1"):
        Config(units=0)

"""IDDPM: its variances at their ends, its loss in closed form, and its sampler against DDPM's and diffusers'."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from denoised.diffusion.bounds import bin_log_likelihood, chain, normal_kl, posterior_mean, to_levels
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, timesteps
from runners.foundations import ddpm
from runners.foundations.iddpm import (
    ARMS,
    Config,
    log_variance,
    loss,
    network_rows,
    reproduce,
    reverse,
    sample,
)
from tests.runners.pixel_lab import pixel_lab

SCHEDULE = Schedule.cosine()


def shared_out(v: float | Tensor) -> Denoiser:
    """A denoiser of a network that says eps = x / 2, and v in three channels more."""

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.cat([x / 2, torch.zeros_like(x) + v], dim=1)

    return Denoiser(network, SCHEDULE)


def test_channels_beyond_the_pictures_come_apart() -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    prediction = shared_out(0.25)(x, 500)
    assert torch.equal(prediction.eps, x / 2)
    for each in (prediction, prediction.clip()):
        assert each.extra is not None and bool((each.extra == 0.25).all()) and each.extra.shape == x.shape
    assert Denoiser(lambda x, t, _: x, SCHEDULE)(x, 500).extra is None


def test_the_learned_variance_reaches_both_ends_and_is_geometric_between() -> None:
    """Eq. 15, on the whole chain and on a strided one, whose β is 1 - ᾱ_t / ᾱ_{t_next} (Eq. 19)."""
    x = torch.zeros(1, 3, 2, 2)
    for steps in (chain(SCHEDULE, range(999, -1, -1)), chain(SCHEDULE, timesteps(1000, 10, "linspace"))):
        for index in (0, 3, len(steps) - 2):
            k = torch.tensor([index])
            a, a_next = SCHEDULE.alpha_bar(steps.t[index]), SCHEDULE.alpha_bar(steps.t_next[index])
            beta = 1 - a / a_next
            small = beta * (1 - a_next) / (1 - a)
            for v, expected in ((-1.0, small), (1.0, beta), (0.0, (small * beta).sqrt())):
                got = log_variance(steps, k, x, "learned", torch.full_like(x, v)).exp()
                torch.testing.assert_close(got, expected.expand_as(x))
            fixed = [log_variance(steps, k, x, name).exp().item() for name in ("small", "large", "midway")]
            assert fixed == pytest.approx([float(small), float(beta), float((small * beta).sqrt())])


@pytest.mark.parametrize(("name", "v"), [("small", -1.0), ("large", 1.0)])
def test_fixed_variances_are_ddpm_and_the_ends_of_learned_ones(name: str, v: float) -> None:
    grid = timesteps(1000, 6, "linspace")
    x = SampleGenerators(0, range(2)).randn(3, 4, 4)

    def noise() -> SampleGenerators:
        return SampleGenerators(1, range(2))

    learned = sample(shared_out(v), x, grid, generator=noise())
    fixed = sample(shared_out(0.0), x, grid, variance=name, generator=noise())
    expected = ddpm.sample(shared_out(0.0), x, grid, variance=name, generator=noise())
    torch.testing.assert_close(learned, fixed, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fixed, expected, atol=1e-5, rtol=1e-5)


def test_the_learned_log_variance_is_that_of_diffusers() -> None:
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range")
    steps = chain(SCHEDULE, range(999, -1, -1))
    v = torch.linspace(-1.5, 1.5, 12).reshape(1, 3, 2, 2)
    for t in (998, 500, 20, 1):
        k = torch.tensor([999 - t])
        expected = scheduler._get_variance(t, predicted_variance=v)  # log-variances with this variance_type
        got = log_variance(steps, k, v, "learned", v).float()
        torch.testing.assert_close(got, expected, atol=2e-3, rtol=1e-3)


def test_the_hybrid_loss_is_its_definition() -> None:
    """Eq. 16 with T = 2 and one picture, where every term can be written down."""
    schedule = Schedule(torch.tensor([0.1, 0.3]))
    steps = chain(schedule, [1, 0])
    x0 = to_levels(torch.full((1, 3, 2, 2), 0.3))
    found = set()
    for seed in range(6):
        copy = torch.Generator().manual_seed(seed)
        k = torch.randint(2, (1,), generator=copy)
        eps = torch.randn(x0.shape, generator=copy)

        def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
            return torch.cat([x / 2, torch.full_like(x, 0.4)], dim=1)

        got = loss(network, x0, steps, 0.001, torch.Generator().manual_seed(seed))
        x = schedule.add_noise(x0, eps, steps.t[k])
        a, s = schedule.signal_and_noise(steps.t[k], x)
        predicted = (x - s * x / 2) / a
        small, large = float(steps.log_small[k]), float(steps.log_large[k])
        own = torch.tensor(0.7 * large + 0.3 * small)
        mean = posterior_mean(steps, k, predicted, x)
        if int(steps.t[k]) == 0:
            nats = -bin_log_likelihood(x0, mean, own).mean()
        else:
            nats = normal_kl(posterior_mean(steps, k, x0, x), torch.tensor(small), mean, own).mean()
        expected = (eps - x / 2).square().mean() + 0.001 * 2 * nats / math.log(2)
        assert float(got) == pytest.approx(float(expected), rel=1e-5)
        found.add(int(k))
    assert found == {0, 1}


def test_the_bound_teaches_the_variance_and_not_the_mean() -> None:
    """Section 3.1: the mean is detached in L_vlb."""
    steps = chain(SCHEDULE, range(999, -1, -1))
    weight, extra = torch.tensor(0.5, requires_grad=True), torch.tensor(0.0, requires_grad=True)

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.cat([weight * x, extra.expand_as(x)], dim=1)

    x0 = to_levels(torch.full((16, 3, 2, 2), 0.3))
    gradients = []
    for vlb_weight in (0.0, 0.001, 10.0):
        weight.grad = extra.grad = None
        loss(network, x0, steps, vlb_weight, torch.Generator().manual_seed(0)).backward()
        gradients.append((weight.grad, extra.grad))
    (simple, none), (hybrid, little), (heavy, much) = gradients
    assert simple is not None and torch.equal(simple, torch.as_tensor(hybrid))
    assert torch.equal(simple, torch.as_tensor(heavy))
    assert none is not None and little is not None and much is not None
    assert float(none) == 0
    assert float(little) != 0 and float(much / little) == pytest.approx(10_000, rel=1e-3)


def test_a_network_that_knows_the_data_is_best_with_the_small_variance() -> None:
    """For data at one point β̃ is the true variance: every KL term is 0, and grows towards β."""
    steps = chain(SCHEDULE, timesteps(1000, 5, "linspace"))
    x0 = to_levels(torch.full((2, 3, 2, 2), 0.3, dtype=torch.float64))

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = SCHEDULE.signal_and_noise(t, x)
        return (x - a * x0) / s

    for index in range(4):
        k = torch.full((2,), index)
        x = SCHEDULE.add_noise(x0, torch.randn_like(x0), steps.t[k])
        true = posterior_mean(steps, k, x0, x)
        small = log_variance(steps, k, x, "small")
        values = []
        for name in ("small", "midway", "large"):
            mean, spread = reverse(network, steps, name)(x, k)
            values.append(float(normal_kl(true, small, mean, spread).mean()))
        assert values[0] == pytest.approx(0, abs=1e-9)
        assert all(a < b for a, b in pairwise(values))


def test_more_output_channels_leave_the_other_layers_as_they_begin() -> None:
    lab = pixel_lab()
    plain, wide = lab.untrained([8, 8, 16]), lab.untrained([8, 8, 16], out_channels=6)
    ours, theirs = plain.state_dict(), wide.state_dict()
    assert theirs["conv_out.weight"].shape == (6, *ours["conv_out.weight"].shape[1:])
    same = [name for name in ours if not name.startswith("conv_out")]
    assert len(same) == len(ours) - 2
    assert all(torch.equal(ours[name], theirs[name]) for name in same)


def test_reproduce_compares_one_pair_of_networks_at_every_length() -> None:
    lab = pixel_lab(images=2, reference_images=4)
    config = Config(
        train_steps=2, train_batch=4, channels=[8, 8, 8], steps=[2, 25], bound_images=2, bound_draws=2
    )
    reproduce(lab, config)
    assert [(arm.name, arm.settings["steps"]) for arm in lab.arms] == [(n, s) for s in (2, 25) for n in ARMS]
    for arm in lab.arms:
        assert arm.calls == arm.settings["steps"] and arm.samples == 2 * arm.calls
        assert set(arm.metrics) == {"fid[effnet-lite0]", "kid[effnet-lite0]", "bits-per-dimension"}
    assert {(c.metric, c.arm, c.than) for c in lab.claims} == {
        ("fid[effnet-lite0]", "l_hybrid", "l_simple_small"),
        ("fid[effnet-lite0]", "l_hybrid", "l_simple_large"),
        ("bits-per-dimension", "l_hybrid", "l_simple_small"),
        ("bits-per-dimension", "l_hybrid", "l_simple_large"),
        ("bits-per-dimension", "l_hybrid", "l_hybrid_midway"),
    }
    assert all(c.relation == "<" and c.at == {"steps": 25} for c in lab.claims)
    # 2 steps have 1 KL term, which is taken; 25 have 24, of which 2 are drawn.
    assert network_rows(config, 2) == 2 * 3 * 2 * 4 + 4 * (27 * 2 + (2 + 3) * 2)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps must be a list of numbers from 2 to T = 1000, not \[1\]"):
        Config(steps=[1])
    with pytest.raises(ValueError, match="from 2 to T = 100"):
        Config(T=100, steps=[101])
    with pytest.raises(ValueError, match="vlb_weight must be positive"):
        Config(vlb_weight=0)
    with pytest.raises(ValueError, match="bound_draws must be 0"):
        Config(bound_draws=-1)
    with pytest.raises(ValueError, match="must be at least 1"):
        Config(bound_images=0)
    x = torch.zeros(1, 3, 2, 2)
    steps = chain(SCHEDULE, [9, 0])
    with pytest.raises(ValueError, match="twice as many output channels"):
        log_variance(steps, torch.tensor([0]), x, "learned")
    with pytest.raises(ValueError, match="must be learned, small, large or midway, not 'huge'"):
        log_variance(steps, torch.tensor([0]), x, "huge")

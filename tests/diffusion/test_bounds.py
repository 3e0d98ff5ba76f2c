"""The variational bound where it is known: closed forms, bins that sum to 1, and Gaussian data, where it is exact."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from denoised.diffusion.bounds import (
    LEVELS,
    Chain,
    Reverse,
    bin_log_likelihood,
    bound,
    chain,
    fixed_variance,
    normal_kl,
    normal_nll,
    posterior_mean,
    prior_kl,
    proposal,
    rows,
    term,
    to_levels,
)
from denoised.diffusion.denoiser import Prediction
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.reverse import posterior
from denoised.diffusion.schedule import Schedule, timesteps

BINS = torch.arange(LEVELS, dtype=torch.float64) / 127.5 - 1


def coarse() -> Schedule:
    """Twenty large steps: the last one is far wider than a bin, so that bins are as good as a density."""
    return Schedule.linear(20, 0.05, 0.4)


def gaussian(chain: Chain, mean: float = 0.0, variance: float = 1.0) -> Reverse:
    """The true reverse step of data N(mean, variance): x0 | x_t is Gaussian, and so is x_{t_next} | x_t."""

    def reverse(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        a = rows(chain.schedule.alpha_bar(chain.t), k, x)
        gain = a.sqrt() * variance / (a * variance + 1 - a)
        x0 = mean + gain * (x - a.sqrt() * mean)
        left = variance * (1 - a) / (a * variance + 1 - a)  # of x0 | x_t
        small = torch.where(rows(chain.t_next, k, x) < 0, 0.0, rows(chain.log_small, k, x).exp())
        total = small + rows(chain.from_x0, k, x).square() * left
        return posterior_mean(chain, k, x0, x), total.log()

    return reverse


def test_the_kl_of_gaussians_agrees_with_torch() -> None:
    random = torch.Generator().manual_seed(0)
    m1, v1, m2, v2 = torch.randn(4, 50, generator=random, dtype=torch.float64)
    expected = kl_divergence(Normal(m1, (v1 / 2).exp()), Normal(m2, (v2 / 2).exp()))
    torch.testing.assert_close(normal_kl(m1, v1, m2, v2), expected)
    torch.testing.assert_close(normal_nll(m1, m2, v2), -Normal(m2, (v2 / 2).exp()).log_prob(m1))


@pytest.mark.parametrize("mean", [-1.7, -1.0, 0.1234, 1.0, 3.0])
@pytest.mark.parametrize("log_variance", [-16.0, -9.0, -2.0, 3.0])
def test_the_bins_have_mass_one_together(mean: float, log_variance: float) -> None:
    each = bin_log_likelihood(BINS, torch.tensor(mean), torch.tensor(log_variance))
    assert each.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_a_narrow_bin_has_the_density_times_its_width() -> None:
    mean, log_variance = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    inner = BINS[1:-1]
    expected = -normal_nll(inner, mean, log_variance) + math.log(2 / 255)
    torch.testing.assert_close(bin_log_likelihood(inner, mean, log_variance), expected, atol=1e-5, rtol=0)


def test_far_tails_stay_finite_and_so_do_their_gradients() -> None:
    """A hundred standard deviations away the mass underflows even in float64; its logarithm does not."""
    mean = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    log_variance = torch.full((3,), 2 * math.log(0.01), dtype=torch.float64, requires_grad=True)
    x = torch.tensor([BINS[0], BINS[64], BINS[-1]], dtype=torch.float64)
    value = bin_log_likelihood(x, mean, log_variance)
    # the density at the edge of the bin nearest to the mean decides: -z²/2
    edge = (x + torch.tensor([1, 1, -1]) / 255 - 0.5) / 0.01
    torch.testing.assert_close(value, -(edge**2) / 2, rtol=0.01, atol=0)
    value.sum().backward()
    assert mean.grad is not None and log_variance.grad is not None
    assert bool(mean.grad.isfinite().all() and log_variance.grad.isfinite().all())
    assert bool((mean.grad.sign() == torch.tensor([-1, -1, 1])).all())


def test_rounding_to_levels_hits_the_256_values() -> None:
    torch.testing.assert_close(to_levels(BINS + 0.003), BINS)
    assert to_levels(torch.tensor([-1.2, 1.2])).tolist() == [-1.0, 1.0]


def test_the_prior_term_is_nearly_nothing_after_the_whole_process_and_exact_before() -> None:
    """DDPM, section 4: with the linear schedule L_T is about 1e-5 bits per dimension."""
    x0 = torch.full((1, 3, 4, 4), 0.5)
    last = prior_kl(x0, Schedule.linear(), 999) / (48 * math.log(2))
    assert 0 < last.item() < 5e-5
    a = float(coarse().alpha_bar(3))
    expected = kl_divergence(Normal(a**0.5 * 0.5, (1 - a) ** 0.5), Normal(0.0, 1.0))
    assert prior_kl(x0, coarse(), 3).item() == pytest.approx(48 * expected.item())


def test_a_chain_is_ddpms_posterior_and_composes_on_a_strided_grid() -> None:
    """x_{t_next} drawn from q(· | x_t, x0) has q(· | x0)'s mean and variance: Eq. 4 from Eq. 6 and 7."""
    schedule = Schedule.cosine()
    steps = chain(schedule, timesteps(1000, 7, "trailing"))
    a, a_next = schedule.alpha_bar(steps.t), schedule.alpha_bar(steps.t_next)
    torch.testing.assert_close(steps.from_x0 + steps.from_x * a.sqrt(), a_next.sqrt())
    small = steps.log_small.exp()
    torch.testing.assert_close((steps.from_x.square() * (1 - a) + small)[:-1], (1 - a_next)[:-1])
    assert steps.from_x0[-1] == 1 and steps.from_x[-1] == 0  # the last step's mean is x0 itself
    assert steps.log_small[-1] == steps.log_small[-2]


@pytest.mark.parametrize("grid", [[5], [3, 3], [0, 4], [20, 3], []])
def test_a_chain_refuses_what_is_none(grid: list[int]) -> None:
    with pytest.raises(ValueError, match="at least 2 decreasing timesteps from 0 to 19"):
        chain(coarse(), grid)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.2, 0.1)])
def test_for_gaussian_data_and_its_true_reverse_the_bound_is_the_likelihood(
    mean: float, variance: float
) -> None:
    """With N(0, 1) as data p(x_0 … x_T) = q(x_0 … x_T), so there is no gap for any x0; and with other Gaussian data
    only what the prior misses, since x_T is not quite N(0, 1)."""
    schedule = coarse()
    x0 = to_levels(torch.tensor([-0.6, 0.0, 0.5], dtype=torch.float64)).repeat_interleave(2000)[:, None]
    steps = chain(schedule, timesteps(20, 20))
    values = bound(gaussian(steps, mean, variance), x0, steps, SampleGenerators(1, range(len(x0))))
    got = values.reshape(3, -1).mean(1)
    spread = values.reshape(3, -1).std(1) / 2000**0.5
    exact = normal_nll(x0[::2000, 0], torch.tensor(mean), torch.tensor(variance).log()) - math.log(2 / 255)
    assert bool(((got - exact).abs() < 4 * spread + 0.01).all()), (got, exact, spread)
    assert bool((spread < 0.05).all())


def test_the_terms_of_unit_gaussian_data_are_what_the_proposal_says() -> None:
    """½ (SNR(t_next) - SNR(t)) E(x0 - x̂0)² with the variance β̃, and the expected error 1 / (1 + SNR(t))."""
    schedule = coarse()
    steps = chain(schedule, timesteps(20, 20))
    n = 40_000
    noise = SampleGenerators(3, range(2))
    x0 = noise.randn(n, 1).double()[0]
    k = torch.full((n,), 9)
    x = schedule.add_noise(x0, noise.randn(n, 1).double()[0], steps.t[k])
    mean, _ = gaussian(steps)(x, k)
    got = term(steps, k, x0, x, mean, rows(steps.log_small, k, x)).mean().item()
    snr, snr_next = float(schedule.snr(steps.t[9])), float(schedule.snr(steps.t_next[9]))
    assert got == pytest.approx(0.5 * (snr_next - snr) / (1 + snr), rel=0.03)
    ratio = proposal(steps) - 0.5 / 19
    assert ratio[9] / ratio[0] == pytest.approx(
        (snr_next - snr) / (1 + snr) * (1 + schedule.snr(19)) / (schedule.snr(18) - schedule.snr(19))
    )
    assert proposal(steps).sum().item() == pytest.approx(1)


def test_drawing_some_terms_has_the_expectation_of_all() -> None:
    schedule = coarse()
    steps = chain(schedule, timesteps(20, 20))
    x0 = to_levels(torch.full((4000, 1), 0.4, dtype=torch.float64))

    def wrong(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:  # so that there are terms worth adding
        return posterior_mean(steps, k, 0.5 * x, x), rows(steps.log_large, k, x)

    everything = bound(wrong, x0, steps, SampleGenerators(0, range(4000)))
    some = bound(wrong, x0, steps, SampleGenerators(1, range(4000)), draws=3)
    error = ((everything.var() + some.var()) / 4000).sqrt()
    assert (everything.mean() - some.mean()).abs() < 4 * error
    assert error < 0.05 * everything.mean().abs()


def test_a_rows_estimate_does_not_depend_on_its_batch() -> None:
    schedule = coarse()
    steps = chain(schedule, timesteps(20, 20))
    x0 = to_levels(torch.linspace(-0.5, 0.5, 12).reshape(4, 3))
    model = gaussian(steps)
    together = bound(model, x0, steps, SampleGenerators(5, range(4)), draws=2)
    alone = bound(model, x0[2:], steps, SampleGenerators(5, range(2, 4)), draws=2)
    torch.testing.assert_close(together[2:], alone)


def test_a_model_of_the_bound_has_either_variance_and_clips_x0() -> None:
    schedule = Schedule.linear()
    steps = chain(schedule, [900, 500, 100, 0])

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.full_like(x, 3.0)  # x0

    x, k = torch.full((4, 1), 0.7).double(), torch.arange(4)
    small_mean, small = fixed_variance(network, "sample", steps, "small")(x, k)
    mean, large = fixed_variance(network, "sample", steps, "large")(x, k)
    torch.testing.assert_close(mean, small_mean)
    for i, (t, t_next) in enumerate([(900, 500), (500, 100), (100, 0)]):
        clipped = Prediction(torch.ones(1, 1).double(), x[:1], 1.0, 1.0)
        expected, variance = posterior(x[:1], clipped, t, t_next, schedule)
        assert float(mean[i]) == pytest.approx(float(expected))
        assert float(small[i].exp()) == pytest.approx(variance)
        beta = 1 - schedule.alpha_bar(t) / schedule.alpha_bar(t_next)
        assert float(large[i].exp()) == pytest.approx(beta)
    assert float(mean[3]) == pytest.approx(1)
    assert float(large[3]) == float(small[3]) == float(small[2])

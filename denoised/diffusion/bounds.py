"""The variational bound of a discrete diffusion model on -log p(x0), term by term, in nats and float64.

    -log p(x0) <= KL(q(x_T|x0) ‖ N(0, I)) + Σ_t E KL(q(x_{t-1}|x_t, x0) ‖ p(x_{t-1}|x_t)) - E log p(x0|x_1)

DDPM (Ho et al. 2020, arXiv:2006.11239), Eq. 5. On a strided grid the same sum bounds the likelihood of the shorter
chain: t - 1 becomes the next timestep of the grid, and β_t becomes 1 - ᾱ_t / ᾱ_{t_next}.

The last term scores data of 8 bits by the integral of the last Gaussian over the bin of each value, the two outer
bins being open (DDPM, Eq. 13), so that the probabilities of the 256 values sum to 1. Bits per dimension are
`denoised.metrics.scores.bits_per_dimension` of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from denoised.diffusion.denoiser import Network, Parameterisation, predict
from denoised.diffusion.random import Noise
from denoised.diffusion.schedule import Schedule, per_row

LEVELS = 256  # grey levels of data in [-1, 1]

# (x (n, …), k (n,) on the CPU: which step of the chain) -> mean (n, …) and log-variance, of that shape or (n, 1, …),
# of p(x_{t_next} | x_t).
Reverse = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Variance = Literal["small", "large"]  # of p: β̃ or β


@dataclass(frozen=True)
class Chain:
    """The K steps of a reverse process, noisiest first, as tables (K,); the last one goes to clean data.

    q(x_{t_next} | x_t, x0) has the mean `from_x0` x0 + `from_x` x_t and the variance exp(`log_small`) (DDPM, Eq. 6
    and 7), except that it has none in the last step: there `log_small` borrows that of the step before, as the
    official code does. `log_large` is the log of β.
    """

    schedule: Schedule
    t: Tensor  # long, on the CPU like all tables
    t_next: Tensor
    from_x0: Tensor
    from_x: Tensor
    log_small: Tensor  # log β̃
    log_large: Tensor  # log β

    def __len__(self) -> int:
        return len(self.t)


def chain(schedule: Schedule, timesteps: Sequence[int]) -> Chain:
    """The chain along decreasing `timesteps`, at least two; ValueError for others."""
    t = torch.tensor(timesteps, dtype=torch.long)
    if len(t) < 2 or bool((t.diff() >= 0).any()) or not 0 <= int(t[-1]) <= int(t[0]) < schedule.T:
        raise ValueError(
            f"a chain needs at least 2 decreasing timesteps from 0 to {schedule.T - 1}, not {list(timesteps)}"
        )
    t_next = torch.cat([t[1:], torch.tensor([-1])])
    a, a_next = schedule.alpha_bar(t), schedule.alpha_bar(t_next)
    beta = 1 - a / a_next
    small = beta * (1 - a_next) / (1 - a)
    small[-1] = small[-2]
    return Chain(
        schedule,
        t,
        t_next,
        a_next.sqrt() * beta / (1 - a),
        (1 - beta).sqrt() * (1 - a_next) / (1 - a),
        small.log(),
        beta.log(),
    )


def rows(table: Tensor, k: Tensor, like: Tensor) -> Tensor:
    """Entries k (n,) of a table of a chain, (n, 1, …) to broadcast over `like` (n, …), float64, on its device."""
    return per_row(table[k], like).to(like.device)


def posterior_mean(chain: Chain, k: Tensor, x0: Tensor, x: Tensor) -> Tensor:
    """The mean (n, …) of q(x_{t_next} | x_t, x0) in steps k (n,), float64. DDPM, Eq. 7."""
    return rows(chain.from_x0, k, x) * x0 + rows(chain.from_x, k, x) * x


def fixed_variance(network: Network, kind: Parameterisation, steps: Chain, variance: Variance) -> Reverse:
    """p(x_{t_next} | x_t) of a network without classes, for the bound: DDPM, Eq. 7 at the clipped x0, and β̃ or β.

    The last step has β̃ of the one before either way, as in the official code.
    """
    large = torch.cat([steps.log_large[:-1], steps.log_small[-1:]])
    log_variance = large if variance == "large" else steps.log_small

    def step(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        t = steps.t[k]
        a, s = steps.schedule.signal_and_noise(t, x)
        x0 = predict(network(x, t.to(x.device), None), x, a, s, kind).x0.clamp(-1, 1)
        return posterior_mean(steps, k, x0, x), rows(log_variance, k, x)

    return step


def normal_kl(mean_q: Tensor, log_variance_q: Tensor, mean_p: Tensor, log_variance_p: Tensor) -> Tensor:
    """KL(q ‖ p) of Gaussians, number by number, in nats."""
    difference = log_variance_q - log_variance_p
    return 0.5 * (difference.exp() - 1 - difference + (mean_q - mean_p).square() / log_variance_p.exp())


def normal_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log N(x; mean, exp(log_variance)), number by number, in nats: the density, for continuous data."""
    return 0.5 * (math.log(2 * math.pi) + log_variance + (x - mean).square() / log_variance.exp())


def to_levels(x: Tensor, levels: int = LEVELS) -> Tensor:
    """The nearest of `levels` even values of [-1, 1], as 8-bit pictures have."""
    half = (levels - 1) / 2
    return ((x.clamp(-1, 1) + 1) * half).round() / half - 1


def bin_log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor, levels: int = LEVELS) -> Tensor:
    """The log of a Gaussian's mass in the bin of each number of x, in nats, float64. DDPM, Eq. 13.

    x holds values of `to_levels`. A bin reaches half way to its neighbours; the first has no lower and the last
    no upper end. Far tails keep their digits: the mass is a difference of the normal distribution function on
    the side where that is small, taken in logarithms.
    """
    x, mean, deviation = x.double(), mean.double(), (0.5 * log_variance.double()).exp()
    half = 1 / (levels - 1)
    centre = (x - mean) / deviation
    width = half / deviation
    near = -centre.abs()  # by symmetry, with the middle of the bin below the mean
    upper, lower = torch.special.log_ndtr(near + width), torch.special.log_ndtr(near - width)
    gap = upper - lower  # > 0; 1 - exp(-gap) in the form that keeps its digits
    inside = upper + torch.where(gap < math.log(2), (-torch.expm1(-gap)).log(), torch.log1p(-(-gap).exp()))
    first, last = torch.special.log_ndtr(centre + width), torch.special.log_ndtr(width - centre)
    return torch.where(x < -1 + half, first, torch.where(x > 1 - half, last, inside))


def prior_kl(x0: Tensor, schedule: Schedule, t: int) -> Tensor:
    """KL(q(x_t | x0) ‖ N(0, I)) of each x0 (n, …), in nats: (n,) float64. L_T of DDPM's Eq. 5 at the last t."""
    a, s = schedule.level(t)
    zero = torch.zeros((), dtype=torch.float64, device=x0.device)
    each = normal_kl(a * x0.double(), zero + 2 * math.log(s), zero, zero)
    return each.flatten(1).sum(1)


def term(chain: Chain, k: Tensor, x0: Tensor, x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The bound's term of steps k (n,) for x0 and x = x_t (n, …), in nats: (n,) float64. DDPM, Eq. 5.

    `mean`, `log_variance`: those of p(x_{t_next} | x_t). A KL divergence, in the last step -log p(x0 | x). Can be
    differentiated.
    """
    mean, log_variance = mean.double(), log_variance.double()
    true_mean, true_log_variance = posterior_mean(chain, k, x0, x), rows(chain.log_small, k, x)
    each = torch.where(
        rows(chain.t_next, k, x) < 0,
        -bin_log_likelihood(x0, mean, log_variance),
        normal_kl(true_mean, true_log_variance, mean, log_variance),
    )
    return each.flatten(1).sum(1)


def proposal(chain: Chain) -> Tensor:
    """Probabilities (K - 1,) to draw the KL terms with, so that few draws estimate their sum well.

    One half is even, which keeps any network's estimate from wild weights. The other is in proportion to what the
    terms are for unit Gaussian data and the best network, (SNR(t_next) - SNR(t)) / (1 + SNR(t)).
    """
    snr, snr_next = chain.schedule.snr(chain.t[:-1]), chain.schedule.snr(chain.t_next[:-1])
    ideal = (snr_next - snr) / (1 + snr)
    return 0.5 / len(ideal) + 0.5 * ideal / ideal.sum()


def bound(reverse: Reverse, x0: Tensor, chain: Chain, noise: Noise, draws: int | None = None) -> Tensor:
    """The bound on -log p(x0) for x0 (n, …) of `to_levels`, in nats: (n,) float64, one estimate for each row.

    Every term is taken at one draw of x_t. `draws`: take that many of the K - 1 KL terms only, drawn from
    `proposal` one in each of as many equal strata, and weigh them so that the expectation stays the bound; the two
    ends are always there. None takes all. Two models on the same `noise` see the same x_t.
    """
    last = len(chain) - 1

    def at(k: Tensor) -> Tensor:
        x = chain.schedule.add_noise(x0, noise.randn_like(x0), chain.t[k])
        return term(chain, k, x0, x, *reverse(x, k))

    def everywhere(k: int) -> Tensor:
        return torch.full((len(x0),), k)

    total = prior_kl(x0, chain.schedule, int(chain.t[0])) + at(everywhere(last))
    if draws is None:
        for k in range(last):
            total = total + at(everywhere(k))
        return total
    chances = proposal(chain)
    for j in range(draws):
        u = torch.special.ndtr(noise.randn_like(x0.flatten(1)[:, :1]).double().cpu()[:, 0])  # uniform
        chosen = torch.searchsorted(chances.cumsum(0), (j + u) / draws).clamp(max=last - 1)
        total = total + at(chosen) / (draws * chances[chosen]).to(x0.device)
    return total

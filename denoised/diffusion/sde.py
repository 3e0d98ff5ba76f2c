"""The VP and VE SDEs of score-based models, their reversal, and how a network trained for timesteps serves them.

    dx = f(t) x dt + g(t) dw,    t in [0, 1],    x_t ~ N(a(t) x0, s(t)² I) given x0

Song et al. 2021, arXiv:2011.13456: Eq. 5 (the SDE), 9 (VE), 11 (VP), 29 (what x_t given x0 is), 6 (its reversal)
and 13 (the ODE with the same marginals), 40 (its divergence). Times and coefficients are Python floats, that is
float64. Only the ratio sigma = s / a matters to a network, so one that was trained on any discrete schedule gives the
score of any of these SDEs: x_t / a(t) is looked up among its own noise levels (`denoised.diffusion.continuous`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from denoised.diffusion.continuous import Level, Levels
from denoised.diffusion.denoiser import Prediction

# A network at x = level.a x0 + level.s eps, for any level.
Predict = Callable[[Tensor, Level], Prediction]
Time = TypeVar("Time", float, Tensor)


class SDE(Protocol):
    """A linear SDE on [0, 1]."""

    def drift(self, t: float) -> float:
        """f(t), the factor of x."""
        ...

    def diffusion(self, t: float) -> float:
        """g(t)."""
        ...

    def marginal(self, t: float) -> tuple[float, float]:
        """a(t) and s(t): x_t = a x0 + s eps."""
        ...

    def time(self, sigma: float) -> float:
        """The t whose s / a is sigma; it lies outside of [0, 1] where the SDE does not reach so far."""
        ...


@dataclass(frozen=True)
class VP:
    """Variance preserving, the limit of DDPM's chain: f = -β/2, g² = β, β on a line in t. Eq. 11."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, t: Time) -> Time:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def area(self, t: Time) -> Time:
        """∫β from 0 to t, which is log(1 + s² / a²)."""
        return t * self.beta_min + t**2 * (self.beta_max - self.beta_min) / 2

    def drift(self, t: float) -> float:
        return -self.beta(t) / 2

    def diffusion(self, t: float) -> float:
        return math.sqrt(self.beta(t))

    def marginal(self, t: float) -> tuple[float, float]:
        area = self.area(t)
        return math.exp(-area / 2), math.sqrt(-math.expm1(-area))

    def time(self, sigma: float) -> float:
        return self.time_of_area(math.log1p(sigma**2))

    def time_of_area(self, area: float) -> float:
        """The t up to which the area under β is `area`: a parabola's root, in the form that does not cancel."""
        rise = self.beta_max - self.beta_min
        return 2 * area / (self.beta_min + math.sqrt(self.beta_min**2 + 2 * rise * area))


@dataclass(frozen=True)
class VE:
    """Variance exploding, the limit of NCSN's ladder: f = 0, s on a geometric line in t. Eq. 9 and appendix C.

    At t = 0 a noise of sigma_min is there already, which Eq. 9 takes for nothing.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def drift(self, t: float) -> float:
        return 0.0

    def diffusion(self, t: float) -> float:
        return self.marginal(t)[1] * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))

    def marginal(self, t: float) -> tuple[float, float]:
        return 1.0, self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def time(self, sigma: float) -> float:
        return math.log(sigma / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)


def level_of(levels: Levels, sigma: float) -> Level:
    """The level of that sigma; below a schedule's first level the network is told the first timestep.

    ValueError above the schedule's last level.
    """
    first = levels.first
    return Level(first.t, -math.log(sigma)) if sigma < first.sigma else levels.at_sigma(sigma)


def time_of(sde: SDE, levels: Levels, timestep: float) -> float:
    """The time of the SDE at which there is as much noise as at a timestep of a discrete schedule."""
    return sde.time(levels.at_timestep(timestep).sigma)


def score(predict: Predict, levels: Levels, sde: SDE, x: Tensor, t: float) -> Tensor:
    """∇ log p_t at x (n, …), as a network trained on a discrete schedule knows it: -eps / s."""
    a, s = sde.marginal(t)
    level = level_of(levels, s / a)
    return -predict(x * (level.a / a), level).eps / s


def reverse_drift(sde: SDE, x: Tensor, t: float, score: Tensor) -> Tensor:
    """f x - g² score, the drift of the reverse-time SDE, whose diffusion is g too. Eq. 6."""
    return sde.drift(t) * x - sde.diffusion(t) ** 2 * score


def flow(sde: SDE, x: Tensor, t: float, score: Tensor) -> Tensor:
    """dx/dt = f x - g² score / 2, the probability-flow ODE. Eq. 13."""
    return sde.drift(t) * x - sde.diffusion(t) ** 2 / 2 * score


def with_divergence(velocity: Callable[[Tensor], Tensor], x: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    """The velocity (n, …) at x and an estimate (n,) float64 of its divergence there. Eq. 40.

    The estimate is probeᵀ (∂velocity/∂x) probe, whose mean over probes (n, …) of random signs is the trace.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = velocity(x)
        (product,) = torch.autograd.grad((v * probe).sum(), x)
    return v.detach(), (product * probe).flatten(1).sum(1).double()


def transition(near: tuple[float, float], far: tuple[float, float]) -> tuple[float, float]:
    """r and G of x_far = r x_near + G z, which takes the marginal (a, s) `near` the data to `far`."""
    ratio = far[0] / near[0]
    return ratio, math.sqrt(far[1] ** 2 - (ratio * near[1]) ** 2)

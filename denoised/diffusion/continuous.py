"""A discrete schedule read between its timesteps, for solvers that choose noise levels instead of timesteps.

With x_t = a x0 + s eps, a level is any of

    sigma = s / a            the noise of x_t / a, the variable of EDM (Karras et al. 2022, arXiv:2206.00364)
    lambda = log(a / s)      half the log-SNR, the variable of DPM-Solver (Lu et al. 2022, arXiv:2206.00927)
    t                        a real-valued timestep, which is what the network is told

and each follows from each: lambda = -log sigma, and lambda is a broken line in t through the schedule's
timesteps (as in k-diffusion and diffusers, whose `_sigma_to_t` is linear in log sigma).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Network, Parameterisation, Prediction, predict
from denoised.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Level:
    """One noise level: the real-valued timestep `t` and lambda = log(a / s)."""

    t: float
    lam: float

    @property
    def sigma(self) -> float:
        return math.exp(-self.lam)

    @property
    def a(self) -> float:
        """The signal, sqrt(alpha_bar) where t is a timestep."""
        return 1 / math.sqrt(1 + math.exp(-2 * self.lam))

    @property
    def s(self) -> float:
        """The noise, sqrt(1 - alpha_bar) where t is a timestep."""
        return 1 / math.sqrt(1 + math.exp(2 * self.lam))


class Levels:
    """The noise levels of a schedule, from its first timestep (least noise) to its last."""

    def __init__(self, schedule: Schedule) -> None:
        self._lam = (schedule.snr(torch.arange(schedule.T)).log() / 2).numpy()  # (T,) float64, falling
        self._t = np.arange(schedule.T, dtype=np.float64)

    @property
    def first(self) -> Level:
        """That of timestep 0, the cleanest one the network knows."""
        return self.at_timestep(0)

    @property
    def last(self) -> Level:
        """That of timestep T-1, where there is most noise."""
        return self.at_timestep(float(self._t[-1]))

    def at_timestep(self, t: float) -> Level:
        """ValueError unless 0 <= t <= T-1."""
        if not 0 <= t <= self._t[-1]:
            raise ValueError(f"a timestep must lie in 0 … {self._t[-1]:g}, not {t:g}")
        return Level(float(t), float(np.interp(t, self._t, self._lam)))

    def at_lambda(self, lam: float) -> Level:
        """ValueError outside of what the schedule covers (rounding apart)."""
        low, high = float(self._lam[-1]), float(self._lam[0])
        if not low - 1e-9 <= lam <= high + 1e-9:
            raise ValueError(f"lambda must lie in {low:.4g} … {high:.4g}, not {lam:.4g}")
        return Level(float(np.interp(lam, self._lam[::-1], self._t[::-1])), min(max(lam, low), high))

    def at_sigma(self, sigma: float) -> Level:
        """ValueError outside of what the schedule covers."""
        low, high = math.exp(-self._lam[0]), math.exp(-self._lam[-1])
        if not low * (1 - 1e-9) <= sigma <= high * (1 + 1e-9):
            raise ValueError(f"sigma must lie in {low:.4g} … {high:.4g}, not {sigma:.4g}")
        return self.at_lambda(-math.log(sigma))

    def timesteps(self, sigma: Tensor) -> Tensor:
        """The real-valued timesteps (n,) float64 of sigmas (n,); beyond the schedule's ends that of the end."""
        t = np.interp(sigma.log().cpu().numpy(), -self._lam, self._t)
        return torch.from_numpy(np.asarray(t)).to(sigma.device)

    def nearest(self, sigma: float) -> Level:
        """The whole timestep whose sigma is nearest, however far: EDM's `round_sigma`."""
        return self.at_timestep(int(np.abs(np.exp(-self._lam) - sigma).argmin()))


def predict_at(denoiser: Denoiser, x: Tensor, level: Level, condition: Tensor | None = None) -> Prediction:
    """The denoiser's prediction at x = a x0 + s eps (n, …) of any level. Counted as one evaluation."""
    return denoiser.between(x, level.t, level.a, level.s, condition)


def predict_through(network: Network, kind: Parameterisation, x: Tensor, level: Level) -> Prediction:
    """As `predict_at`, of a bare network without classes: it can be differentiated and counts no cost."""
    t = torch.full((len(x),), level.t, device=x.device)
    return predict(network(x, t, None), x, x.new_tensor(level.a), x.new_tensor(level.s), kind)

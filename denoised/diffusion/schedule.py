"""Discrete noise schedules in float64, and the conversions between what a network may predict.

The forward process of DDPM (Ho et al. 2020, arXiv:2006.11239, Eq. 4) at timestep t = 0 … T-1 is

    x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps,    eps ~ N(0, I).

Timestep -1 stands for clean data, where alpha_bar = 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

Spacing = Literal["trailing", "leading", "linspace", "quadratic"]


class Schedule:
    """A variance schedule, immutable.

    `beta`: (T,) float64, the variance added at each step, strictly between 0 and 1; ValueError otherwise.
    """

    def __init__(self, beta: Tensor) -> None:
        self.beta = beta.double()
        if beta.ndim != 1 or not bool(((self.beta > 0) & (self.beta < 1)).all()):
            raise ValueError("a schedule needs a vector of betas strictly between 0 and 1")
        # One more entry at the end, so that index -1 is clean data.
        one = torch.ones(1, dtype=torch.float64)
        self._alpha_bar = torch.cat([torch.cumprod(1 - self.beta, dim=0), one])
        self._signal, self._noise = self._alpha_bar.sqrt(), (1 - self._alpha_bar).sqrt()
        # The same as plain numbers: picking one out of a tensor costs as much as a step on a small picture.
        self._numbers = self._alpha_bar.tolist()
        self._levels = list(zip(self._signal.tolist(), self._noise.tolist(), strict=True))

    @property
    def T(self) -> int:
        """The number of timesteps the network was trained with."""
        return len(self.beta)

    @overload
    def alpha_bar(self, t: int) -> float: ...
    @overload
    def alpha_bar(self, t: Tensor) -> Tensor: ...
    def alpha_bar(self, t: Tensor | int) -> Tensor | float:
        """alpha_bar at timestep(s) t in -1 … T-1: a number, or float64 of the shape of t."""
        return self._alpha_bar[t] if isinstance(t, Tensor) else self._numbers[t]

    def level(self, t: int) -> tuple[float, float]:
        """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t) at timestep t in -1 … T-1."""
        return self._levels[t]

    @overload
    def snr(self, t: int) -> float: ...
    @overload
    def snr(self, t: Tensor) -> Tensor: ...
    def snr(self, t: Tensor | int) -> Tensor | float:
        """The signal-to-noise ratio alpha_bar / (1 - alpha_bar) at t in 0 … T-1: a number, or as `alpha_bar`."""
        alpha_bar = self.alpha_bar(t)
        return alpha_bar / (1 - alpha_bar)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t for pictures (n, …), noise of the same shape and timesteps (n,). DDPM Eq. 4."""
        a, s = self.signal_and_noise(t, x0)
        return a * x0 + s * eps

    def signal_and_noise(self, t: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), in the dtype of `like` and shaped to broadcast."""
        a, s = self._signal[t].to(like), self._noise[t].to(like)
        return (per_row(a, like), per_row(s, like)) if a.ndim else (a, s)

    @classmethod
    def linear(cls, T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Schedule:
        """Betas on a line from `start` to `end`: DDPM, section 4."""
        return cls(torch.linspace(start, end, T, dtype=torch.float64))

    @classmethod
    def cosine(cls, T: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Schedule:
        """alpha_bar_t = f(t) / f(0), f(t) = cos²((t / T + s) / (1 + s) · π / 2): Nichol & Dhariwal 2021,
        arXiv:2102.09672, Eq. 17, betas cut at `max_beta`."""

        def f(t: int) -> float:
            return math.cos((t / T + offset) / (1 + offset) * math.pi / 2) ** 2

        beta = [min(1 - f(t + 1) / f(t), max_beta) for t in range(T)]
        return cls(torch.tensor(beta, dtype=torch.float64))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Schedule:
        """The schedule that a diffusers `scheduler_config.json` describes.

        Raises ValueError for a `beta_schedule` other than linear, scaled_linear and squaredcos_cap_v2.
        """
        T = int(config["num_train_timesteps"])
        start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
        match config["beta_schedule"]:
            case "linear":
                return cls.linear(T, start, end)
            case "scaled_linear":
                return cls(torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2)
            case "squaredcos_cap_v2":
                return cls.cosine(T)
            case other:
                raise ValueError(
                    f"beta_schedule {other!r} is not known; use linear, scaled_linear or squaredcos_cap_v2"
                )


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Values (n,), one for each row of `like` (n, …), as (n, 1, …) to broadcast over it."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def timesteps(T: int, steps: int, spacing: Spacing = "trailing") -> list[int]:
    """`steps` decreasing timesteps out of 0 … T-1, the first one being where sampling starts.

    trailing   T-1, T-1-T/steps, …          starts at the last trained timestep (Lin et al. 2023)
    leading    …, 2c, c, 0 with c = T//steps ends at 0, starts below T-1 (DDPM's and DDIM's code)
    linspace   both ends, evenly
    quadratic  (i / (steps-1))² · 0.8 T      DDIM, appendix D.2 (0.8 from its code): denser near the data
    Raises ValueError unless 1 <= steps <= T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be from 1 to {T}, the number of trained timesteps, not {steps}")
    i = torch.arange(steps, dtype=torch.float64)
    match spacing:
        case "trailing":
            grid = T - 1 - (i * (T / steps)).round()
        case "leading":
            grid = (i * (T // steps)).flip(0)
        case "linspace":
            grid = torch.linspace(T - 1, 0, steps, dtype=torch.float64).round()
        case "quadratic":
            grid = torch.linspace(0, (T * 0.8) ** 0.5, steps, dtype=torch.float64).square().floor().flip(0)
        case other:
            raise ValueError(f"spacing {other!r} is not known; use trailing, leading, linspace or quadratic")
    return [int(t) for t in grid]


def resampling(timesteps: Sequence[int], jump: int = 1, repeats: int = 1) -> list[int]:
    """The timesteps that a sampler visits which goes back `jump` steps of its grid, again and again, until it
    has come down every stretch `repeats` times; the last one is -1, clean data.

    `timesteps`: the decreasing grid. Where the next one is smaller a network is asked, where it is larger noise
    is added. The schedule of RePaint (Lugmayr et al. 2022, arXiv:2201.09865, as in its code) and DDNM's time travel.
    Raises ValueError for repeats < 1, or a jump that has no room on the grid.
    """
    steps = len(timesteps)
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    if not 1 <= jump < max(steps, 2):
        raise ValueError(f"jump must be from 1 to {max(steps - 1, 1)}, one less than the steps, not {jump}")
    levels = [*reversed(timesteps), -1]  # level 0 is the least noisy; level -1 is the list's end, clean data
    left = dict.fromkeys(range(0, steps - jump, jump), repeats - 1)
    level, visited = steps - 1, [timesteps[0]]
    while level >= 0:
        if left.get(level, 0):
            left[level] -= 1
            level += jump
        else:
            level -= 1
        visited.append(levels[level])
    return visited

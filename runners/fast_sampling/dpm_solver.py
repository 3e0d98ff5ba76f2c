"""DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps. Lu, Zhou, Bao, Chen,
Li and Zhu, 2022. arXiv:2206.00927

The paper's symbols and the code's:
    α_t, σ_t of x_t = α_t x0 + σ_t ε -> level.a, level.s      λ_t = log(α_t / σ_t) -> level.lam
    ε_θ(x, t) -> eps(x, level)      h_i = λ_{t_i} - λ_{t_{i-1}} -> h      r_1, r_2, where a step looks -> r_1, r_2
    t_λ(·), the inverse of λ_t -> Levels.at_lambda      NFE -> nfe

Details that matter:
- The linear part of the ODE is solved exactly, so a step is exact where ε_θ does not change (Proposition 3.1).
- Steps are even in λ, not in t (section 3.3). λ starts at -5.1 at the least: the cosine schedule's last timesteps
  would spend a third of the grid on pure noise (the official code cuts it there too).
- Order k costs k evaluations a step. At a budget of K evaluations, "order 3" is DPM-Solver-fast: third-order steps,
  and one or two of lower order for what is left.
- Every arm solves from the same first to the same last level, that of timestep 0, where sampling ends.
- DDIM is DPM-Solver-1 (section 4.1); its own grid is even or quadratic in t, as the paper's comparisons have it.
- The network was trained at whole timesteps and is asked in between (section 3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import expm1
from typing import Any

import numpy as np
from torch import Tensor

from denoised.diffusion.continuous import Level, Levels, predict_at
from denoised.diffusion.denoiser import Denoiser
from denoised.errors import DenoisedError
from denoised.lab.lab import Lab
from denoised.language import say
from denoised.metrics.pictures import psnr

Eps = Callable[[Tensor, Level], Tensor]  # ε_θ: (x (n, …), level) -> predicted noise (n, …)


@dataclass
class Config:
    nfe: list[int] = field(default_factory=lambda: [10, 15, 20])  # network evaluations to compare at
    ddim_grid: str = "uniform"  # timesteps of the baseline: uniform or quadratic
    lambda_min: float = -5.1  # where λ starts, unless the schedule starts later
    exact_nfe: int = 90  # evaluations of the solution that counts as the ODE's own
    exact_images: int = 32  # pictures it is computed for

    def __post_init__(self) -> None:
        if not self.nfe or min(self.nfe) < 1:
            raise ValueError(f"nfe must be a list of numbers of at least 1, not {self.nfe}")
        if self.ddim_grid not in ("uniform", "quadratic"):
            raise ValueError(f"ddim_grid must be uniform or quadratic, not {self.ddim_grid!r}")
        if self.exact_nfe <= max(self.nfe):
            raise ValueError(
                f"exact_nfe must be above {max(self.nfe)}, the largest nfe, not {self.exact_nfe}"
            )
        if self.exact_images < 1:
            raise ValueError(f"exact_images must be at least 1, not {self.exact_images}")


REHEARSAL: dict[str, Any] = {"nfe": [2], "exact_nfe": 3, "exact_images": 2}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"nfe": [3, 10], "exact_nfe": 15, "exact_images": 2},
    # CIFAR-10 in discrete time: DDPM's network, DDIM with quadratic timesteps. The abstract's 4.70 and 2.87 are of the
    # continuous-time network of Score SDE, which is not in the hub's layout.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "nfe": [10, 12, 15, 20, 50],
        "ddim_grid": "quadratic",
        "exact_nfe": 300,
        "exact_images": 1024,
    },
}


def log_snr_grid(levels: Levels, lambda_min: float, steps: int) -> list[Level]:
    """`steps` + 1 levels, evenly spaced in λ, to timestep 0. Section 3.3.

    Raises DenoisedError where λ would start behind the end.
    """
    return [
        levels.at_lambda(lam)
        for lam in np.linspace(_start(levels, lambda_min).lam, levels.first.lam, steps + 1)
    ]


def time_grid(levels: Levels, lambda_min: float, steps: int, power: int) -> list[Level]:
    """`steps` + 1 levels with t^(1 / power) evenly spaced, t counted from 1, to timestep 0. Errors as above."""
    start = _start(levels, lambda_min).t
    roots = np.linspace((start + 1) ** (1 / power), 1, steps + 1)
    return [levels.at_timestep(min(max(t, 0.0), start)) for t in roots**power - 1]


def _start(levels: Levels, lambda_min: float) -> Level:
    if lambda_min >= levels.first.lam:
        raise DenoisedError(
            say(
                ko=f"lambda_min은 스케줄이 끝나는 {levels.first.lam:.3g}보다 작아야 하는데 {lambda_min:g}이다",
                en=f"lambda_min must be below {levels.first.lam:.3g}, where the schedule ends, not {lambda_min:g}",
            )
        )
    return levels.at_lambda(max(lambda_min, levels.last.lam))


def orders(nfe: int, order: int) -> list[int]:
    """The order of each step, to spend exactly `nfe` evaluations: `order` while that lasts, then lower ones.

    For order 3 this is DPM-Solver-fast.
    """
    if order == 3 and nfe % 3 == 0:
        return [3] * (nfe // 3 - 1) + [2, 1]
    return [order] * (nfe // order) + [nfe % order] * (nfe % order > 0)


def step_1(x: Tensor, eps: Tensor, s: Level, t: Level) -> Tensor:
    """DPM-Solver-1: x at level t from x and ε at level s. Section 3.2, k = 1; section 4.1: DDIM."""
    return t.a / s.a * x - t.s * expm1(t.lam - s.lam) * eps


def step_2(eps: Eps, x: Tensor, s: Level, s_1: Level, t: Level) -> Tensor:
    """DPM-Solver-2: x at t from x at s, looking at s_1 on the way. Algorithm 1, where r_1 = 1/2 and so e = e_1."""
    h = t.lam - s.lam
    r_1 = (s_1.lam - s.lam) / h
    e = eps(x, s)
    e_1 = eps(step_1(x, e, s, s_1), s_1)
    return step_1(x, e + (e_1 - e) / (2 * r_1), s, t)


def step_3(eps: Eps, x: Tensor, s: Level, s_1: Level, s_2: Level, t: Level) -> Tensor:
    """DPM-Solver-3: the same with two looks on the way. Algorithm 2; of third order for r_2 = 2/3."""
    h = t.lam - s.lam
    r_1, r_2 = (s_1.lam - s.lam) / h, (s_2.lam - s.lam) / h
    e = eps(x, s)
    e_1 = eps(step_1(x, e, s, s_1), s_1)
    u_2 = step_1(x, e, s, s_2) - s_2.s * r_2 / r_1 * (expm1(r_2 * h) / (r_2 * h) - 1) * (e_1 - e)
    e_2 = eps(u_2, s_2)
    return step_1(x, e, s, t) - t.s / r_2 * (expm1(h) / h - 1) * (e_2 - e)


def solve(eps: Eps, x: Tensor, grid: Sequence[Level], orders: Sequence[int], levels: Levels) -> Tensor:
    """x at grid[-1] from x at grid[0], by one step of each order."""
    for (s, t), order in zip(pairwise(grid), orders, strict=True):

        def on_the_way(r: float, s: Level = s, t: Level = t) -> Level:
            return levels.at_lambda(s.lam + r * (t.lam - s.lam))

        if order == 1:
            x = step_1(x, eps(x, s), s, t)
        elif order == 2:
            x = step_2(eps, x, s, on_the_way(1 / 2), t)
        else:
            x = step_3(eps, x, s, on_the_way(1 / 3), on_the_way(2 / 3), t)
    return x


def sample(
    denoiser: Denoiser,
    x: Tensor,
    grid: Sequence[Level],
    orders: Sequence[int],
    *,
    condition: Tensor | None = None,
) -> Tensor:
    """Pictures (n, …) at grid[-1] from noise x (n, …) at grid[0]: as many evaluations as the orders sum up to."""

    def eps(x: Tensor, level: Level) -> Tensor:
        return predict_at(denoiser, x, level, condition).eps

    return solve(eps, x, grid, orders, Levels(denoiser.schedule))


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed."""
    return 3 * sum(config.nfe) * images + config.exact_nfe * min(config.exact_images, images)


def reproduce(lab: Lab, config: Config) -> None:
    """Orders 2 and 3 against order 1, which is DDIM, at equal evaluations: FID, and distance to the ODE's solution."""
    denoiser, real = lab.denoiser(), lab.reference()
    levels, start = Levels(denoiser.schedule), config.lambda_min

    def plan(nfe: int, order: int) -> tuple[list[Level], list[int]]:
        steps = orders(nfe, order)
        return log_snr_grid(levels, start, len(steps)), steps

    power = 2 if config.ddim_grid == "quadratic" else 1
    plans = {
        nfe: {
            "ddim": (time_grid(levels, start, nfe, power), orders(nfe, 1)),
            "dpm-solver-2": plan(nfe, 2),
            "dpm-solver-3": plan(nfe, 3),
        }
        for nfe in config.nfe
    }
    noise, labels = lab.noise(), lab.labels()
    first = slice(config.exact_images)
    exact = sample(
        denoiser,
        noise[first],
        *plan(config.exact_nfe, 3),
        condition=None if labels is None else labels[first],
    )
    exact = exact.clamp(-1, 1).cpu()
    for nfe, arms in plans.items():
        for name, (grid, steps) in arms.items():
            with lab.arm(name, nfe=nfe) as arm:
                arm.images = sample(denoiser, noise, grid, steps, condition=labels)
            arm.measure("fid", "kid", "precision", "recall", reference=real)
            arm.record("psnr[ode]", psnr(arm.images[first], exact), by=psnr)
    for nfe in config.nfe:
        if 10 <= nfe <= 20:  # the budgets of the claim
            for name in ("dpm-solver-2", "dpm-solver-3"):
                lab.claim("fid", name, "<", "ddim", at={"nfe": nfe})
                lab.claim("psnr[ode]", name, ">", "ddim", at={"nfe": nfe})

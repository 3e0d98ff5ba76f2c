"""PNDM: Pseudo Numerical Methods for Diffusion Models on Manifolds. Liu, Ren, Lin and Zhao, 2022. arXiv:2202.09778

The paper's symbols and the code's:
    ε_θ(x_t, t), the gradient part -> gradient(x, t)      φ(x_t, ε_t, t, t - δ), the transfer part -> transfer
    e_t, the values of the last steps -> history      e'_t, what is put into φ -> e

Details that matter:
- A classical method moves by x + h f; a pseudo one averages the same gradients and moves by φ, which lands exactly
  where x0 and ε say. With no averaging at all it is DDIM.
- F-PNDM: three pseudo Runge-Kutta steps of four evaluations to warm up, then pseudo linear multistep with one. S steps
  cost S + 9 evaluations, and those are what is compared here; the official code counts steps.
- Stable Diffusion's PLMS leaves the Runge-Kutta steps out: S + 1 evaluations (`warm_up="plms"`).
- Timesteps are 0, c, 2 c, … with c = T // S for both arms, as in the official code: sampling starts below T - 1. A
  grid that starts at the last timestep of a cosine schedule makes the averages explode there.
- Averages are taken of ε, whatever the network predicts. diffusers averages the raw outputs, which is something else
  for v-prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import Any

from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.samplers import ddim
from denoised.diffusion.schedule import Schedule
from denoised.lab.lab import Lab

Gradient = Callable[[Tensor, int], Tensor]  # (x (n, …), t) -> ε (n, …), or the derivative of a classical ODE
Transfer = Callable[[Tensor, Tensor, int, int], Tensor]  # (x at t, ε, t, t_next) -> x at t_next

EXTRA = {"runge-kutta": 9, "plms": 1}  # evaluations that each warm-up takes beyond one a step
FEWEST = {"runge-kutta": 4, "plms": 2}  # steps, so that a warm-up is over before the last
# Adams-Bashforth by the number of gradients known, the newest first. Eq. 12 is the last.
ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


@dataclass
class Config:
    nfe: list[int] = field(default_factory=lambda: [15, 20, 35])  # network evaluations to compare at
    warm_up: str = "runge-kutta"  # how PNDM starts: runge-kutta (F-PNDM) or plms (as in Stable Diffusion)

    def __post_init__(self) -> None:
        if self.warm_up not in EXTRA:
            raise ValueError(f"warm_up must be runge-kutta or plms, not {self.warm_up!r}")
        least = FEWEST[self.warm_up] + EXTRA[self.warm_up]
        if not self.nfe or min(self.nfe) < least:
            raise ValueError(
                f"nfe must be at least {least}, since {self.warm_up} takes {EXTRA[self.warm_up]} evaluations "
                f"beyond one a step, not {self.nfe}"
            )


REHEARSAL: dict[str, Any] = {"nfe": [4], "warm_up": "plms"}  # runge-kutta would take 13 evaluations
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"nfe": [20]},
    # CIFAR-10 with the linear schedule. 10, 20 and 50 steps of F-PNDM, the 50 of the abstract among them.
    "paper": {"model": "ddpm-cifar10", "data": "cifar10", "nfe": [19, 29, 59]},
}


def transfer(x: Tensor, eps: Tensor, t: int, t_next: int, schedule: Schedule) -> Tensor:
    """φ(x_t, ε, t, t_next): x at t_next if ε is the noise in x. Eq. 11, a DDIM step; -1 is clean data."""
    a, a_next = float(schedule.alpha_bar(t)), float(schedule.alpha_bar(t_next))
    from_eps = sqrt(a) * (sqrt((1 - a_next) * a) + sqrt((1 - a) * a_next))
    return sqrt(a_next / a) * x - (a_next - a) / from_eps * eps


def multistep(history: Sequence[Tensor]) -> Tensor:
    """e'_t from one to four gradients at equal distances, the newest last. Eq. 12."""
    newest, *others = ADAMS_BASHFORTH[len(history)]
    e = newest * history[-1]
    for weight, past in zip(others, reversed(history[:-1]), strict=True):
        e = e + weight * past
    return e


def runge_kutta(
    gradient: Gradient, transfer: Transfer, x: Tensor, t: int, t_next: int
) -> tuple[Tensor, Tensor]:
    """e'_t of the pseudo Runge-Kutta step, and its first gradient e_t. Eq. 13."""
    middle = t - (t - t_next) // 2
    e_1 = gradient(x, t)
    e_2 = gradient(transfer(x, e_1, t, middle), middle)
    e_3 = gradient(transfer(x, e_2, t, middle), middle)
    e_4 = gradient(transfer(x, e_3, t, t_next), t_next)
    return (e_1 + 2 * e_2 + 2 * e_3 + e_4) / 6, e_1


def improved_euler(
    gradient: Gradient, transfer: Transfer, x: Tensor, t: int, t_next: int
) -> tuple[Tensor, Tensor]:
    """The mean of the gradients at both ends of a step, and the first of them."""
    e_1 = gradient(x, t)
    return (e_1 + gradient(transfer(x, e_1, t, t_next), t_next)) / 2, e_1


def solve(
    gradient: Gradient, transfer: Transfer, x: Tensor, timesteps: Sequence[int], warm_up: str = "runge-kutta"
) -> Tensor:
    """x at timesteps[-1] from x at timesteps[0]. Algorithm 2, for any gradient and transfer part."""
    history: list[Tensor] = []
    for t, t_next in pairwise(timesteps):
        if warm_up == "runge-kutta" and len(history) < 3:
            e, first = runge_kutta(gradient, transfer, x, t, t_next)
            history.append(first)
        elif warm_up == "plms" and not history:
            e, first = improved_euler(gradient, transfer, x, t, t_next)
            history.append(first)
        else:
            history = [*history[-3:], gradient(x, t)]
            e = multistep(history)
        x = transfer(x, e, t, t_next)
    return x


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    warm_up: str = "runge-kutta",
    end: int = -1,
    condition: Tensor | None = None,
) -> Tensor:
    """Pictures (n, …) from noise x (n, …) at timesteps[0], along evenly spaced `timesteps`, to `end`.

    Raises ValueError where the warm-up would be longer than the grid.
    """
    if len(timesteps) < FEWEST[warm_up]:
        raise ValueError(f"{warm_up} needs {FEWEST[warm_up]} timesteps or more, not {len(timesteps)}")

    def gradient(x: Tensor, t: int) -> Tensor:
        return denoiser(x, t, condition).eps

    return solve(gradient, partial(transfer, schedule=denoiser.schedule), x, [*timesteps, end], warm_up)


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed."""
    return 2 * sum(config.nfe) * images


def reproduce(lab: Lab, config: Config) -> None:
    """PNDM against DDIM at equal evaluations, the warm-up counted."""
    denoiser, real = lab.denoiser(), lab.reference()
    grids = {
        nfe: (lab.timesteps(nfe - EXTRA[config.warm_up], "leading"), lab.timesteps(nfe, "leading"))
        for nfe in config.nfe
    }
    for nfe, (fewer, all_of_them) in grids.items():
        with lab.arm("pndm", nfe=nfe) as arm:
            arm.images = sample(denoiser, lab.noise(), fewer, warm_up=config.warm_up, condition=lab.labels())
        arm.measure("fid", "kid", "precision", "recall", reference=real)
        with lab.arm("ddim", nfe=nfe) as arm:
            arm.images = ddim(denoiser, lab.noise(), all_of_them, condition=lab.labels())
        arm.measure("fid", "kid", "precision", "recall", reference=real)
    for nfe in config.nfe:
        if 20 <= nfe <= 60:  # the budgets of the claim
            lab.claim("fid", "pndm", "<", "ddim", at={"nfe": nfe})

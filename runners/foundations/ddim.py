"""DDIM: Denoising Diffusion Implicit Models. Song, Meng and Ermon, 2021. arXiv:2010.02502

The paper's symbols and the code's. The paper writes α_t for what DDPM and this code call alpha_bar:
    x_t -> x          ε_θ(x_t) -> prediction.eps        f_θ(x_t), "predicted x_0" (Eq. 9) -> prediction.x0
    α_t -> alpha_bar_t        σ_t(η) -> sigma        τ, the sub-sequence of timesteps (§ 4.2) -> timesteps

Details that matter:
- Any decreasing sub-sequence of timesteps works with a network trained for all of them (§ 4.2). The paper
  uses a quadratic one on CIFAR-10 and a linear one elsewhere (appendix D.2); `spacing` says which.
- η = 0 is DDIM, η = 1 is DDPM's ancestral sampling with the small variance β̃ (§ 4.1, § 5).
- The last step goes to clean data, alpha_bar = 1, where σ = 0: no noise is added there whatever η is.
- Clipping x0 to the data's range is DDPM's habit, not this paper's. Where it is done, eps must be computed
  anew from the clipped x0, or the two halves of Eq. 12 describe different pictures; `clip=True` does so for
  both arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import Any

from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Prediction
from denoised.diffusion.random import Noise
from denoised.diffusion.schedule import Schedule
from denoised.lab.lab import Lab


@dataclass
class Config:
    steps: list[int] = field(default_factory=lambda: [5, 10, 20, 50])  # network evaluations to compare at
    spacing: str = "trailing"  # sub-sequence of timesteps: trailing, leading, linspace or quadratic
    clip: bool = True  # clip the predicted x0 to the data's range [-1, 1]

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 1:
            raise ValueError(f"steps must be a list of numbers of at least 1, not {self.steps}")


REHEARSAL: dict[str, Any] = {"steps": [2, 3]}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"steps": [2, 10]},
    # Table 1: CIFAR-10, S = 10, 20, 50, 100 of T = 1000 timesteps, quadratic.
    "paper": {"model": "ddpm-cifar10", "data": "cifar10", "steps": [10, 20, 50, 100], "spacing": "quadratic"},
}


def sigma(schedule: Schedule, t: int, t_next: int, eta: float) -> float:
    """σ_t(η), the standard deviation of the noise in a step from t to t_next. Eq. 16."""
    a, a_next = schedule.alpha_bar(t), schedule.alpha_bar(t_next)
    return eta * sqrt((1 - a_next) / (1 - a)) * sqrt(1 - a / a_next)


def ddim_step(
    x: Tensor,
    prediction: Prediction,
    t: int,
    t_next: int,
    schedule: Schedule,
    *,
    eta: float = 0.0,
    generator: Noise | None = None,
) -> Tensor:
    """x at t_next from x at t and the network's prediction there: Eq. 12. Shapes (n, …) throughout."""
    a_next, sigma_t = schedule.alpha_bar(t_next), sigma(schedule, t, t_next, eta)
    # the predicted x_0 and the "direction pointing to x_t"
    mean = prediction.combine(sqrt(a_next), sqrt(1 - a_next - sigma_t**2))
    if sigma_t == 0:
        return mean
    if generator is None:
        raise ValueError("eta > 0 draws noise: pass a generator")
    return mean + sigma_t * generator.randn_like(x)


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    eta: float = 0.0,
    clip: bool = True,
    condition: Tensor | None = None,
    generator: Noise | None = None,
) -> Tensor:
    """Pictures (n, …) from noise x (n, …) at timesteps[0], visiting `timesteps` once each."""
    for t, t_next in pairwise([*timesteps, -1]):
        prediction = denoiser(x, t, condition)
        if clip:
            prediction = prediction.clip()
        x = ddim_step(x, prediction, t, t_next, denoiser.schedule, eta=eta, generator=generator)
    return x


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed."""
    return 2 * sum(config.steps) * images


def reproduce(lab: Lab, config: Config) -> None:
    """Few steps with one network: deterministic (η = 0) against ancestral (η = 1). Table 1."""
    denoiser, real = lab.denoiser(), lab.reference()
    grids = {steps: lab.timesteps(steps, config.spacing) for steps in config.steps}
    for steps, timesteps in grids.items():
        for name, eta in (("ddim", 0.0), ("ddpm", 1.0)):
            with lab.arm(name, steps=steps) as arm:
                arm.images = sample(
                    denoiser,
                    lab.noise(),
                    timesteps,
                    eta=eta,
                    clip=config.clip,
                    condition=lab.labels(),
                    generator=lab.generator(),
                )
            arm.measure("fid", "kid", "precision", "recall", reference=real)
    for steps in config.steps:
        if 10 <= steps <= 50:  # the budgets of the claim
            lab.claim("fid", "ddim", "<", "ddpm", at={"steps": steps})

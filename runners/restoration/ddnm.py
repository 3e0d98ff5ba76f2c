"""DDNM: Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model. Wang et al., 2023. arXiv:2212.00490

The paper's symbols and the code's:
    x_t -> x      y = A x + n -> y      A, A† -> A(x), A.pinv(y)      σ_y -> noise, the deviation of n
    x_{0|t} (Eq. 12) -> prediction.x0      x̂_{0|t} (Eq. 13; with noise Eq. 17) -> x0
    a_t, the factor of x̂_{0|t} in x_{t-1} -> a_next      Σ_t, Φ_t -> gains(…)      l, r of time travel -> jump, repeats

Details that matter:
- Without noise the last step returns x̂_{0|t} itself, so A x = y to rounding. Pictures are clamped to [-1, 1]
  only afterwards, and the residual is taken before.
- A† is exact and costs no matrix. Σ_t and Φ_t act on the singular directions of A one by one (appendix I), where
  A†n has the deviation σ_y / s; the simplified form takes one λ and one γ for all of them.
- The step is the official code's: η = 0.85 mixes fresh noise with the predicted one, sqrt(1 - ᾱ) (η z + sqrt(1 - η²) ε).
- The directions that y determines get only the noise that y did not bring already; where y is noisier than x_{t-1}
  should be, it counts less (λ < 1) and no noise is added. In the last step λ = 0: the network has the last word.
- x_{0|t} is clipped to the data's range before y is put in; of the official code only the demo for large pictures
  does so.
- Time travel goes back along the grid by the forward process, as RePaint's resampling does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.operators import Operator, average_pooling, grey, inpainting
from denoised.diffusion.random import Noise
from denoised.diffusion.samplers import ancestral_step
from denoised.diffusion.schedule import Schedule, resampling
from denoised.lab.lab import Arm, Lab
from denoised.lab.restoring import PERCEPTUAL, held_out, record_nearness
from denoised.language import Phrase
from denoised.metrics.edits import picture_rmse
from denoised.metrics.pictures import psnr

TASKS = ("super-resolution", "colourisation", "inpainting")
RESIDUAL = "measurement-rmse"  # between A x and y, in grey levels of 255


@dataclass
class Config:
    tasks: list[str] = field(default_factory=lambda: list(TASKS))  # measurements to restore from
    steps: int = 20  # network evaluations of each arm, time travel apart
    eta: float = 0.85  # share of fresh noise in a step, from 0 to 1
    factor: int = 4  # of the average pooling that super-resolution undoes
    noise: float = 0.2  # σ_y of the noisy super-resolution, in units of pixels in [-1, 1]; 0: leave it out
    jump: int = 1  # l, steps that time travel goes back at a time
    repeats: int = 3  # r, how often it passes everywhere; 1: leave it out
    spacing: str = "trailing"  # grid of timesteps: trailing, leading, linspace or quadratic

    def __post_init__(self) -> None:
        if not self.tasks or not set(self.tasks) <= set(TASKS) or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks must be different ones of {', '.join(TASKS)}, not {self.tasks}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be from 0 to 1, not {self.eta}")
        if self.noise < 0:
            raise ValueError(f"noise must be at least 0, not {self.noise}")
        if self.steps < 1 or self.factor < 2 or self.repeats < 1:
            raise ValueError("steps and repeats must be at least 1, and factor at least 2")
        if not 1 <= self.jump < max(self.steps, 2):
            most = max(self.steps - 1, 1)
            raise ValueError(f"jump must be from 1 to {most}, one less than steps, not {self.jump}")


REHEARSAL: dict[str, Any] = {"tasks": ["super-resolution"], "steps": 2, "jump": 1, "repeats": 2}
SCALES: dict[str, dict[str, Any]] = {
    "mini": {"images": 64},
    "smoke": {**REHEARSAL, "images": 4},
    # 100 steps, η = 0.85, 1,000 pictures of ImageNet or CelebA-HQ at 256×256. The network that can be loaded
    # here is CIFAR-10's at 32×32, which has seen the pictures it restores.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "images": 1000,
        "reference_images": 40_000,
        "steps": 100,
        "jump": 10,
        "repeats": 3,
    },
}


def gains(s: Tensor, schedule: Schedule, t_next: int, noise: float) -> tuple[Tensor, Tensor]:
    """For singular values s (c, h, w): how far y is believed, λ, and what is left to add of the step's noise.

    Eq. 19 direction by direction: A†n has the deviation σ_y / s there, and x_{t-1} should have sqrt(1 - ᾱ) of
    noise in all. The second factor is sqrt(γ / (1 - ᾱ)), 1 where A sees nothing or y is without noise.
    """
    a_next, sigma = (float(each) for each in schedule.signal_and_noise(t_next, s))
    brought = torch.where(s > 0, a_next * noise / s.where(s > 0, torch.ones_like(s)), torch.zeros_like(s))
    weight = torch.where(brought > sigma, sigma / brought.clamp(min=1e-12), torch.ones_like(s))
    left = 1 - (weight * brought / max(sigma, 1e-12)).square()
    return weight, left.clamp(min=0).sqrt()


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    A: Operator,
    y: Tensor,
    noise: float = 0.0,
    eta: float = 0.85,
    jump: int = 1,
    repeats: int = 1,
    generator: Noise,
) -> Tensor:
    """Pictures (n, c, h, w) from noise x and measurements y = A x + n, n of deviation `noise`.

    DDNM where noise = 0, DDNM+ otherwise; with time travel where repeats > 1.
    """
    schedule = denoiser.schedule
    for t, t_next in pairwise(resampling(timesteps, jump, repeats)):
        if t_next > t:
            kept = float(schedule.alpha_bar(t_next) / schedule.alpha_bar(t))
            x = sqrt(kept) * x + sqrt(1 - kept) * generator.randn_like(x)
            continue
        prediction = denoiser(x, t).clip()
        believed, left = gains(A.singular.to(x), schedule, t_next, noise)
        error = A.pinv(A(prediction.x0) - y)
        x0 = prediction.x0 - A.scaled(error, believed)  # Eq. 17, which is Eq. 13 where noise = 0
        if t_next < 0:
            return x0
        a_next, sigma = schedule.signal_and_noise(t_next, x)
        mixed = sqrt(1 - eta**2) * prediction.eps
        if eta > 0:
            mixed = mixed + eta * generator.randn_like(x)
        x = a_next * x0 + sigma * A.scaled(mixed, left)
    return x


def replacement(
    denoiser: Denoiser, x: Tensor, timesteps: Sequence[int], *, A: Operator, y: Tensor, generator: Noise
) -> Tensor:
    """The baseline: after each ancestral step, what y determines is replaced by A†y at the step's noise level.

    For a mask that is RePaint without resampling, for average pooling ILVR with the filter A†A.
    """
    schedule, known = denoiser.schedule, A.pinv(y)
    for t, t_next in pairwise([*timesteps, -1]):
        x = ancestral_step(denoiser(x, t).clip(), t, t_next, schedule, generator)
        a, s = schedule.signal_and_noise(t_next, x)
        given = known if t_next < 0 else a * known + s * generator.randn_like(x)
        x = x + A.spectral(given - x, lambda s: s > 0)
    return x


def operator(task: str, shape: tuple[int, int, int], factor: int) -> Operator:
    """The measurement of a task, on pictures of a shape (c, h, w). Inpainting is given the left half."""
    if task == "super-resolution":
        return average_pooling(shape, factor)
    if task == "colourisation":
        return grey(shape)
    return inpainting(shape, (torch.arange(shape[2]) < shape[2] // 2).double())


def measure(lab: Lab, arm: Arm, truth: Tensor, residual: Tensor) -> None:
    """How near the restored pictures are to the true ones, and how far they are from what was measured."""
    assert arm.images is not None
    arm.record("psnr", psnr(arm.images, truth.cpu()), by=psnr)
    record_nearness(lab, arm, truth)
    arm.record(RESIDUAL, residual, by=picture_rmse)
    arm.measure("fid", reference=lab.reference())


def travelled(config: Config) -> int:
    """Network evaluations of a picture with time travel."""
    stretches = len(range(0, config.steps - config.jump, config.jump))
    return config.steps + stretches * config.jump * (config.repeats - 1)


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed."""
    noisy = 2 * config.steps if config.noise > 0 else 0
    travel = 2 * travelled(config) if config.repeats > 1 else 0
    return (2 * len(config.tasks) * config.steps + noisy + travel) * images


def reproduce(lab: Lab, config: Config) -> None:
    """DDNM against replacing what is known in x_t, task by task; then with noise, then time travel at equal cost."""
    shape, denoiser = lab.checkpoint.picture_shape, lab.denoiser()
    operators = {task: operator(task, shape, config.factor) for task in TASKS}
    grid = lab.timesteps(config.steps, config.spacing)
    finer = lab.timesteps(travelled(config), config.spacing)
    truth, x = held_out(lab), lab.noise()
    ddnm = partial(sample, denoiser, x, eta=config.eta)

    def restore(name: str, task: str, A: Operator, y: Tensor, draw: Callable[..., Tensor]) -> None:
        with lab.arm(name, task=task) as arm:
            restored = arm.images = draw(A=A, y=y, generator=lab.generator())
        arm.show(A.pinv(y), Phrase(ko="위: A†y", en="above: A†y"))
        measure(lab, arm, truth, picture_rmse(A(restored), y).cpu())

    for task in config.tasks:
        A, y = operators[task], operators[task](truth)
        restore("ddnm", task, A, y, partial(ddnm, grid))
        restore("replacement", task, A, y, partial(replacement, denoiser, x, grid))
        restore("pseudo-inverse", task, A, y, lambda A, y, generator: A.pinv(y))
        if task != "colourisation":  # many colours are right: a distance to one of them says little
            lab.claim("psnr", "ddnm", ">", "replacement", at={"task": task})
        lab.claim(PERCEPTUAL, "ddnm", "<", "replacement", at={"task": task})
        lab.claim(PERCEPTUAL, "ddnm", "<", "pseudo-inverse", at={"task": task})
    if config.noise > 0:
        task, A = "noisy super-resolution", operators["super-resolution"]
        y = A(truth)
        y = y + config.noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(lab.seed)).to(y)
        restore("ddnm", task, A, y, partial(ddnm, grid))
        restore("ddnm+", task, A, y, partial(ddnm, grid, noise=config.noise))
        lab.claim("psnr", "ddnm+", ">", "ddnm", at={"task": task})
    if config.repeats > 1:
        A, cost = operators["inpainting"], f"inpainting, {travelled(config)} evaluations"
        y = A(truth)
        restore("ddnm, finer grid", cost, A, y, partial(ddnm, finer))
        restore("time travel", cost, A, y, partial(ddnm, grid, jump=config.jump, repeats=config.repeats))
        lab.claim(PERCEPTUAL, "time travel", "<", "ddnm, finer grid", at={"task": cost})

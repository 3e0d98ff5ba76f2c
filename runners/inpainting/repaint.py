"""RePaint: Inpainting using Denoising Diffusion Probabilistic Models. Lugmayr et al., 2022. arXiv:2201.09865

The paper's symbols and the code's:
    x_t -> x      x_0, of which only m ⊙ x_0 is looked at -> known      m, 1 where a pixel is known -> keep
    r, how often a stretch is resampled -> repeats      j, the jump length -> jump      T -> steps
    x_{t-1}^known (Eq. 8a) -> given      x_{t-1}^unknown (Eq. 8b) -> drawn

Details that matter:
- The network is a plain unconditional DDPM; a class-conditional one is asked with its null class.
- The known pixels are noised anew at every step, each time with fresh noise, down to the level of the step's
  end: at the last step that is the picture itself, so they come out exactly.
- Going back j steps adds the noise of all of them at once: the sum of Gaussian steps is one Gaussian step.
- j counts steps of the grid. The paper's 10 of 250 cross 4 % of the process; on a grid of 20 that is one step.
- T = 250, j = 10, r = 10 takes 250 + 24 · 9 · 10 = 2,410 evaluations, as in the official schedule.
- The paper's network learned its variances; here they are DDPM's small ones, for every arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import Noise
from denoised.diffusion.samplers import ancestral_step
from denoised.diffusion.schedule import Schedule, resampling
from denoised.lab.lab import Arm, Lab
from denoised.lab.restoring import PERCEPTUAL, held_out, record_nearness
from denoised.language import Phrase

MASKS = ("wide", "narrow", "half", "expand", "lines", "super-resolve")
STROKES = {"wide": (3, 0.3), "narrow": (6, 0.1)}  # how many, and how wide as a fraction of the picture's side


@dataclass
class Config:
    mask: str = "wide"  # which pixels are missing: one of the paper's six kinds, see MASKS
    steps: int = 20  # T, steps of the grid that resampling goes back and forth on
    jump: int = 1  # j, steps that it goes back at a time
    repeats: list[int] = field(default_factory=lambda: [2, 4])  # r, each against more steps at equal cost
    spacing: str = "trailing"  # grid of timesteps: trailing, leading, linspace or quadratic

    def __post_init__(self) -> None:
        if self.mask not in MASKS:
            raise ValueError(f"mask must be one of {', '.join(MASKS)}, not {self.mask!r}")
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, not {self.steps}")
        if not 1 <= self.jump < self.steps:
            raise ValueError(f"jump must be from 1 to {self.steps - 1}, one less than steps, not {self.jump}")
        if not self.repeats or min(self.repeats) < 2 or len(set(self.repeats)) != len(self.repeats):
            raise ValueError(f"repeats must be a list of different numbers of at least 2, not {self.repeats}")


REHEARSAL: dict[str, Any] = {"steps": 2, "jump": 1, "repeats": [2]}
SCALES: dict[str, dict[str, Any]] = {
    "mini": {"images": 64},
    "smoke": REHEARSAL,
    # Table 2: wide masks, T = 250 and r = 2, 3, 4 against slower schedules, on 100 pictures as in Table 1 where
    # Table 2 has 32. The paper's networks are ImageNet's and CelebA-HQ's at 256×256; the one that can be loaded
    # here is CIFAR-10's at 32×32, which has seen the pictures it completes.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "images": 100,
        "batch": 100,
        "reference_images": 40_000,
        "steps": 250,
        "jump": 10,
        "repeats": [2, 3, 4],
    },
}


def known_step(known: Tensor, t_next: int, schedule: Schedule, generator: Noise) -> Tensor:
    """The known pixels at the noise level of t_next, Eq. 8a; at -1 they are what they are."""
    a, s = schedule.signal_and_noise(t_next, known)
    return known if t_next < 0 else a * known + s * generator.randn_like(known)


def back(x: Tensor, t: int, t_next: int, schedule: Schedule, generator: Noise) -> Tensor:
    """x at t_next > t from x at t, by the forward process: Eq. 1, taken for all steps between at once."""
    kept = float(schedule.alpha_bar(t_next) / schedule.alpha_bar(t))
    return sqrt(kept) * x + sqrt(1 - kept) * generator.randn_like(x)


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    known: Tensor,
    keep: Tensor,
    jump: int = 1,
    repeats: int = 1,
    generator: Noise,
) -> Tensor:
    """Algorithm 1: pictures (n, c, h, w) from noise x, agreeing with `known` wherever `keep` (n, 1, h, w) is 1.

    repeats = 1 visits `timesteps` once each, the paper's baseline without resampling.
    """
    for t, t_next in pairwise(resampling(timesteps, jump, repeats)):
        if t_next > t:
            x = back(x, t, t_next, denoiser.schedule, generator)
            continue
        given = known_step(known, t_next, denoiser.schedule, generator)
        prediction = denoiser(x, t).clip()
        drawn = ancestral_step(prediction, t, t_next, denoiser.schedule, generator)  # Eq. 8b
        x = keep * given + (1 - keep) * drawn  # Eq. 8c
    return x


def evaluations(steps: int, jump: int, repeats: int) -> int:
    """Network evaluations of `sample` for one picture."""
    return steps + len(range(0, steps - jump, jump)) * (repeats - 1) * jump


def masks(kind: str, n: int, size: int, generator: torch.Generator) -> Tensor:
    """(n, 1, size, size), 1 where a pixel is known: the paper's six kinds; strokes are drawn anew for each picture.

    half: the left half. expand: the central square of a quarter of the side. lines: every second row.
    super-resolve: every second pixel of every second row. wide, narrow: all but some straight brush strokes.
    """
    keep = torch.zeros(n, 1, size, size)
    if kind == "half":
        keep[..., : size // 2] = 1
    elif kind == "expand":
        side = max(1, size // 4)
        first = (size - side) // 2
        keep[..., first : first + side, first : first + side] = 1
    elif kind == "lines":
        keep[..., ::2, :] = 1
    elif kind == "super-resolve":
        keep[..., ::2, ::2] = 1
    else:
        strokes, width = STROKES[kind]
        ends = torch.rand(n, strokes, 2, 2, 1, 1, generator=generator)  # of strokes: both ends, x and y
        line = (torch.arange(size) + 0.5) / size
        pixel = torch.stack(torch.meshgrid(line, line, indexing="xy"))
        start, along = ends[:, :, 0], ends[:, :, 1] - ends[:, :, 0]
        # The nearest point of a stroke is a part `share` of the way along it.
        share = ((pixel - start) * along).sum(dim=2) / along.square().sum(dim=2).clamp(min=1e-9)
        distance = (start + share.clamp(0, 1).unsqueeze(2) * along - pixel).norm(dim=2)
        keep = (distance.amin(dim=1, keepdim=True) > width / 2).float()
    return keep


def measure(lab: Lab, arm: Arm, truth: Tensor) -> None:
    """How near the completed pictures are to the true ones, one by one and as a set, and what they show."""
    assert arm.images is not None
    record_nearness(lab, arm, truth)
    arm.measure("fid", "kid", reference=lab.reference())
    if lab.world == "emoji":
        judge = lab.judge()
        same = judge(arm.images).object == judge(truth).object
        arm.record(
            "class-agreement[emoji-judge]", same, by=judge.agrees, extractor=judge.extractor().description
        )


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed."""
    compared = sum(evaluations(config.steps, config.jump, r) for r in config.repeats)
    return (config.steps + 2 * compared) * images


def reproduce(lab: Lab, config: Config) -> None:
    """Resampling against as many evaluations spent on a finer grid that is walked once: Table 2."""
    costs = {r: evaluations(config.steps, config.jump, r) for r in config.repeats}
    grids = {n: lab.timesteps(n, config.spacing) for n in (config.steps, *costs.values())}
    denoiser, truth = lab.denoiser(), held_out(lab)
    generator = torch.Generator().manual_seed(lab.seed)
    keep = masks(config.mask, len(truth), truth.shape[-1], generator).to(lab.device)
    above = Phrase(ko="위: 주어진 픽셀", en="above: the pixels that are given")
    arms = [("slower", config.steps, 1), *(("slower", n, 1) for n in costs.values())]
    arms += [("repaint", n, r) for r, n in costs.items()]
    for name, cost, repeats in arms:
        with lab.arm(name, evaluations=cost) as arm:
            arm.images = sample(
                denoiser,
                lab.noise(),
                grids[cost] if repeats == 1 else grids[config.steps],
                known=truth,
                keep=keep,
                jump=config.jump,
                repeats=repeats,
                generator=lab.generator(),
            )
        arm.show(keep * truth, above)
        measure(lab, arm, truth)
    for cost in costs.values():
        lab.claim(PERCEPTUAL, "repaint", "<", "slower", at={"evaluations": cost})

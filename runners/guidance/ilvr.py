"""ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models. Choi et al., 2021. arXiv:2108.02938

The paper's symbols and the code's:
    x_t -> x      x'_{t-1}, the unconditional proposal -> proposal      y, the reference image -> reference
    y_{t-1}, the reference as noisy as the proposal -> noised      φ_N -> low_pass(…, factor)      N -> factor

Details that matter:
- φ_N shrinks by N and enlarges again, both bicubic with antialiasing, as in the official code. It is no exact
  projection: φ_N(φ_N(x)) differs a little from φ_N(x), so low frequencies agree closely, not exactly.
- The reference is noised anew at every step, to the level the proposal has. The official code takes the level
  of the step's beginning; Algorithm 1 that of its end, and so does this one.
- Every step is conditioned, the last one too, as in Algorithm 1. The official code leaves the last one out, and
  the paper stops earlier where more freedom is wanted.
- The network is unconditional; a class-conditional one is asked with its null class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import Noise
from denoised.diffusion.samplers import ancestral_step
from denoised.errors import DenoisedError
from denoised.lab.lab import Arm, Lab
from denoised.lab.restoring import PERCEPTUAL, backbone, held_out, record_nearness
from denoised.language import Phrase, say
from denoised.metrics.edits import picture_rmse
from denoised.metrics.features import EfficientNetLite0
from denoised.metrics.perceptual import diversity

DIVERSITY = f"diversity[{EfficientNetLite0.name}]"


@dataclass
class Config:
    factors: list[int] = field(default_factory=lambda: [2, 4, 8, 16])  # N, how far φ_N shrinks
    steps: int = 25  # network evaluations of each arm
    per_reference: int = 4  # samples drawn from one reference, whose differences are the diversity
    spacing: str = "trailing"  # grid of timesteps: trailing, leading, linspace or quadratic

    def __post_init__(self) -> None:
        rising = sorted(set(self.factors)) == self.factors
        if len(self.factors) < 2 or not rising or self.factors[0] < 2:
            raise ValueError(
                f"factors must be a rising list of two or more numbers of at least 2, not {self.factors}"
            )
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if self.per_reference < 2:
            raise ValueError(f"per_reference must be at least 2, not {self.per_reference}")


REHEARSAL: dict[str, Any] = {"factors": [2, 8], "steps": 2, "per_reference": 2}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": REHEARSAL,
    # The paper draws 256×256 faces, scenes and animals, with N up to 64. The network that can be loaded here is
    # CIFAR-10's at 32×32; 250 of its 1000 timesteps.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "images": 1000,
        "reference_images": 40_000,
        "steps": 250,
        "per_reference": 10,
    },
}


def low_pass(x: Tensor, factor: int) -> Tensor:
    """φ_N(x): pictures (n, c, h, w) shrunk by `factor` and enlarged to their size again.

    ValueError unless `factor` divides both sides.
    """
    h, w = x.shape[-2:]
    if not 1 <= factor <= min(h, w) or h % factor or w % factor:
        raise ValueError(
            f"factors must be from 2 to {min(h, w)} and divide the picture's sides {h} and {w}, not {factor}"
        )
    small = F.interpolate(x, size=(h // factor, w // factor), mode="bicubic", antialias=True)
    return F.interpolate(small, size=(h, w), mode="bicubic", antialias=True)


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    reference: Tensor,
    factor: int | None,
    generator: Noise,
) -> Tensor:
    """Algorithm 1: pictures (n, c, h, w) from noise x, with the low frequencies of `reference` (n, c, h, w).

    factor None conditions on nothing: plain ancestral sampling, the baseline.
    """
    schedule = denoiser.schedule
    for t, t_next in pairwise([*timesteps, -1]):
        x = ancestral_step(denoiser(x, t).clip(), t, t_next, schedule, generator)
        if factor is not None:
            a, s = schedule.signal_and_noise(t_next, x)
            noised = reference if t_next < 0 else a * reference + s * generator.randn_like(x)
            x = x + low_pass(noised, factor) - low_pass(x, factor)  # Eq. 8
    return x


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed."""
    return (len(config.factors) + 1) * config.steps * images


def reproduce(lab: Lab, config: Config) -> None:
    """Every factor N against free generation: nearness to the reference, and diversity around it."""
    images, each = lab.settings.images, config.per_reference
    if images % each:
        raise DenoisedError(
            say(
                ko=f"images는 per_reference={each}의 배수여야 하는데 {images}이다",
                en=f"images must be a multiple of per_reference={each}, not {images}",
            )
        )
    timesteps = lab.timesteps(config.steps, config.spacing)
    reference = held_out(lab, images // each).repeat_interleave(each, dim=0)
    try:
        wanted = {factor: low_pass(reference, factor).cpu() for factor in config.factors}
    except ValueError as error:
        raise DenoisedError(str(error)) from error
    denoiser, real, effnet = lab.denoiser(), lab.reference(), backbone(lab)

    def measure(arm: Arm, factors: Sequence[int]) -> None:
        assert arm.images is not None
        arm.show(reference, Phrase(ko="위: 참조 이미지", en="above: the references"))
        far = torch.cat([diversity(effnet.maps(group), each) for group in arm.images.split(each)])
        record_nearness(lab, arm, reference)
        arm.record(DIVERSITY, far, by=diversity, extractor=effnet.description)
        for factor in factors:
            error = picture_rmse(low_pass(arm.images, factor), wanted[factor])
            arm.record(low_pass_error(factor), error, by=picture_rmse)
        arm.measure("fid", "kid", reference=real)

    names = [f"N={factor}" for factor in config.factors]
    for name, factor in [*zip(names, config.factors, strict=True), ("unconditional", None)]:
        with lab.arm(name) as arm:
            arm.images = sample(
                denoiser,
                lab.noise(),
                timesteps,
                reference=reference,
                factor=factor,
                generator=lab.generator(),
            )
        measure(arm, config.factors if factor is None else [factor])

    for name, factor in zip(names, config.factors, strict=True):
        lab.claim(low_pass_error(factor), name, "<", "unconditional")
    for nearer, freer in pairwise([*names, "unconditional"]):
        lab.claim(PERCEPTUAL, nearer, "<", freer)
        lab.claim(DIVERSITY, nearer, "<", freer)


def low_pass_error(factor: int) -> str:
    """The name of the error in what φ_N keeps, in grey levels of 255."""
    return f"low-pass-rmse[N={factor}]"

"""CFG: Classifier-Free Diffusion Guidance. Ho and Salimans, 2022. arXiv:2207.12598

The paper's symbols and the code's:
    z_λ -> x      c -> condition      ∅, the null token -> the network's last class
    ε_θ(z_λ, c), ε_θ(z_λ) -> one network in one batch of two halves      w -> scale - 1
    ε̃ (Eq. 6) -> guided_eps, what `guided` computes      x̃ (Algorithm 2) -> prediction.x0

Details that matter:
- One network is both models: in training the class is replaced by the null class in a tenth of the examples
  (Algorithm 1; `denoised train emoji-pixel`). Nothing is trained here.
- Two conventions: the paper's w is 0 without guidance, the guidance scale s = 1 + w of today's libraries is 1.
- Guidance doubles the rows a step costs, not the steps: [null; condition] goes through the network in one batch.
- Guiding ε, x0 or v is the same thing, as at one x they are affine in each other. Clipping is not: x0 is clipped
  after guidance, which pushes it out of the data's range.
- Sampling is ancestral, as in the paper (Algorithm 2), with the small variance; the paper interpolates its
  logarithm between the small and the large one.
- Variety is lost within a class, so every class is drawn equally often whatever the scale is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.guidance import guided
from denoised.diffusion.random import Noise
from denoised.diffusion.samplers import ancestral_step
from denoised.lab.guiding import null_class
from denoised.lab.judging import CLASS_ACCURACY, JUDGE, record_class_accuracy
from denoised.lab.lab import Arm, Lab
from denoised.metrics.scores import inception_score


@dataclass
class Config:
    scales: list[float] = field(
        default_factory=lambda: [1.3, 2.0, 3.0, 5.0]
    )  # s = 1 + w, rising, beside none
    steps: int = 15  # ancestral steps, evenly spaced
    clip: bool = True  # clip the guided x0 to the data's range [-1, 1]

    def __post_init__(self) -> None:
        if len(self.scales) < 2 or sorted(set(self.scales)) != self.scales or self.scales[0] <= 1:
            raise ValueError(
                f"scales must be a rising list of at least 2 numbers above 1, not {self.scales} "
                "(1 is no guidance and always measured)"
            )
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")


# The rehearsal's network is the shipped one: it knows classes and a null class, which no published one does.
REHEARSAL: dict[str, Any] = {"model": "emoji-pixel", "steps": 2, "scales": [2.0, 5.0]}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"steps": 2, "scales": [2.0, 5.0]},
    # Table 2: T = 256 steps and w = 0, 0.1, …, 4 on ImageNet 128×128. Networks and data of the paper are not public;
    # the closest that our loader reads is a class-conditional network of the user's for CIFAR-10.
    "paper": {
        "model": "cifar10-conditional",
        "data": "cifar10",
        "steps": 256,
        "scales": [1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 3.0, 5.0],
    },
}


def guided_eps(eps_null: Tensor, eps_condition: Tensor, w: float) -> Tensor:
    """ε̃ = (1 + w) ε_θ(z, c) - w ε_θ(z). Eq. 6. Shapes (n, …)."""
    return (1 + w) * eps_condition - w * eps_null


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    clip: bool = True,
    condition: Tensor | None = None,
    generator: Noise,
) -> Tensor:
    """Algorithm 2: pictures (n, …) of classes (n,) from noise x (n, …) with a guided denoiser."""
    for t, t_next in pairwise([*timesteps, -1]):
        prediction = denoiser(x, t, condition)
        if clip:
            prediction = prediction.clip()
        x = ancestral_step(prediction, t, t_next, denoiser.schedule, generator)
    return x


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed, a guided one counting twice."""
    return (1 + 2 * len(config.scales)) * config.steps * images


def arm_name(scale: float) -> str:
    """One name for each scale, so that a claim can set one scale against another."""
    return "unguided" if scale == 1 else f"guided-{scale:g}"


def measure(lab: Lab, arm: Arm, classes: Tensor) -> None:
    """Distances to held-out pictures; in the emoji world also what the judge reads, and its inception score."""
    arm.measure("fid", "kid", "precision", "recall", reference=lab.reference())
    if lab.world != "emoji":
        return
    record_class_accuracy(lab, arm, classes)
    judge, images = lab.judge(), arm.images
    assert images is not None
    with torch.inference_mode():
        read = torch.cat(
            [judge.log_probabilities(p.to(lab.device), "object") for p in images.split(256)]
        ).cpu()
    arm.record("is[emoji-judge]", inception_score(read), n=len(read), by=inception_score, extractor=JUDGE)


def reproduce(lab: Lab, config: Config) -> None:
    """One network, the same noise, rising guidance: fidelity against variety. Tables 1 and 2, Fig. 4."""
    null, timesteps = null_class(lab), lab.timesteps(config.steps, "trailing")
    classes = lab.labels()
    assert classes is not None
    for scale in (1.0, *config.scales):
        denoiser = guided(lab.denoiser(), null, scale)
        with lab.arm(arm_name(scale), scale=scale, steps=config.steps) as arm:
            arm.images = sample(
                denoiser,
                lab.noise(),
                timesteps,
                clip=config.clip,
                condition=classes,
                generator=lab.generator(),
            )
        measure(lab, arm, classes)
    state_claims(lab, config)


def state_claims(lab: Lab, config: Config) -> None:
    """A little guidance has the best FID; much of it is the most faithful and the least varied."""
    smallest, largest = arm_name(config.scales[0]), arm_name(config.scales[-1])
    lab.claim("fid", smallest, "<", "unguided")
    lab.claim("fid", smallest, "<", largest)
    lab.claim("precision", largest, ">", "unguided")
    lab.claim("recall", largest, "<", "unguided")
    if lab.world == "emoji":
        lab.claim(CLASS_ACCURACY, largest, ">", "unguided")
        lab.claim("is[emoji-judge]", smallest, ">", "unguided")
        lab.claim("is[emoji-judge]", largest, ">", smallest)

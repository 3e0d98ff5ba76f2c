"""SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations. Meng et al., 2022. arXiv:2108.01073

The paper's symbols and the code's:
    x^(g), the guide -> guide      t_0 in (0, 1) -> t0      x(t) -> x      N -> steps
    α(t), σ(t) of the variance-preserving SDE -> a, s of the schedule

Details that matter:
- The variance-preserving form (Algorithm 4): the guide is scaled by α(t_0) as well as noised. Every arm takes the
  same N steps, whatever t_0, as the algorithm says; the official code takes one for each timestep below t_0.
- The reverse SDE is DDPM's ancestral sampling, as in the official code; x0 is clipped here, for every arm.
- t_0 is a share of the timesteps. Which noise level that is depends on the schedule: values of t_0 cannot be
  carried over from a linear schedule to a cosine one.
- Guides: the paper simulates strokes by a median filter and a palette of few colours. What comes out has the
  layout and colours of a real picture and none of its details.
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
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.errors import DenoisedError
from denoised.lab.lab import Arm, Lab
from denoised.lab.restoring import held_out
from denoised.language import Phrase
from denoised.metrics.edits import picture_rmse

FAITHFULNESS = "guide-rmse"  # the root of the mean of the paper's squared L2 distance, in grey levels of 255
ADVISED = (0.3, 0.6)  # where the paper finds t_0 to balance the two


@dataclass
class Config:
    t0: list[float] = field(default_factory=lambda: [0.2, 0.4, 0.6, 0.8])  # where the reverse SDE starts
    steps: int = 20  # N, network evaluations of each arm
    kernel: int = 7  # side of the median filter that paints the guides, in pixels
    colours: int = 6  # of a guide's palette

    def __post_init__(self) -> None:
        rising = sorted(set(self.t0)) == self.t0
        if len(self.t0) < 2 or not rising or self.t0[0] <= 0 or self.t0[-1] >= 1:
            raise ValueError(
                f"t0 must be a rising list of two or more numbers between 0 and 1, not {self.t0}"
            )
        if self.steps < 1 or self.colours < 1:
            raise ValueError("steps and colours must be at least 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be an odd number of at least 1, not {self.kernel}")


REHEARSAL: dict[str, Any] = {"t0": [0.4, 0.8], "steps": 2}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"t0": [0.4, 0.8], "steps": 3},
    # Strokes were simulated with a median filter of 23 pixels and 6 colours on LSUN and CelebA-HQ at 256×256. The
    # network that can be loaded here is CIFAR-10's at 32×32, where 23 of 256 pixels are 3.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "images": 5000,
        "reference_images": 40_000,
        "t0": [0.2, 0.3, 0.4, 0.5, 0.6, 0.8],
        "steps": 200,
        "kernel": 3,
    },
}


def strokes(pictures: Tensor, kernel: int, colours: int) -> Tensor:
    """Guides (n, 3, h, w): pictures (n, 3, h, w) after a median filter, in the `colours` that fit each best.

    The palette is found by k-means from evenly spaced ranks of brightness, without randomness. ValueError for a
    kernel that is wider than the picture.
    """
    n, c, h, w = pictures.shape
    if kernel > min(h, w):
        raise ValueError(f"kernel must be from 1 to {min(h, w)}, the picture's side, not {kernel}")
    padded = F.pad(pictures, (kernel // 2,) * 4, mode="replicate")
    around = F.unfold(padded, kernel).reshape(n, c, kernel**2, h * w)
    pixels = around.median(dim=2).values.transpose(1, 2)  # (n, h w, c)
    ranks = ((torch.arange(colours) + 0.5) / colours * h * w).long().to(pictures.device)
    chosen = pixels.sum(dim=2).argsort(dim=1, stable=True)[:, ranks]
    palette = pixels.gather(1, chosen[..., None].expand(-1, -1, c))
    for _ in range(10):
        nearest = F.one_hot(torch.cdist(pixels, palette).argmin(dim=2), colours).to(pixels)
        size = nearest.sum(dim=1)[..., None]
        palette = torch.where(size > 0, nearest.transpose(1, 2) @ pixels / size.clamp(min=1), palette)
    nearest = F.one_hot(torch.cdist(pixels, palette).argmin(dim=2), colours).to(pixels)
    return (nearest @ palette).transpose(1, 2).reshape(n, c, h, w)


def grid_from(schedule: Schedule, t0: float, steps: int) -> list[int]:
    """`steps` timesteps evenly down from the share t0 of the schedule's.

    Raises ValueError where there are fewer timesteps than steps below t0.
    """
    below = round(t0 * schedule.T)
    if not 1 <= steps <= below:
        raise ValueError(f"steps must be from 1 to {below}, the timesteps below t0={t0:g}, not {steps}")
    return timesteps(below, steps, "trailing")


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    guide: Tensor,
    generator: Noise,
) -> Tensor:
    """Algorithm 4: pictures (n, c, h, w) from noise x and guides of its shape, along `timesteps` from t_0 down."""
    a, s = denoiser.schedule.signal_and_noise(timesteps[0], x)
    x = a * guide + s * x
    for t, t_next in pairwise([*timesteps, -1]):
        x = ancestral_step(denoiser(x, t).clip(), t, t_next, denoiser.schedule, generator)
    return x


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed."""
    return (len(config.t0) + 1) * config.steps * images


def reproduce(lab: Lab, config: Config) -> None:
    """The realism-faithfulness trade-off over t_0, between the guides themselves and free generation: Figure 3."""
    schedule, pictures = lab.checkpoint.schedule, held_out(lab)
    try:
        *grids, whole = (grid_from(schedule, t0, config.steps) for t0 in (*config.t0, 1.0))
        guide = strokes(pictures, config.kernel, config.colours)
    except ValueError as error:
        raise DenoisedError(str(error)) from error
    denoiser, real = lab.denoiser(), lab.reference()

    def measure(arm: Arm) -> None:
        assert arm.images is not None
        arm.show(guide, Phrase(ko="위: 가이드", en="above: the guides"))
        arm.measure("kid", "fid", reference=real)
        arm.record(FAITHFULNESS, picture_rmse(arm.images, guide.cpu()), by=picture_rmse)

    with lab.arm("guide") as arm:
        arm.images = guide
    measure(arm)
    names = [f"t0={t0:g}" for t0 in config.t0]
    for name, grid in zip(names, grids, strict=True):
        with lab.arm(name) as arm:
            arm.images = sample(denoiser, lab.noise(), grid, guide=guide, generator=lab.generator())
        measure(arm)
    with lab.arm("unconditional") as arm:  # the same from pure noise: a guide of which nothing is left
        blank = torch.zeros_like(guide)
        arm.images = sample(denoiser, lab.noise(), whole, guide=blank, generator=lab.generator())
    measure(arm)

    for less, more in pairwise(names):  # along the curve, both ways
        lab.claim("kid", more, "<", less)
        lab.claim(FAITHFULNESS, more, ">", less)
    for name, t0 in zip(names, config.t0, strict=True):
        if (
            ADVISED[0] <= t0 <= ADVISED[1]
        ):  # more realistic than the guides, nearer to them than free generation
            lab.claim("kid", name, "<", "guide")
            lab.claim(FAITHFULNESS, name, "<", "unconditional")
    lab.claim("kid", "unconditional", "<", "guide")  # without which there is nothing to trade

"""The steps that editing, restoration, personalisation and control methods stand on.

Papers about sampling itself bring solvers of their own in `runners`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Prediction
from denoised.diffusion.random import Noise
from denoised.diffusion.schedule import Schedule


def ddim_step(prediction: Prediction, t_next: int, schedule: Schedule) -> Tensor:
    """x at t_next (-1: clean data) from the prediction at x_t, without noise or clipping.

    DDIM (Song et al. 2021, arXiv:2010.02502), Eq. 12 with σ = 0.
    """
    alpha_bar = schedule.alpha_bar(t_next)
    return prediction.combine(sqrt(alpha_bar), sqrt(1 - alpha_bar))


def ancestral_step(
    prediction: Prediction, t: int, t_next: int, schedule: Schedule, generator: Noise
) -> Tensor:
    """x at t_next < t (-1: clean data) drawn from DDPM's reverse step with the small variance.

    DDPM (Ho et al. 2020, arXiv:2006.11239), Eq. 6 and 7, on any grid: DDIM, Eq. 12 and 16 with η = 1. At
    t_next = -1 nothing is drawn.
    """
    a, a_next = schedule.alpha_bar(t), schedule.alpha_bar(t_next)
    variance = (1 - a_next) / (1 - a) * (1 - a / a_next)
    mean = prediction.combine(sqrt(a_next), sqrt(max(0.0, 1 - a_next - variance)))
    return mean if t_next < 0 else mean + sqrt(variance) * generator.randn_like(mean)


def ddim(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    clip: bool = False,
    condition: Tensor | None = None,
) -> Tensor:
    """x0 (n, …) from x (n, …) at timesteps[0], visiting `timesteps` once each.

    `clip`: every predicted x0 to [-1, 1].
    """
    for t, t_next in pairwise([*timesteps, -1]):
        prediction = denoiser(x, t, condition)
        x = ddim_step(prediction.clip() if clip else prediction, t_next, denoiser.schedule)
    return x

"""One reverse step of DDPM (Ho et al. 2020, arXiv:2006.11239), its mean and its variance apart.

For methods that change the mean; `denoised.diffusion.samplers.ancestral_step` draws from it.
"""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from denoised.diffusion.denoiser import Prediction
from denoised.diffusion.schedule import Schedule


def posterior(
    x: Tensor, prediction: Prediction, t: int, t_next: int, schedule: Schedule
) -> tuple[Tensor, float]:
    """Mean (n, …) and variance of q(x_{t_next} | x_t, x0), with t_next = -1 for clean data and no variance.

    Eq. 6 and 7; on a strided grid β_t becomes 1 - ᾱ_t / ᾱ_{t_next}.
    """
    a, a_next = schedule.alpha_bar(t), schedule.alpha_bar(t_next)
    beta = 1 - a / a_next
    mean = (sqrt(a_next) * beta * prediction.x0 + sqrt(1 - beta) * (1 - a_next) * x) / (1 - a)
    return mean, beta * (1 - a_next) / (1 - a)

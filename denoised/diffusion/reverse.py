"""One reverse step of DDPM (Ho et al. 2020, arXiv:2006.11239), its mean and its fixed variance apart.

For methods that change the one or measure both; `denoised.diffusion.samplers.ancestral_step` draws from it.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import torch
from torch import Tensor

from denoised.diffusion.bounds import Chain, Reverse, posterior_mean, rows
from denoised.diffusion.denoiser import Network, Parameterisation, Prediction, predict
from denoised.diffusion.schedule import Schedule

Variance = Literal["small", "large"]  # β̃ or β


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


def fixed_variance(network: Network, kind: Parameterisation, steps: Chain, variance: Variance) -> Reverse:
    """p(x_{t_next} | x_t) of a network without classes, for the bound: Eq. 7 at the clipped x0, and β̃ or β.

    The last step has β̃ of the one before either way, as in the official code.
    """
    large = torch.cat([steps.log_large[:-1], steps.log_small[-1:]])
    log_variance = large if variance == "large" else steps.log_small

    def step(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        t = steps.t[k]
        a, s = steps.schedule.signal_and_noise(t, x)
        x0 = predict(network(x, t.to(x.device), None), x, a, s, kind).x0.clamp(-1, 1)
        return posterior_mean(steps, k, x0, x), rows(log_variance, k, x)

    return step

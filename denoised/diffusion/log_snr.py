"""Known noise schedules in continuous time, as γ(t) = -log SNR(t) between two ends of one's choice.

A variance preserving z_t = α x + σ eps has α² = sigmoid(-γ) and σ² = sigmoid(γ) (Kingma et al. 2021,
arXiv:2107.00630, § 3.2), so schedules of equal ends differ only in how much time they spend on each noise level.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from denoised.diffusion.sde import VP

Gamma = Callable[[Tensor], tuple[Tensor, Tensor]]  # t (n,) in [0, 1] -> γ(t) and γ'(t), both (n,), rising


def linear(low: float, high: float) -> Gamma:
    """γ on a line."""
    return lambda t: (low + (high - low) * t, torch.full_like(t, high - low))


def cosine(low: float, high: float) -> Gamma:
    """γ = 2 log tan(φ) with φ on a line: α = cos φ, between the two ends. Nichol & Dhariwal 2021, arXiv:2102.09672."""
    first, last = math.atan(math.exp(low / 2)), math.atan(math.exp(high / 2))

    def gamma(t: Tensor) -> tuple[Tensor, Tensor]:
        angle = first + (last - first) * t
        return 2 * angle.tan().log(), 2 * (last - first) / (angle.sin() * angle.cos())

    return gamma


def beta_linear(low: float, high: float) -> Gamma:
    """DDPM's schedule in continuous time, γ = log(exp(∫β) - 1) with β on a line, cut to the two ends."""
    sde = VP()
    first, last = (sde.time_of_area(math.log1p(math.exp(gamma))) for gamma in (low, high))

    def gamma(t: Tensor) -> tuple[Tensor, Tensor]:
        at = first + (last - first) * t
        area = sde.area(at)
        return area.expm1().log(), (last - first) * sde.beta(at) / -torch.expm1(-area)

    return gamma

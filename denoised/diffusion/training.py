"""Pieces of a training loop that every recipe and every method that trains shares."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from denoised.diffusion.denoiser import Parameterisation
from denoised.diffusion.schedule import Schedule


def training_target(
    x0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule, parameterisation: Parameterisation
) -> Tensor:
    """What a network of this parameterisation should say at x_t = `schedule.add_noise(x0, eps, t)`.

    x0, eps: (n, …), t: (n,). The inverse of `denoised.diffusion.denoiser.predict`.
    """
    match parameterisation:
        case "epsilon":
            return eps
        case "sample":
            return x0
        case "v_prediction":
            a, s = schedule.signal_and_noise(t, x0)
            return a * eps - s * x0


def stratified_timesteps(n: int, T: int, generator: torch.Generator) -> Tensor:
    """n timesteps in 0 … T-1, one in each of n equal strata, in random order: less noise in the loss."""
    u = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
    return (u * T).long().clamp_(max=T - 1)


def min_snr_weight(schedule: Schedule, t: Tensor, gamma: float = 5.0) -> Tensor:
    """The loss weight min(SNR + 1, gamma) / (SNR + 1) for v-prediction, float32, of the shape of t.

    In the spirit of Min-SNR-γ (Hang et al. 2023, arXiv:2303.09556, section 3.4), shifted by one so that
    the noisiest timesteps keep weight 1.
    """
    snr = schedule.snr(t)
    return (torch.clamp(snr + 1, max=gamma) / (snr + 1)).float()


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """The learning rate's factor at `step`: a line from 0 to 1 over `warmup`, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def warmup_stable_decay(step: int, steps: int, warmup: int, decay: float) -> float:
    """The learning rate's factor at `step`: a line from 0 to 1 over `warmup`, then 1, then a line to 0.

    The last share `decay` of the steps goes down (Hägele et al. 2024, arXiv:2405.18392, section 3). Unlike
    with a cosine, what happens before does not depend on `steps`.
    """
    if step < warmup:
        return (step + 1) / warmup
    return min(1.0, (steps - step) / max(1.0, decay * steps))


@torch.no_grad()
def update_ema(average: Iterable[Tensor], parameters: Iterable[Tensor], decay: float) -> None:
    """average ← decay · average + (1 - decay) · parameters, in place."""
    torch._foreach_lerp_(list(average), list(parameters), 1 - decay)

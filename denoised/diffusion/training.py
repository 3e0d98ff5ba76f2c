"""Pieces of a training loop that every recipe and every method that trains shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

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


def one_step_target(x: Tensor, x_end: Tensor, t: Tensor, t_end: Tensor, schedule: Schedule) -> Tensor:
    """The x0 that a network has to predict at x for one DDIM step from t to t_end to arrive at x_end.

    x, x_end: (n, …), t, t_end: (n,) with t_end < t, -1 being clean data. What a student of few steps learns from a
    teacher of many: Progressive Distillation (Salimans & Ho 2022, arXiv:2202.00512), Algorithm 2 and appendix G.
    """
    wide = x.double()  # the two ends may lie close together
    (a, s), (a_end, s_end) = schedule.signal_and_noise(t, wide), schedule.signal_and_noise(t_end, wide)
    ratio = s_end / s
    target: Tensor = (x_end - ratio * wide) / (a_end - ratio * a)
    return target.to(x.dtype)


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


def train_averaged(
    network: nn.Module, loss: Callable[[], Tensor], *, steps: int, learning_rate: float, ema: float
) -> nn.Module:
    """A copy of the network with its weights averaged over `steps` steps of Adam; the network is trained in place.

    `loss`: a fresh scalar of the network at every call. The norm of its gradient is cut at 1. `ema`: the decay of
    the average, whose memory is short at first, so that the random start is forgotten in a short run too.
    """
    average = deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    for step in range(steps):
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        update_ema(average.parameters(), network.parameters(), min(ema, (1 + step) / (10 + step)))
    return average

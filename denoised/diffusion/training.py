"""Pieces of a training loop that every recipe and every method that trains shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from denoised.diffusion.denoiser import Parameterisation
from denoised.diffusion.schedule import Schedule

M = TypeVar("M", bound=nn.Module)


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


class Stream:
    """Noise for one batch after another from one generator, on the CPU: a `denoised.diffusion.random.Noise`.

    In training no row has a seed of its own, as rows of `SampleGenerators` have.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal noise of the shape, dtype and device of x."""
        return torch.randn(x.shape, generator=self.generator, dtype=x.dtype).to(x.device)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights made inside, on the CPU, are those of this seed; torch's own random stream goes on untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_averaged(
    network: M, loss: Callable[[], Tensor], *, steps: int, learning_rate: float, ema: float
) -> M:
    """A copy of the network with its weights averaged over `steps` steps of Adam; the network is trained in place.

    `loss`: a fresh scalar of the network at every call. The norm of its gradient is cut at 1. `ema`: the decay of
    the average, whose memory is short at first, so that the random start is forgotten in a short run too.
    """
    average = deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    for step in range(steps):
        _descend(network, loss, optimizer)
        update_ema(average.parameters(), network.parameters(), min(ema, (1 + step) / (10 + step)))
    return average


def train_annealed(
    network: M,
    loss: Callable[[], Tensor],
    *,
    steps: int,
    learning_rate: float,
    rates: Mapping[nn.Parameter, float] | None = None,
) -> M:
    """The network itself after `steps` steps of Adam whose learning rate falls to 0 on a line; frozen, to evaluate.

    `loss`: as for `train_averaged`. `learning_rate` is that of the first step; `rates` are those of parameters that
    have one of their own.
    """
    own = rates or {}
    rest = [p for p in network.requires_grad_(True).parameters() if p not in own]
    groups: list[dict[str, Any]] = [{"params": rest}, *({"params": [p], "lr": own[p]} for p in own)]
    optimizer = torch.optim.Adam(groups, learning_rate)
    annealing = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(1, steps))
    for _ in range(steps):
        _descend(network, loss, optimizer)
        annealing.step()
    return network.eval().requires_grad_(False)


def _descend(network: nn.Module, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> None:
    """One step down a fresh loss, the norm of its gradient cut at 1."""
    optimizer.zero_grad()
    loss().backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()

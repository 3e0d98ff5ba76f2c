"""For runners that measure how likely a model finds held-out pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from denoised.diffusion.bounds import Chain, Reverse, bound
from denoised.diffusion.random import SampleGenerators
from denoised.lab.lab import Lab
from denoised.metrics.scores import bits_per_dimension

# (pictures (n, …), their noise) -> -log p, or a bound on it, in nats, (n,)
Nll = Callable[[Tensor, SampleGenerators], Tensor]


def bounded(reverse: Reverse, chain: Chain, draws: int | None = None) -> Nll:
    """The bound on -log p of `denoised.diffusion.bounds.bound`, for `bits`; no gradient is kept."""

    @torch.inference_mode()
    def nll(x0: Tensor, noise: SampleGenerators) -> Tensor:
        return bound(reverse, x0, chain, noise, draws)

    return nll


def bits(lab: Lab, nll: Nll, pictures: Tensor, stream: int) -> Tensor:
    """Bits per dimension (n,) of pictures (n, …), asked for in batches of `settings.batch`.

    Picture i has the same noise whatever the batch and the model are. `stream` is added to the run's seed for it: a
    number of the runner's own, which keeps it apart from the noise of training.
    """
    size, nats = lab.settings.batch, []
    for start in range(0, len(pictures), size):
        x = pictures[start : start + size].to(lab.device)
        nats.append(nll(x, SampleGenerators(stream + lab.seed, range(start, start + len(x)))))
    return bits_per_dimension(torch.cat(nats), pictures[0].numel())

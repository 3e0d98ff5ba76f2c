"""Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598), on raw network outputs.

One convention everywhere: guided = u + s (c - u), with the guidance scale s of diffusers; s = 1 is the
conditional network alone, s = 0 the unconditional one. The paper's Eq. 6, (1 + w) c - w u, is the same with
w = s - 1.

Guiding eps, x0, v or the raw output is the same thing, since at one x_t they are affine in each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from denoised.diffusion.denoiser import Network


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """u + s (c - u), for two predictions of one shape and kind. Eq. 6 with w = s - 1."""
    return unconditional + scale * (conditional - unconditional)


def classifier_free(network: Network, null: Tensor, scale: float) -> Network:
    """The guided network: one batch of 2n rows in the order [null; condition] for n pictures.

    `null`: the condition that stands for none, (length, width), (1, length, width) or one for each picture.
    At scale 1 it is the network itself, in a batch of n. The guided network raises ValueError where it is
    called without a condition.
    """
    if scale == 1:
        return network
    null = null if null.ndim == 3 else null[None]

    def guided(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        if condition is None:
            raise ValueError("a guided network needs a condition")
        both = torch.cat([null.expand(len(x), -1, -1), condition])
        unconditional, conditional = network(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return guide(unconditional, conditional, scale)

    return guided

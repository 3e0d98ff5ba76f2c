"""Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598), on raw network outputs.

One convention everywhere: guided = u + s (c - u), with the guidance scale s of diffusers; s = 1 is the
conditional network alone, s = 0 the unconditional one. The paper's Eq. 6, (1 + w) c - w u, is the same with
w = s - 1.

Guiding eps, x0, v or the raw output is the same thing, since at one x_t they are affine in each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Network


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """u + s (c - u), for two predictions of one shape and kind. Eq. 6 with w = s - 1."""
    return unconditional + scale * (conditional - unconditional)


def classifier_free(network: Network, null: Tensor, scale: float) -> Network:
    """The guided network: one batch of 2n rows in the order [null; condition] for n pictures.

    `null`: the condition that stands for none. For text states it is (length, width), (1, length, width) or one
    for each picture; for classes (n,) a single class, (1,) or (). At scale 1 it is the network itself, in a batch
    of n. [null; condition] is put together once for as long as the same condition comes in, as it does at every
    step of a sampler: do not change it in place. The guided network raises ValueError where it is called without
    a condition.
    """
    if scale == 1:
        return network
    kept: tuple[Tensor, Tensor] | None = None  # the last condition, and [null; condition]

    def both(condition: Tensor) -> Tensor:
        nonlocal kept
        if (
            kept is not None
            and kept[0] is condition
            and not (
                kept[1].is_inference() and torch.is_grad_enabled()  # it cannot be differentiated through
            )
        ):
            return kept[1]
        nulls = null if null.ndim == condition.ndim else null[None]
        joined = torch.cat([nulls.to(condition.device).expand(condition.shape), condition])
        # A null or condition that is being learned changes from step to step.
        kept = None if null.requires_grad or condition.requires_grad else (condition, joined)
        return joined

    def guided(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        if condition is None:
            raise ValueError("a guided network needs a condition")
        outputs = network(torch.cat([x, x]), torch.cat([t, t]), both(condition))
        unconditional, conditional = outputs.chunk(2)
        return guide(unconditional, conditional, scale)

    return guided


def guided(denoiser: Denoiser, null: Tensor | int, scale: float) -> Denoiser:
    """The denoiser given, guided from here on: two rows a picture. At scale 1 it stays as it was.

    `null`: as for `classifier_free`; a single class may be a number.
    """
    if scale != 1:
        denoiser.network = classifier_free(denoiser.network, torch.as_tensor(null), scale)
        denoiser.passes = 2
    return denoiser

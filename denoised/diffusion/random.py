"""Randomness that belongs to a sample, not to a batch.

Sample i has a generator of its own, seeded from (seed, i), so it comes out the same whatever the batch
size, the number of samples or the order of work (as in EDM's generate.py, Karras et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Noise(Protocol):
    """Anything a stochastic sampler can draw from."""

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal noise of the shape, dtype and device of x (n, …)."""
        ...


class SampleGenerators:
    """One torch generator for each sample, on the CPU."""

    def __init__(self, seed: int, samples: Sequence[int]) -> None:
        """`samples` are the samples' numbers: range(n) for the first n of a seed."""
        self._generators = [
            torch.Generator().manual_seed(
                int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0])
            )
            for i in samples
        ]

    def __len__(self) -> int:
        return len(self._generators)

    def randn(self, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """(n, *shape) float32, standard normal; row i comes from generator i."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._generators]).to(device)

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal noise of the shape, dtype and device of x (n, …), n being the number of samples."""
        return self.randn(*x.shape[1:], device=x.device).to(x.dtype)

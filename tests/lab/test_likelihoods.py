"""Bits per dimension in batches: each picture with its own noise, and a unit that is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from denoised.diffusion.bounds import bound, chain, to_levels
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule
from denoised.lab.likelihoods import bits, bounded
from tests.runners.pixel_lab import pixel_lab


def test_nats_of_pictures_become_bits_of_their_numbers() -> None:
    """A fair coin for every number is one bit a dimension."""
    pictures = torch.zeros(5, 3, 2, 2)

    def coin(x: Tensor, noise: SampleGenerators) -> Tensor:
        return torch.full((len(x),), x[0].numel() * math.log(2), dtype=torch.float64)

    torch.testing.assert_close(bits(pixel_lab(), coin, pictures, 7), torch.ones(5, dtype=torch.float64))


def test_a_picture_has_the_same_noise_whatever_the_batch_and_another_for_another_seed() -> None:
    pictures, sizes = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 3, 2, 2), []

    def nll(x: Tensor, noise: SampleGenerators) -> Tensor:
        sizes.append(len(x))
        return (x + noise.randn_like(x)).flatten(1).sum(1)

    found = [bits(pixel_lab(batch=batch), nll, pictures, 7) for batch in (2, 5)]
    assert sizes == [2, 2, 1, 5]
    torch.testing.assert_close(found[0], found[1])
    for other in (bits(pixel_lab(seed=1), nll, pictures, 7), bits(pixel_lab(), nll, pictures, 8)):
        assert bool((other != found[0]).all())


def test_a_bound_is_the_sum_of_its_terms_and_keeps_no_gradient() -> None:
    steps, noise = chain(Schedule.linear(), [999, 500, 0]), SampleGenerators(0, range(2))
    x0, scale = to_levels(torch.rand(2, 3, 2, 2)), torch.tensor(0.5, requires_grad=True)

    def reverse(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return scale * x, torch.zeros_like(x)

    found = bounded(reverse, steps)(x0, noise)
    expected = bound(reverse, x0, steps, SampleGenerators(0, range(2)))
    torch.testing.assert_close(found, expected.detach())
    assert expected.requires_grad and not found.requires_grad

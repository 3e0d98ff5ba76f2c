"""Classifier-free guidance: the paper's equation, one batch of two halves, and what it counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Parameterisation, predict
from denoised.diffusion.guidance import classifier_free, guide
from denoised.diffusion.schedule import Schedule

RANDOM = torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=torch.float64)


def network(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
    """Something that depends on all it is given."""
    assert condition is not None
    return torch.tanh(
        x + condition.mean(dim=(1, 2))[:, None, None, None] * (1 + t[:, None, None, None] / 100)
    )


@pytest.mark.parametrize("w", [-1.0, 0.0, 0.5, 6.5])
def test_it_is_equation_6_with_w_one_less_than_the_scale(w: float) -> None:
    u, c = randn(2, 3), randn(2, 3)
    torch.testing.assert_close(guide(u, c, w + 1), (1 + w) * c - w * u)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_guiding_the_raw_output_is_guiding_eps(kind: Parameterisation) -> None:
    x, u, c = randn(2, 4), randn(2, 4), randn(2, 4)
    a, s = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    raw = predict(guide(u, c, 3.0), x, a, s, kind)
    of_null, of_condition = (predict(each, x, a, s, kind).eps for each in (u, c))
    eps = guide(of_null, of_condition, 3.0)
    torch.testing.assert_close(raw.eps, eps)


@pytest.mark.parametrize("null_shape", [(5, 6), (1, 5, 6), (3, 5, 6)])
def test_one_batch_of_two_halves_is_two_calls(null_shape: tuple[int, ...]) -> None:
    x, t, condition, null = randn(3, 2, 4, 4), torch.full((3,), 7), randn(3, 5, 6), randn(*null_shape)
    batches = []

    def counting(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        batches.append(len(x))
        return network(x, t, condition)

    guided = classifier_free(counting, null, 2.5)(x, t, condition)
    apart = guide(network(x, t, null.expand(3, 5, 6)), network(x, t, condition), 2.5)
    torch.testing.assert_close(guided, apart)
    assert batches == [6]


def test_scale_one_is_the_network_itself() -> None:
    assert classifier_free(network, randn(5, 6), 1.0) is network


def test_a_guided_network_needs_a_condition() -> None:
    with pytest.raises(ValueError, match="a guided network needs a condition"):
        classifier_free(network, randn(5, 6), 2.0)(randn(1, 2, 4, 4), torch.zeros(1), None)


def test_guidance_counts_one_call_and_two_rows_a_picture() -> None:
    denoiser = Denoiser(classifier_free(network, randn(5, 6), 2.0), Schedule.linear(), passes=2)
    denoiser(randn(3, 2, 4, 4), 10, randn(3, 5, 6))
    assert (denoiser.calls, denoiser.samples) == (1, 6)

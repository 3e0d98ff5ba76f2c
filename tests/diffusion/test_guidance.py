"""Classifier-free guidance: the paper's equation, one batch of two halves, and what it counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Parameterisation, predict
from denoised.diffusion.guidance import classifier_free, guide, guided
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


def of_classes(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
    assert condition is not None and condition.ndim == 1
    return torch.tanh(x + condition[:, None, None, None] / 10 + t[:, None, None, None] / 100)


@pytest.mark.parametrize("null", [torch.tensor(7), torch.tensor([7]), torch.tensor([7, 7, 7])])
def test_a_class_may_be_the_null(null: Tensor) -> None:
    x, t, classes = randn(3, 2, 4, 4), torch.full((3,), 5), torch.tensor([0, 1, 2])
    apart = guide(of_classes(x, t, torch.full((3,), 7)), of_classes(x, t, classes), 2.5)
    torch.testing.assert_close(classifier_free(of_classes, null, 2.5)(x, t, classes), apart)


def test_null_and_condition_are_joined_once_for_each_condition() -> None:
    asked: list[Tensor] = []

    def remembering(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is not None
        asked.append(condition)
        return of_classes(x, t, condition)

    guided = classifier_free(remembering, torch.tensor(7), 2.0)
    first, other = torch.tensor([0, 1]), torch.tensor([0, 2])
    for condition in (first, first, other):
        guided(randn(2, 1, 2, 2), torch.zeros(2), condition)
    assert asked[0] is asked[1]
    assert [each.tolist() for each in asked] == [[7, 7, 0, 1], [7, 7, 0, 1], [7, 7, 0, 2]]


def test_a_null_that_is_learned_is_read_anew_at_every_step() -> None:
    null = torch.zeros(5, 6, dtype=torch.float64, requires_grad=True)
    guided, x, condition = classifier_free(network, null, 2.0), randn(2, 2, 4, 4), randn(2, 5, 6)
    before = guided(x, torch.zeros(2), condition)
    with torch.no_grad():
        null += 1
    assert not torch.allclose(before, guided(x, torch.zeros(2), condition))


def test_what_was_joined_while_sampling_can_be_trained_through() -> None:
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)

    def trained(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is not None
        return x + (scale * condition).mean(dim=(1, 2))[:, None, None, None]

    guided, x, condition = classifier_free(trained, randn(5, 6), 2.0), randn(2, 2, 4, 4), randn(2, 5, 6)
    with torch.inference_mode():
        guided(x, torch.zeros(2), condition)
    guided(x, torch.zeros(2), condition).sum().backward()
    assert scale.grad is not None


@pytest.mark.parametrize("null", [7, torch.tensor(7)])
def test_a_guided_denoiser_costs_two_rows_and_predicts_what_its_network_guides(null: int | Tensor) -> None:
    x, classes = randn(3, 2, 4, 4), torch.tensor([0, 1, 2])
    plain = Denoiser(of_classes, Schedule.linear(), "v_prediction")
    wanted = guide(plain(x, 10, torch.full((3,), 7)).v, plain(x, 10, classes).v, 2.5)
    denoiser = Denoiser(of_classes, Schedule.linear(), "v_prediction")
    assert guided(denoiser, null, 2.5) is denoiser
    torch.testing.assert_close(denoiser(x, 10, classes).v, wanted)
    assert (denoiser.calls, denoiser.samples) == (1, 6)


def test_at_scale_one_a_denoiser_stays_as_it_was() -> None:
    denoiser = guided(Denoiser(of_classes, Schedule.linear()), 7, 1.0)
    assert denoiser.network is of_classes and denoiser.passes == 1

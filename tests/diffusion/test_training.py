"""The training loops that methods share, and the randomness of a training."""

import math

import pytest
import torch
from torch import Tensor, nn

from denoised.diffusion.training import Stream, seeded, train_annealed, train_averaged


def test_training_moves_the_network_and_returns_its_average() -> None:
    """On (w - 3)² Adam walks 0.1 a step towards 3; the average of what it passed lies behind, near its memory."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)

    def loss() -> Tensor:
        return (network.weight - 3).square().sum()

    average = train_averaged(network, loss, steps=20, learning_rate=0.1, ema=0.9)
    now, behind = network.weight.item(), next(average.parameters()).item()
    assert now == pytest.approx(2.0, abs=0.1)
    assert 1.5 < behind < now - 0.1
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_a_decay_of_zero_is_the_network_itself() -> None:
    network = nn.Linear(2, 1)
    x = torch.ones(4, 2)
    average = train_averaged(network, lambda: network(x).square().mean(), steps=3, learning_rate=0.1, ema=0.0)
    for ours, theirs in zip(network.parameters(), average.parameters(), strict=True):
        assert torch.equal(ours.detach(), theirs)


class Two(nn.Module):
    """Two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))


def annealed(steps: int) -> Two:
    """Under a slope that never changes, where a step of Adam is as long as its learning rate."""
    network = Two().requires_grad_(False)  # as a copy of a frozen teacher is
    return train_annealed(
        network, lambda: -network.a - network.b, steps=steps, learning_rate=0.1, rates={network.b: 0.3}
    )


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_the_rates_fall_to_0_on_a_line_each_from_its_own_beginning(steps: int) -> None:
    network = annealed(steps)
    walked = sum(1 - step / steps for step in range(steps))
    assert network.a.item() == pytest.approx(0.1 * walked, rel=1e-4)
    assert network.b.item() == pytest.approx(0.3 * walked, rel=1e-4)


def test_an_annealed_network_comes_back_itself_frozen_and_ready_to_evaluate() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    back = train_annealed(network, lambda: network(torch.ones(1, 1)).sum(), steps=0, learning_rate=0.1)
    assert back is network and not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_seeded_weights_leave_the_random_stream_as_it_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with seeded(5):
        first = nn.Linear(3, 3).weight
    with seeded(5):
        again = nn.Linear(3, 3).weight
    with seeded(6):
        other = nn.Linear(3, 3).weight
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stream_goes_on_in_the_dtype_it_is_asked_for(dtype: torch.dtype) -> None:
    like = torch.zeros(5000, 2, dtype=dtype)
    stream, again = Stream(3), Stream(3)
    first, second = stream.randn_like(like), stream.randn_like(like)
    assert first.dtype == dtype and first.shape == like.shape
    assert torch.equal(first, again.randn_like(like)) and not torch.equal(first, second)
    assert first.mean().item() == pytest.approx(0, abs=4 / math.sqrt(10_000))
    assert first.std().item() == pytest.approx(1, abs=4 / math.sqrt(10_000))

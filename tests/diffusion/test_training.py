"""The training loop that methods share."""

import pytest
import torch
from torch import Tensor, nn

from denoised.diffusion.training import train_averaged


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

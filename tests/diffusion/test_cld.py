"""Critically-damped Langevin diffusion: its closed forms against its equations."""

import pytest
import torch
from torch import Tensor

from denoised.diffusion.cld import AT_REST, AT_START, DRIFT, HALF, apply, covariance, transition


def at(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


def test_the_transition_is_the_matrix_exponential() -> None:
    torch.testing.assert_close(transition(at(0.1), at(0.7)), torch.linalg.matrix_exp(0.6 * DRIFT))


def test_the_covariance_solves_its_equation() -> None:
    torch.testing.assert_close(covariance(at(0.0)), AT_START)
    for t in (0.01, 0.2, 0.9):
        change = (covariance(at(t + 1e-6)) - covariance(at(t - 1e-6))) / 2e-6
        sigma = covariance(at(t))
        torch.testing.assert_close(change, DRIFT @ sigma + sigma @ DRIFT.mT + 2 * HALF, atol=1e-6, rtol=1e-6)


def test_the_prior_is_at_rest() -> None:
    """F Σ + Σ Fᵀ + G Gᵀ = 0, and what began at a datum is all but there at t = 1."""
    torch.testing.assert_close(DRIFT @ AT_REST + AT_REST @ DRIFT.mT + 2 * HALF, torch.zeros(2, 2).double())
    torch.testing.assert_close(covariance(at(1.0)), AT_REST, atol=1e-4, rtol=0)


def test_the_damping_is_critical() -> None:
    """Both eigenvalues of F are the same number, below 0."""
    first, second = torch.linalg.eigvals(DRIFT)
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)
    assert first.real.item() == pytest.approx(-8)


def test_a_matrix_acts_on_datum_and_velocity_of_every_number() -> None:
    u = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    assert torch.equal(apply(swap, u), u.flip(-1))
    one_each = torch.stack([swap, torch.eye(2, dtype=torch.float64)])
    assert torch.equal(apply(one_each, u), torch.stack([u[0].flip(-1), u[1]]))

"""Critically-damped Langevin diffusion (CLD): data x with a velocity v, and noise that enters through v alone.

    du = F u dt + G dw,    u = (x, v),    t in [0, 1]

Dockhorn, Vahdat and Kreis 2022, arXiv:2112.07068, with the constants of its code: M⁻¹ = 4, β = 4, Γ = 2 sqrt(M), which
is critical damping, and v ~ N(0, 0.04 M) at t = 0, where 1e-6 is added to both variances. Every number of the data
moves alike, so that one 2×2 matrix, float64, says it all; states u of n data of d numbers are (n, d, 2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

M_INV, BETA = 4.0, 4.0
GAMMA = 2 / math.sqrt(M_INV)
DRIFT = BETA * torch.tensor([[0.0, M_INV], [-1.0, -GAMMA * M_INV]], dtype=torch.float64)  # F
HALF = torch.tensor([0.0, GAMMA * BETA], dtype=torch.float64).diag()  # G Gᵀ / 2
AT_START = torch.tensor([1e-6, 0.04 / M_INV + 1e-6], dtype=torch.float64).diag()  # covariance given the datum
AT_REST = torch.tensor([1.0, 1 / M_INV], dtype=torch.float64).diag()  # covariance of the prior


def transition(s: Tensor, t: Tensor) -> Tensor:
    """Ψ(t, s) = exp(F (t - s)) for times s and t of one shape, (…, 2, 2): closed form of critical damping."""
    b = BETA * (t - s) * math.sqrt(M_INV)
    entries = torch.stack([1 + b, math.sqrt(M_INV) * b, -b / math.sqrt(M_INV), 1 - b], -1)
    return entries.reshape(*b.shape, 2, 2) * (-b).exp()[..., None, None]


def covariance(t: Tensor) -> Tensor:
    """Σ_t of u_t given one datum, (…, 2, 2): the solution of Σ' = F Σ + Σ Fᵀ + G Gᵀ."""
    psi = transition(torch.zeros_like(t), t)
    return AT_REST + psi @ (AT_START - AT_REST) @ psi.mT


def apply(matrix: Tensor, u: Tensor) -> Tensor:
    """A 2×2 matrix, or one for each of n states, on (x, v) of states u (n, d, 2), in the dtype of u."""
    return u @ matrix.to(u).mT

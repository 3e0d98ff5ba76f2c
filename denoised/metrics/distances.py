"""Distances between two sets of features.

`frechet_distance` is the Fréchet distance between two Gaussians fitted to the features (Heusel et al. 2017,
arXiv:1706.08500, Eq. 6); with Inception features it is called FID. `kernel_distance` is the unbiased
squared maximum mean discrepancy with a cubic kernel (Bińkowski et al. 2018, arXiv:1801.01401, Eq. 4),
called KID there. The Fréchet distance is biased upwards for few samples, so only values at equal n are
comparable; the kernel distance is unbiased and may be slightly negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

VERSION = "1"  # raise it whenever a change alters values


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|μa - μb|² + tr(Σa + Σb - 2 (Σa Σb)^½) for features a (n, d) and b (m, d); at least 0, in float64.

    With centred features A and B the last trace is the nuclear norm of A Bᵀ / sqrt((n-1)(m-1)), an n×m
    matrix, which is cheaper than a d×d matrix root whenever n or m is below d. Raises ValueError for
    fewer than two samples, different d, or values that are not finite.
    """
    _check(a, b)
    a, b = a.double(), b.double()
    mean_a, mean_b = a.mean(dim=0), b.mean(dim=0)
    A, B = (a - mean_a) / (len(a) - 1) ** 0.5, (b - mean_b) / (len(b) - 1) ** 0.5
    few = min(len(a), len(b)) < a.shape[1]
    root_trace = torch.linalg.svdvals(A @ B.T).sum() if few else _root_trace(A.T @ A, B.T @ B)
    traces = A.square().sum() + B.square().sum()
    distance = (mean_a - mean_b).square().sum() + traces - 2 * root_trace
    return max(0.0, float(distance))


def _root_trace(cov_a: Tensor, cov_b: Tensor) -> Tensor:
    """tr((Σa Σb)^½) of two (d, d) covariances, through the symmetric Σa^½ Σb Σa^½."""
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    trace: Tensor = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return trace


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased MMD² of features a (n, d) and b (m, d) with k(x, y) = (x·y / d + 1)³, in float64.

    All pairs are used, not random subsets, so the value has no randomness of its own. Raises ValueError
    for fewer than two samples, different d, or values that are not finite.
    """
    _check(a, b)
    a, b = a.double(), b.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_off_diagonal(k: Tensor) -> Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    within = mean_off_diagonal(kernel(a, a)) + mean_off_diagonal(kernel(b, b))
    return float(within - 2 * kernel(a, b).mean())


def _check(a: Tensor, b: Tensor) -> None:
    for features in (a, b):
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"features must be (n, d) with n >= 2, not {tuple(features.shape)}")
        if not bool(torch.isfinite(features).all()):
            raise ValueError("features hold NaN or infinity")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features have different lengths: {a.shape[1]} and {b.shape[1]}")

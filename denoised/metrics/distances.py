"""Distances between two sets of features.

`frechet_distance` is the Fréchet distance between two Gaussians fitted to the features (Heusel et al. 2017,
arXiv:1706.08500, Eq. 6); with Inception features it is called FID. `kernel_distance` is the unbiased
squared maximum mean discrepancy with a cubic kernel (Bińkowski et al. 2018, arXiv:1801.01401, Eq. 4),
called KID there. The Fréchet distance is biased upwards for few samples, so only values at equal n are
comparable; the kernel distance is unbiased and may be slightly negative.

Everything is computed in float64, whatever the features are: covariances of float32 features in float32 lose
the small eigenvalues that the distance is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from denoised.metrics.facts import metric

BLOCK = 2048  # rows of a matrix over all pairs that are held in memory at once


@metric("fid", better="lower", low=0.0, least=2, version="1")
def frechet_distance(a: Tensor | Moments, b: Tensor) -> float:
    """|μa - μb|² + tr(Σa + Σb - 2 (Σa Σb)^½) for features a (n, d) and b (m, d); at least 0, in float64.

    Of a set that is too large to keep, `a` may be the moments.

    With centred features A and B the last trace is the nuclear norm of A Bᵀ / sqrt((n-1)(m-1)), an n×m
    matrix, which is cheaper than a d×d matrix root whenever n or m is below d. Raises ValueError for
    fewer than two samples, different d, or values that are not finite.
    """
    if isinstance(a, Moments):
        return frechet_distance_of_moments(a, Moments.of([b]))
    check_features(a, b)
    a, b = a.double(), b.double()
    mean_a, mean_b = a.mean(dim=0), b.mean(dim=0)
    A, B = a - mean_a, b - mean_b
    free_a, free_b = len(a) - 1, len(b) - 1  # degrees of freedom
    if min(len(a), len(b)) < a.shape[1]:
        root_trace = _nuclear_norm(A @ B.T) / (free_a * free_b) ** 0.5
    else:
        root_trace = _root_trace(A.T @ A / free_a, B.T @ B / free_b)
    return _frechet(mean_a - mean_b, A.square().sum() / free_a + B.square().sum() / free_b, root_trace)


@dataclass
class Moments:
    """The mean and covariance of features that come in batches, in float64: what a large set leaves behind.

    n: samples so far. mean: (d,). scatter: (d, d), the sum of outer products of the deviations from the mean.
    Batches are joined as in Chan, Golub and LeVeque 1983 (Eq. 2.1), so neither order nor size of the batches
    matters beyond rounding.
    """

    n: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    scatter: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))

    @classmethod
    def of(cls, batches: Iterable[Tensor]) -> Moments:
        """The moments of all batches (n_i, d) together."""
        moments = cls()
        for batch in batches:
            moments.add(batch)
        return moments

    def add(self, features: Tensor) -> None:
        """Take in more features (n, d). Raises ValueError for another d and for values that are not finite."""
        if features.ndim != 2:
            raise ValueError(f"features must be (n, d), not {tuple(features.shape)}")
        if not bool(torch.isfinite(features).all()):
            raise ValueError("features hold NaN or infinity")
        if self.n and features.shape[1] != len(self.mean):
            raise ValueError(f"features have different lengths: {len(self.mean)} and {features.shape[1]}")
        if not len(features):
            return
        features = features.double()
        mean = features.mean(dim=0)
        centred = features - mean
        new = Moments(len(features), mean, centred.T @ centred)
        joined = self + new if self.n else new
        self.n, self.mean, self.scatter = joined.n, joined.mean, joined.scatter

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets together."""
        n = self.n + other.n
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(step, step) * (self.n * other.n / n)
        return Moments(n, self.mean + step * (other.n / n), scatter)

    @property
    def covariance(self) -> Tensor:
        """(d, d), with n - 1 in the denominator. ValueError for fewer than two samples."""
        if self.n < 2:
            raise ValueError(f"a covariance needs two samples or more, not {self.n}")
        return self.scatter / (self.n - 1)


def frechet_distance_of_moments(a: Moments, b: Moments) -> float:
    """`frechet_distance` of sets too large to keep, from their moments; at least 0.

    Raises ValueError for fewer than two samples or different d.
    """
    cov_a, cov_b = a.covariance, b.covariance
    if len(cov_a) != len(cov_b):
        raise ValueError(f"features have different lengths: {len(cov_a)} and {len(cov_b)}")
    return _frechet(a.mean - b.mean, cov_a.trace() + cov_b.trace(), _root_trace(cov_a, cov_b))


def _frechet(difference: Tensor, traces: Tensor, root_trace: Tensor) -> float:
    return max(0.0, float(difference.square().sum() + traces - 2 * root_trace))


def _nuclear_norm(matrix: Tensor) -> Tensor:
    """The sum of the singular values of a float64 matrix.

    Through the eigenvalues of the smaller Gram matrix, several times faster than a singular value
    decomposition. Squaring costs the singular values below 1e-8 of the largest: far less than sampling does.
    """
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    norm: Tensor = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().sum()
    return norm


def _root_trace(cov_a: Tensor, cov_b: Tensor) -> Tensor:
    """tr((Σa Σb)^½) of two (d, d) covariances, through the symmetric Σa^½ Σb Σa^½."""
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    trace: Tensor = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return trace


@metric("kid", better="lower", least=2, version="1")
def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased MMD² of features a (n, d) and b (m, d) with k(x, y) = (x·y / d + 1)³, in float64.

    All pairs are used, not random subsets, so the value has no randomness of its own. Raises ValueError
    for fewer than two samples, different d, or values that are not finite.
    """
    check_features(a, b)
    a, b = a.double(), b.double()

    def mean_off_diagonal(x: Tensor) -> Tensor:
        diagonal = ((x.square().sum(dim=1) / x.shape[1] + 1) ** 3).sum()
        return (_kernel_sum(x, x) - diagonal) / (len(x) * (len(x) - 1))

    within = mean_off_diagonal(a) + mean_off_diagonal(b)
    return float(within - 2 * _kernel_sum(a, b) / (len(a) * len(b)))


def kernel_distances_of_subsets(a: Tensor, b: Tensor, subsets: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """(k,) float64: `kernel_distance` of k pairs of subsets, as published KIDs are averaged over a hundred.

    `subsets`: for each the rows taken from a and from b, (size,) int64, without repetition. Every kernel value
    is computed once for all subsets. Raises what `kernel_distance` raises, and ValueError for subsets of
    fewer than two rows.
    """
    check_features(a, b)
    a, b = a.double(), b.double()
    chosen_a, chosen_b = (
        _indicators([pair[side] for pair in subsets], len(x)) for side, x in ((0, a), (1, b))
    )
    n, m = chosen_a.sum(dim=1), chosen_b.sum(dim=1)
    if min(float(n.min()), float(m.min())) < 2:
        raise ValueError("a subset needs two rows or more")

    def within(x: Tensor, chosen: Tensor, size: Tensor) -> Tensor:
        kernel = _kernel(x, x).fill_diagonal_(0)
        return ((chosen @ kernel) * chosen).sum(dim=1) / (size * (size - 1))

    across = ((chosen_a @ _kernel(a, b)) * chosen_b).sum(dim=1) / (n * m)
    return within(a, chosen_a, n) + within(b, chosen_b, m) - 2 * across


def _indicators(rows: Sequence[Tensor], n: int) -> Tensor:
    """(k, n) float64: 1 where a subset has a row."""
    chosen = torch.zeros(len(rows), n, dtype=torch.float64)
    for i, subset in enumerate(rows):
        chosen[i, subset] = 1
    return chosen


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """The sum of k over all pairs, by BLOCK rows at a time: of 50,000 samples each the matrix would take 20 GB."""
    return torch.stack([_kernel(part, y).sum() for part in x.split(BLOCK)]).sum()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def check_features(a: Tensor, b: Tensor, least: int = 2) -> None:
    """Raise ValueError unless a and b are finite, of equal length d, and of `least` samples or more."""
    for features in (a, b):
        if features.ndim != 2 or len(features) < least:
            raise ValueError(f"features must be (n, d) with n >= {least}, not {tuple(features.shape)}")
        # NaN and infinity stay in a sum, and a sum is ten times as fast as a look at every number.
        if not bool(torch.isfinite(features.sum(dtype=torch.float64))):
            raise ValueError("features hold NaN or infinity")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features have different lengths: {a.shape[1]} and {b.shape[1]}")

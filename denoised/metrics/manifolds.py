"""How much of one set lies where the other does: fidelity and variety apart, which a distance mixes.

Each set's manifold is taken to be the union of balls around its samples that reach to their k-th nearest
neighbour in the same set. `precision` and `recall` as in Kynkäänniemi et al. 2019 (arXiv:1904.06991, Eq. 1-2),
`density` and `coverage` as in Naeem et al. 2020 (arXiv:2002.09797, section 3). Arguments come in one order, real
before drawn, because the four are not symmetric: precision and recall exchange when the sets do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from denoised.metrics.distances import BLOCK, check_features
from denoised.metrics.facts import metric


@dataclass(frozen=True)
class Overlap:
    """The four numbers of one pair of sets."""

    precision: float  # share of drawn samples within the real manifold, 0 … 1
    recall: float  # share of real samples within the drawn manifold, 0 … 1
    density: float  # how many real balls hold a drawn sample, over k, on average: 0 … n / k
    coverage: float  # share of real balls that hold a drawn sample, 0 … 1


def overlap(real: Tensor, drawn: Tensor, k: int) -> Overlap:
    """All four of features real (n, d) and drawn (m, d), in float64, by BLOCK rows of distances at a time.

    A ball holds what lies on its surface. Raises ValueError for sets of k samples or fewer, different d, or
    values that are not finite.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more, not {k}")
    check_features(real, drawn, least=k + 1)
    real, drawn = real.double(), drawn.double()
    radii_real, radii_drawn = _radii(real, k), _radii(drawn, k)
    balls = torch.zeros(len(drawn), dtype=torch.float64)  # how many of the real ones hold each drawn sample
    recalled, covered = 0.0, 0.0
    for rows, radii in zip(real.split(BLOCK), radii_real.split(BLOCK), strict=True):
        between = _distances(rows, drawn)
        inside_real = between <= radii[:, None]
        balls += inside_real.sum(dim=0)
        covered += float(inside_real.any(dim=1).sum())
        recalled += float((between <= radii_drawn[None, :]).any(dim=1).sum())
    return Overlap(
        precision=float((balls > 0).double().mean()),
        recall=recalled / len(real),
        density=float(balls.mean() / k),
        coverage=covered / len(real),
    )


@metric("precision", better="higher", low=0.0, high=1.0, least=4)
def precision(real: Tensor, drawn: Tensor, k: int = 3) -> float:
    """The share of drawn samples within the real manifold: fidelity. See `overlap`."""
    return overlap(real, drawn, k).precision


@metric("recall", better="higher", low=0.0, high=1.0, least=4)
def recall(real: Tensor, drawn: Tensor, k: int = 3) -> float:
    """The share of real samples within the drawn manifold: variety. See `overlap`."""
    return overlap(real, drawn, k).recall


@metric("density", better="higher", low=0.0, least=6)
def density(real: Tensor, drawn: Tensor, k: int = 5) -> float:
    """How many real balls hold a drawn sample, over k: fidelity that one outlier cannot inflate."""
    return overlap(real, drawn, k).density


@metric("coverage", better="higher", low=0.0, high=1.0, least=6)
def coverage(real: Tensor, drawn: Tensor, k: int = 5) -> float:
    """The share of real balls that hold a drawn sample: variety that one outlier cannot inflate."""
    return overlap(real, drawn, k).coverage


def _radii(features: Tensor, k: int) -> Tensor:
    """(n,): each sample's distance to its k-th nearest neighbour, itself not counted."""
    parts = features.split(BLOCK)
    return torch.cat([_distances(part, features).kthvalue(k + 1, dim=1).values for part in parts])


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # Not by a matrix product, whose rounding would decide who lies on the surface of a ball.
    distances: Tensor = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return distances

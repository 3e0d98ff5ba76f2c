"""Precision, recall, density and coverage: a naive loop, known manifolds, and which is which."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoised.metrics import manifolds
from denoised.metrics.manifolds import coverage, density, overlap, precision, recall


def normal(n: int, d: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(real: Tensor, drawn: Tensor, k: int) -> tuple[float, float, float, float]:
    def radius(x: Tensor, i: int) -> float:
        return sorted(float((x[i] - y).norm()) for y in x)[k]  # [0] is itself

    real_radii = [radius(real, i) for i in range(len(real))]
    drawn_radii = [radius(drawn, j) for j in range(len(drawn))]
    near = [[float((r - d).norm()) for d in drawn] for r in real]
    n, m = len(real), len(drawn)
    inside = [[near[i][j] <= real_radii[i] for j in range(m)] for i in range(n)]
    return (
        sum(any(inside[i][j] for i in range(n)) for j in range(m)) / m,
        sum(any(near[i][j] <= drawn_radii[j] for j in range(m)) for i in range(n)) / n,
        sum(sum(row) for row in inside) / (k * m),
        sum(any(row) for row in inside) / n,
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_all_four_by_loops(k: int) -> None:
    real, drawn = normal(18, 3, 0), normal(13, 3, 1, 0.8) + 0.3
    found = overlap(real, drawn, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(
        by_loops(real, drawn, k)
    )


@pytest.mark.parametrize("rows", [1, 7, 18])
def test_they_do_not_depend_on_how_many_rows_are_taken_at_once(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, drawn = normal(18, 3, 0), normal(13, 3, 1, 0.8) + 0.3
    whole = overlap(real, drawn, 3)
    monkeypatch.setattr(manifolds, "BLOCK", rows)
    assert overlap(real, drawn, 3) == whole


def test_a_small_cluster_within_the_real_ones_is_precise_but_does_not_cover() -> None:
    """The case that torch-fidelity documents for its convention: it fails where precision and recall change places."""
    real, drawn = normal(200, 2, 0), normal(200, 2, 1, 0.05)
    assert precision(real, drawn) > 0.95 and recall(real, drawn) < 0.1
    assert coverage(real, drawn) < 0.3 and density(real, drawn) > 0.9
    # seen from the other side, precision and recall exchange
    assert precision(drawn, real) == recall(real, drawn) and recall(drawn, real) == precision(real, drawn)


def test_the_same_distribution_has_density_one_and_the_coverage_of_the_paper() -> None:
    """Naeem et al., Lemmas 1 and 2: E density = 1; E coverage = 1 - (m-1)…(m-k) / (n+m-1)…(n+m-k) for m real, n drawn."""
    n, k, found = 300, 5, []
    for seed in range(10):
        found.append(overlap(normal(n, 8, 2 * seed), normal(n, 8, 2 * seed + 1), k))
    expected = 1.0
    for j in range(1, k + 1):
        expected *= (n - j) / (2 * n - j)
    assert sum(each.density for each in found) / 10 == pytest.approx(1, abs=0.05)
    assert sum(each.coverage for each in found) / 10 == pytest.approx(1 - expected, abs=0.01)


def test_an_outlier_among_the_real_inflates_precision_but_not_density() -> None:
    real, drawn = normal(100, 2, 0), normal(100, 2, 1) + torch.tensor([0.0, 20.0])
    assert precision(real, drawn) == 0
    outlier = torch.cat(
        [real, torch.tensor([[0.0, 40.0]], dtype=torch.float64)]
    )  # its ball reaches back to the real
    assert precision(outlier, drawn) == 1 and density(outlier, drawn) < 0.5
    assert coverage(outlier, drawn) < 0.02


def test_sets_that_are_equal_overlap_and_order_does_not_matter() -> None:
    x = normal(40, 6, 0)
    same = overlap(x, x, 3)
    assert same.precision == same.recall == same.coverage == 1
    shuffled = x[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    assert overlap(x, normal(30, 6, 1), 3) == overlap(shuffled, normal(30, 6, 1), 3)


def test_impossible_sets_are_refused() -> None:
    x = normal(10, 3, 0)
    with pytest.raises(ValueError, match=r"n >= 4, not \(3, 3\)"):
        overlap(x, x[:3], 3)
    with pytest.raises(ValueError, match="k must be 1 or more, not 0"):
        overlap(x, x, 0)
    with pytest.raises(ValueError, match="different lengths: 3 and 2"):
        overlap(x, x[:, :2], 3)
    with pytest.raises(ValueError, match="NaN or infinity"):
        overlap(x, x / 0, 3)

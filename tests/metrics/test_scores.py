"""Numbers read off probabilities, against torchmetrics, closed forms and by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.text import perplexity as their_perplexity

from denoised.metrics.scores import (
    bits_per_dimension,
    curvature,
    estimate_deviation,
    exact_match,
    inception_score,
    mode_share_error,
    perplexity,
    success_rate,
)


def test_inception_score_of_sure_and_unsure_judges() -> None:
    """Ten classes, each surely and equally often: 10. Always the same answer, or no idea: 1."""
    sure = torch.eye(10).repeat(4, 1).clamp(min=1e-30).log()
    assert inception_score(sure) == pytest.approx(10, rel=1e-6)
    assert inception_score(sure[:1].expand(8, -1)) == pytest.approx(1, abs=1e-6)
    assert inception_score(torch.full((8, 10), math.log(0.1))) == pytest.approx(1, abs=1e-6)


def test_inception_score_is_the_exponential_of_the_mutual_information() -> None:
    """I(x; y) = H(y) - H(y | x), with entropies by torch.distributions; over splits, the mean of the scores."""
    log_p = F.log_softmax(2 * torch.randn(60, 7, generator=torch.Generator().manual_seed(0)).double(), dim=1)

    def score(rows: torch.Tensor) -> float:
        p = rows.exp()
        marginal = torch.distributions.Categorical(probs=p.mean(0)).entropy()
        return float((marginal - torch.distributions.Categorical(probs=p).entropy().mean()).exp())

    assert inception_score(log_p) == pytest.approx(score(log_p), rel=1e-9)
    thirds = [score(log_p[i : i + 20]) for i in (0, 20, 40)]
    assert inception_score(log_p, splits=3) == pytest.approx(sum(thirds) / 3, rel=1e-9)


def test_bits_per_dimension_of_known_densities() -> None:
    """A uniform density over 256 levels costs 8 bits; a standard normal its entropy, ½ log2(2πe)."""
    assert bits_per_dimension(torch.zeros(2), 3072, levels=256).tolist() == [8, 8]
    x = torch.randn(200_000, 4, generator=torch.Generator().manual_seed(0))
    nll = -torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(dim=1)
    entropy = 0.5 * math.log2(2 * math.pi * math.e)
    assert float(bits_per_dimension(nll, 4).mean()) == pytest.approx(entropy, abs=0.005)


def test_perplexity_by_torchmetrics() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 11, generator=random)
    tokens = torch.randint(0, 11, (3, 6), generator=random)
    counted = torch.ones(3, 6, dtype=torch.bool)
    counted[1, 4:] = counted[2, 2:] = False
    log_p = F.log_softmax(logits, dim=2).gather(2, tokens[:, :, None])[:, :, 0]
    theirs = their_perplexity(logits, torch.where(counted, tokens, -100), ignore_index=-100)
    assert perplexity(log_p, counted) == pytest.approx(float(theirs), rel=1e-5)
    assert perplexity(torch.full((1, 5), math.log(1 / 50))) == pytest.approx(50)


def test_shares() -> None:
    assert exact_match(["a cat", "two  dogs ", "x"], ["a cat", "two dogs", "y"]) == pytest.approx(2 / 3)
    assert success_rate(torch.tensor([True, False, True, True])) == 0.75


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="apply log_softmax to logits"):
        inception_score(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match=r"3 splits need two rows .* not \(5, 4\)"):
        inception_score(torch.full((5, 4), math.log(0.25)), splits=3)
    with pytest.raises(ValueError, match="NaN or infinity"):
        bits_per_dimension(torch.tensor([math.nan]), 3)
    with pytest.raises(ValueError, match="must be positive"):
        bits_per_dimension(torch.zeros(1), 0)
    with pytest.raises(ValueError, match="finite and at most 0"):
        perplexity(torch.tensor([[-1.0, 0.5]]))
    with pytest.raises(ValueError, match="finite and at most 0"):
        perplexity(torch.tensor([[-1.0, -math.inf]]))
    with pytest.raises(ValueError, match="no tokens"):
        perplexity(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="1 answers cannot be compared with 2"):
        exact_match(["a"], ["a", "b"])
    with pytest.raises(ValueError, match=r"truth values, not torch\.float32"):
        success_rate(torch.ones(3))


def test_mode_share_error_by_hand() -> None:
    weights = torch.tensor([0.2, 0.8])
    assert mode_share_error(torch.tensor([0, 1, 1, 1, 1]), weights) == pytest.approx(0, abs=1e-7)
    assert mode_share_error(torch.tensor([0, 1]), weights) == pytest.approx(0.3)
    assert mode_share_error(torch.tensor([0, 0, 0]), weights) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="modes must be numbers from 0 to 1"):
        mode_share_error(torch.tensor([2]), weights)


def test_estimate_deviation_of_a_known_distribution() -> None:
    """A uniform variable has a standard deviation of 1 / sqrt(12), and even quantiles of it nearly the same."""
    assert estimate_deviation((torch.arange(10_000) + 0.5) / 10_000) == pytest.approx(12**-0.5, rel=1e-4)
    with pytest.raises(ValueError, match="n of at least 2"):
        estimate_deviation(torch.ones(1))


def test_curvature_is_zero_for_straight_paths_alone() -> None:
    straight = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    assert curvature(straight.expand(4, 2, 2), straight) == 0
    detour = torch.stack([straight + 1, straight - 1])  # the same way on average
    assert curvature(detour, straight) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"velocities must be \(steps, \*\(2, 2\)\), not \(2, 2\)"):
        curvature(straight, straight)

"""Numbers read off probabilities: the inception-style score, bits per dimension, perplexity, shares, spreads.

Plain functions of tensors; which network the probabilities come from is part of the metric's name.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from denoised.metrics.facts import metric


@metric("is", better="higher", low=1.0, least=2)
def inception_score(log_probabilities: Tensor, splits: int = 1) -> float:
    """exp(E_x KL(p(y|x) ‖ p(y))) of log p(y|x), (n, classes): 1 … classes, averaged over `splits`.

    Salimans et al. 2016 (arXiv:1606.03498, section 4). With Inception's thousand classes it is called the
    Inception score. p(y) is the mean over the samples of a split, taken in their order. The score rises with
    n, so only values at equal n and splits are comparable. Raises ValueError for rows that are no
    probabilities, and for splits of fewer than two samples.
    """
    if log_probabilities.ndim != 2 or splits < 1 or len(log_probabilities) < 2 * splits:
        raise ValueError(
            f"{splits} splits need two rows (n, classes) each or more, not {tuple(log_probabilities.shape)}"
        )
    p = log_probabilities.double().exp()
    if not bool(torch.isfinite(p).all()) or float((p.sum(dim=1) - 1).abs().max()) > 1e-3:
        raise ValueError(
            "rows must be logarithms of probabilities that sum to 1: apply log_softmax to logits"
        )
    scores = []
    for part in p.tensor_split(splits):
        marginal = part.mean(dim=0, keepdim=True)
        divergence = (torch.xlogy(part, part) - torch.xlogy(part, marginal)).sum(dim=1).mean()
        scores.append(divergence.exp())
    return float(torch.stack(scores).mean())


@metric("bits-per-dimension", better="lower")
def bits_per_dimension(nll: Tensor, dimensions: int, levels: int = 1) -> Tensor:
    """(n,) negative log-likelihoods in nats as bits for each of `dimensions` numbers.

    `levels`: 256 where the density is over pictures of 256 grey levels that were scaled to an interval of
    length 1 (127.5 for [-1, 1]): the change of variables adds log2(levels). Raises ValueError for NaN.
    """
    if dimensions < 1 or levels <= 0:
        raise ValueError("dimensions and levels must be positive")
    if not bool(torch.isfinite(nll).all()):
        raise ValueError("negative log-likelihoods hold NaN or infinity")
    return nll.double() / (dimensions * math.log(2)) + math.log2(levels)


@metric("perplexity", better="lower", low=1.0)
def perplexity(log_probabilities: Tensor, counted: Tensor | None = None) -> float:
    """exp of the mean negative log-probability of the tokens that occur, over all texts together.

    `log_probabilities`: (n, length), of each token given those before. `counted`: (n, length) bool, False for
    padding. Raises ValueError where no token counts, or one is impossible (log 0) or not a probability.
    """
    counted = torch.ones_like(log_probabilities, dtype=torch.bool) if counted is None else counted
    chosen = log_probabilities[counted].double()
    if not len(chosen):
        raise ValueError("there are no tokens to count")
    if not bool(torch.isfinite(chosen).all()) or float(chosen.max()) > 1e-6:
        raise ValueError("log-probabilities must be finite and at most 0")
    return float((-chosen.mean()).exp())


@metric("exact-match", better="higher", low=0.0, high=1.0)
def exact_match(answers: list[str], wanted: list[str]) -> float:
    """The share of answers that are the wanted text, white space around and between words aside.

    Raises ValueError for different numbers of the two, or none.
    """
    if len(answers) != len(wanted) or not answers:
        raise ValueError(f"{len(answers)} answers cannot be compared with {len(wanted)}")
    return sum(a.split() == b.split() for a, b in zip(answers, wanted, strict=True)) / len(answers)


@metric("success-rate", better="higher", low=0.0, high=1.0)
def success_rate(succeeded: Tensor) -> float:
    """The share of episodes, (n,) bool, that reached their goal. ValueError for none."""
    if succeeded.ndim != 1 or not len(succeeded) or succeeded.dtype != torch.bool:
        raise ValueError(
            f"episodes must be (n,) truth values, not {succeeded.dtype} {tuple(succeeded.shape)}"
        )
    return float(succeeded.double().mean())


@metric("mode-share-error", better="lower", low=0.0, high=1.0)
def mode_share_error(modes: Tensor, weights: Tensor) -> float:
    """The total variation distance between how often each mode was drawn and its true weight.

    `modes`: (n,) the number of the mode that each sample belongs to. `weights`: (k,), summing to 1. Raises
    ValueError where a number has no weight, or there are none.
    """
    k = len(weights)
    if not len(modes) or int(modes.min()) < 0 or int(modes.max()) >= k:
        raise ValueError(f"modes must be numbers from 0 to {k - 1}, at least one")
    shares = torch.bincount(modes, minlength=k).double() / len(modes)
    return float((shares - weights.double()).abs().sum() / 2)


@metric("estimate-deviation", better="lower", low=0.0, least=2)
def estimate_deviation(estimates: Tensor) -> float:
    """The standard deviation of repeated estimates (n,) of one number, each from a single draw.

    That of the mean of n independent ones is smaller by sqrt(n). Raises ValueError for fewer than two.
    """
    if estimates.ndim != 1 or len(estimates) < 2:
        raise ValueError(f"estimates must be (n,) with n of at least 2, not {tuple(estimates.shape)}")
    return float(estimates.double().std())


@metric("curvature", better="lower", low=0.0)
def curvature(velocities: Tensor, straight: Tensor) -> float:
    """The mean squared difference of the velocities met on a path and the straight way from its start to its end.

    `velocities`: (steps, n, …); `straight`: (n, …). Zero for straight paths of constant speed (Lee, Kim and Ye
    2023, arXiv:2301.12003, section 3). Raises ValueError where the shapes do not match.
    """
    if velocities.shape[1:] != straight.shape:
        raise ValueError(
            f"velocities must be (steps, *{tuple(straight.shape)}), not {tuple(velocities.shape)}"
        )
    return float((velocities.double() - straight.double()).square().mean())

"""How near two pictures are to a network that knows pictures: LPIPS arithmetic and structure distance.

Both compare feature maps of one named backbone, `(n, c, h, w)` each; values of different backbones are not
comparable, so a metric's name carries the backbone's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.metrics.facts import metric


@metric("perceptual", better="lower", low=0.0)
def perceptual_distance(
    a: Sequence[Tensor], b: Sequence[Tensor], weights: Sequence[Tensor] | None = None
) -> Tensor:
    """(n,) float32: the distance of feature maps a and b, one tensor for each layer.

    Zhang et al. 2018 (arXiv:1801.03924, Eq. 1): channels are scaled to unit length at every place, squared
    differences weighted by channel, averaged over places and added over layers. `weights`: (c,) for each layer,
    the learned w² of LPIPS; all one if None, which the paper calls the uncalibrated cosine distance (times 2).
    Raises ValueError where layers or shapes do not match, or a weight is negative.
    """
    if len(a) != len(b) or not a or (weights is not None and len(weights) != len(a)):
        raise ValueError(f"the two sides need the same layers and weights: {len(a)} and {len(b)}")
    total = torch.zeros(len(a[0]))
    for layer, (x, y) in enumerate(zip(a, b, strict=True)):
        if x.shape != y.shape or x.ndim != 4:
            raise ValueError(
                f"layer {layer}: maps must be (n, c, h, w) twice, not {tuple(x.shape)}, {tuple(y.shape)}"
            )
        squares = (F.normalize(x, dim=1, eps=1e-10) - F.normalize(y, dim=1, eps=1e-10)).square()
        if weights is not None:
            if float(weights[layer].min()) < 0:
                raise ValueError(f"layer {layer}: weights must not be negative")
            squares = squares * weights[layer].view(1, -1, 1, 1)
        total = total + squares.sum(dim=1).mean(dim=(1, 2)).cpu()
    return total


@metric("diversity", better="higher", low=0.0, least=2)
def diversity(maps: Sequence[Tensor], size: int) -> Tensor:
    """(n,): how far each sample is on average from the others of its group, by the perceptual distance.

    `maps`: feature maps (n, c, h, w) of one layer each, samples of a group one after another; `size`: how many
    a group has. Raises ValueError for groups of one, or an n that they do not divide.
    """
    n = len(maps[0])
    if size < 2 or n % size:
        raise ValueError(f"{n} samples do not fall into groups of {size}, of at least 2")
    place, first = torch.arange(n) % size, torch.arange(n) // size * size
    others = [first + (place + shift) % size for shift in range(1, size)]
    distances = [perceptual_distance(maps, [layer[rows] for layer in maps]) for rows in others]
    return torch.stack(distances).mean(dim=0)


@metric("structure-distance", better="lower", low=0.0, high=4.0)
def structure_distance(a: Tensor, b: Tensor) -> Tensor:
    """(n,) float32: how much the self-similarity of a map (n, c, h, w) has changed in another.

    The self-similarity of a map is the matrix of cosines between the features of all its places; the distance
    is the mean square difference of the two matrices (the structure loss of Tumanyan et al. 2022,
    arXiv:2201.00424, which takes keys of DINO-ViT). It keeps what is where and drops how it looks. Raises
    ValueError for different shapes or a map of a single place.
    """
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"maps must be (n, c, h, w) twice, not {tuple(a.shape)} and {tuple(b.shape)}")
    if a.shape[2] * a.shape[3] < 2:
        raise ValueError("a map of a single place has no structure: take an earlier layer")

    def similarity(x: Tensor) -> Tensor:
        places = F.normalize(x.flatten(2), dim=1)
        return places.transpose(1, 2) @ places

    return (similarity(a) - similarity(b)).square().mean(dim=(1, 2)).cpu()

"""Edges of pictures, and how well one set of edges agrees with another.

The agreement is the boundary F-measure of segmentation benchmarks (Martin, Fowlkes and Malik 2004,
doi:10.1109/TPAMI.2004.1273918) with a fixed tolerance and without their one-to-one matching: precision is
the share of found edges that lie near a wanted one, recall the share of wanted edges near a found one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.metrics.facts import metric
from denoised.metrics.features import check_pictures

THRESHOLD = 0.3  # of the gradient; 1 is what a step from black to white has on either side
SIZE = 64  # pixels a side at which edges are looked for, whatever the size of the pictures


def sobel_edges(pictures: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """(n, 1, h, w) bool: where some colour channel of pictures (n, 3, h, w) in [-1, 1] changes sharply.

    The gradient is Sobel's, scaled so that a step from -1 to 1 gives 1 on both of its sides. Raises
    ValueError for other shapes, for NaN, and for values outside [-1, 1].
    """
    check_pictures(pictures)
    n, c, h, w = pictures.shape
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=pictures.device) / 8
    kernels = torch.stack([across, across.T])[:, None]
    padded = F.pad(pictures.reshape(n * c, 1, h, w), (1, 1, 1, 1), mode="replicate")
    gradient = F.conv2d(padded, kernels).square().sum(dim=1).sqrt().reshape(n, c, h, w)
    return gradient.amax(dim=1, keepdim=True) > threshold


def edge_f1(found: Tensor, wanted: Tensor, tolerance: int = 1) -> Tensor:
    """(n,) float32 in [0, 1]: the F1 of edges (n, 1, h, w) bool within `tolerance` pixels, diagonals included.

    1 where both pictures have no edges, 0 where one of them has none. Raises ValueError for different shapes
    and for a negative tolerance.
    """
    if found.shape != wanted.shape or found.ndim != 4 or found.shape[1] != 1:
        shapes = f"{tuple(found.shape)} and {tuple(wanted.shape)}"
        raise ValueError(f"edges must be two maps of one shape (n, 1, height, width), not {shapes}")
    if tolerance < 0:
        raise ValueError(f"tolerance must be at least 0 pixels, not {tolerance}")

    def near(edges: Tensor) -> Tensor:
        return F.max_pool2d(edges, 2 * tolerance + 1, stride=1, padding=tolerance)

    a, b = found.float(), wanted.float()
    counts = [edges.sum(dim=(1, 2, 3)) for edges in (a, b, a * near(b), b * near(a))]
    n_found, n_wanted, found_right, wanted_right = counts
    precision, recall = found_right / n_found.clamp(min=1), wanted_right / n_wanted.clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where((n_found == 0) & (n_wanted == 0), 1.0, f1)


@metric("edge-agreement", better="higher", low=0.0, high=1.0)
def edge_agreement(pictures: Tensor, wanted: Tensor) -> Tensor:
    """(n,) float32 in [0, 1]: the F1 of the edges in pictures (n, 3, h, w) with `wanted` (n, 1, SIZE, SIZE).

    Pictures of another size are averaged down or enlarged to SIZE pixels first; one pixel of shift is
    tolerated. Raises what `sobel_edges` and `edge_f1` raise.
    """
    check_pictures(pictures)
    if pictures.shape[-1] != SIZE:
        pictures = F.interpolate(pictures, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    return edge_f1(sobel_edges(pictures.clamp(-1, 1)), wanted > 0.5)

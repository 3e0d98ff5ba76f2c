"""Is it the same thing? A picture's subject cut out of its background, and compared by features.

For pictures of one thing on an even background: scenes of the emoji world, and what a model draws for them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.metrics.facts import metric
from denoised.metrics.features import check_pictures

CONTRAST = 0.3  # difference of a colour channel from the background, of 2, that counts as subject
MARGIN = 0.06  # left free around the subject, as a fraction of the cut-out's side


def foreground(pictures: Tensor, contrast: float = CONTRAST) -> Tensor:
    """(n, h, w) bool: pixels whose colour is not that of the background, in pictures (n, 3, h, w) in [-1, 1].

    The background's colour is the median of the outermost pixels, channel by channel. A pixel counts when
    most of its 3×3 neighbourhood stands out, so that single speckles do not.
    """
    check_pictures(pictures)
    frame = torch.cat(
        [pictures[:, :, 0], pictures[:, :, -1], pictures[:, :, :, 0], pictures[:, :, :, -1]], dim=2
    )
    colour = frame.median(dim=2).values[:, :, None, None]
    differs = ((pictures - colour).abs().amax(dim=1, keepdim=True) > contrast).float()
    return F.avg_pool2d(differs, 3, stride=1, padding=1)[:, 0] > 0.5


def subject_regions(pictures: Tensor, size: int = 64) -> Tensor:
    """(n, 3, size, size) in [-1, 1]: each picture's subject, cut out on white and scaled to fill the square.

    A picture in which nothing stands out gives a white square. Raises what `foreground` raises.
    """
    inside = foreground(pictures)
    regions = torch.ones(len(pictures), 3, size, size, device=pictures.device)
    for i in inside.any(dim=(1, 2)).nonzero().squeeze(1).tolist():
        rows, columns = (inside[i].any(dim=axis).nonzero().squeeze(1) for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
        side = max(height, width)
        free = round(MARGIN * side)
        square = torch.ones(1, 3, side + 2 * free, side + 2 * free, device=pictures.device)
        y, x = free + (side - height) // 2, free + (side - width) // 2
        box = (slice(top, top + height), slice(left, left + width))
        square[0, :, y : y + height, x : x + width] = torch.where(inside[i][box], pictures[i][:, *box], 1.0)
        regions[i] = F.interpolate(square, size=(size, size), mode="bilinear", antialias=True)[0]
    return regions.clamp(-1, 1)


@metric("subject-similarity", better="higher", low=-1.0, high=1.0)
def similarity(features: Tensor, references: Tensor) -> Tensor:
    """(n,) float32 in [-1, 1]: the mean cosine of features (n, d) with n sets of references (n, m, d)."""
    return F.cosine_similarity(features[:, None], references, dim=2).mean(dim=1)


@metric("subject-recognised", better="higher", low=0.0, high=1.0)
def recognised(features: Tensor, prototypes: Tensor, wanted: Tensor) -> Tensor:
    """(n,) bool: whether the prototype (of m, d) of largest cosine with the features (n, d) is the one wanted, (n,)."""
    return (F.normalize(features, dim=1) @ F.normalize(prototypes, dim=1).T).argmax(dim=1) == wanted

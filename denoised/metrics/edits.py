"""What an edit kept of a picture: its background, and where its thing is.

For pictures of one thing on a plain background, where the thing can be found by its colour alone.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from denoised.metrics.facts import metric
from denoised.metrics.subjects import foreground

GROWN = 2  # pixels around a thing that are not counted as background: a decoder blurs that far


def things(pictures: Tensor) -> Tensor:
    """(n, h, w) bool: where pictures (n, 3, h, w) in [-1, 1] have their thing, with its holes filled.

    A pixel is inside if pixels that stand out from the background lie on both sides of it, along its row and
    along its column. Raises what `denoised.metrics.subjects.foreground` raises.
    """
    found = foreground(pictures).int()

    def between(dim: int) -> Tensor:
        before, behind = found.cummax(dim).values, found.flip(dim).cummax(dim).values.flip(dim)
        return before * behind

    return (between(1) * between(2)).bool()


@metric("background-rmse", better="lower", low=0.0)
def outside_rmse(source: Tensor, edited: Tensor, inside: Tensor) -> float:
    """Root mean square difference of pictures (n, 3, h, w) outside `inside` (n, h, w) bool, grown by GROWN pixels.

    In grey levels of 255, over all pixels of all pictures at once. Raises ValueError where nothing is outside.
    """
    outside = 1 - F.max_pool2d(inside[:, None].float(), 2 * GROWN + 1, stride=1, padding=GROWN)
    if not bool(outside.any()):
        raise ValueError("the things cover every pixel of every picture: no background is left to compare")
    squares = ((source - edited).square() * outside).sum() / (source.shape[1] * outside.sum())
    return float(squares.sqrt() * 127.5)


@metric("layout-iou", better="higher", low=0.0, high=1.0)
def layout_iou(source: Tensor, edited: Tensor) -> Tensor:
    """(n,) in [0, 1]: intersection over union of two regions (n, h, w) bool; 0 where both are empty."""
    both, either = (source & edited).sum(dim=(1, 2)), (source | edited).sum(dim=(1, 2))
    return both / either.clamp(min=1)


@metric("picture-rmse", better="lower", low=0.0)
def picture_rmse(source: Tensor, edited: Tensor) -> Tensor:
    """(n,) root mean square difference of whole pictures (n, 3, h, w), in grey levels of 255."""
    return (source - edited).square().mean(dim=(1, 2, 3)).sqrt() * 127.5

"""Whether a clip holds together: features from frame to frame, and pixels along the true motion.

Clips are (n, frames, 3, h, w) in [-1, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.metrics.facts import metric


@metric("temporal-consistency", better="higher", low=-1.0, high=1.0)
def temporal_consistency(features: Tensor) -> Tensor:
    """(n,) float32: the mean cosine of neighbouring frames' features (n, frames, d).

    With CLIP features the "frame consistency" of video papers (Esser et al. 2023, arXiv:2302.03011). A still
    picture has 1, so it says nothing without a measure of what the clip should show. Raises ValueError for
    fewer than two frames and for values that are not finite.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise ValueError(f"features must be (n, frames >= 2, d), not {tuple(features.shape)}")
    if not bool(torch.isfinite(features).all()):
        raise ValueError("features hold NaN or infinity")
    return F.cosine_similarity(features[:, :-1], features[:, 1:], dim=2).mean(dim=1)


@metric("warping-error", better="lower", low=0.0)
def warping_error(clips: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """(n,) float32: root mean square difference, in grey levels of 255, of each frame and the next one moved back.

    `flow`: (n, frames - 1, 2, h, w), how far each pixel of a frame moves to the next one, x then y, in pixels.
    `visible`: (n, frames - 1, h, w) bool, pixels that can be followed. As in Lai et al. 2018
    (arXiv:1808.00449), with the true motion instead of an estimate. Raises ValueError for other shapes, and
    where nothing is visible.
    """
    n, frames, _, h, w = clips.shape
    if frames < 2 or flow.shape != (n, frames - 1, 2, h, w) or visible.shape != (n, frames - 1, h, w):
        raise ValueError(
            f"clips {tuple(clips.shape)} need flow {(n, frames - 1, 2, h, w)} and visible {(n, frames - 1, h, w)}, "
            f"not {tuple(flow.shape)} and {tuple(visible.shape)}"
        )
    if not bool(visible.flatten(1).any(dim=1).all()):
        raise ValueError("a clip has no pixel that can be followed")
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    target_x = (x + flow[:, :, 0] + 0.5) / w * 2 - 1
    target_y = (y + flow[:, :, 1] + 0.5) / h * 2 - 1
    grid = torch.stack([target_x, target_y], dim=-1).flatten(0, 1)
    following = F.grid_sample(clips[:, 1:].flatten(0, 1), grid.to(clips), align_corners=False)
    squares = (following.unflatten(0, (n, frames - 1)) - clips[:, :-1]).square().mean(dim=2) * visible
    error: Tensor = (squares.sum(dim=(1, 2, 3)) / visible.sum(dim=(1, 2, 3))).sqrt() * 127.5
    return error

"""How near two pictures are, pixel by pixel and structure by structure: PSNR, SSIM and MS-SSIM.

Pictures are (n, c, h, w) in [-1, 1]; the formulas, whose constants depend on the range, are computed on [0, 1]
in float64. One value for each pair of pictures: average what you report, and say over how many.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.metrics.facts import metric
from denoised.metrics.features import check_pictures

WINDOW, SIGMA = 11, 1.5  # the Gaussian window of SSIM, in pixels
K1, K2 = 0.01, 0.03
# The weights of MS-SSIM's five scales, from the finest: Wang et al. 2003, section 3.2.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@metric("psnr", better="higher", low=0.0)
def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(n,) float64: the peak signal-to-noise ratio in dB, 10 log10(1 / mean squared error); inf where equal.

    Raises ValueError for different shapes, for NaN, and for values outside [-1, 1].
    """
    a, b = _unit(a, b)
    return -10 * (a - b).square().flatten(1).mean(dim=1).log10()


@metric("ssim", better="higher", low=-1.0, high=1.0)
def ssim(a: Tensor, b: Tensor) -> Tensor:
    """(n,) float64 in [-1, 1]: the structural similarity, 1 where equal.

    Wang, Bovik, Sheikh and Simoncelli 2004 (IEEE TIP 13(4), Eq. 13): a Gaussian window of 11×11 pixels and
    sigma 1.5, covariances with n in the denominator, averaged over the windows that lie wholly inside the
    picture and over channels. Raises what `psnr` raises, and ValueError for pictures smaller than the window.
    """
    a, b = _unit(a, b)
    _check_size(a, 1)
    luminance, structure = _terms(a, b)
    return (luminance * structure).flatten(1).mean(dim=1)


@metric("ms-ssim", better="higher", low=0.0, high=1.0)
def ms_ssim(a: Tensor, b: Tensor, scales: int = 5) -> Tensor:
    """(n,) float64 in [0, 1]: the structural similarity over several scales.

    Wang, Simoncelli and Bovik 2003 (Asilomar, Eq. 7): contrast and structure of every scale, luminance of the
    coarsest alone; each scale halves the one before by averaging. A negative structure counts as 0. Small
    pictures have room for fewer than five scales (64 pixels: 3): their weights are then scaled to sum to 1,
    and values are comparable only at equal `scales`, so name them with it. Raises what `psnr` raises, and
    ValueError where the coarsest scale would be smaller than the window.
    """
    if not 1 <= scales <= len(SCALE_WEIGHTS):
        raise ValueError(f"scales must lie in 1 … {len(SCALE_WEIGHTS)}, not {scales}")
    a, b = _unit(a, b)
    _check_size(a, scales)
    weights = torch.tensor(SCALE_WEIGHTS[:scales], dtype=torch.float64)
    if scales < len(SCALE_WEIGHTS):  # all five are used as printed, though they sum to 1.0001
        weights /= weights.sum()
    product = torch.ones(len(a), a.shape[1], dtype=torch.float64, device=a.device)
    for scale, weight in enumerate(weights.tolist()):
        luminance, structure = _terms(a, b)
        term = structure if scale < scales - 1 else luminance * structure
        product = product * term.mean(dim=(2, 3)).clamp(min=0) ** weight
        a, b = (F.avg_pool2d(x, 2) for x in (a, b))
    return product.mean(dim=1)


@metric("round-trip-error", better="lower", low=0.0)
def round_trip_error(x: Tensor, again: Tensor) -> Tensor:
    """(n,) float64: |again - x| / |x| of pictures or latents (n, …) and what inversion and sampling gave back.

    Raises ValueError for different shapes, for an x of zeros, and for values that are not finite.
    """
    if x.shape != again.shape or x.ndim < 2:
        raise ValueError(
            f"a round trip ends in the shape it began with: {tuple(x.shape)}, {tuple(again.shape)}"
        )
    if not bool(torch.isfinite(x).all() and torch.isfinite(again).all()):
        raise ValueError("the round trip holds NaN or infinity")
    length = x.double().flatten(1).norm(dim=1)
    if not bool((length > 0).all()):
        raise ValueError("an x of zeros has no relative error")
    error: Tensor = (again.double() - x.double()).flatten(1).norm(dim=1) / length
    return error


def _terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's luminance, and its contrast times structure, at every window: (n, c, h - 10, w - 10)."""
    place = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    line = torch.exp(-place.square() / (2 * SIGMA**2))
    line = line / line.sum()

    def blurred(x: Tensor) -> Tensor:
        channels = x.shape[1]
        rows = F.conv2d(x, line.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
        return F.conv2d(rows, line.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)

    mean_a, mean_b = blurred(a), blurred(b)
    variance_a, variance_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (variance_a + variance_b + c2)


def _unit(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 and [0, 1], after everything that can be wrong with them was checked."""
    if a.shape != b.shape:
        raise ValueError(
            f"pictures must come in pairs of one shape, not {tuple(a.shape)} and {tuple(b.shape)}"
        )
    for x in (a, b):
        check_pictures(x, channels=None)
    return (a.double() + 1) / 2, (b.double() + 1) / 2


def _check_size(pictures: Tensor, scales: int) -> None:
    height, width = pictures.shape[-2:]
    least = WINDOW * 2 ** (scales - 1)
    if min(height, width) < least:
        room = 0
        while min(height, width) >= WINDOW * 2**room:
            room += 1
        help = f"; give scales={room}" if scales > 1 and room else ""
        raise ValueError(
            f"{scales} {'scale needs' if scales == 1 else 'scales need'} pictures of {least} pixels or more, "
            f"these have {height}×{width}{help}"
        )

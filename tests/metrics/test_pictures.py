"""PSNR, SSIM and MS-SSIM against scikit-image and torchmetrics, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from denoised.metrics.pictures import SCALE_WEIGHTS, ms_ssim, psnr, round_trip_error, ssim
from denoised.worlds.emoji import render, sample_scenes


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    pictures = render(sample_scenes(5, 0, "test", "full"), 64)
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return pictures, (pictures + 0.2 * noise).clamp(-1, 1)


def unit(pictures: Tensor) -> np.ndarray:
    return (pictures.double().numpy() + 1) / 2


def test_psnr_by_scikit_image(pairs: tuple[Tensor, Tensor]) -> None:
    a, b = pairs
    theirs = [peak_signal_noise_ratio(x, y, data_range=1) for x, y in zip(unit(a), unit(b), strict=True)]
    np.testing.assert_allclose(psnr(a, b).numpy(), theirs, rtol=1e-12)
    assert psnr(a, a).tolist() == [math.inf] * 5
    half = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)  # half of the range apart: 20 log10 2
    assert float(psnr(*half)) == pytest.approx(6.0206, abs=1e-4)


def test_ssim_by_scikit_image(pairs: tuple[Tensor, Tensor]) -> None:
    a, b = pairs
    theirs = [
        structural_similarity(
            x, y, data_range=1, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for x, y in zip(unit(a), unit(b), strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b).numpy(), theirs, rtol=1e-10)
    np.testing.assert_allclose(ssim(a, a).numpy(), 1)
    np.testing.assert_allclose(ssim(a, b).numpy(), ssim(b, a).numpy(), rtol=1e-12)
    # float32 pictures lose nothing: the sums are taken in float64
    np.testing.assert_allclose(
        ssim(a.float(), b.float()).numpy(), ssim(a.double(), b.double()).numpy(), rtol=1e-12
    )


def test_ms_ssim_by_scikit_image_and_torchmetrics() -> None:
    """Scale by scale: with a huge K1 the luminance is 1, so scikit-image gives contrast times structure alone."""
    random = torch.Generator().manual_seed(0)
    a = torch.nn.functional.interpolate(
        torch.rand(3, 1, 24, 24, generator=random), (192, 192), mode="bilinear"
    )
    b = (a + 0.1 * torch.randn(a.shape, generator=random)).clamp(0, 1)
    ours = ms_ssim(2 * a - 1, 2 * b - 1).numpy()
    for i in range(3):
        x, y, expected = a[i, 0].double().numpy(), b[i, 0].double().numpy(), 1.0
        for scale, weight in enumerate(SCALE_WEIGHTS):
            k1 = 0.01 if scale == 4 else 1e6
            constants = {"data_range": 1, "gaussian_weights": True, "use_sample_covariance": False, "K1": k1}
            expected *= structural_similarity(x, y, sigma=1.5, **constants) ** weight
            x, y = block_reduce(x, 2, np.mean), block_reduce(y, 2, np.mean)
        assert ours[i] == pytest.approx(expected, rel=1e-6)  # of float32 pictures
    # Theirs averages the coarsest scale over a reflected border too, and colours before the product over scales.
    theirs = multiscale_structural_similarity_index_measure(
        b.double(), a.double(), data_range=1.0, reduction="none", kernel_size=11, sigma=1.5
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4)
    np.testing.assert_allclose(ms_ssim(2 * a - 1, 2 * a - 1).numpy(), 1)


def test_ms_ssim_of_one_scale_is_ssim(pairs: tuple[Tensor, Tensor]) -> None:
    a, b = (x.mean(dim=1, keepdim=True) for x in pairs)
    np.testing.assert_allclose(ms_ssim(a, b, scales=1).numpy(), ssim(a, b).numpy(), rtol=1e-12)


def test_what_is_further_is_less_similar(pairs: tuple[Tensor, Tensor]) -> None:
    a, b = pairs
    nearer = (a + b) / 2
    for similarity in (psnr, ssim, lambda x, y: ms_ssim(x, y, scales=3)):
        assert bool((similarity(a, nearer) > similarity(a, b)).all())


def test_impossible_pictures_are_refused(pairs: tuple[Tensor, Tensor]) -> None:
    a, b = pairs
    for similarity in (psnr, ssim):
        with pytest.raises(
            ValueError, match=r"pairs of one shape, not \(5, 3, 64, 64\) and \(4, 3, 64, 64\)"
        ):
            similarity(a, b[:4])
        with pytest.raises(ValueError, match=r"reach from 0 to 255; clamp them, or rescale"):
            similarity(a, torch.full_like(a, 255.0).index_fill(0, torch.tensor([0]), 0.0))
        with pytest.raises(ValueError, match="5 of 5 pictures hold NaN"):
            similarity(a, a * torch.nan)
        with pytest.raises(ValueError, match="there are no pictures"):
            similarity(a[:0], a[:0])
        with pytest.raises(ValueError, match=r"\(n, channels, height, width\), not \(3, 64, 64\)"):
            similarity(a[0], b[0])
    with pytest.raises(ValueError, match=r"1 scale needs pictures of 11 pixels or more, these have 8×8"):
        ssim(a[:, :, :8, :8], b[:, :, :8, :8])
    with pytest.raises(
        ValueError, match=r"5 scales need pictures of 176 pixels or more, these have 64×64; give scales=3"
    ):
        ms_ssim(a, b)
    with pytest.raises(ValueError, match=r"scales must lie in 1 … 5, not 6"):
        ms_ssim(a, b, scales=6)


def test_a_round_trip_error_is_relative_and_its_own_for_each_picture() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    again = torch.tensor([[3.0, 4.0], [1.0, 2.0]])
    assert round_trip_error(x, again).tolist() == [0.0, 0.5]
    assert round_trip_error(100 * x, 100 * again).tolist() == [0.0, 0.5]


def test_round_trips_that_have_no_error_are_refused() -> None:
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"the shape it began with: \(2, 3\), \(3, 2\)"):
        round_trip_error(x, torch.ones(3, 2))
    with pytest.raises(ValueError, match="NaN or infinity"):
        round_trip_error(x, x / 0)
    with pytest.raises(ValueError, match="zeros has no relative error"):
        round_trip_error(torch.zeros(2, 3), x)

"""Distances against scipy, closed forms and naive loops; the extractor against the package it came from."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from denoised.metrics import distances
from denoised.metrics.distances import (
    Moments,
    frechet_distance,
    frechet_distance_of_moments,
    kernel_distance,
    kernel_distances_of_subsets,
)
from denoised.metrics.features import EFFNET_SIZE, EfficientNetLite0, random_fourier_features
from denoised.worlds.emoji import render, sample_scenes
from denoised.zoo.convert_effnet import source_file

ROOT = Path(__file__).resolve().parents[2]


def features(n: int, d: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=random)
    return torch.randn(n, d, generator=random) @ mix + torch.randn(d, generator=random)


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 12), (20, 300, 48), (30, 25, 64), (20, 20, 19)])
def test_frechet_by_scipys_matrix_root(n: int, m: int, d: int) -> None:
    a, b = features(n, d, 0), features(m, d, 1)
    mean_a, mean_b = a.double().mean(0).numpy(), b.double().mean(0).numpy()
    cov_a, cov_b = np.cov(a.double().numpy(), rowvar=False), np.cov(b.double().numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    # singular covariances (n < d) make scipy's root inexact: 1e-4 of the traces
    assert frechet_distance(a, b) == pytest.approx(float(expected), abs=1e-4 * float(np.trace(cov_a + cov_b)))


def test_frechet_of_known_gaussians() -> None:
    """N(0, 1) and N(3, 4) in each of two dimensions: 2 · (3² + (1 - 2)²) = 20."""
    random = torch.Generator().manual_seed(0)
    a = torch.randn(200_000, 2, generator=random, dtype=torch.float64)
    b = 3 + 2 * torch.randn(200_000, 2, generator=random, dtype=torch.float64)
    assert frechet_distance(a, b) == pytest.approx(20, rel=0.01)


def test_a_set_has_no_distance_to_itself_and_order_does_not_matter() -> None:
    a, b = features(50, 20, 0), features(60, 20, 1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    shuffled = a[torch.randperm(50, generator=torch.Generator().manual_seed(0))]
    for distance in (frechet_distance, kernel_distance):
        assert distance(shuffled, b) == pytest.approx(distance(a, b), rel=1e-9)
        assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9)


def test_both_ways_to_the_matrix_root_agree() -> None:
    """One column more than samples takes the cross-Gram way; zero columns change nothing but the way."""
    a, b = features(30, 20, 0), features(40, 20, 1)
    padding = 25  # d = 45 > 30
    wide = [torch.cat([x, torch.zeros(len(x), padding)], dim=1) for x in (a, b)]
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(a, b), rel=1e-7)


@pytest.mark.parametrize(("n", "d"), [(300, 40), (60, 200)])
def test_frechet_by_torchmetrics(n: int, d: int) -> None:
    a, b = features(n, d, 0).double(), features(n + 20, d, 1).double()
    theirs = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert frechet_distance(a, b) == pytest.approx(float(theirs), rel=1e-4)


def test_float32_features_give_the_distance_of_float64_ones() -> None:
    a, b = features(200, 64, 0).double(), features(200, 64, 1).double()
    for distance in (frechet_distance, kernel_distance):
        assert distance(a.float(), b.float()) == pytest.approx(distance(a, b), rel=1e-5)


def test_few_samples_inflate_the_frechet_distance_but_not_the_kernel_distance() -> None:
    """Two halves of one Gaussian: the Fréchet distance falls with n, so it is comparable only at equal n."""
    draws = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = [frechet_distance(draws[:n], draws[2000 : 2000 + n]) for n in (40, 200, 2000)]
    assert found[0] > 4 * found[1] > 20 * found[2] > 0
    repeated = [kernel_distance(draws[i : i + 40], draws[i + 40 : i + 80]) for i in range(0, 4000, 80)]
    error = np.std(repeated, ddof=1) / len(repeated) ** 0.5
    assert abs(np.mean(repeated)) < 3 * error


@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_moments_do_not_depend_on_the_batches(size: int) -> None:
    x = features(500, 24, 0) + 100  # far from zero, where sums of squares would cancel
    moments = Moments.of(x.split(size))
    assert moments.n == 500
    np.testing.assert_allclose(moments.mean.numpy(), x.double().mean(0).numpy(), rtol=1e-12)
    # rows are samples: with variables as rows the matrix would be 500×500
    np.testing.assert_allclose(
        moments.covariance.numpy(), np.cov(x.double().numpy(), rowvar=False), rtol=1e-9, atol=1e-9
    )
    shuffled = x[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    assert torch.allclose(Moments.of(shuffled.split(size)).covariance, moments.covariance, rtol=1e-9)


def test_moments_may_stand_for_a_set_that_is_too_large_to_keep() -> None:
    a, b = features(300, 12, 0), features(200, 12, 1)
    assert frechet_distance(Moments.of([a]), b) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    with pytest.raises(ValueError, match="different lengths: 12 and 5"):
        frechet_distance(Moments.of([a]), b[:, :5])


def test_moments_give_the_distance_of_the_features_themselves() -> None:
    a, b = features(100, 30, 0), features(120, 30, 1)
    of_moments = frechet_distance_of_moments(Moments.of(a.split(32)), Moments.of([b]))
    assert of_moments == pytest.approx(frechet_distance(a, b), rel=1e-9)
    with pytest.raises(ValueError, match="needs two samples or more, not 1"):
        frechet_distance_of_moments(Moments.of([a[:1]]), Moments.of([b]))
    with pytest.raises(ValueError, match="different lengths: 30 and 29"):
        frechet_distance_of_moments(Moments.of([a]), Moments.of([b[:, :29]]))
    with pytest.raises(ValueError, match="different lengths: 30 and 29"):
        Moments.of([a, b[:, :29]])
    with pytest.raises(ValueError, match="NaN or infinity"):
        Moments.of([a / 0])


def test_kernel_distances_of_subsets_by_torchmetrics() -> None:
    a, b = features(80, 16, 0).double(), features(70, 16, 1).double()
    random = torch.Generator().manual_seed(0)
    subsets = [
        (torch.randperm(80, generator=random)[:30], torch.randperm(70, generator=random)[:30])
        for _ in range(8)
    ]
    theirs = [float(poly_mmd(a[i], b[j])) for i, j in subsets]
    ours = kernel_distances_of_subsets(a, b, subsets)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9)
    whole = kernel_distances_of_subsets(a, b, [(torch.arange(80), torch.arange(70))])
    assert float(whole[0]) == pytest.approx(kernel_distance(a, b), rel=1e-9)
    with pytest.raises(ValueError, match="two rows or more"):
        kernel_distances_of_subsets(a, b, [(torch.tensor([1]), torch.arange(70))])


@pytest.mark.parametrize("rows", [1, 4, 2048])
def test_kernel_distance_by_two_loops(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK", rows)  # taken at once
    a, b = features(7, 5, 0).double(), features(6, 5, 1).double()

    def k(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 5 + 1) ** 3

    aa = [k(a[i], a[j]) for i, j in product(range(7), repeat=2) if i != j]
    bb = [k(b[i], b[j]) for i, j in product(range(6), repeat=2) if i != j]
    ab = [k(x, y) for x, y in product(a, b)]
    assert kernel_distance(a, b) == pytest.approx(
        float(np.mean(aa) + np.mean(bb) - 2 * np.mean(ab)), rel=1e-9
    )


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_impossible_features_are_refused(distance) -> None:  # type: ignore[no-untyped-def]
    a = features(5, 4, 0)
    with pytest.raises(ValueError, match=r"\(n, d\) with n >= 2, not \(1, 4\)"):
        distance(a[:1], a)
    with pytest.raises(ValueError, match="different lengths: 4 and 3"):
        distance(a, a[:, :3])
    with pytest.raises(ValueError, match="NaN or infinity"):
        distance(a, a / 0)


@pytest.fixture(scope="module")
def extractor() -> EfficientNetLite0:
    return EfficientNetLite0(ROOT / "zoo" / "effnet-lite0" / "model.safetensors")


def test_features_are_those_of_the_original_weights(extractor: EfficientNetLite0) -> None:
    original = EfficientNet.from_name("efficientnet-lite0")
    original.load_state_dict(torch.load(source_file(), map_location="cpu", weights_only=True))
    pictures = render(sample_scenes(8, 0), 64)
    resized = torch.nn.functional.interpolate(pictures, (EFFNET_SIZE, EFFNET_SIZE), mode="bilinear")
    with torch.inference_mode():
        expected = original.eval().extract_features(resized).mean(dim=(2, 3))
    difference = (extractor(pictures) - expected).abs().max() / expected.abs().max()
    assert float(difference) < 0.01  # what fp16 convolutions cost


def test_features_do_not_depend_on_the_batch(extractor: EfficientNetLite0) -> None:
    """An extractor left in train mode fails this."""
    pictures = render(sample_scenes(6, 0), 32)
    torch.testing.assert_close(extractor(pictures), extractor(pictures, batch=2), atol=1e-4, rtol=1e-4)


def test_maps_are_what_the_features_are_made_of(extractor: EfficientNetLite0) -> None:
    pictures = render(sample_scenes(3, 0), 32)
    maps = extractor.maps(pictures)
    assert [m.shape[-1] for m in maps] == [48, 24, 12, 6, 3] and all(len(m) == 3 for m in maps)
    head = extractor._network
    with torch.inference_mode():
        features = head._swish(head._bn1(head._conv_head(maps[-1]))).mean(dim=(2, 3))
    torch.testing.assert_close(features, extractor(pictures), atol=1e-5, rtol=1e-5)


def test_the_fingerprint_names_the_weights(extractor: EfficientNetLite0) -> None:
    assert (
        extractor.fingerprint
        == EfficientNetLite0(ROOT / "zoo" / "effnet-lite0" / "model.safetensors").fingerprint
    )
    facts = (ROOT / "zoo" / "effnet-lite0" / "manifest.json").read_text()
    assert extractor.fingerprint.split()[0] in facts


def test_impossible_pictures_are_refused(extractor: EfficientNetLite0) -> None:
    with pytest.raises(ValueError, match=r"\(n, 3, height, width\), not \(2, 1, 8, 8\)"):
        extractor(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="1 of 2 pictures hold NaN"):
        extractor(torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), torch.nan)]))
    with pytest.raises(ValueError, match=r"from 0 to 255; clamp them"):
        extractor(torch.tensor([0.0, 255.0]).reshape(2, 1, 1, 1).expand(2, 3, 8, 8))


def test_random_fourier_features_stand_for_a_gaussian_kernel() -> None:
    """Rahimi & Recht 2007: inner products tend to exp(-|x - y|² / 2 w²), the mean over both widths."""
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features = random_fourier_features(x, scales=(0.5, 2.0), seed=1, waves=40_000)
    squares = torch.cdist(x, x).square()
    kernel = ((-squares / (2 * 0.25)).exp() + (-squares / (2 * 4)).exp()) / 2
    torch.testing.assert_close(features @ features.T / 40_000, kernel, atol=0.02, rtol=0)

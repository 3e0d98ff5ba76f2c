"""Cached features and moments: computed once, never stale, and never believed when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from denoised.lab.cache import cached_features, content_sha256, load_moments, save_moments
from denoised.metrics.distances import Moments


class Counting:
    """An extractor that counts how often it is asked."""

    name, description = "mean-colour", "the mean of each channel"

    def __init__(self, fingerprint: str = "1") -> None:
        self.fingerprint, self.calls = fingerprint, 0

    def __call__(self, pictures: Tensor) -> Tensor:
        self.calls += 1
        return pictures.mean(dim=(2, 3))


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_features_are_computed_once_for_each_set_of_pictures_and_weights(
    tmp_path: Path, pictures: Tensor
) -> None:
    extractor = Counting()
    first = cached_features(extractor, pictures, tmp_path)
    assert torch.equal(first, pictures.mean(dim=(2, 3)))
    assert torch.equal(cached_features(extractor, pictures.clone(), tmp_path), first) and extractor.calls == 1
    changed = pictures.clone()
    changed[3, 2, 7, 7] += 1e-3
    assert not torch.equal(cached_features(extractor, changed, tmp_path), first) and extractor.calls == 2
    other = Counting("2")
    cached_features(other, pictures, tmp_path)
    assert other.calls == 1 and len(list(tmp_path.iterdir())) == 3


def test_shape_and_type_are_part_of_what_is_hashed() -> None:
    x = torch.zeros(2, 6)
    assert len({content_sha256(t) for t in (x, x.reshape(3, 4), x.double(), x.int(), x[:, :5], x + 1)}) == 6
    assert content_sha256(x.T) == content_sha256(x.T.contiguous())


@pytest.mark.parametrize("position", [0, 60, -1])
def test_a_damaged_file_is_made_anew(tmp_path: Path, pictures: Tensor, position: int) -> None:
    extractor = Counting()
    first = cached_features(extractor, pictures, tmp_path)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert torch.equal(cached_features(extractor, pictures, tmp_path), first) and extractor.calls == 2
    path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(cached_features(extractor, pictures, tmp_path), first) and extractor.calls == 3


def test_moments_come_back_with_their_hash(tmp_path: Path) -> None:
    moments = Moments.of([torch.rand(20, 5, generator=torch.Generator().manual_seed(0))])
    path = tmp_path / "reference.safetensors"
    sha256 = save_moments(moments, path)
    found = load_moments(path, sha256)
    assert (
        found.n == 20
        and torch.equal(found.mean, moments.mean)
        and torch.equal(found.scatter, moments.scatter)
    )
    with pytest.raises(ValueError, match=f"holds other moments: its sha256 is {sha256}, not 00"):
        load_moments(path, "00")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="does not hold moments, or is damaged"):
        load_moments(path)
    assert path.exists()  # a reference cannot be made anew: it is not removed

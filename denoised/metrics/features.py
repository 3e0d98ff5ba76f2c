"""Feature extractors. Pictures go in as (n, 3, height, width) float32 in [-1, 1], features come out as (n, d).

EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946, the Lite variant of the TensorFlow model garden),
trained on ImageNet. Distances on its features are not comparable to the Inception distances of papers,
and every metric that uses it says so in its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor

EFFNET_NAME = "effnet-lite0"
EFFNET_SIZE = 96  # pixels a side that pictures are resized to: a 3×3 map of features, averaged
VERSION = "1"  # of the arithmetic here: raise it whenever a change alters features


class EfficientNetLite0:
    """The averaged last feature map of EfficientNet-Lite0: 1,280 numbers a picture."""

    name = EFFNET_NAME
    description = f"EfficientNet-Lite0 (ImageNet), bilinear resize to {EFFNET_SIZE} px, averaged 1280-d map"

    def __init__(self, weights: Path) -> None:
        """`weights`: the safetensors file, whose hash the caller has checked."""
        network = EfficientNet.from_name("efficientnet-lite0")
        tensors = {k: v.float() for k, v in safetensors.torch.load_file(weights).items()}
        missing, unexpected = network.load_state_dict(tensors, strict=False)
        wrong = [k for k in missing if not k.startswith("_fc.") and "num_batches" not in k] + list(unexpected)
        if wrong:
            raise ValueError(f"{weights} does not hold EfficientNet-Lite0: {', '.join(sorted(wrong)[:5])}")
        self.fingerprint = f"{hashlib.sha256(weights.read_bytes()).hexdigest()} {EFFNET_SIZE} {VERSION}"
        # eval: a batch norm left in train mode makes each picture's features depend on its batch.
        self._network = network.eval().to(memory_format=torch.channels_last)

    def __call__(self, pictures: Tensor, batch: int = 64) -> Tensor:
        """(n, 3, h, w) in [-1, 1] -> (n, 1280) float32.

        Raises ValueError for other shapes, for NaN, and for values outside [-1, 1].
        """
        check_pictures(pictures)
        return torch.cat([self._features(part) for part in pictures.split(batch)])

    @torch.inference_mode()
    def maps(self, pictures: Tensor) -> list[Tensor]:
        """The last map of each resolution, (n, c, h, w) float32: 48, 24, 12, 6 and 3 pixels a side.

        For `denoised.metrics.perceptual`. Raises what a call raises.
        """
        check_pictures(pictures)
        x = self._network._swish(self._network._bn0(self._network._conv_stem(_resized(pictures))))
        maps: list[Tensor] = []
        for block in self._network._blocks:
            before, x = x, block(x)
            if x.shape[-1] < before.shape[-1]:
                maps.append(before)
        return [*maps, x]

    @torch.inference_mode()
    def _features(self, pictures: Tensor) -> Tensor:
        features: Tensor = self._network.extract_features(_resized(pictures)).mean(dim=(2, 3))
        return features


def _resized(pictures: Tensor) -> Tensor:
    # The Lite models were trained on (pixel - 127) / 128, which is [-1, 1] up to half a grey level.
    size = (EFFNET_SIZE, EFFNET_SIZE)
    resized = F.interpolate(pictures, size, mode="bilinear", align_corners=False)
    return resized.contiguous(memory_format=torch.channels_last)


def check_pictures(pictures: Tensor, channels: int | None = 3) -> None:
    """Raise ValueError unless `pictures` is (n, channels, h, w) with n > 0, finite and within [-1, 1].

    `channels` None: any number of them.
    """
    if pictures.ndim != 4 or (channels is not None and pictures.shape[1] != channels):
        wanted = "channels" if channels is None else channels
        raise ValueError(
            f"pictures must have the shape (n, {wanted}, height, width), not {tuple(pictures.shape)}"
        )
    if not len(pictures):
        raise ValueError("there are no pictures")
    if not bool(torch.isfinite(pictures).all()):
        bad = int((~torch.isfinite(pictures)).flatten(1).any(dim=1).sum())
        raise ValueError(f"{bad} of {len(pictures)} pictures hold NaN or infinity: the sampler diverged")
    low, high = float(pictures.min()), float(pictures.max())
    if low < -1 - 1e-4 or high > 1 + 1e-4:
        raise ValueError(
            f"pictures must lie in [-1, 1], these reach from {low:.3g} to {high:.3g}; "
            "clamp them, or rescale [0, 1] by 2x - 1 and [0, 255] by x / 127.5 - 1"
        )


def random_fourier_features(
    points: Tensor, *, scales: Sequence[float], seed: int, waves: int = 128
) -> Tensor:
    """Features (n, 2 waves) float64 of points (n, d): cosines and sines along random directions.

    Their inner products approximate Gaussian kernels (Rahimi & Recht 2007, section 3.1), here of the widths
    `scales` in turn, so that sets of points can be compared by `kernel_distance` on several scales at once.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(points.shape[1], waves, generator=generator, dtype=torch.float64)
    widths = torch.tensor([scales[i % len(scales)] for i in range(waves)], dtype=torch.float64)
    angle = points.double() @ (directions / widths)
    return torch.cat([angle.cos(), angle.sin()], dim=1)

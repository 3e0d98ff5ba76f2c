"""For runners that restore or edit given pictures: which pictures, and how near the results are to them."""

from __future__ import annotations

import torch
from torch import Tensor

from denoised.lab.lab import Arm, Lab
from denoised.metrics.features import EfficientNetLite0
from denoised.metrics.perceptual import perceptual_distance

PERCEPTUAL = f"perceptual[{EfficientNetLite0.name}]"
SEEDS = 100  # after so many seeds the pictures come again
BATCH = 64  # pictures whose feature maps are held at once


def held_out(lab: Lab, n: int | None = None) -> Tensor:
    """Pictures of this seed to work on, (n, 3, h, w), `images` of them if None.

    None is among those that arms are compared with. On data read from disk a network may have been trained on
    them, where the data set's own split says so.
    """
    n = lab.settings.images if n is None else n
    before = lab.settings.reference_images + lab.seed % SEEDS * n
    return lab.data.reference(before + n)[before:].to(lab.device)


def backbone(lab: Lab) -> EfficientNetLite0:
    """The network of the perceptual distance, whatever the run's extractor is: distances need its maps."""
    effnet = lab.extractor(EfficientNetLite0.name)
    assert isinstance(effnet, EfficientNetLite0)
    return effnet


def record_nearness(lab: Lab, arm: Arm, truth: Tensor) -> None:
    """Record the perceptual distance of each picture of the arm to its own of `truth` (n, 3, h, w)."""
    assert arm.images is not None
    effnet = backbone(lab)
    pairs = zip(arm.images.split(BATCH), truth.cpu().split(BATCH), strict=True)
    distances = [perceptual_distance(effnet.maps(a), effnet.maps(b)) for a, b in pairs]
    arm.record(PERCEPTUAL, torch.cat(distances), by=perceptual_distance, extractor=effnet.description)

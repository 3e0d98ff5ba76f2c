"""What the emoji world's judge says of pictures that show their class, and of others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from denoised.lab.judging import CLASS_ACCURACY, record_class_accuracy
from denoised.worlds.emoji import render, sample_scenes
from tests.runners.pixel_lab import pixel_lab


def test_class_accuracy_is_the_share_of_pictures_of_the_class_asked_for() -> None:
    lab, scenes = pixel_lab(images=6), sample_scenes(6, 1, "test", "plain")
    asked = scenes.object.clone()
    asked[:3] = (asked[:3] + 1) % 48
    with lab.arm("half") as arm:
        arm.images = render(scenes, 64)
    record_class_accuracy(lab, arm, asked)
    measured = arm.metrics[CLASS_ACCURACY]
    assert (measured.value, measured.n) == (0.5, 6)
    assert measured.extractor == "zoo/emoji-judge: attributes of emoji scenes"


def test_of_another_world_the_judge_knows_nothing() -> None:
    lab = pixel_lab(images=2)
    lab.settings.data = SimpleNamespace(name="cifar10")  # type: ignore[assignment]
    with lab.arm("plain") as arm:
        arm.images = torch.zeros(2, 3, 32, 32)
    with pytest.raises(ValueError, match="the judge knows the emoji world, not cifar10"):
        record_class_accuracy(lab, arm, torch.zeros(2, dtype=torch.int64))

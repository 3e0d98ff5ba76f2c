"""A lab in the emoji world with random networks of the real classes, for tests of what a runner measures there."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import ResNetForImageClassification

from denoised.lab.inputs import Inputs
from denoised.lab.lab import Lab
from denoised.lab.settings import DataSettings, ModelSettings, Settings
from denoised.metrics.judge import Judge
from denoised.worlds.emoji import attributes
from denoised.zoo.recipes.emoji_judge import resnet_config
from denoised.zoo.text_to_image import TextToImage

ROOT = Path(__file__).resolve().parents[2]


def emoji_lab(folder: Path, model: TextToImage, *, images: int, batch: int) -> Lab:
    """Seed 0 of a run with this model and a judge of random weights, which is written to the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ResNetForImageClassification(resnet_config()).save_pretrained(folder)
    (folder / "heads.json").write_text(json.dumps({"heads": attributes()}))
    settings = Settings(
        scale="smoke",
        seeds=[0],
        images=images,
        batch=batch,
        model=ModelSettings("emoji-t2i", "zoo/emoji-t2i"),
        data=DataSettings("emoji"),
    )
    inputs = Inputs(ROOT, settings)
    inputs.text_to_image, inputs.judge = model, Judge(folder)
    return Lab(0, settings, inputs, report=lambda what: None, advance=lambda: None)

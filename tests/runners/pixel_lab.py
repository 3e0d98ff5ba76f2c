"""A lab in the emoji world with a tiny random pixel model, for tests of what a runner does and measures there."""

from __future__ import annotations

from pathlib import Path

import torch

from denoised.diffusion.schedule import Schedule
from denoised.lab.inputs import Inputs
from denoised.lab.lab import Lab
from denoised.lab.settings import DataSettings, ModelSettings, Settings
from denoised.zoo.load import Checkpoint, build_unet

ROOT = Path(__file__).resolve().parents[2]
SIZE = 16  # pixels a side of its pictures


def tiny_checkpoint(*, classes: int | None = 48) -> Checkpoint:
    """A v-prediction UNet2DModel of three levels and random weights on the cosine schedule.

    `classes`: how many it knows beside the null class; None makes it unconditional.
    """
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": SIZE,
        "in_channels": 3,
        "out_channels": 3,
        "layers_per_block": 1,
        "block_out_channels": [8, 8, 16],
        "down_block_types": ["DownBlock2D"] * 3,
        "up_block_types": ["UpBlock2D"] * 3,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "num_class_embeds": None if classes is None else classes + 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = build_unet(config).eval().requires_grad_(False)
    return Checkpoint(unet, Schedule.cosine(), "v_prediction", (), {})


def pixel_lab(
    *, images: int = 4, batch: int = 4, reference_images: int = 8, seed: int = 0, classes: int | None = 48
) -> Lab:
    """One seed of a run with `tiny_checkpoint`, whose arms are compared with held-out emoji scenes."""
    settings = Settings(
        scale="smoke",
        seeds=[seed],
        images=images,
        batch=batch,
        reference_images=reference_images,
        model=ModelSettings("emoji-pixel", "zoo/emoji-pixel"),
        data=DataSettings("emoji"),
    )
    inputs = Inputs(ROOT, settings)
    inputs.checkpoint = tiny_checkpoint(classes=classes)
    return Lab(seed, settings, inputs, report=lambda what: None, advance=lambda: None)

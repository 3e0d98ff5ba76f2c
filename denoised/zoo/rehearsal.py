"""Random weights and random data in the real layouts, so that the GPU path can be walked on a CPU.

`denoised run ID scale=paper --rehearse` loads these through the very code that loads the real ones. The
numbers it measures mean nothing and are never published.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from denoised.worlds.cifar10 import FILES, RECORD
from denoised.zoo.load import OLD_ATTENTION, WEIGHTS, build_unet

# The network and schedule of google/ddpm-cifar10-32: 35.7 M parameters.
DDPM_CIFAR10 = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
DDPM_CIFAR10_SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "variance_type": "fixed_large",
}


def _old(name: str) -> str:
    """The name that one of today's tensors has in the published file, which is from 2022."""
    for old, today in OLD_ATTENTION.items():
        name = name.replace(f".{today}.", f".{old}.")
    return name


def write_ddpm_cifar10(folder: Path) -> None:
    """A folder in the layout of google/ddpm-cifar10-32, with random weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(DDPM_CIFAR10))
    (folder / "scheduler_config.json").write_text(json.dumps(DDPM_CIFAR10_SCHEDULER))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = build_unet(DDPM_CIFAR10)
    safetensors.torch.save_file({_old(k): v for k, v in unet.state_dict().items()}, folder / WEIGHTS)


def write_cifar10(folder: Path, records: int = 10) -> None:
    """A folder in the layout of CIFAR-10's binary version, with random pictures in each of its files."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in FILES:
        content = random.integers(0, 256, (records, RECORD), dtype=np.uint8)
        content[:, 0] %= 10
        content.tofile(folder / name)


WRITERS = {"ddpm-cifar10": write_ddpm_cifar10, "cifar10": write_cifar10}

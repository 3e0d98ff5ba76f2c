"""emoji-pixel: a class-conditional diffusion model of the emoji world in pixel space, 32×32.

A diffusers UNet2DModel that predicts v on the squared-cosine schedule. In one of ten examples the class is
replaced by the null class, so the same network is also unconditional and can be guided (Ho & Salimans
2022, arXiv:2207.12598, Algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from denoised.diffusion.schedule import Schedule
from denoised.diffusion.training import min_snr_weight, stratified_timesteps
from denoised.worlds.emoji import load_atlas, render, sample_scenes

SIZE = 32  # pixels
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "set_alpha_to_one": True,
}


@dataclass
class Config:
    steps: int = 9_000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200  # steps until the learning rate is full; then half a cosine to zero
    ema: float = 0.999  # decay of the averaged weights, which are the ones shipped
    gradient_clip: float = 1.0
    drop_condition: float = 0.1  # share of examples trained with the null class
    bf16: bool = True  # autocast of the forward pass; weights and optimizer stay float32
    seed: int = 0


def unet_config() -> dict[str, object]:
    """The arguments of the UNet2DModel: 2.7 M parameters, attention at 8×8 and 4×4."""
    return {
        "sample_size": SIZE,
        "in_channels": 3,
        "out_channels": 3,
        "layers_per_block": 1,
        "block_out_channels": (16, 32, 64, 128),
        "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 8,
        "attention_head_dim": 64,
        "num_class_embeds": len(load_atlas().objects) + 1,  # the last one is the null class
    }


def loss(
    network: torch.nn.Module, schedule: Schedule, config: Config, step: int, autocast: torch.autocast
) -> Tensor:
    """The training loss at `step`, a scalar. Everything random in it follows from (seed, step)."""
    seed = int(np.random.SeedSequence([config.seed, step]).generate_state(1, np.uint64)[0])
    generator = torch.Generator().manual_seed(seed)
    scenes = sample_scenes(config.batch, seed=seed, split="train")
    x0 = render(scenes, SIZE)
    eps = torch.randn(x0.shape, generator=generator)
    t = stratified_timesteps(config.batch, schedule.T, generator)
    dropped = torch.rand(config.batch, generator=generator) < config.drop_condition
    condition = torch.where(dropped, len(load_atlas().objects), scenes.object)
    a, s = schedule.signal_and_noise(t, x0)
    with autocast:
        v = network(a * x0 + s * eps, t, class_labels=condition).sample
    squared_error = (v.float() - (a * eps - s * x0)).square().mean(dim=(1, 2, 3))
    weighted: Tensor = (min_snr_weight(schedule, t) * squared_error).mean()
    return weighted

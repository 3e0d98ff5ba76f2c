"""Random weights and random data in the real layouts, so that the GPU path can be walked on a CPU.

`denoised run ID scale=paper --rehearse` loads these through the very code that loads the real ones. The
numbers it measures mean nothing and are never published.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from denoised.worlds.cifar10 import FILES, RECORD
from denoised.zoo.load import OLD_ATTENTION, WEIGHTS, build_unet
from denoised.zoo.text_to_image import TEXT_WEIGHTS

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

# Stable Diffusion 1.5, its UNet narrowed from 860 M parameters to 3 M and its latents from 64×64 to 16×16.
SD15_UNET = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [32, 64, 64, 64],  # 320, 640, 1280, 1280
    "center_input_sample": False,
    "cross_attention_dim": 32,  # 768
    "down_block_types": [
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    ],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 16,  # 64
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
SD15_VAE = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [32, 32, 32, 32],  # 128, 256, 512, 512
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 128,  # 512
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
SD15_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
SD15_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
START, END = "<|startoftext|>", "<|endoftext|>"
TOKENIZER = {
    "tokenizer_class": "CLIPTokenizer",
    "model_max_length": 77,
    "bos_token": START,
    "eos_token": END,
    "pad_token": END,
    "unk_token": END,
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


def write_sd15(folder: Path) -> None:
    """A folder in the layout of Stable Diffusion 1.5, with random weights under the published names."""
    ids = _write_tokenizer(folder / "tokenizer")
    _write_json(folder / "model_index.json", SD15_INDEX)
    _write_json(folder / "scheduler" / "scheduler_config.json", SD15_SCHEDULER)
    text = _tower(ids) | {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    _write_json(folder / "text_encoder" / "config.json", text)
    _write_json(folder / "vae" / "config.json", SD15_VAE)
    _write_json(folder / "unet" / "config.json", SD15_UNET)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(text))
        vae = AutoencoderKL.from_config(SD15_VAE)
        unet = UNet2DConditionModel.from_config(SD15_UNET)
    # The published file is from 2022: one level more in its names, and a buffer that today's class has not.
    named = {f"text_model.{k}": v for k, v in text_encoder.state_dict().items()}
    named["text_model.embeddings.position_ids"] = torch.arange(TOKENIZER["model_max_length"])[None]  # type: ignore[call-overload]
    _write_tensors(folder / "text_encoder" / TEXT_WEIGHTS, named)
    _write_tensors(folder / "vae" / WEIGHTS, {_old(k): v for k, v in vae.state_dict().items()})
    _write_tensors(folder / "unet" / WEIGHTS, unet.state_dict())


def write_clip(folder: Path) -> None:
    """A folder in the layout of a published CLIP, with random weights."""
    tower = _tower(_write_tokenizer(folder))
    vision = {
        **{k: tower[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads")},
        "num_hidden_layers": 1,
        "image_size": 32,
        "patch_size": 16,
    }
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": 16,
        "text_config": tower,
        "vision_config": vision,
    }
    _write_json(folder / "config.json", config)
    _write_json(
        folder / "preprocessor_config.json",
        {
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = CLIPModel(CLIPConfig.from_dict(config))
    _write_tensors(folder / TEXT_WEIGHTS, model.state_dict())


def _tower(ids: dict[str, int]) -> dict[str, Any]:
    """The config of a narrow CLIP text encoder for this vocabulary."""
    return {
        "bos_token_id": ids[START],
        "eos_token_id": ids[END],
        "pad_token_id": ids[END],
        "hidden_act": "quick_gelu",
        "hidden_size": SD15_UNET["cross_attention_dim"],
        "intermediate_size": 64,
        "max_position_embeddings": TOKENIZER["model_max_length"],
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "vocab_size": len(ids),
    }


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """CLIP's tokenizer before it learned any merge: every letter is a token. Returns the vocabulary."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), START, END]
    ids = {token: i for i, token in enumerate(tokens)}
    _write_json(folder / "vocab.json", ids)
    (folder / "merges.txt").write_text("#version: 0.2\n")
    _write_json(folder / "tokenizer_config.json", TOKENIZER)
    return ids


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, path)


WRITERS = {
    "ddpm-cifar10": write_ddpm_cifar10,
    "cifar10": write_cifar10,
    "sd15": write_sd15,
    "clip-vit-b32": write_clip,
}

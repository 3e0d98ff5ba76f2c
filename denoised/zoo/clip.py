"""Loading a CLIP: a folder in transformers' layout, whole or as in `zoo/emoji-clip`, becomes a `Clip`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from denoised.metrics.clip import Clip
from denoised.zoo.load import check_folder, fill, read_json
from denoised.zoo.manifest import verify
from denoised.zoo.text_to_image import TEXT_WEIGHTS, expect, load_tokenizer


def load_clip(
    folder: Path, name: str, device: torch.device | str = "cpu", *, shipped: bool = False
) -> tuple[Clip, tuple[Path, ...]]:
    """The CLIP in `folder` and the files it was read from. One that is `shipped` must have its manifest.

    Weights are `model.safetensors`; the tokenizer lies beside it or in `tokenizer/`. Pictures are normalised
    as `preprocessor_config.json` says, and to [-1, 1] where there is none. Raises DenoisedError: USAGE where
    the folder or a part of it is missing, INTEGRITY where a file does not match the manifest or does not fit.
    """
    check_folder(folder)
    if shipped or (folder / "manifest.json").exists():
        verify(folder)
    config = read_json(folder / "config.json")
    expect(folder / "config.json", (config.get("architectures") or [None])[0], "CLIPModel")
    model: nn.Module = CLIPModel(CLIPConfig.from_dict(config))
    fill(model, folder / TEXT_WEIGHTS, lambda tensor: None if tensor.endswith("position_ids") else tensor)
    tokenizer, tokenizer_files = load_tokenizer(
        folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    )
    files = [folder / "config.json", folder / TEXT_WEIGHTS, *tokenizer_files]
    mean = deviation = [0.5, 0.5, 0.5]
    preprocessing = folder / "preprocessor_config.json"
    if preprocessing.exists():
        described = read_json(preprocessing)
        mean, deviation = described["image_mean"], described["image_std"]
        files.append(preprocessing)
    model.requires_grad_(False).to(device)
    return Clip(name, model, tokenizer, mean, deviation), tuple(files)

"""From a finished training run to a checkpoint folder: weights, configs, manifest, model card.

The card's numbers are measured here, on pictures the network never saw, and written beside the floor that
two sets of real pictures reach.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers import UNet2DModel
from torch import Tensor

from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import timesteps
from denoised.environment import cpu_name
from denoised.files import sha256_of, write_whole
from denoised.language import say
from denoised.metrics.distances import frechet_distance, kernel_distance
from denoised.metrics.features import EfficientNetLite0
from denoised.pictures import grid, png
from denoised.worlds.emoji import load_atlas, render, sample_scenes
from denoised.zoo.load import WEIGHTS, Checkpoint, build_unet, load_checkpoint
from denoised.zoo.manifest import write_manifest
from denoised.zoo.recipes import emoji_pixel
from denoised.zoo.train import Training

SAMPLES, STEPS, SEED = 480, 50, 7  # pictures, network evaluations a picture, seed of the measured samples
REFERENCE, FLOOR = 1024, 11  # real pictures to compare with, and the seed of the second real set


def write_checkpoint(
    training: Training,
    folder: Path,
    extractor: EfficientNetLite0,
    sampler: Callable[..., Tensor],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Write the checkpoint into `folder` and return the facts of its manifest.

    `sampler(denoiser, x, timesteps, condition=…)` draws the pictures that are measured.
    """
    config = emoji_pixel.unet_config()
    unet = {"_class_name": "UNet2DModel", **config}
    average = training.average.state_dict()
    write_whole(folder / "unet" / "config.json", _json(unet))
    write_whole(folder / "unet" / WEIGHTS, safetensors.torch.save({k: v.half() for k, v in average.items()}))
    write_whole(folder / "scheduler" / "scheduler_config.json", _json(emoji_pixel.SCHEDULER))
    (folder / "manifest.json").unlink(missing_ok=True)  # that of an older checkpoint

    half = load_checkpoint(folder)
    full = Checkpoint(_float32(unet, average), half.schedule, half.parameterisation, (), {})
    real = extractor(render(sample_scenes(REFERENCE, SEED, "test"), emoji_pixel.SIZE))
    floor = extractor(render(sample_scenes(SAMPLES, FLOOR, "test"), emoji_pixel.SIZE))
    quality: dict[str, Any] = {
        "samples": SAMPLES,
        "steps": STEPS,
        "reference": f"{REFERENCE} held-out scenes",
        "floor": _distances(floor, real),
    }
    for name, checkpoint in (("fp16", half), ("fp32", full)):
        report(say(ko=f"표본 {SAMPLES}장, {name}", en=f"{SAMPLES} samples, {name}"))
        pictures = _draw(checkpoint, sampler)
        quality[name] = _distances(extractor(pictures), real)
        if name == "fp16":
            write_whole(folder / "samples.png", png(grid(pictures[: len(load_atlas().objects)], 8)))
    write_whole(folder / "losses.json", _json({"every": 100, "loss": _curve(training.losses)}))
    facts = {
        "recipe": "denoised train emoji-pixel",
        "config": asdict(training.config),
        "parameters": sum(v.numel() for v in average.values()),
        "steps": training.step,
        "pictures_seen": training.step * training.config.batch,
        "hours": round(training.seconds / 3600, 2),
        "hardware": f"{torch.get_num_threads()} CPU threads, {cpu_name()}",
        "classes": [o.id for o in load_atlas().objects],
        "quality": quality,
        "license": "Apache-2.0",
    }
    names = ["unet/config.json", f"unet/{WEIGHTS}", "scheduler/scheduler_config.json"]
    write_manifest(folder, names, facts)
    write_whole(folder / "README.md", _card(facts, sha256_of(folder / "unet" / WEIGHTS)).encode())
    return facts


def preview(training: Training, sampler: Callable[..., Tensor]) -> Tensor:
    """24 pictures of the averaged network in 20 steps, one class each: what training looks like so far."""
    unet = training.average.eval()
    denoiser = Checkpoint(unet, training.schedule, "v_prediction", (), {}).denoiser()
    noise = SampleGenerators(SEED, range(24)).randn(3, emoji_pixel.SIZE, emoji_pixel.SIZE)
    grid_of_steps = timesteps(training.schedule.T, 20, "trailing")
    drawn: Tensor = sampler(denoiser, noise, grid_of_steps, condition=torch.arange(24))
    return drawn.clamp(-1, 1)


def _float32(config: dict[str, Any], weights: dict[str, Tensor]) -> UNet2DModel:
    unet = build_unet(config)
    unet.load_state_dict(weights)
    return unet.eval().requires_grad_(False)


def _draw(checkpoint: Checkpoint, sampler: Callable[..., Tensor]) -> Tensor:
    """SAMPLES pictures, the classes in turn, in batches of 60."""
    denoiser, drawn = checkpoint.denoiser(), []
    grid_of_steps = timesteps(checkpoint.schedule.T, STEPS, "trailing")
    for first in range(0, SAMPLES, 60):
        numbers = range(first, first + 60)
        noise = SampleGenerators(SEED, numbers).randn(*checkpoint.picture_shape)
        labels = torch.tensor(numbers) % len(load_atlas().objects)
        drawn.append(sampler(denoiser, noise, grid_of_steps, condition=labels))
    return torch.cat(drawn).clamp(-1, 1)


def _distances(features: Tensor, real: Tensor) -> dict[str, float]:
    return {
        f"fid[{EfficientNetLite0.name}]": round(frechet_distance(features, real), 4),
        f"kid[{EfficientNetLite0.name}]": round(kernel_distance(features, real), 6),
    }


def _curve(losses: list[float], every: int = 100) -> list[float]:
    parts = [losses[i : i + every] for i in range(0, len(losses), every)]
    return [round(sum(part) / len(part), 5) for part in parts]


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _card(facts: dict[str, Any], sha256: str) -> str:
    """The model card, in English and Korean, from the manifest's facts alone."""
    quality, config = facts["quality"], facts["config"]
    rows = "\n".join(
        f"| {label} | " + " | ".join(f"{value:g}" for value in quality[name].values()) + " |"
        for name, label in (
            ("fp16", "samples, shipped fp16 weights"),
            ("fp32", "samples, fp32 weights before rounding"),
            ("floor", "real scenes of another seed (the floor)"),
        )
    )
    fid, kid = quality["floor"]
    trained = (
        f"{facts['steps']:,} of {config['steps']:,} steps, batch {config['batch']} "
        f"({facts['pictures_seen']:,} pictures)"
    )
    return f"""---
license: apache-2.0
library_name: diffusers
tags: [unconditional-image-generation, class-conditional]
---
# emoji-pixel

A class-conditional diffusion model of the emoji world, 32×32 pixels: {len(facts["classes"])} objects on twelve
plain backgrounds. A diffusers `UNet2DModel` with {facts["parameters"] / 1e6:.2f} M parameters that predicts v
on the squared-cosine schedule. The last class is the null class: with it the network is unconditional.

![Uncurated samples, one of each class](samples.png)

| | |
| --- | --- |
| recipe | `{facts["recipe"]}` |
| data | emoji scenes drawn on the fly, train split; one background of each object held out |
| training | {trained}, EMA {config["ema"]} |
| time | {facts["hours"]} hours |
| hardware | {facts["hardware"]} |
| weights | fp16 safetensors, sha256 `{sha256}` |
| licence | Apache-2.0 (code, weights and the emoji pictures they were trained on) |

## Measured quality

{quality["samples"]} samples, the classes in turn, {quality["steps"]} DDIM steps, no guidance, against
{quality["reference"]}. Distances on EfficientNet-Lite0 features; they are not comparable to Inception FID.

| | {fid} | {kid} |
| --- | --- | --- |
{rows}

## Use

```python
from diffusers import DDIMScheduler, UNet2DModel

unet = UNet2DModel.from_pretrained("zoo/emoji-pixel", subfolder="unet")
scheduler = DDIMScheduler.from_pretrained("zoo/emoji-pixel", subfolder="scheduler")
```

## 한국어

이모지 세계의 클래스 조건부 디퓨전 모형이다. 32×32 픽셀, 단색 배경 위의 사물 {len(facts["classes"])}종을 그린다.
`{facts["recipe"]}`로 {facts["hardware"]}에서 {facts["hours"]}시간 동안 학습했다. 마지막 클래스는 빈 조건이며,
이를 넣으면 무조건부 모형이 된다. 위 표의 거리는 EfficientNet-Lite0 특징으로 잰 것으로, 논문의 Inception FID와
비교할 수 없다.
"""

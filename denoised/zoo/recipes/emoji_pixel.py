"""emoji-pixel: a class-conditional diffusion model of the emoji world in pixel space, 32×32.

A diffusers UNet2DModel that predicts v on the squared-cosine schedule. In one of ten examples the class is
replaced by the null class, so the same network is also unconditional and can be guided (Ho & Salimans
2022, arXiv:2207.12598, Algorithm 1).

The loss is the plain squared error of v, SNR + 1 times that of x0, so that the fine strokes that appear at
low noise count: with min-SNR weights a network of this size drew blotchy surfaces. The rate stays constant
for three quarters of the steps and then falls to zero (Hägele et al. 2024, arXiv:2405.18392). The shipped weights
were planned for 6,500 steps and cut to 5,000 at 3,846, so their rate began to fall there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Network
from denoised.diffusion.guidance import guide
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.samplers import ddim
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.diffusion.training import stratified_timesteps, training_target, warmup_stable_decay
from denoised.files import write_whole
from denoised.language import Phrase, say
from denoised.metrics.distances import frechet_distance, kernel_distance
from denoised.metrics.features import EfficientNetLite0
from denoised.metrics.judge import Judge
from denoised.pictures import grid, png
from denoised.project import find_root
from denoised.worlds.emoji import load_atlas, render, sample_scenes
from denoised.zoo.load import WEIGHTS, as_network
from denoised.zoo.manifest import verify
from denoised.zoo.publish import publish as publish_folder
from denoised.zoo.publish import row, save_json, save_weights
from denoised.zoo.train import Training

NAME = "emoji-pixel"
SIZE = 32  # pixels
MEASURED, STEPS, REFERENCE = 480, 50, 1024  # samples, network evaluations of each, real scenes
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
    steps: int = 5_000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200  # steps until the learning rate is full
    decay: float = 0.25  # share of the steps, the last ones, over which it falls to zero
    ema: float = 0.999  # decay of the averaged weights, which are the ones shipped
    gradient_clip: float = 1.0
    drop_condition: float = 0.1  # share of examples trained with the null class
    bf16: bool = True  # autocast of the forward pass; weights and optimizer stay float32
    seed: int = 0


def unet_config() -> dict[str, object]:
    """The arguments of the UNet2DModel: 2.5 M parameters, wide at full resolution, attention at 8×8 alone."""
    return {
        "sample_size": SIZE,
        "in_channels": 3,
        "out_channels": 3,
        "layers_per_block": 1,
        "block_out_channels": (32, 64, 128),
        "down_block_types": ("DownBlock2D",) * 3,
        "up_block_types": ("UpBlock2D",) * 3,
        "norm_num_groups": 8,
        "attention_head_dim": 64,
        "num_class_embeds": len(load_atlas().objects) + 1,  # the last one is the null class
    }


def build(config: Config) -> UNet2DModel:
    return UNet2DModel(**unet_config())


def learning_rate(config: Config, step: int) -> float:
    return config.learning_rate * warmup_stable_decay(step, config.steps, config.warmup, config.decay)


def loss(network: UNet2DModel, config: Config, step: int) -> Tensor:
    """The mean squared error of v over a batch of train scenes."""
    seed = int(np.random.SeedSequence([config.seed, step]).generate_state(1, np.uint64)[0])
    generator = torch.Generator().manual_seed(seed)
    scenes = sample_scenes(config.batch, seed=seed, split="train")
    x0 = render(scenes, SIZE)
    eps = torch.randn(x0.shape, generator=generator)
    schedule = Schedule.from_config(SCHEDULER)
    t = stratified_timesteps(config.batch, schedule.T, generator)
    dropped = torch.rand(config.batch, generator=generator) < config.drop_condition
    condition = torch.where(dropped, null_class(), scenes.object)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        v = network(schedule.add_noise(x0, eps, t), t, class_labels=condition).sample
    squared_error: Tensor = (
        (v.float() - training_target(x0, eps, t, schedule, "v_prediction")).square().mean()
    )
    return squared_error


def null_class() -> int:
    """The class that stands for no condition."""
    return len(load_atlas().objects)


def draw(network: UNet2DModel, labels: Tensor, seed: int, steps: int, guidance: float = 1.0) -> Tensor:
    """Pictures of the classes `labels`, one random stream each, in [-1, 1]."""
    plain: Network = as_network(network)

    def guided(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        if guidance == 1:
            return plain(x, t, condition)
        return guide(plain(x, t, None), plain(x, t, condition), guidance)

    schedule = Schedule.from_config(SCHEDULER)
    denoiser = Denoiser(guided, schedule, "v_prediction")
    drawn = []
    for first in range(0, len(labels), 64):
        part = labels[first : first + 64]
        noise = SampleGenerators(seed, range(first, first + len(part))).randn(3, SIZE, SIZE)
        drawn.append(ddim(denoiser, noise, timesteps(schedule.T, steps, "trailing"), condition=part))
    return torch.cat(drawn).clamp(-1, 1)


def preview(network: UNet2DModel, config: Config) -> tuple[Tensor, int]:
    """Every class once, in 20 steps without guidance."""
    return draw(network, torch.arange(null_class()), seed=7, steps=20), 8


def measure(network: UNet2DModel, config: Config) -> dict[str, float]:
    """How often the judge reads the class asked for in 20-step samples, and how far they are from scenes."""
    root = find_root()
    verify(root / "zoo" / "emoji-judge")
    judge = Judge(root / "zoo" / "emoji-judge")
    extractor = EfficientNetLite0(root / "zoo" / "effnet-lite0" / "model.safetensors")
    real = extractor(render(sample_scenes(512, 7, "test"), SIZE))
    labels = torch.arange(2 * null_class()) % null_class()
    samples = draw(network, labels, seed=7, steps=20)
    return {
        "fid": round(frechet_distance(extractor(samples), real), 2),
        "class": round(float((judge(samples).object == labels).float().mean()), 3),
    }


def publish(training: Training, folder: Path, report: Callable[[str], None]) -> None:
    """Measure 480 samples with and without guidance, and write the folder."""
    root = find_root()
    verify(root / "zoo" / "effnet-lite0")
    verify(root / "zoo" / "emoji-judge")
    extractor = EfficientNetLite0(root / "zoo" / "effnet-lite0" / "model.safetensors")
    judge = Judge(root / "zoo" / "emoji-judge")
    unet: UNet2DModel = training.average.eval()
    save_json(folder / "unet" / "config.json", {"_class_name": "UNet2DModel", **unet_config()})
    save_weights(folder / "unet" / WEIGHTS, unet.state_dict())  # fp16 instead of fp32: fid 690.4, was 690.2
    save_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    shipped = UNet2DModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False).float().eval()

    n, steps, seed, guidance = MEASURED, STEPS, 7, 2.0
    labels = torch.arange(n) % null_class()
    real = extractor(render(sample_scenes(REFERENCE, seed, "test"), SIZE))
    others = extractor(render(sample_scenes(n, 11, "test"), SIZE))
    floors = (frechet_distance(others, real), kernel_distance(others, real))
    quality = []
    for scale, name, what in (
        (1.0, "unguided", Phrase(ko="유도 없이", en="unguided")),
        (guidance, "guided", Phrase(ko=f"유도 {guidance:g}", en=f"guidance {guidance:g}")),
    ):
        report(say(ko=f"표본 {n}장, {what.ko}", en=f"{n} samples, {what.en}"))
        pictures = draw(shipped, labels, seed, steps, scale)
        if scale == 1:
            write_whole(folder / "samples.png", png(grid(pictures[: null_class()], 8)))
        right = judge(pictures).object == labels
        features = extractor(pictures)
        quality += [
            row(
                f"class.{name}",
                Phrase(
                    ko=f"판정기가 읽은 클래스가 요청과 같다, {what.ko}",
                    en=f"judge reads the class asked for, {what.en}",
                ),
                round(float(right.float().mean()), 4),
                n,
                floor={"guided": 0.95}.get(name, 0.85),
                chance=round(1 / null_class(), 4),
                headline=True,
            ),
            row(
                f"fid[{EfficientNetLite0.name}].{name}",
                Phrase(ko=f"프레셰 거리, {what.ko}", en=f"Fréchet distance, {what.en}"),
                round(frechet_distance(features, real), 2),
                n,
                unit="distance",
                better="lower",
                real=round(floors[0], 2),
            ),
            row(
                f"kid[{EfficientNetLite0.name}].{name}",
                Phrase(ko=f"커널 거리, {what.ko}", en=f"kernel distance, {what.en}"),
                round(kernel_distance(features, real), 5),
                n,
                unit="distance",
                better="lower",
                real=round(floors[1], 5),
            ),
        ]
    publish_folder(
        training,
        folder,
        ["unet/config.json", f"unet/{WEIGHTS}", "scheduler/scheduler_config.json"],
        quality,
        about=Phrase(
            ko=f"이모지 세계의 클래스 조건부 디퓨전 모델. 단색 배경 위의 사물 {null_class()}가지를 "
            f"{SIZE}×{SIZE} 픽셀로 그린다.",
            en=f"A class-conditional diffusion model of the emoji world: {null_class()} objects on plain backgrounds, "
            f"{SIZE}×{SIZE} pixels.",
        ),
        protocol=Phrase(
            ko=f"클래스를 차례로 돌며 DDIM {steps}스텝, 시드 {seed}. 클래스는 zoo/emoji-judge가 읽고, 거리는 "
            f"EfficientNet-Lite0 특징으로 떼어 둔 장면 {REFERENCE:,}장과 잰다. 논문의 Inception FID와 비교할 수 없다.",
            en=f"The classes in turn, {steps} DDIM steps, seed {seed}. Classes are read by zoo/emoji-judge; distances "
            f"are on EfficientNet-Lite0 features to {REFERENCE:,} held-out scenes and not comparable to Inception FID.",
        ),
        parameters=sum(p.numel() for p in unet.parameters()),
        usage="""
from diffusers import DDIMScheduler, UNet2DModel

unet = UNet2DModel.from_pretrained("zoo/emoji-pixel", subfolder="unet", low_cpu_mem_usage=False)
scheduler = DDIMScheduler.from_pretrained("zoo/emoji-pixel", subfolder="scheduler")
""",
        samples=Phrase(ko="고르지 않은 표본, 클래스마다 하나", en="Uncurated samples, one of each class"),
        curves={
            "fid": Phrase(ko="프레셰 거리 (96장, 20스텝)", en="Fréchet distance (96 samples, 20 steps)"),
            "class": Phrase(ko="요청한 클래스로 읽힌 비율", en="share read as the class asked for"),
        },
        classes=[thing.id for thing in load_atlas().objects],
    )

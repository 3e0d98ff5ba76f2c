"""emoji-vae: the autoencoder of emoji-t2i, from 64×64 pictures to 16×16 latents of eight channels and back.

A diffusers AutoencoderKL (Rombach et al. 2022, arXiv:2112.10752, section 3.1) without an adversary: at this
size the emoji's few textures are learned by squared error. The pictures' objects weigh more than their
backgrounds, and the prior's weight is small, so that latents carry detail and still have no holes.
After training the latents' mean and scale are folded into the two 1×1 convolutions around them, so that
every channel has mean 0 and variance 1 and `scaling_factor` is 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from denoised.diffusion.training import warmup_cosine
from denoised.files import write_whole
from denoised.language import Phrase, say
from denoised.pictures import grid, png
from denoised.worlds.emoji import Scenes, Split, masks, render, sample_scenes
from denoised.zoo.load import WEIGHTS
from denoised.zoo.publish import publish as publish_folder
from denoised.zoo.publish import row, save_json, save_weights
from denoised.zoo.train import Training

NAME = "emoji-vae"
SIZE, LATENT_CHANNELS = 64, 8
MEASURED = 1_000  # scenes of each split


@dataclass
class Config:
    steps: int = 6_000
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: int = 200  # steps until the learning rate is full; then half a cosine to zero
    ema: float = 0.998  # decay of the averaged weights, which are the ones shipped
    gradient_clip: float = 1.0
    kl_weight: float = 3e-4  # of the KL divergence a latent, beside the squared error a pixel
    object_weight: float = 4.0  # of a pixel that an object covers; the background's is 1
    bf16: bool = True  # autocast of the forward pass; weights and optimizer stay float32
    seed: int = 0


def vae_config() -> dict[str, object]:
    """The arguments of the AutoencoderKL: three levels, so a factor of four."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [16, 32, 64],
        "layers_per_block": 1,
        "latent_channels": LATENT_CHANNELS,
        "norm_num_groups": 8,
        "sample_size": SIZE,
        "scaling_factor": 1.0,
        "mid_block_add_attention": False,
    }


def build(config: Config) -> AutoencoderKL:
    return AutoencoderKL(**vae_config())


def learning_rate(config: Config, step: int) -> float:
    return config.learning_rate * warmup_cosine(step, config.steps, config.warmup)


def loss(network: AutoencoderKL, config: Config, step: int) -> Tensor:
    """Weighted squared error of the reconstruction and the KL divergence to N(0, 1). Eq. 25 without L_adv."""
    seed = int(np.random.SeedSequence([config.seed, step]).generate_state(1, np.uint64)[0])
    generator = torch.Generator().manual_seed(seed)
    scenes = sample_scenes(config.batch, seed, "train", "full")
    pictures = render(scenes, SIZE)
    covered = masks(scenes, SIZE).sum(dim=1, keepdim=True).clamp(max=1)
    weight = 1 + (config.object_weight - 1) * covered
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        posterior = network.encode(pictures).latent_dist
        z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        decoded = network.decode(z).sample
    error = (weight * (decoded.float() - pictures).square()).mean() / weight.mean()
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    total: Tensor = error + config.kl_weight * kl
    return total


def held_out(n: int) -> Scenes:
    """Scenes that training never sees."""
    return sample_scenes(n, 7, "test", "full")


def reconstruct(network: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Pictures (n, 3, 64, 64) through the latents and back, without the posterior's noise, in [-1, 1]."""
    with torch.inference_mode():
        parts = [network.decode(network.encode(p).latent_dist.mean).sample for p in pictures.split(64)]
    return torch.cat(parts).clamp(-1, 1)


def psnr(pictures: Tensor, others: Tensor, weight: Tensor | None = None) -> float:
    """Mean over pictures of 10 log10(4 / squared error), dB, for pictures in [-1, 1]."""
    squared = (pictures - others).square().mean(dim=1, keepdim=True)
    weight = torch.ones_like(squared) if weight is None else weight
    error = (weight * squared).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))
    return float((10 * torch.log10(4 / error.clamp(min=1e-10))).mean())


def preview(network: AutoencoderKL, config: Config) -> tuple[Tensor, int]:
    """Sixteen held-out scenes, each row followed by its reconstruction."""
    pictures = render(held_out(16), SIZE)
    both = torch.stack([pictures, reconstruct(network, pictures)]).unflatten(1, (2, 8))
    return both.transpose(0, 1).flatten(0, 2), 8


def measure(network: AutoencoderKL, config: Config) -> dict[str, float]:
    """PSNR on held-out scenes, of whole pictures and of their objects alone."""
    scenes = held_out(256)
    pictures = render(scenes, SIZE)
    decoded = reconstruct(network, pictures)
    covered = masks(scenes, SIZE).sum(dim=1, keepdim=True).clamp(max=1)
    return {
        "psnr": round(psnr(decoded, pictures), 3),
        "psnr_objects": round(psnr(decoded, pictures, covered), 3),
    }


@torch.no_grad()
def normalise(network: AutoencoderKL, scenes: int = 2048) -> None:
    """Fold the latents' mean and standard deviation into the network, in place."""
    pictures = render(sample_scenes(scenes, 8, "train", "full"), SIZE)
    latents = torch.cat([network.encode(p).latent_dist.mean for p in pictures.split(64)])
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    before, after = network.quant_conv, network.post_quant_conv
    before.weight[:LATENT_CHANNELS] /= std.view(-1, 1, 1, 1)
    before.bias[:LATENT_CHANNELS] = (before.bias[:LATENT_CHANNELS] - mean) / std
    before.bias[LATENT_CHANNELS:] -= 2 * std.log()
    after.bias += F.conv2d(mean.view(1, -1, 1, 1), after.weight).flatten()
    after.weight *= std.view(1, -1, 1, 1)


def publish(training: Training, folder: Path, report: Callable[[str], None]) -> None:
    """Normalise the latents, measure the shipped weights, and write the folder."""
    network = copy.deepcopy(training.average).eval()
    normalise(network)
    save_json(folder / "config.json", {"_class_name": "AutoencoderKL", **vae_config()})
    save_weights(folder / WEIGHTS, network.state_dict())
    shipped = AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False).float().eval()
    n = MEASURED
    report(say(ko=f"장면 {n:,}개를 재구성한다", en=f"reconstructing {n:,} scenes"))
    quality = []
    splits: tuple[Split, ...] = ("test", "compositions")
    for split in splits:
        scenes = sample_scenes(n, 70, split, "full")
        pictures = render(scenes, SIZE)
        decoded = reconstruct(shipped, pictures)
        covered = masks(scenes, SIZE).sum(dim=1, keepdim=True).clamp(max=1)
        for name, what, weight, floor in (
            ("psnr", Phrase(ko="재구성 PSNR", en="reconstruction PSNR"), None, 30.0),
            (
                "psnr.objects",
                Phrase(ko="재구성 PSNR, 사물만", en="reconstruction PSNR, objects alone"),
                covered,
                None,
            ),
        ):
            quality.append(
                row(
                    name,
                    what,
                    round(psnr(decoded, pictures, weight), 2),
                    n,
                    unit="dB",
                    split=split,
                    headline=split == "test",
                    **({"floor": floor} if floor else {}),
                )
            )
    exact = psnr(reconstruct(network, pictures), pictures)
    quality.append(
        row(
            "psnr.fp32",
            Phrase(ko="재구성 PSNR, 반올림하기 전 fp32", en="reconstruction PSNR, fp32 before rounding"),
            round(exact, 2),
            n,
            unit="dB",
            split="compositions",
        )
    )
    write_whole(folder / "samples.png", png(grid(*preview(shipped, training.config))))
    publish_folder(
        training,
        folder,
        ["config.json", WEIGHTS],
        quality,
        about=Phrase(
            ko="emoji-t2i의 오토인코더: 64×64 그림을 채널 8개의 16×16 잠재 변수로 줄였다가 되돌린다.",
            en="The autoencoder of emoji-t2i: 64×64 pictures to 16×16 latents of 8 channels and back.",
        ),
        protocol=Phrase(
            ko=f"학습에 쓰지 않은 시드의 장면 {n:,}개. 그림마다 잰 PSNR의 평균이다.",
            en=f"{n:,} scenes of a seed that training never used; the mean of each picture's PSNR.",
        ),
        parameters=sum(p.numel() for p in network.parameters()),
        usage="""
from diffusers import AutoencoderKL

vae = AutoencoderKL.from_pretrained("zoo/emoji-vae", low_cpu_mem_usage=False)
""",
        samples=Phrase(
            ko="학습에 쓰지 않은 장면과 그 아래의 재구성",
            en="Held-out scenes, with their reconstructions below",
        ),
        curves={
            "psnr": Phrase(ko="PSNR (dB)", en="PSNR (dB)"),
            "psnr_objects": Phrase(ko="사물만의 PSNR (dB)", en="PSNR of objects alone (dB)"),
        },
    )

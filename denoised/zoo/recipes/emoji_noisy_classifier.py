"""emoji-noisy-classifier: which of emoji-pixel's classes a noised picture shows, at any noise level.

The downsampling trunk of a small U-Net with an attention pool, trained by cross-entropy on plain scenes at every
timestep of emoji-pixel's schedule, as the classifier of Dhariwal & Nichol 2021 (arXiv:2105.05233, § 4). Its
gradients guide samplers (classifier guidance). It never judges: emoji-judge, another network that reads other
pictures, does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.diffusion.schedule import Schedule
from denoised.diffusion.training import stratified_timesteps, warmup_cosine
from denoised.files import write_whole
from denoised.language import Phrase, say
from denoised.pictures import grid, png
from denoised.worlds.emoji import Split, load_atlas, render, sample_scenes
from denoised.zoo.noisy_classifier import CLASS_WEIGHTS, NoisyClassifier, load_noisy_classifier
from denoised.zoo.noisy_classifier import SCHEDULER as SCHEDULER_FILE
from denoised.zoo.publish import publish as publish_folder
from denoised.zoo.publish import row, save_json, save_weights
from denoised.zoo.recipes.emoji_pixel import SCHEDULER, SIZE
from denoised.zoo.train import Training

NAME = "emoji-noisy-classifier"
BANDS = 5  # parts of equal length that the timesteps are measured in, from the least noise to the most
MEASURED = 1_920  # scenes in each band
# Accuracy in the bands of least noise, a point or so below what the shipped weights reach. Above them the noise
# hides what there is to know, so there is nothing to ask for.
FLOORS = (0.99, 0.99, 0.97)


@dataclass
class Config:
    steps: int = 4_000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200  # steps until the learning rate is full; then half a cosine to zero
    ema: float = 0.998  # decay of the averaged weights, which are the ones shipped
    gradient_clip: float = 1.0
    channels: list[int] = field(default_factory=lambda: [32, 64, 128])  # at 32×32, 16×16 and 8×8
    bf16: bool = True  # autocast of the forward pass; weights and optimizer stay float32
    seed: int = 0


def build(config: Config) -> NoisyClassifier:
    return NoisyClassifier(len(load_atlas().objects), SIZE, config.channels)


def learning_rate(config: Config, step: int) -> float:
    return config.learning_rate * warmup_cosine(step, config.steps, config.warmup)


def loss(network: NoisyClassifier, config: Config, step: int) -> Tensor:
    """The cross-entropy of the class over a batch of noised train scenes, every timestep alike."""
    seed = int(np.random.SeedSequence([config.seed, step]).generate_state(1, np.uint64)[0])
    generator = torch.Generator().manual_seed(seed)
    schedule = Schedule.from_config(SCHEDULER)
    t = stratified_timesteps(config.batch, schedule.T, generator)
    x_t, classes = noised(config.batch, seed, "train", t, generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        logits = network(x_t, t)
    return F.cross_entropy(logits.float(), classes)


def noised(n: int, seed: int, split: Split, t: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n plain scenes at timesteps t (n,), and their classes."""
    scenes = sample_scenes(n, seed, split)
    x0 = render(scenes, SIZE)
    eps = torch.randn(x0.shape, generator=generator)
    return Schedule.from_config(SCHEDULER).add_noise(x0, eps, t), scenes.object


def accuracies(network: NoisyClassifier, n: int, seed: int, split: Split) -> list[float]:
    """The share of n scenes read rightly in each band of timesteps, from the least noise to the most."""
    generator = torch.Generator().manual_seed(seed)
    width = SCHEDULER["num_train_timesteps"] // BANDS  # type: ignore[operator]
    found = []
    for band in range(BANDS):
        t = band * width + stratified_timesteps(n, width, generator)
        x_t, classes = noised(n, seed + band, split, t, generator)
        with torch.inference_mode():
            logits = torch.cat([network(a, b) for a, b in zip(x_t.split(256), t.split(256), strict=True)])
        found.append(float((logits.argmax(dim=1) == classes).float().mean()))
    return found


def band_name(band: int) -> str:
    """The timesteps of a band, as metrics and curves call it: t0-199."""
    width = SCHEDULER["num_train_timesteps"] // BANDS  # type: ignore[operator]
    return f"t{band * width}-{(band + 1) * width - 1}"


def preview(network: NoisyClassifier, config: Config) -> tuple[Tensor, int]:
    """Scenes with more and more noise, and below each the gradient of log p(class | x_t), its largest value 1."""
    columns = 8
    t = torch.linspace(50, 900, columns).long().repeat(2)
    x_t, classes = noised(len(t), 7, "test", t, torch.Generator().manual_seed(7))
    x_t.requires_grad_(True)
    (-F.cross_entropy(network(x_t, t), classes, reduction="sum")).backward()
    assert x_t.grad is not None
    gradient = x_t.grad / x_t.grad.abs().amax(dim=(1, 2, 3), keepdim=True)
    rows = zip(x_t.detach().clamp(-1, 1).split(columns), gradient.split(columns), strict=True)
    return torch.cat([part for pair in rows for part in pair]), columns


def measure(network: NoisyClassifier, config: Config) -> dict[str, float]:
    """Accuracy in each band of timesteps on held-out scenes."""
    shares = accuracies(network, 256, 7, "test")
    return {band_name(band): round(share, 4) for band, share in enumerate(shares)}


def publish(training: Training, folder: Path, report: Callable[[str], None]) -> None:
    """Measure the shipped weights in every band of noise, also on held-out pairs, and write the folder."""
    average: NoisyClassifier = training.average.eval()  # type: ignore[assignment]
    save_json(folder / "config.json", {"_class_name": "NoisyClassifier", **average.config})
    save_weights(folder / CLASS_WEIGHTS, average.state_dict())
    save_json(folder / SCHEDULER_FILE, SCHEDULER)
    # The half-precision weights that are shipped; an older manifest in the folder is not theirs.
    (folder / "manifest.json").unlink(missing_ok=True)
    network = load_noisy_classifier(folder).network

    bands = [band_name(band) for band in range(BANDS)]
    quality = []
    splits: tuple[Split, ...] = ("test", "compositions")
    for split in splits:
        report(
            say(
                ko=f"장면 {BANDS * MEASURED:,}개를 읽는다 ({split})",
                en=f"reading {BANDS * MEASURED:,} scenes ({split})",
            )
        )
        for band, share in enumerate(accuracies(network, MEASURED, 70, split)):
            asked = split == "test" and band < len(FLOORS)
            quality.append(
                row(
                    f"class.{bands[band]}",
                    Phrase(
                        ko=f"시점 {bands[band].removeprefix('t')}에서 맞힌 클래스",
                        en=f"class, timesteps {bands[band].removeprefix('t')}",
                    ),
                    round(share, 4),
                    MEASURED,
                    chance=round(1 / average.config["classes"], 4),
                    split=split,
                    headline=asked and band > 0,
                    **({"floor": FLOORS[band]} if asked else {}),
                )
            )
    write_whole(folder / "samples.png", png(grid(*preview(network, training.config))))
    publish_folder(
        training,
        folder,
        ["config.json", CLASS_WEIGHTS, SCHEDULER_FILE],
        quality,
        about=Phrase(
            ko=f"노이즈가 섞인 32×32 장면에서 emoji-pixel의 클래스 {average.config['classes']}가지를 맞히는 분류기. "
            "그 기울기로 샘플링을 유도한다. 결과를 판정하는 일은 하지 않는다.",
            en=f"A classifier of emoji-pixel's {average.config['classes']} classes that reads noised scenes of 32×32 at "
            "every noise level. Its gradients guide samplers; it never judges what they draw.",
        ),
        protocol=Phrase(
            ko=f"학습에 쓰지 않은 시드의 장면을 시점 구간마다 {MEASURED:,}개씩 노이즈를 섞어 읽었다. 시점은 emoji-pixel의 "
            "코사인 스케줄을 따른다. 떼어 둔 조합은 따로 적는다.",
            en=f"{MEASURED:,} scenes for each band of timesteps, of a seed that training never used, noised on "
            "emoji-pixel's cosine schedule. Held-out pairs are listed apart.",
        ),
        parameters=sum(p.numel() for p in network.parameters()),
        usage="""
from pathlib import Path

from denoised.zoo.noisy_classifier import load_noisy_classifier

guide = load_noisy_classifier(Path("zoo/emoji-noisy-classifier"))
logits = guide.network(x_t, t)  # (n, 3, 32, 32) and (n,) -> (n, 48)
""",
        samples=Phrase(
            ko="점점 더 흐려지는 장면, 아래에는 저마다 log p(클래스 | x_t)의 기울기 (가장 큰 값을 1로)",
            en="Scenes with more and more noise; below each, the gradient of log p(class | x_t), its largest value 1",
        ),
        curves={
            name: Phrase(
                ko=f"맞힌 비율, 시점 {name.removeprefix('t')}",
                en=f"share right, timesteps {name.removeprefix('t')}",
            )
            for name in bands
        },
        classes=[thing.id for thing in load_atlas().objects],
    )

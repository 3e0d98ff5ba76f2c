"""emoji-judge: reads what a picture shows, so that claims about content can be measured exactly.

A transformers ResNet (He et al. 2016, arXiv:1512.03385) over the picture and its pixels' coordinates, whose
classes are all attributes' classes one after another; `heads.json` says where each begins. It is trained on
real scenes at both resolutions, a little blurred and noisy as generated pictures are, and on pictures that
hold no object: noise, two objects mixed, an object in shuffled pieces, one too blurred to tell.

The judge is an instrument, so it also learns the pairs that are held out from every model it measures: else
a model that draws them would be marked down for the judge's ignorance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification

from denoised.diffusion.training import warmup_cosine
from denoised.files import write_whole
from denoised.language import Phrase, say
from denoised.metrics.judge import SIDE, Judge, prepared, read
from denoised.pictures import grid, png
from denoised.worlds.emoji import Split, attributes, load_atlas, render, sample_scenes, truth
from denoised.zoo.publish import COMPUTED_IN, row, save_json, save_weights
from denoised.zoo.publish import publish as publish_folder
from denoised.zoo.train import Training

NAME = "emoji-judge"


@dataclass
class Config:
    steps: int = 6_000
    batch: int = 64
    learning_rate: float = 2e-3
    warmup: int = 200  # steps until the learning rate is full; then half a cosine to zero
    ema: float = 0.998  # decay of the averaged weights, which are the ones shipped
    gradient_clip: float = 1.0
    held_out: float = 0.15  # share of scenes with pairs that the measured models never see
    plain: float = 0.2  # share of plain scenes of 32×32, scaled up
    nothing: float = 0.15  # share of pictures without an object
    bf16: bool = True  # autocast of the forward pass; weights and optimizer stay float32
    seed: int = 0


def resnet_config() -> ResNetConfig:
    """Three stages of two basic blocks: 16×16, 8×8 and 4×4."""
    config = ResNetConfig(
        num_channels=5,
        embedding_size=32,
        hidden_sizes=[32, 64, 192],
        depths=[2, 2, 2],
        layer_type="basic",
        downsample_in_first_stage=False,
    )
    config.num_labels = sum(attributes().values())
    return config


def build(config: Config) -> ResNetForImageClassification:
    return ResNetForImageClassification(resnet_config())


def learning_rate(config: Config, step: int) -> float:
    return config.learning_rate * warmup_cosine(step, config.steps, config.warmup)


def loss(network: ResNetForImageClassification, config: Config, step: int) -> Tensor:
    """The sum of the heads' cross-entropies."""
    seed = int(np.random.SeedSequence([config.seed, step]).generate_state(1, np.uint64)[0])
    generator = torch.Generator().manual_seed(seed)
    held_out, plain, empty = (
        int(share * config.batch) for share in (config.held_out, config.plain, config.nothing)
    )
    drawn = [
        scenes_with_truth(config.batch - held_out - plain - empty, seed, "train"),
        scenes_with_truth(held_out, seed, "compositions"),
        scenes_with_truth(plain, seed, "train", plain=True),
        nothing(empty, seed, "train"),
    ]
    pictures = blemished(torch.cat([pictures for pictures, _ in drawn]), generator)
    truths = {name: torch.cat([t[name] for _, t in drawn]) for name in attributes()}
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        logits = network(prepared(pictures)).logits
    parts = logits.float().split(list(attributes().values()), dim=1)
    losses = [
        F.cross_entropy(part, truths[name], ignore_index=-1, reduction="sum") / config.batch
        for name, part in zip(attributes(), parts, strict=True)
    ]
    return torch.stack(losses).sum()


def scenes_with_truth(
    n: int, seed: int, split: Split, *, plain: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Pictures of n scenes at the judge's size, and what they show; plain scenes are drawn at 32×32."""
    scenes = sample_scenes(n, seed, split, "loose" if plain else "full")
    pictures = render(scenes, SIDE // 2 if plain else SIDE)
    return prepared(pictures)[:, :3], truth(scenes)


def nothing(n: int, seed: int, split: Split) -> tuple[Tensor, dict[str, Tensor]]:
    """Pictures in which no object can be told: in turn mixtures, shuffled pieces, blurs and noise."""
    generator = torch.Generator().manual_seed(seed)
    scenes = sample_scenes(n, seed + 1, split, "loose")
    pictures = render(scenes, SIDE)
    classes = len(load_atlas().objects)
    shift = torch.randint(1, classes, (n,), generator=generator)
    others = render(type(scenes)(**{**vars(scenes), "object": (scenes.object + shift) % classes}), SIDE)
    pieces = pictures.unfold(2, 16, 16).unfold(3, 16, 16).flatten(2, 3)
    order = torch.rand(n, 16, generator=generator).argsort(dim=1)
    shuffled = pieces[torch.arange(n)[:, None], :, order].transpose(1, 2)
    shuffled = shuffled.unflatten(2, (4, 4)).permute(0, 1, 2, 4, 3, 5).reshape(n, 3, SIDE, SIDE)
    blurred = F.interpolate(F.adaptive_avg_pool2d(pictures, 4), size=(SIDE, SIDE), mode="bilinear")
    share = torch.rand(n, 1, 1, 1, generator=generator)
    noise = torch.randn(pictures.shape, generator=generator)
    noisy = (0.2 * share * pictures + (1 - 0.04 * share**2).sqrt() * noise * 0.6).clamp(-1, 1)
    kind = torch.arange(n)[:, None, None, None] % 4
    made = torch.where(kind == 0, (0.4 + 0.2 * share) * pictures + (0.6 - 0.2 * share) * others, noisy)
    made = torch.where(kind == 1, shuffled, made)
    made = torch.where(kind == 2, blurred, made)
    unknown = torch.full((n,), -1)
    truths = dict.fromkeys(attributes(), unknown)
    truths["object"] = truths["second"] = torch.full((n,), classes)
    truths["relation"] = torch.zeros(n, dtype=torch.int64)
    return made, truths


def blemished(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures as a decoder or a sampler leaves them: some softened, most with a little noise."""
    n = len(pictures)
    soft = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    amount = torch.rand(n, 1, 1, 1, generator=generator) * (torch.rand(n, 1, 1, 1, generator=generator) < 0.5)
    noise = torch.randn(pictures.shape, generator=generator)
    strength = 0.12 * torch.rand(n, 1, 1, 1, generator=generator) ** 2
    return (torch.lerp(pictures, soft, amount) + strength * noise).clamp(-1, 1)


def accuracy(
    network: ResNetForImageClassification, drawn: tuple[Tensor, dict[str, Tensor]]
) -> dict[str, float]:
    """The share of pictures on which each head is right, of those that show its attribute."""
    pictures, truths = drawn
    with torch.inference_mode():
        logits = torch.cat([network(prepared(p)).logits for p in pictures.split(256)])
    reading = read(logits, attributes())
    shares = {}
    for name, asked in truths.items():
        found = getattr(reading, name)
        found = (
            torch.where(found < 0, attributes()[name] - 1, found) if name in ("object", "second") else found
        )
        if bool((asked >= 0).any()):
            shares[name] = float((found == asked)[asked >= 0].float().mean())
    return shares


def preview(network: ResNetForImageClassification, config: Config) -> tuple[Tensor, int]:
    """Held-out scenes that are misread, then pictures without an object that are taken for one."""
    pictures, truths = scenes_with_truth(512, 7, "test")
    empty, _ = nothing(256, 7, "test")
    with torch.inference_mode():
        seen = read(network(prepared(pictures)).logits, attributes())
        unseen = read(network(prepared(empty)).logits, attributes())
    wrong = pictures[seen.object != truths["object"]][:24]
    taken = empty[unseen.object >= 0][:24]
    # Never an empty sheet: when all is read rightly, the first scenes stand there.
    return torch.cat([wrong, taken, pictures[:8]])[:48], 8


def measure(network: ResNetForImageClassification, config: Config) -> dict[str, float]:
    """Accuracy of each head on held-out scenes, and the share of empty pictures read as empty."""
    row = {k: round(v, 4) for k, v in accuracy(network, scenes_with_truth(1000, 7, "test")).items()}
    row["plain_object"] = round(accuracy(network, scenes_with_truth(500, 7, "test", plain=True))["object"], 4)
    row["nothing"] = round(accuracy(network, nothing(500, 7, "test"))["object"], 4)
    return row


WHAT = {
    "object": Phrase(ko="사물", en="object"),
    "second": Phrase(ko="두 번째 사물 (또는 없음)", en="second object, or none"),
    "relation": Phrase(ko="두 사물의 관계", en="relation of two objects"),
    "background": Phrase(ko="배경색", en="background colour"),
    "texture": Phrase(ko="배경 무늬", en="background texture"),
    "accessory": Phrase(ko="장신구", en="accessory"),
    "style": Phrase(ko="화풍", en="style"),
    "count": Phrase(ko="개수", en="count"),
    "size": Phrase(ko="크기", en="size"),
}
FLOORS = {"object": 0.995, "background": 0.995, "accessory": 0.99, "relation": 0.99}
MEASURED = 4_000  # scenes


def publish(training: Training, folder: Path, report: Callable[[str], None]) -> None:
    """Measure the shipped weights on new scenes, on held-out pairs and on pictures of nothing."""
    network: ResNetForImageClassification = training.average.eval()  # type: ignore[assignment]
    config = network.config.to_dict() | {
        "architectures": ["ResNetForImageClassification"],
        **COMPUTED_IN,
    }
    save_json(folder / "config.json", config)
    save_json(folder / "heads.json", {"heads": attributes()})
    save_weights(folder / "model.safetensors", network.state_dict())
    judge = Judge(folder)

    def rows(drawn: tuple[Tensor, dict[str, Tensor]], **more: object) -> list[dict[str, object]]:
        shares = accuracy(judge.network, drawn)
        return [
            row(
                name,
                WHAT[name],
                round(share, 5),
                int((drawn[1][name] >= 0).sum()),
                chance=round(1 / attributes()[name], 3),
                headline=name in ("object", "relation") and more.get("split") == "test",
                **({"floor": FLOORS[name]} if name in FLOORS else {}),
                **more,
            )
            for name, share in shares.items()
        ]

    report(say(ko=f"장면 {MEASURED:,}개를 세 번 읽는다", en=f"reading {MEASURED:,} scenes, three times"))
    quality = rows(scenes_with_truth(MEASURED, 70, "test"), split="test")
    quality += rows(scenes_with_truth(MEASURED, 70, "compositions"), split="compositions")
    plain = accuracy(judge.network, scenes_with_truth(MEASURED, 70, "test", plain=True))
    quality.append(
        row(
            "object.plain",
            Phrase(ko="사물, 32×32 단순한 장면", en="object, plain scenes of 32×32"),
            round(plain["object"], 5),
            MEASURED,
            floor=FLOORS["object"],
            split="test",
        )
    )
    empty = nothing(MEASURED, 70, "test")
    right = judge(empty[0]).object < 0
    kinds = (
        ("mixture", Phrase(ko="두 사물을 섞은 그림을 '없음'으로", en="two objects mixed, read as none")),
        ("pieces", Phrase(ko="조각을 뒤섞은 그림을 '없음'으로", en="shuffled pieces, read as none")),
        (
            "blur",
            Phrase(ko="알아볼 수 없게 흐린 그림을 '없음'으로", en="blurred beyond telling, read as none"),
        ),
        ("noise", Phrase(ko="잡음을 '없음'으로", en="noise, read as none")),
    )
    for kind, (name, what) in enumerate(kinds):
        share = float(right[kind::4].float().mean())
        quality.append(row(f"none.{name}", what, round(share, 5), len(right[kind::4]), split="test"))
    write_whole(folder / "samples.png", png(grid(preview(network, training.config)[0], 8)))
    publish_folder(
        training,
        folder,
        ["config.json", "heads.json", "model.safetensors"],
        quality,
        about=Phrase(
            ko="이모지 세계의 판정기: 그림에 무엇이 어떻게 있는지 읽고, 사물이 없으면 없다고 한다.",
            en="The judge of the emoji world: it reads what a picture shows and how, and says when there is no object.",
        ),
        protocol=Phrase(
            ko=f"학습에 쓰지 않은 시드의 장면 {MEASURED:,}개. 떼어 둔 조합은 따로 적는다. 판정기 자신은 이 조합도 배운다.",
            en=f"{MEASURED:,} scenes of a seed that training never used. Pairs that are held out from the models "
            "it measures are listed apart; the judge itself has learned them.",
        ),
        parameters=sum(p.numel() for p in network.parameters()),
        usage="""
from transformers import ResNetForImageClassification

network = ResNetForImageClassification.from_pretrained("zoo/emoji-judge")
# or, with its heads by name and pictures (n, 3, h, w) in [-1, 1]:
from denoised.metrics.judge import Judge

reading = Judge("zoo/emoji-judge")(pictures)
""",
        samples=Phrase(
            ko="잘못 읽은 장면, 사물로 읽은 빈 그림, 그리고 보통 장면 여덟",
            en="Scenes that it misreads, empty pictures that it takes for objects, and eight ordinary scenes",
        ),
        curves={
            **WHAT,
            "plain_object": Phrase(ko="사물 (32×32)", en="object (32×32)"),
            "nothing": Phrase(ko="빈 그림", en="empty pictures"),
        },
    )

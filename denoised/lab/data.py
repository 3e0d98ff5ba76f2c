"""The data a run trains on and is measured against, by the name in `denoised/conf/data`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from denoised.errors import DenoisedError
from denoised.language import say
from denoised.worlds.cifar10 import CLASSES, FILES, load_cifar10, to_range
from denoised.worlds.emoji import Kind, load_atlas, render, sample_scenes

REFERENCE_SEED = 20_201_006  # of the held-out pictures every arm is compared with
FULL_SIZE = 64  # pixels a side from which scenes hold everything there is; smaller ones, one object

Batch = tuple[Tensor, Tensor]  # pictures (n, 3, h, w) in [-1, 1] and their classes (n,)


@dataclass(frozen=True)
class Data:
    """Two views of one data set: what it is compared with, and an endless stream to train on."""

    name: str
    reference: Callable[[int], Tensor]  # n pictures that no network was trained on, where the data allows
    batches: Callable[[int, int], Iterator[Batch]]  # (batch size, seed) -> training batches
    files: tuple[Path, ...]  # read from disk, for the record
    classes: int  # how many classes the batches come in


def load_data(name: str, folder: str | None, source: str | None, size: int) -> Data:
    """`size`: pixels a side, which embedded worlds are drawn at. DenoisedError where files are missing."""
    if name == "emoji":
        return _emoji(size)
    if name == "prompts":
        raise ValueError("prompts are text alone: there are no pictures to train on or to compare with")
    if folder is None:
        raise DenoisedError(
            say(ko=f"데이터 {name}는 이 저장소에 없다", en=f"the data set {name} is not in this repository"),
            help=say(
                ko=f"{source}을 풀어 data=폴더로 준다",
                en=f"unpack {source} and give it as data=FOLDER",
            ),
        )
    return _cifar10(Path(folder))


def _emoji(size: int) -> Data:
    kind: Kind = "plain" if size < FULL_SIZE else "full"

    def batches(batch: int, seed: int) -> Iterator[Batch]:
        step = 0
        while True:
            stream = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
            scenes = sample_scenes(batch, stream, "train", kind)
            yield render(scenes, size), scenes.object
            step += 1

    name = f"emoji scenes {size}×{size}, test split, seed {REFERENCE_SEED}"
    return Data(
        name,
        lambda n: render(sample_scenes(n, REFERENCE_SEED, "test", kind), size),
        batches,
        (),
        len(load_atlas().objects),
    )


def _cifar10(folder: Path) -> Data:
    pictures, labels = load_cifar10(folder)

    def reference(n: int) -> Tensor:
        if n > len(pictures):
            raise DenoisedError(
                say(
                    ko=f"CIFAR-10 학습 집합에는 {len(pictures):,}장뿐인데 reference_images={n:,}이다",
                    en=f"the CIFAR-10 training set has {len(pictures):,} pictures, not reference_images={n:,}",
                )
            )
        return to_range(pictures[:n])

    def batches(batch: int, seed: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            chosen = torch.randint(len(pictures), (batch,), generator=generator)
            flipped = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5  # DDPM, appendix B
            x = to_range(pictures[chosen])
            yield torch.where(flipped, x.flip(-1), x), labels[chosen]

    # The papers' convention: the training set is the reference.
    return Data("CIFAR-10 training set", reference, batches, tuple(folder / name for name in FILES), CLASSES)

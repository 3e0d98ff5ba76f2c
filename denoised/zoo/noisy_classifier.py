"""A classifier of noised pictures, log p(y | x_t): what classifier guidance takes its gradients from.

    zoo/emoji-noisy-classifier/
        config.json  model.safetensors  scheduler_config.json  manifest.json

It belongs to the noise schedule it was trained on, so that schedule lies beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from denoised.diffusion.schedule import Schedule
from denoised.errors import DenoisedError, Exit
from denoised.language import say
from denoised.zoo.load import damaged, fill, read_json
from denoised.zoo.manifest import verify

CLASS_WEIGHTS = "model.safetensors"
SCHEDULER = "scheduler_config.json"


class NoisyClassifier(nn.Module):
    """The downsampling trunk of a U-Net with an attention pool: Dhariwal & Nichol 2021, arXiv:2105.05233, § 4.

    Each level is a diffusers residual block whose group norm is scaled and shifted by the timestep ("adaptive
    group norm"). No batch norm: a batch mixes noise levels, whose statistics have nothing in common.
    """

    def __init__(
        self,
        classes: int,
        size: int = 32,
        channels: Sequence[int] = (32, 64, 128),
        groups: int = 8,
        heads: int = 4,
        in_channels: int = 3,
    ) -> None:
        """`size`: pixels a side. `channels`: width of each level, the side halving from one to the next.

        Raises ValueError where a width is no multiple of `groups`, the last none of `heads`, or the side
        cannot be halved so often.
        """
        super().__init__()
        halvings = len(channels) - 1
        if any(width % groups for width in channels) or channels[-1] % heads:
            raise ValueError(
                f"channels must be multiples of groups = {groups} and the last of heads = {heads}, "
                f"not {list(channels)}"
            )
        if size % 2**halvings:
            raise ValueError(f"a side of {size} pixels cannot be halved {halvings} times")
        self.config: dict[str, Any] = {
            "classes": classes,
            "size": size,
            "channels": list(channels),
            "groups": groups,
            "heads": heads,
            "in_channels": in_channels,
        }
        embedded, width = 64, 4 * channels[0]
        self.timesteps = Timesteps(embedded, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(embedded, width)
        self.first = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.blocks, self.halve = nn.ModuleList(), nn.ModuleList()
        into = channels[0]
        for level, out in enumerate([*channels, channels[-1]]):  # the last level has two blocks
            self.blocks.append(
                ResnetBlock2D(
                    in_channels=into,
                    out_channels=out,
                    temb_channels=width,
                    groups=groups,
                    time_embedding_norm="scale_shift",
                )
            )
            if level < halvings:
                self.halve.append(nn.Conv2d(out, out, 3, stride=2, padding=1))
            into = out
        self.norm = nn.GroupNorm(groups, into)
        self.place = nn.Parameter(torch.randn((size >> halvings) ** 2, into) * into**-0.5)
        self.pool = nn.MultiheadAttention(into, heads, batch_first=True)
        self.last = nn.Linear(into, classes)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits (n, classes) of pictures x_t (n, c, size, size) at timesteps t (n,)."""
        embedding = self.time(self.timesteps(t).to(x.dtype))
        h = self.first(x)
        for level, block in enumerate(self.blocks):
            h = block(h, embedding)
            if level < len(self.halve):
                h = self.halve[level](h)
        tokens = F.silu(self.norm(h)).flatten(2).mT + self.place
        pooled, _ = self.pool(tokens.mean(dim=1, keepdim=True), tokens, tokens, need_weights=False)
        logits: Tensor = self.last(pooled[:, 0])
        return logits


@dataclass(frozen=True)
class Guide:
    """A trained classifier of noised pictures with the schedule whose noise it knows, frozen.

    `files` are the files that were read, for the record; `facts` is the manifest ({} without one).
    """

    network: NoisyClassifier
    schedule: Schedule
    files: tuple[Path, ...] = ()
    facts: dict[str, Any] | None = None

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return int(self.network.config["classes"])

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the pictures it reads."""
        config = self.network.config
        return (config["in_channels"], config["size"], config["size"])


def load_noisy_classifier(
    folder: Path, device: torch.device | str = "cpu", *, shipped: bool = False
) -> Guide:
    """Load a folder that `denoised train emoji-noisy-classifier` wrote. A `shipped` one must have its manifest.

    Raises DenoisedError: USAGE where the folder or a file is missing, INTEGRITY where a file does not match the
    manifest or does not fit the network that config.json describes.
    """
    if not folder.is_dir():
        raise DenoisedError(
            say(ko=f"체크포인트 폴더 {folder}가 없다", en=f"there is no checkpoint folder {folder}"),
            help=say(
                ko=f"직접 학습한다: denoised train {folder.name} --publish",
                en=f"train it: denoised train {folder.name} --publish",
            ),
        )
    facts = verify(folder) if shipped or (folder / "manifest.json").exists() else {}
    files = (folder / "config.json", folder / CLASS_WEIGHTS, folder / SCHEDULER)
    config = read_json(files[0])
    if config.pop("_class_name", None) != NoisyClassifier.__name__:
        raise DenoisedError(
            say(
                ko=f"{files[0]}은 노이즈 섞인 그림의 분류기를 설명하지 않는다",
                en=f"{files[0]} does not describe a classifier of noised pictures",
            ),
            code=Exit.INTEGRITY,
        )
    try:
        network = NoisyClassifier(**config)
    except (TypeError, ValueError) as error:
        raise damaged(files[0], str(error)) from error
    fill(network, files[1])
    network.eval().requires_grad_(False)
    return Guide(network.to(device), Schedule.from_config(read_json(files[2])), files, facts)

"""The emoji judge: what a picture of the emoji world shows, read by a small trained network.

The judge turns questions that people answer at paper scale ("is it the cat, wearing glasses, on red?") into
exact accuracies. It knows a "none" for objects, which it gives to noise, mixtures and half-formed things.
Its own accuracy on real scenes is on its card in zoo/emoji-judge.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification

from denoised.metrics.facts import metric

VERSION = "1"  # of the arithmetic of features: raise it whenever a change alters them
SIDE = 64  # pixels a side that the network reads; other sizes are scaled


@dataclass(frozen=True)
class Reading:
    """What n pictures show: one class number (n,) int64 for each attribute.

    Of two things `object` is the left or the upper one. `object` and `second` are -1 where there is none;
    `relation` is 0 (none), 1 (beside each other) or 2 (one above the other); `count` starts at 0 for one.
    """

    object: Tensor
    second: Tensor
    relation: Tensor
    background: Tensor
    texture: Tensor
    accessory: Tensor
    style: Tensor
    count: Tensor
    size: Tensor


class Judge:
    """The network of zoo/emoji-judge and the names of its heads.

    name: how metrics that use it are labelled.
    """

    name = "emoji-judge"

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu") -> None:
        """Load a folder in transformers' layout. Check its manifest before: this parses what is there."""
        facts = json.loads((Path(folder) / "heads.json").read_text(encoding="utf-8"))
        self.heads: dict[str, int] = facts["heads"]
        self.network = ResNetForImageClassification(ResNetConfig.from_pretrained(folder))
        weights = (Path(folder) / "model.safetensors").read_bytes()
        self.fingerprint = hashlib.sha256(weights).hexdigest()  # changes whenever the weights do
        self.network.load_state_dict(safetensors.torch.load(weights))  # halves into float32
        self.network.eval().requires_grad_(False).to(device)

    def __call__(self, pictures: Tensor) -> Reading:
        """Read pictures (n, 3, h, w) in [-1, 1]. ValueError for another shape, NaN or another range."""
        with torch.inference_mode():
            parts = [self.network(p).logits for p in prepared(pictures).split(256)]
        return read(torch.cat(parts).cpu(), self.heads)

    @metric("attribute-accuracy", better="higher", low=0.0, high=1.0)
    def agrees(self, reading: Reading, truth: dict[str, Tensor]) -> dict[str, Tensor]:
        """For each attribute of `truth`, (n,) bool: whether the pictures show what it says.

        `truth` has class numbers as `denoised.worlds.emoji.truth` gives them: the objects' "none" is their
        last class, and -1 stands where nothing is asked, which always agrees.
        """
        result = {}
        for name, asked in truth.items():
            found = getattr(reading, name)
            if name in ("object", "second"):
                found = torch.where(found < 0, self.heads[name] - 1, found)
            result[name] = (found == asked) | (asked < 0)
        return result

    def log_probabilities(self, pictures: Tensor, attribute: str) -> Tensor:
        """(n, classes) of one attribute, differentiable in the pictures: for classifier guidance."""
        logits = self.network(prepared(pictures)).logits
        part = dict(zip(self.heads, logits.split(list(self.heads.values()), dim=1), strict=True))[attribute]
        return F.log_softmax(part, dim=1)

    def features(self, pictures: Tensor) -> Tensor:
        """(n, 192) float32: the activations before the heads, averaged over the picture."""
        with torch.inference_mode():
            parts = [self.network.resnet(p).pooler_output for p in prepared(pictures).split(256)]
        return torch.cat(parts).flatten(1).cpu()

    def extractor(self) -> JudgeFeatures:
        """The judge as an extractor for distances: it sees what the emoji world is made of and nothing else."""
        return JudgeFeatures(self)


class JudgeFeatures:
    """`Judge.features` with a name, for distances between sets of pictures."""

    name = Judge.name
    description = f"emoji-judge, bilinear resize to {SIDE} px, 192 numbers before the heads"

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.fingerprint = f"{judge.fingerprint} {SIDE} {VERSION}"

    def __call__(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w) in [-1, 1] -> (n, 192) float32. Raises what `prepared` raises."""
        return self._judge.features(pictures)


def prepared(pictures: Tensor) -> Tensor:
    """The network's input (n, 5, 64, 64): the picture at its size, with each pixel's x and y in [-1, 1]."""
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"the judge reads pictures of shape (n, 3, h, w), not {tuple(pictures.shape)}")
    if not bool(torch.isfinite(pictures).all()):
        raise ValueError("the judge was given pictures with NaN or infinite pixels")
    reach = float(pictures.detach().abs().max()) if len(pictures) else 0.0
    if reach > 1.5:
        raise ValueError(
            f"the judge reads pictures in [-1, 1], and these reach {reach:g}; "
            "scale [0, 255] with x / 127.5 - 1"
        )
    pictures = pictures.float()
    if pictures.shape[-2:] != (SIDE, SIDE):
        pictures = F.interpolate(
            pictures, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
    line = torch.linspace(-1, 1, SIDE, device=pictures.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    places = torch.stack([x, y]).expand(len(pictures), -1, -1, -1)
    return torch.cat([pictures, places], dim=1)


def read(logits: Tensor, heads: dict[str, int]) -> Reading:
    """The most probable class of each head; the objects' last class is returned as -1."""
    columns = {
        name: part.argmax(dim=1)
        for name, part in zip(heads, logits.split(list(heads.values()), dim=1), strict=True)
    }
    for name in ("object", "second"):
        columns[name] = torch.where(columns[name] == heads[name] - 1, -1, columns[name])
    return Reading(**columns)

"""Moving emoji: short clips whose motion is known exactly.

A clip is one emoji on a plain background, in one of `MOTIONS`. Where it is at a moment is a function of the
time that has passed, 0 at the first frame and 1 at the last: the same clip with more frames is the same motion
seen more often. Boxes, masks and flow follow from it without any estimation, and a frame is a scene of the
emoji world: what reads scenes reads frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from denoised.errors import DenoisedError
from denoised.language import Language, say
from denoised.worlds.emoji import (
    BACKGROUNDS,
    SIZES,
    Scene,
    Scenes,
    Split,
    caption,
    held_out_background,
    load_atlas,
    masks,
    render,
)
from denoised.worlds.korean import with_particle


class Motion(NamedTuple):
    """A way to move: its id and what is said of the object, in English and in Korean.

    `direction` is where (x to the right, y down) things that move in a line go, and (0, 0) for others.
    """

    id: str
    en: str
    ko: str
    direction: tuple[int, int] = (0, 0)


MOTIONS: tuple[Motion, ...] = (
    Motion("still", "staying still", "가만히 있다"),
    Motion("right", "moving to the right", "오른쪽으로 움직인다", (1, 0)),
    Motion("left", "moving to the left", "왼쪽으로 움직인다", (-1, 0)),
    Motion("up", "moving up", "위로 움직인다", (0, -1)),
    Motion("down", "moving down", "아래로 움직인다", (0, 1)),
    Motion("up-right", "moving up and to the right", "오른쪽 위로 움직인다", (1, -1)),
    Motion("up-left", "moving up and to the left", "왼쪽 위로 움직인다", (-1, -1)),
    Motion("down-right", "moving down and to the right", "오른쪽 아래로 움직인다", (1, 1)),
    Motion("down-left", "moving down and to the left", "왼쪽 아래로 움직인다", (-1, 1)),
    Motion("grow", "growing larger", "점점 커진다"),
    Motion("shrink", "growing smaller", "점점 작아진다"),
    Motion("bounce", "bouncing up and down", "위아래로 통통 튄다"),
    Motion("sway", "swaying from side to side", "좌우로 왔다 갔다 한다"),
)
FRAMES = (8, 16)  # the fewest and the most frames of a clip

SIDES = (0.4, 0.56)  # of an object that keeps its size, as fractions of the picture's side
GROWN_SIDES = ((0.3, 0.42), (0.72, 0.92))  # of one that grows: at its smallest, at its largest
TRAVEL = 0.3  # the shortest way; the longest is what the picture leaves room for
BOUNCES = 2  # a clip
# Clips of different splits never share a random stream with each other or with the emoji world's scenes.
_SPLIT_STREAM: dict[Split, int] = {"train": 10, "test": 11, "compositions": 12}


@dataclass(frozen=True)
class Clips:
    """n clips of `frames` frames as columns.

    Of shape (n,), int64: `object` (numbers in the atlas), `background` and `motion` (positions in BACKGROUNDS
    and MOTIONS). Of shape (n, frames), float32: `x`, `y`, the centre, and `side`, the side of the object's box,
    as fractions of the picture's side, so that a clip has no resolution.
    """

    object: Tensor
    background: Tensor
    motion: Tensor
    x: Tensor
    y: Tensor
    side: Tensor

    def __len__(self) -> int:
        return len(self.object)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Clips:
        return Clips(*(getattr(self, f.name)[index] for f in fields(self)))

    @property
    def frames(self) -> int:
        """How many frames a clip has."""
        return self.x.shape[1]

    def boxes(self) -> Tensor:
        """(n, frames, 4) float32: left, top, right, bottom of the object's box in [0, 1]."""
        half = self.side / 2
        return torch.stack([self.x - half, self.y - half, self.x + half, self.y + half], dim=2)

    def flow(self) -> Tensor:
        """(n, frames - 1, 2) float32: how far the object's centre goes from each frame to the next, x to the
        right and y down, as fractions of the picture's side."""
        return torch.stack([self.x, self.y], dim=2).diff(dim=1)

    def scenes(self) -> Scenes:
        """Every frame as a scene of the emoji world: n × frames of them, clip by clip."""
        n = len(self) * self.frames
        objects, backgrounds = (
            each.repeat_interleave(self.frames) for each in (self.object, self.background)
        )
        none, zero, one = (torch.full((n,), value) for value in (-1, 0, 1))
        medium = torch.full((n,), [size for size, _, _ in SIZES].index("medium"))
        empty = torch.zeros(n, 3)  # the other slots of a scene
        x, y, side = (torch.cat([each.reshape(n, 1), empty], dim=1) for each in (self.x, self.y, self.side))
        return Scenes(objects, none, none, one, backgrounds, zero, medium, zero, zero, x, y, side)

    def captions(self, language: Language) -> list[str]:
        """One exact sentence for each clip."""
        things = load_atlas().all
        numbers = zip(self.object.tolist(), self.background.tolist(), self.motion.tolist(), strict=True)
        return [caption_of(things[o].id, BACKGROUNDS[b][0], MOTIONS[m], language) for o, b, m in numbers]


def caption_of(object_id: str, background: str, motion: Motion, language: Language) -> str:
    """The sentence for an object that moves on a background, with the right article or particle."""
    scene = Scene(object_id, background=background)
    if language == "en":
        thing = caption(scene, "en", background=False)
        where = caption(scene, "en").removeprefix(thing)  # " on a red background"
        return f"{thing} {motion.en}{where}"
    atlas = load_atlas()
    colour = next(ko for en, ko, _ in BACKGROUNDS if en == background)
    thing = with_particle(atlas.all[atlas.index(object_id)].ko, "이", "가")
    return f"{colour} 배경에서 {thing} {motion.ko}"


def sample_clips(n: int, seed: int, split: Split = "train", frames: int = 8) -> Clips:
    """Draw what is in `n` clips and how it moves; clip i does not depend on n.

    "train" and "test" have the same distribution from disjoint random streams; "compositions" has only the
    pairs of object and background that both leave out. Raises DenoisedError unless `frames` is 8 to 16.
    """
    if not FRAMES[0] <= frames <= FRAMES[1]:
        raise DenoisedError(
            say(
                ko=f"클립은 {FRAMES[0]}에서 {FRAMES[1]}프레임까지인데 {frames}프레임을 요청했다",
                en=f"a clip has {FRAMES[0]} to {FRAMES[1]} frames, not {frames}",
            )
        )
    stream = np.random.SeedSequence([seed, _SPLIT_STREAM[split]]).generate_state(1, np.uint64)[0]
    # One uniform row a clip keeps clip i independent of n.
    u = torch.from_numpy(np.random.Generator(np.random.PCG64(stream)).random((n, 7)))
    objects = (u[:, 0] * len(load_atlas().objects)).long()
    held_out = held_out_background(objects)
    seen = (u[:, 1] * (len(BACKGROUNDS) - 1)).long()
    seen = seen + (seen >= held_out).long()  # skip the held-out one
    background = held_out if split == "compositions" else seen
    motion = (u[:, 2] * len(MOTIONS)).long()
    return Clips(objects, background, motion, *_paths(motion, u[:, 3:], frames))


def _paths(motion: Tensor, u: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centres x and y and sides, each (n, frames) float32, for uniforms u (n, 4)."""
    ids = [each.id for each in MOTIONS]
    grow, shrink, bounce, sway = (motion == ids.index(i) for i in ("grow", "shrink", "bounce", "sway"))
    time = torch.linspace(0, 1, frames, dtype=torch.float64)

    first = last = _between(SIDES, u[:, 0])
    small, large = (_between(sides, u[:, k]) for k, sides in enumerate(GROWN_SIDES))
    first = torch.where(grow, small, torch.where(shrink, large, first))
    last = torch.where(grow, large, torch.where(shrink, small, last))
    side = first[:, None] + (last - first)[:, None] * time
    largest = torch.maximum(first, last)
    travel = TRAVEL + (1 - largest - TRAVEL).clamp(min=0) * u[:, 1]

    # Offsets from a place to be chosen, and the least and the greatest of each along the whole way.
    direction = torch.tensor([each.direction for each in MOTIONS], dtype=torch.float64)[motion]
    way = direction * travel[:, None]
    offset, low, high = way[:, None] * time[:, None], way.clamp(max=0), way.clamp(min=0)
    hop = (BOUNCES * time) % 1
    offset[bounce, :, 1] -= travel[bounce, None] * 4 * hop * (1 - hop)  # free fall between bounces
    low[bounce, 1] = -travel[bounce]
    reach = torch.where(sway, travel / 2, 0)
    offset[..., 0] += reach[:, None] * torch.sin(2 * math.pi * time)
    low[:, 0] -= reach
    high[:, 0] += reach

    nearest = largest[:, None] / 2 - low  # the whole way stays inside the picture
    room = 1 - largest[:, None] - (high - low)
    place = nearest + room * u[:, 2:4]
    x, y = (place[:, None] + offset).unbind(2)
    return x.float(), y.float(), side.float()


def _between(ends: tuple[float, float], u: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * u


def render_clips(clips: Clips, size: int = 64) -> Tensor:
    """The pictures: (n, frames, 3, size, size) float32 in [-1, 1]."""
    return render(clips.scenes(), size).reshape(len(clips), clips.frames, 3, size, size)


def clip_masks(clips: Clips, size: int = 64) -> Tensor:
    """(n, frames, 1, size, size) float32 in [0, 1]: how much of each pixel the object covers."""
    return masks(clips.scenes(), size)[:, :1].reshape(len(clips), clips.frames, 1, size, size)


def flow_fields(clips: Clips, size: int = 64) -> Tensor:
    """Dense optical flow, (n, frames - 1, 2, size, size) float32, in fractions of the picture's side.

    Where the object covers at least half of a pixel of a frame: from the pixel's centre to where that point of
    the object is in the next frame (its centre moves, and what grows moves away from it). Elsewhere 0: the
    background stands still.
    """
    pixel = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    grid = torch.stack([x, y])
    centre = torch.stack([clips.x, clips.y], dim=2)[:, :-1, :, None, None]
    growth = (clips.side[:, 1:] / clips.side[:, :-1] - 1)[:, :, None, None, None]
    moved = clips.flow()[..., None, None] + (grid - centre) * growth
    return torch.where(clip_masks(clips, size)[:, :-1] >= 0.5, moved, 0)

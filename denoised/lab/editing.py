"""Edits to make, and how to tell what became of them: shared by every method that edits pictures.

In the emoji world an edit is a change of one attribute of a held-out scene, and the judge reads whether it
came. In a world of prompts alone it is a pair of listed sentences, and a CLIP says which of the two fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from denoised.errors import DenoisedError
from denoised.lab.lab import Arm, Lab
from denoised.language import Phrase, say
from denoised.metrics.edits import layout_iou, outside_rmse, picture_rmse, things
from denoised.worlds.emoji import (
    Scene,
    caption,
    held_out_background,
    load_atlas,
    masks,
    place,
    render,
    sample_scenes,
    truth,
)

Kind = Literal["swap", "add", "remove"]

SIZE = 64  # pixels a side at which scenes are tested for standing out
OVERLAP = 0.9  # with its exact mask, for a thing that stands out


@dataclass(frozen=True)
class Edit:
    """A prompt and what it is to become; `word` is the one that is added or removed ("" for a swap)."""

    kind: Kind
    source: str
    edited: str
    word: str = ""


@dataclass(frozen=True)
class Task:
    """Edits of one kind, one for each sample of a seed, and how to tell from the pictures whether they came."""

    edits: list[Edit]
    succeeded: Callable[[Tensor], Tensor]  # edited pictures (n, 3, h, w) -> (n,) bool
    by: Callable[..., object]  # the metric that says so
    judge: str  # its short name
    description: str
    exact: bool  # whether pictures have one thing on a plain background

    @property
    def success(self) -> str:
        """The full name of the metric of success."""
        return f"edit-success[{self.judge}]"

    @property
    def change(self) -> str:
        """The full name of the metric of what should have stayed and did not."""
        return "background-rmse" if self.exact else "picture-rmse"


def editing_task(lab: Lab, kind: Kind, listed: Sequence[str]) -> Task:
    """Edits of one kind for every sample of this seed; `listed` are those of a world of prompts (see `parse`)."""
    return _of_scenes(lab, kind) if lab.world == "emoji" else _of_prompts(lab, kind, listed)


def measure_edits(task: Task, source: Tensor, arms: Mapping[str, Arm]) -> None:
    """Record of each arm, whose images are edits of `source` (n, 3, h, w), whether they came and what they kept.

    Where the world is known: `background-rmse`, taken over the same pixels for every arm, those in which
    neither the source nor the edit of any arm has its thing, so that no arm is measured on easier ones (the
    exact counterfactual of a scene scores less than half a grey level); and `layout-iou`, the overlap of the
    edit's thing with the source's, which sees a thing that moved. Elsewhere: `picture-rmse`.
    """
    images = {name: arm.images for name, arm in arms.items() if arm.images is not None}
    regions = {name: things(pictures) for name, pictures in images.items()} if task.exact else {}
    where = things(source)
    anywhere = torch.stack([where, *regions.values()]).any(dim=0)
    for name, pictures in images.items():
        arm = arms[name]
        arm.show(beside=source, label=Phrase("윗줄은 고치기 전", "the row above each is before the edit"))
        right = task.succeeded(pictures)
        arm.record(task.success, right, by=task.by, extractor=task.description)
        if task.exact:
            changed = outside_rmse(source, pictures, anywhere)
            arm.record(task.change, changed, n=len(source), by=outside_rmse)
            arm.record("layout-iou", layout_iou(where, regions[name]), by=layout_iou)
        else:
            arm.record(task.change, picture_rmse(source, pictures), by=picture_rmse)


def scene_pairs(kind: Kind, n: int, seed: int) -> list[tuple[Scene, Scene]]:
    """n scenes of one thing on a plain background, and what each is to become: no pair held out of training.

    swap: another thing of its group. add: the thing puts on glasses or a hat. remove: it takes them off.
    """
    objects = load_atlas().objects
    scenes = sample_scenes(200 * n, seed, "test", "full")
    plain = (scenes.second < 0) & (scenes.count == 1) & (scenes.texture == 0) & (scenes.style == 0)
    scenes = scenes[plain & ((scenes.accessory == 0) == (kind == "swap"))]
    trained = scenes.background[:, None] != held_out_background(torch.arange(len(objects)))
    pairs: list[tuple[Scene, Scene]] = []
    for i in range(len(scenes)):
        scene, number = scenes.describe(i), int(scenes.object[i])
        if kind == "swap":
            others = [
                other.id
                for j, other in enumerate(objects)
                if other.group == objects[number].group and j != number and bool(trained[i, j])
            ]
            pair = (scene, replace(scene, object=others[i % len(others)]))
        else:
            bare = replace(scene, accessory="none")
            pair = (bare, scene) if kind == "add" else (scene, bare)
        if stands_out(pair[0]) and stands_out(pair[1]):
            pairs.append(pair)
        if len(pairs) == n:
            break
    return pairs


@lru_cache(maxsize=4096)
def stands_out(scene: Scene) -> bool:
    """Whether `denoised.metrics.edits.things` finds in the drawn scene what its exact mask says."""
    drawn = place([scene], 0)
    exact = masks(drawn, SIZE)[:, 0] > 0.5
    return bool(layout_iou(exact, things(render(drawn, SIZE))) > OVERLAP)


def _of_scenes(lab: Lab, kind: Kind) -> Task:
    judge, pairs = lab.judge(), scene_pairs(kind, lab.settings.images, lab.seed)
    wanted = truth(place([edited for _, edited in pairs], lab.seed))
    edits = [
        Edit(kind, caption(source, "en"), caption(edited, "en"), _worn(source, edited))
        for source, edited in pairs
    ]

    def succeeded(pictures: Tensor) -> Tensor:
        agrees = judge.agrees(judge(pictures), wanted)
        return agrees["object"] if kind == "swap" else agrees["object"] & agrees["accessory"]

    seen_by = "zoo/emoji-judge: attributes of emoji scenes"
    return Task(edits, succeeded, judge.agrees, judge.name, seen_by, exact=True)


def _worn(source: Scene, edited: Scene) -> str:
    """The English word for what is put on or taken off."""
    worn = {source.accessory, edited.accessory} - {"none"}
    return worn.pop() if worn else ""


def _of_prompts(lab: Lab, kind: Kind, listed: Sequence[str]) -> Task:
    known = [edit for edit in map(parse, listed) if edit.kind == kind]
    if not known:
        raise DenoisedError(say(ko=f"edits에 {kind} 편집이 없다", en=f"edits lists no {kind}"), help=EXAMPLE)
    clip, edits = lab.clip(), [known[i % len(known)] for i in range(lab.settings.images)]

    def succeeded(pictures: Tensor) -> Tensor:
        sources, targets = [edit.source for edit in edits], [edit.edited for edit in edits]
        return clip.prefers(pictures, targets, sources)

    return Task(edits, succeeded, clip.prefers, clip.name, clip.description, exact=False)


EXAMPLE = (
    'edits=\'["swap: a cat -> a dog", "add: a cat -> a red cat | red", "remove: a red cat -> a cat | red"]\''
)


def parse(text: str) -> Edit:
    """An edit from "kind: source -> edited | word". Raises DenoisedError where the text is none."""
    kind, _, prompts = text.partition(": ")
    source, _, rest = prompts.partition(" -> ")
    edited, _, word = rest.partition(" | ")
    if kind not in get_args(Kind) or not edited or (kind == "swap") == bool(word):
        raise DenoisedError(say(ko=f"{text!r}는 편집이 아니다", en=f"{text!r} is not an edit"), help=EXAMPLE)
    return Edit(cast(Kind, kind), source, edited, word)

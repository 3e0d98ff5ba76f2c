"""Personal subjects, and how to tell whether a picture shows one: shared by every method that personalises.

The subjects are held-out emoji, which no checkpoint has seen, drawn at the size of the model's pictures. In
the emoji world a subject is cut out of a picture and compared with cut-outs of real pictures, and the judge
reads the background; in a world of prompts a CLIP compares whole pictures, and pictures with sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from denoised.lab.lab import Arm, Lab
from denoised.metrics.subjects import recognised, similarity, subject_regions
from denoised.worlds.emoji import (
    BACKGROUNDS,
    SIZES,
    Object,
    Scene,
    caption,
    load_atlas,
    place,
    render,
    truth,
)

STRIDE = 5  # between the subjects of one seed in the atlas, coprime to their number
LOOKED_UP_ON = ("purple", "orange", "mint")  # backgrounds of the pictures by which an emoji is recognised


@dataclass(frozen=True)
class Subject:
    """A held-out emoji, what its few pictures show, and the new scenes it is asked for in."""

    thing: Object
    examples: list[Scene]
    new: list[Scene]  # on the backgrounds that the examples lack

    @property
    def placeholder(self) -> str:
        """S*: a word that no tokenizer knows."""
        return f"<{self.thing.id}>"

    def describe(self, scene: Scene, word: str, *, background: bool = True) -> str:
        """The caption of a scene of this subject, with `word` in the place of its name."""
        return re.sub(rf"\b{self.thing.en}\b", word, caption(scene, "en", background=background))


@dataclass(frozen=True)
class Task:
    """The subjects of a seed, the scene that each of its pictures is to show, and how to measure one."""

    subjects: list[Subject]
    examples: Tensor  # (s, p, 3, h, w) in [-1, 1]: the few pictures of each subject
    owner: list[int]  # picture k is to show subjects[owner[k]] …
    asked: list[Scene]  # … in this scene
    real: Tensor | None  # (n, 3, h, w): such scenes as they are drawn, where the world is known
    features: Callable[[Tensor], Tensor]  # pictures (n, 3, h, w) -> (n, d)
    references: Tensor  # (s, m, d): features of real pictures of each subject in all its new scenes
    looks: Tensor  # (emoji, d): the mean features of every emoji
    extractor: str  # its short name
    description: str
    following: str  # the full name of the metric of what else the prompt says
    margin: float  # how much of that is worth speaking of

    @property
    def likeness(self) -> str:
        """The full name of the metric of likeness."""
        return f"subject-similarity[{self.extractor}]"

    def prompts(self, words: Sequence[str]) -> list[str]:
        """A prompt for each picture, with words[i] for subject i."""
        return [
            self.subjects[o].describe(scene, words[o])
            for scene, o in zip(self.asked, self.owner, strict=True)
        ]


def draw_subjects(count: int, pictures: int, seed: int) -> list[Subject]:
    """`count` subjects with `pictures` examples each. Consecutive seeds take others until all had their turn.

    Raises ValueError where there are no so many subjects, or no background would be left for new scenes.
    """
    held_out, colours = load_atlas().held_out, len(BACKGROUNDS)
    if not 1 <= count <= len(held_out):
        raise ValueError(f"subjects must be from 1 to {len(held_out)}, not {count}")
    if not 1 <= pictures < colours:
        raise ValueError(f"pictures must be from 1 to {colours - 1}, not {pictures}")
    generator = torch.Generator().manual_seed(seed)
    subjects = []
    for i in range(seed * count, (seed + 1) * count):
        # In strides, so that a seed mixes the kinds that the atlas lists one after the other.
        thing = held_out[STRIDE * i % len(held_out)]
        order = torch.randperm(colours, generator=generator).tolist()
        scenes = [Scene(thing.id, background=BACKGROUNDS[j][0], size=SIZES[j % len(SIZES)][0]) for j in order]
        subjects.append(Subject(thing, scenes[:pictures], scenes[pictures:]))
    return subjects


def subject_task(lab: Lab, count: int, pictures: int) -> Task:
    """The task of one seed: its subjects take turns in `settings.images` new scenes."""
    subjects, size = draw_subjects(count, pictures, lab.seed), lab.text_to_image().picture_size
    examples = render(place([scene for each in subjects for scene in each.examples], 3 * lab.seed), size)
    owner = [k % count for k in range(lab.settings.images)]
    asked = [subjects[o].new[k // count % len(subjects[o].new)] for k, o in enumerate(owner)]
    examples = examples.unflatten(0, (count, pictures))
    new = render(place([scene for each in subjects for scene in each.new], 3 * lab.seed + 2), size)

    if lab.world == "emoji":
        effnet = lab.extractor()

        def features(pictures: Tensor) -> Tensor:
            return effnet(subject_regions(pictures))

        real = render(place(asked, 3 * lab.seed + 1), size)
        name, description = effnet.name, effnet.description
        following, margin = "background[emoji-judge]", 0.05
    else:
        clip = lab.clip()
        real, features = None, clip.pictures
        name, description = clip.name, clip.description
        following, margin = f"clip-score[{clip.name}]", 0.01

    # Once for all arms: they depend on the seed's subjects alone, and cost more than an arm's own pictures.
    references = features(new).unflatten(0, (count, -1))
    return Task(
        subjects, examples, owner, asked, real, features, references, looks(features, size),
        name, description, following, margin,
    )  # fmt: skip


def measure_subjects(lab: Lab, task: Task, arm: Arm) -> None:
    """Record of an arm whether its pictures show the subject, and follow what else their prompts say.

    Likeness is the mean cosine with real pictures of the subject in the new scenes. `subject-recognised` is how
    often the subject is the nearest of all emoji. The rest of the prompt: its background where the world is
    known, elsewhere the cosine of CLIP with the prompt without the subject's word.
    """
    assert arm.images is not None
    features = task.features(arm.images)
    likeness = similarity(features, task.references[task.owner])
    arm.record(task.likeness, likeness, by=similarity, extractor=task.description)

    wanted = torch.tensor([load_atlas().index(task.subjects[o].thing.id) for o in task.owner])
    right = recognised(features, task.looks, wanted)
    name = f"subject-recognised[{task.extractor}]"
    arm.record(name, right, by=recognised, extractor=task.description)

    if lab.world == "emoji":
        judge = lab.judge()
        follows = judge.agrees(judge(arm.images), truth(place(task.asked, 0)))["background"]
        by: Callable[..., object] = judge.agrees
        seen = "zoo/emoji-judge: attributes of emoji scenes"
    else:
        without = [" ".join(prompt.split()) for prompt in task.prompts([""] * len(task.subjects))]
        by = lab.clip().similarity
        follows, seen = by(arm.images, without), task.description
    arm.record(task.following, follows, by=by, extractor=seen)


def looks(features: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """(emoji, d): the mean features of every emoji of the atlas, the held-out ones too."""
    every = [
        Scene(thing.id, size="large", background=background)
        for background in LOOKED_UP_ON
        for thing in load_atlas().all
    ]
    found: Tensor = features(render(place(every, 0), size)).unflatten(0, (len(LOOKED_UP_ON), -1))
    return found.mean(dim=0)

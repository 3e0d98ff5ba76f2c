"""What a scene is, in words: the exact caption in English and in Korean.

A caption says everything that can be seen and nothing else: sketches and greyscale pictures have no colour,
so their captions name no background.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from denoised.worlds.emoji.atlas import (
    ACCESSORIES,
    BACKGROUNDS,
    COUNTS,
    RELATIONS,
    SIZES,
    STYLES,
    TEXTURES,
    Object,
    load_atlas,
)
from denoised.worlds.korean import with_particle

Language = Literal["ko", "en"]
COLOURLESS = ("sketch", "greyscale")  # styles that leave no background colour to name


@dataclass(frozen=True)
class Scene:
    """What is in one picture, without where exactly; every field by its id.

    `relation` is that of `object` to `second`. `size`, `accessory` and `style` are those of a single object.
    """

    object: str
    second: str | None = None
    relation: str | None = None
    count: int = 1
    background: str = "white"
    texture: str = "plain"
    size: str = "medium"
    accessory: str = "none"
    style: str = "none"


def caption(scene: Scene, language: Language, *, background: bool = True) -> str:
    """The sentence for a scene, with the right articles and particles.

    `background=False` leaves the background out, as a reader who does not care would.
    """
    background = background and scene.style not in COLOURLESS
    return _korean(scene, background) if language == "ko" else _english(scene, background)


def words(text: str) -> list[str]:
    """A caption's words and punctuation marks, as the tokenizer splits them first."""
    return re.findall(r"[^\W_]+|[^\w\s]+", text.lower())


def _thing(object_id: str) -> Object:
    atlas = load_atlas()
    return atlas.all[atlas.index(object_id)]


def _term(terms: tuple[tuple[str, str, str], ...], term_id: str, language: Language) -> str:
    return next(ko if language == "ko" else en for i, en, ko in terms if i == term_id)


def _colour(scene: Scene, language: Language) -> str:
    en, ko = next((en, ko) for en, ko, _ in BACKGROUNDS if en == scene.background)
    return ko if language == "ko" else en.replace("-", " ")


def _english(scene: Scene, background: bool) -> str:
    thing = _thing(scene.object)
    if scene.count > 1:
        text = f"{COUNTS[scene.count - 1][0]} {thing.en_plural}"
    else:
        text = _article(f"{_term(SIZES, scene.size, 'en')} {thing.en}".strip())
    text = f"{_term(STYLES, scene.style, 'en')} {text} {_term(ACCESSORIES, scene.accessory, 'en')}".strip()
    if scene.second and scene.relation:
        text += f" {_term(RELATIONS, scene.relation, 'en')} {_article(_thing(scene.second).en)}"
    if background:
        described = f"{_term(TEXTURES, scene.texture, 'en')} {_colour(scene, 'en')} background".strip()
        text += f" on {_article(described)}"
    return text


def _korean(scene: Scene, background: bool) -> str:
    thing = _thing(scene.object)
    parts = []
    if background:
        parts += [_term(TEXTURES, scene.texture, "ko"), _colour(scene, "ko"), "배경에"]
    if scene.second and scene.relation:
        parts += [_thing(scene.second).ko, _term(RELATIONS, scene.relation, "ko")]
    parts += [_term(terms, value, "ko") for terms, value in (
        (STYLES, scene.style), (ACCESSORIES, scene.accessory), (SIZES, scene.size)
    )]  # fmt: skip
    if scene.count > 1:
        counted = f"{thing.ko} {COUNTS[scene.count - 1][1]} {thing.ko_counter}"
        parts.append(with_particle(counted, "이", "가"))
    else:
        parts.append(with_particle(thing.ko, "이", "가"))
    return " ".join(part for part in [*parts, "있다"] if part)


def _article(noun: str) -> str:
    if noun.endswith(("grapes", "cherries")):  # the atlas's plurals take no article
        return noun
    vowel = noun[0] in "aeiou" and not noun.startswith("uni")  # "an umbrella", but "a unicorn"
    return f"{'an' if vowel else 'a'} {noun}"

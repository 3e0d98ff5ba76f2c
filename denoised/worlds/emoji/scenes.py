"""What is in the scenes and where: drawn by a seed, placed from descriptions, or changed in one attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from denoised.errors import DenoisedError
from denoised.language import say
from denoised.worlds.emoji.atlas import (
    ACCESSORIES,
    BACKGROUNDS,
    COUNTS,
    RELATIONS,
    SIZES,
    STYLES,
    TEXTURES,
    load_atlas,
    wearable,
)
from denoised.worlds.emoji.captions import COLOURLESS, Language, Scene, caption

Split = Literal["train", "test", "compositions"]
Kind = Literal["plain", "loose", "full"]

SLOTS = 4  # things a scene has room for
LOOSE_SIZES = (0.6, 0.95)  # a loose scene's object, as a fraction of the picture's side
# Of plain scenes, in 32nds: whole pixels of the pictures that small pixel models draw, so that nothing is
# asked of them at the finest scale but what the sprites themselves show.
PLAIN_SIDES = (20, 24, 28)
# Of full scenes, in 64ths of the picture's side:
SIDES = (28, 38, 48)  # small, medium and large
STEP = 2  # things stand on multiples of this, so that 32 pixels show them exactly too
HEADROOM = 12  # above whoever could wear a hat

# Scenes of different splits and kinds never share a random stream, whatever the seed.
_SPLIT_STREAM: dict[Split, int] = {"train": 0, "test": 1, "compositions": 2}
# Shares of full scenes. Two objects are many because their relation is what is hardest to learn.
TWO, SEVERAL = 0.45, 0.15  # the rest have one object
TEXTURED, STYLED, DRESSED = 0.3, 0.25, 0.5  # of one object: on a texture; in a style; wearing, if it can


@dataclass(frozen=True)
class Scenes:
    """n scenes as columns.

    Of shape (n,), int64: `object` and `second` (numbers in the atlas; second -1: none), `relation` (of the
    first to the second; -1: none), `count`, `background`, `texture`, `size`, `accessory`, `style` (positions
    in the atlas's tuples).
    Of shape (n, 4), float32: `x`, `y`, the centres and `side`, the sides of the boxes of up to four placed
    things, as fractions of the picture's side, so that a scene has no resolution. Side 0: nothing there.
    """

    object: Tensor
    second: Tensor
    relation: Tensor
    count: Tensor
    background: Tensor
    texture: Tensor
    size: Tensor
    accessory: Tensor
    style: Tensor
    x: Tensor
    y: Tensor
    side: Tensor

    def __len__(self) -> int:
        return len(self.object)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Scenes:
        return Scenes(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def joined(cls, *parts: Scenes) -> Scenes:
        """The scenes of all parts, one after another."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def things(self) -> Tensor:
        """(n, 4) int64: which object stands in each slot, -1 where none."""
        things = self.object[:, None].expand(-1, SLOTS).clone()
        things[:, 1] = torch.where(self.second >= 0, self.second, things[:, 1])
        return torch.where(self.side > 0, things, -1)

    def boxes(self) -> Tensor:
        """(n, 4, 4) float32: left, top, right, bottom of each slot's box in [0, 1]; nan where it is empty."""
        half = torch.where(self.side > 0, self.side / 2, torch.nan)
        return torch.stack([self.x - half, self.y - half, self.x + half, self.y + half], dim=2)

    def describe(self, i: int) -> Scene:
        """What is in scene i, without where."""
        things = load_atlas().all
        second, relation = int(self.second[i]), int(self.relation[i])
        return Scene(
            things[int(self.object[i])].id,
            things[second].id if second >= 0 else None,
            RELATIONS[relation][0] if relation >= 0 else None,
            int(self.count[i]),
            BACKGROUNDS[int(self.background[i])][0],
            TEXTURES[int(self.texture[i])][0],
            SIZES[int(self.size[i])][0],
            ACCESSORIES[int(self.accessory[i])][0],
            STYLES[int(self.style[i])][0],
        )

    def captions(self, language: Language) -> list[str]:
        """One exact sentence for each scene."""
        return [caption(self.describe(i), language) for i in range(len(self))]


def truth(scenes: Scenes) -> dict[str, Tensor]:
    """What a picture of each scene shows, as class numbers (n,) int64 for each of `attributes()`.

    Of two objects, "object" is the left or the upper one, whatever the caption names first, and "relation"
    is 1 (beside each other) or 2 (one above the other). -1 stands where a picture does not show it: a
    background without colour, a size that has no name.
    """
    none = len(load_atlas().objects)
    second = torch.where(scenes.second >= 0, scenes.second, none)
    swapped = scenes.relation % 2 == 1  # right of, below: -1 % 2 is 1 as well, but there second is none
    swapped &= scenes.relation >= 0
    colourless = torch.tensor([style in COLOURLESS for style, _, _ in STYLES])[scenes.style]
    named = (scenes.side[:, 0] * 64 - torch.tensor(SIDES)[scenes.size]).abs() < 0.01
    single = (scenes.second < 0) & (scenes.count == 1)
    return {
        "object": torch.where(swapped, second, scenes.object),
        "second": torch.where(swapped, scenes.object, second),
        "relation": torch.where(scenes.relation >= 0, 1 + scenes.relation // 2, 0),
        "background": torch.where(colourless, -1, scenes.background),
        "texture": torch.where(colourless, -1, scenes.texture),
        "accessory": scenes.accessory,
        "style": scenes.style,
        "count": scenes.count - 1,
        "size": torch.where(named & single, scenes.size, -1),
    }


def attributes() -> dict[str, int]:
    """The number of classes of each attribute in `truth`. The last class of the objects is "none"."""
    classes = len(load_atlas().objects) + 1
    return {
        "object": classes,
        "second": classes,
        "relation": 3,
        "background": len(BACKGROUNDS),
        "texture": len(TEXTURES),
        "accessory": len(ACCESSORIES),
        "style": len(STYLES),
        "count": len(COUNTS),
        "size": len(SIZES),
    }


def distractor(scene: Scene, random: np.random.Generator, attribute: str | None = None) -> Scene:
    """A description that differs from `scene` in one attribute that its caption names: any, or the one given.

    Raises KeyError where the caption of such a scene does not name the attribute.
    """
    atlas = load_atlas()
    ids = [thing.id for thing in atlas.objects]
    choices = {"object": [o for o in ids if o not in (scene.object, scene.second)]}
    if scene.style not in COLOURLESS:
        choices["background"] = [b for b, _, _ in BACKGROUNDS]
        if scene.style == "none":
            choices["texture"] = [t for t, _, _ in TEXTURES]
    if scene.second is not None:
        choices["second"] = choices["object"]
        choices["relation"] = [r for r, _, _ in RELATIONS]
    elif scene.count > 1:
        choices["count"] = [*range(2, len(COUNTS) + 1)]
    else:
        choices["size"] = [s for s, _, _ in SIZES]
        if scene.texture == "plain":
            choices["style"] = [s for s, _, _ in STYLES]
        if atlas.objects[ids.index(scene.object)].wearable:
            choices["accessory"] = [a for a, _, _ in ACCESSORIES]
            if scene.accessory != "none":  # others could not wear it
                choices["object"] = [o.id for o in atlas.objects if o.wearable and o.id != scene.object]
    name = attribute or list(choices)[random.integers(len(choices))]
    values = [value for value in choices[name] if value != getattr(scene, name)]
    return replace(scene, **{name: values[random.integers(len(values))]})  # type: ignore[arg-type]


def held_out_background(objects: Tensor) -> Tensor:
    """The one background each object never has in the train and test splits."""
    return (5 * objects + 3) % len(BACKGROUNDS)


def held_out_accessory(objects: Tensor) -> Tensor:
    """The accessory each object never wears in the train and test splits; 0 where there is none."""
    rank = wearable().long().cumsum(0)[objects] - 1
    accessory = torch.where(rank % 4 == 0, 1, torch.where(rank % 4 == 2, 2, 0))
    return torch.where(wearable()[objects], accessory, 0)


def sample_scenes(n: int, seed: int, split: Split = "train", kind: Kind = "plain") -> Scenes:
    """Draw what is in `n` scenes; scene i does not depend on n.

    "plain" scenes have one object on a plain background, of three sizes and standing on whole pixels of 32;
    "loose" ones the same of any size and anywhere; "full" ones everything there is.
    "train" and "test" have the same distribution from disjoint random streams; "compositions" has only the
    pairs of object and background, and of object and accessory, that both leave out.
    """
    entropy = [seed, _SPLIT_STREAM[split], *([1] if kind == "full" else [])]
    stream = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    # One uniform row a scene keeps scene i independent of n.
    columns = 20 if kind == "full" else 5
    u = torch.from_numpy(np.random.Generator(np.random.PCG64(stream)).random((n, columns)))
    return _full(u, split) if kind == "full" else _single(u, split, loose=kind == "loose")


def _single(u: Tensor, split: Split, *, loose: bool) -> Scenes:
    count = len(BACKGROUNDS)
    objects = (u[:, 0] * len(load_atlas().objects)).long()
    held_out = held_out_background(objects)
    if split == "compositions":
        background = held_out
    else:
        background = (u[:, 1] * (count - 1)).long()
        background = background + (background >= held_out).long()  # skip the held-out one
    # The box stays inside the picture.
    if loose:
        side = LOOSE_SIZES[0] + (LOOSE_SIZES[1] - LOOSE_SIZES[0]) * u[:, 2]
        x, y = (side / 2 + (1 - side) * column for column in (u[:, 3], u[:, 4]))
    else:
        pixels = torch.tensor(PLAIN_SIDES)[(u[:, 2] * len(PLAIN_SIDES)).long()]
        x, y = (((column * (33 - pixels)).long() + pixels / 2) / 32 for column in (u[:, 3], u[:, 4]))
        side = pixels / 32
    none, zero, one = torch.full_like(objects, -1), torch.zeros_like(objects), torch.ones_like(objects)
    empty = torch.zeros(len(u), SLOTS - 1)
    x, y, side = (torch.cat([column.float()[:, None], empty], dim=1) for column in (x, y, side))
    return Scenes(objects, none, none, one, background, zero, one, zero, zero, x, y, side)


def _full(u: Tensor, split: Split) -> Scenes:
    n, classes, colours = len(u), len(load_atlas().objects), len(BACKGROUNDS)
    two, several = u[:, 0] < TWO, (u[:, 0] >= TWO) & (u[:, 0] < TWO + SEVERAL)
    one = ~two & ~several
    objects = (u[:, 1] * classes).long()
    second = torch.where(two, (objects + 1 + (u[:, 2] * (classes - 1)).long()) % classes, -1)
    relation = torch.where(two, (u[:, 3] * len(RELATIONS)).long(), -1)
    count = torch.where(several, 2 + (u[:, 3] * (SLOTS - 1)).long(), 1)

    background = (u[:, 4] * colours).long()
    for _ in range(2):  # each pass steps over a held-out colour of either object
        held_out = (background == held_out_background(objects)) | (
            two & (background == held_out_background(second))
        )
        background = torch.where(held_out, (background + 1) % colours, background)
    accessory = torch.where(one & wearable()[objects] & (u[:, 5] < DRESSED), 1 + (u[:, 6] * 2).long(), 0)
    kept = held_out_accessory(objects)
    accessory = torch.where((accessory == kept) & (kept > 0), 3 - accessory, accessory)
    styled = one & (u[:, 7] < STYLED)
    style = torch.where(styled, 1 + (u[:, 8] * (len(STYLES) - 1)).long(), 0)
    if split == "compositions":
        background = held_out_background(objects)
        style = torch.zeros_like(style)
        accessory = torch.where(one & (u[:, 5] < DRESSED), kept, 0)
    texture = torch.where((u[:, 9] < TEXTURED) & (style == 0), 1 + (u[:, 10] * (len(TEXTURES) - 1)).long(), 0)
    size = torch.where(one, (u[:, 11] * len(SIZES)).long(), 1)
    mosaic = style == [s[0] for s in STYLES].index("mosaic")
    size = torch.where(mosaic, size.clamp(min=1), size)  # of a small mosaic nothing could be recognised
    scenes = Scenes(
        objects, second, relation, count, background, texture, size, accessory, style,
        *(torch.zeros(n, SLOTS) for _ in range(3)),
    )  # fmt: skip
    return _placed(scenes, u[:, 12:20])


def place(descriptions: Sequence[Scene], seed: int) -> Scenes:
    """Scenes with what the descriptions say, at places drawn by the seed.

    Raises DenoisedError where a word is not in the vocabulary or the parts do not go together.
    """
    rows = [_numbers(scene) for scene in descriptions]
    columns = [torch.tensor(column) for column in zip(*rows, strict=True)]
    u = torch.from_numpy(np.random.default_rng([seed, len(_SPLIT_STREAM)]).random((len(rows), 8)))
    return _placed(Scenes(*columns, *(torch.zeros(len(rows), SLOTS) for _ in range(3))), u)


def change(scenes: Scenes, **attributes: str) -> Scenes:
    """The same scenes, in the same places, with one or more attributes set to another value for all.

    Attributes are `object`, `second`, `background`, `texture`, `accessory`, `style` and `relation`, which
    exchanges or turns the two places. Raises DenoisedError where a scene cannot be so.
    """
    columns: dict[str, Tensor] = {}
    numbers: list[tuple[int, ...]] = []
    for i in range(len(scenes)):
        before = scenes.describe(i)
        for name in attributes:
            if name not in ("object", "second", "background", "texture", "accessory", "style", "relation"):
                raise DenoisedError(
                    say(
                        ko=f"{name!r}은 바꿀 수 있는 속성이 아니다",
                        en=f"{name!r} is not an attribute to change",
                    ),
                    help="object, second, background, texture, accessory, style, relation",
                )
            if name in ("second", "relation") and before.second is None:
                raise DenoisedError(
                    say(
                        ko=f"사물이 하나뿐인 장면의 {name}는 바꿀 수 없다",
                        en=f"a scene of one object has no {name} to change",
                    )
                )
        numbers.append(_numbers(replace(before, **attributes)))  # type: ignore[arg-type]
    names = [f.name for f in fields(Scenes)][:9]
    for name, column in zip(names, zip(*numbers, strict=True), strict=True):
        columns[name] = torch.tensor(column)
    changed = replace(scenes, **columns)
    if "relation" not in attributes:
        return changed
    # The two places stay the same pair of distances, turned to the new direction.
    x, y = scenes.x.clone(), scenes.y.clone()
    turned = (changed.relation // 2) != (scenes.relation // 2)
    x, y = torch.where(turned[:, None], y, x), torch.where(turned[:, None], x, y)
    along = torch.where((changed.relation // 2 == 0)[:, None], x, y)
    first = along[:, 0] < along[:, 1]
    swap = first != (changed.relation % 2 == 0)
    order = torch.tensor([1, 0, 2, 3])
    return replace(
        changed,
        x=torch.where(swap[:, None], x[:, order], x),
        y=torch.where(swap[:, None], y[:, order], y),
    )


def _numbers(scene: Scene) -> tuple[int, ...]:
    """A description as the first nine columns of `Scenes`; DenoisedError where it describes nothing."""
    things = load_atlas().all
    ids = [thing.id for thing in things]
    number = _position(say(ko="사물", en="object"), scene.object, ids)
    second = -1 if scene.second is None else _position(say(ko="사물", en="object"), scene.second, ids)
    relations = [r[0] for r in RELATIONS]
    relation = (
        -1 if scene.relation is None else _position(say(ko="관계", en="relation"), scene.relation, relations)
    )
    background = _position(say(ko="배경", en="background"), scene.background, [b[0] for b in BACKGROUNDS])
    texture = _position(say(ko="무늬", en="texture"), scene.texture, [t[0] for t in TEXTURES])
    size = _position(say(ko="크기", en="size"), scene.size, [s[0] for s in SIZES])
    accessory = _position(say(ko="장신구", en="accessory"), scene.accessory, [a[0] for a in ACCESSORIES])
    style = _position(say(ko="화풍", en="style"), scene.style, [s[0] for s in STYLES])
    single = scene.second is None and scene.count == 1
    refusals = (
        (
            (scene.second is None) != (scene.relation is None),
            say(ko="두 번째 사물과 관계는 함께 준다", en="a second object and a relation come together"),
        ),
        (
            not 1 <= scene.count <= len(COUNTS),
            say(
                ko=f"한 장면에는 1개에서 {len(COUNTS)}개까지 놓을 수 있는데 {scene.count}개이다",
                en=f"a scene has room for 1 to {len(COUNTS)} things, not {scene.count}",
            ),
        ),
        (
            scene.second is not None and scene.count != 1,
            say(
                ko="두 사물의 장면에서는 개수를 정할 수 없다",
                en="a scene of two objects has one of each: no count can be asked for",
            ),
        ),
        (
            accessory > 0 and not things[number].wearable,
            say(
                ko=f"{scene.object}에는 {scene.accessory}를 씌울 수 없다",
                en=f"{scene.object} cannot wear {scene.accessory}: only faces seen from the front can",
            ),
        ),
        (
            not single and (accessory > 0 or style > 0),
            say(
                ko="장신구와 화풍은 사물이 하나인 장면에만 있다",
                en="accessories and styles are for scenes of one object",
            ),
        ),
        (
            scene.style in COLOURLESS and texture > 0,
            say(
                ko=f"{scene.style}에는 배경 무늬가 없다",
                en=f"a {scene.style} has no texture behind the object",
            ),
        ),
    )
    for refused, message in refusals:
        if refused:
            raise DenoisedError(message)
    return number, second, relation, scene.count, background, texture, size, accessory, style


def _position(what: str, value: str, known: Sequence[str]) -> int:
    if value not in known:
        raise DenoisedError(
            say(ko=f"이모지 세계에 {what} {value!r}은 없다", en=f"the emoji world has no {what} {value!r}"),
            help=say(ko=f"있는 것: {', '.join(known)}", en=f"there are: {', '.join(known)}"),
        )
    return list(known).index(value)


def _placed(scenes: Scenes, u: Tensor) -> Scenes:
    """The same scenes with their things put down: u is (n, 8) uniform in [0, 1)."""
    n, small = len(scenes), SIDES[0]
    left, top, side = (torch.zeros(n, SLOTS, dtype=torch.int64) for _ in range(3))

    one = (scenes.second < 0) & (scenes.count == 1)
    side[:, 0] = torch.where(one, torch.tensor(SIDES)[scenes.size], small)
    above = torch.where(wearable()[scenes.object], HEADROOM, 0)
    left[:, 0] = _on_grid(u[:, 0], 64 - side[:, 0])
    top[:, 0] = above + _on_grid(u[:, 1], 64 - side[:, 0] - above)

    # Two: along their relation each in its half, across it nearly level.
    two = scenes.second >= 0
    slack = 64 // 2 - small
    near, far = _on_grid(u[:, 2], slack), 64 - small - _on_grid(u[:, 3], slack)
    across = _on_grid(u[:, 4], 64 - small)
    other = (across + _on_grid(u[:, 5], 2 * slack) - slack).clamp(0, 64 - small)
    first_is_near = scenes.relation % 2 == 0  # left of, above
    along = torch.stack([torch.where(first_is_near, near, far), torch.where(first_is_near, far, near)], dim=1)
    level = torch.stack([across, other], dim=1)
    beside = (scenes.relation // 2 == 0)[:, None]
    left[:, :2] = torch.where(two[:, None], torch.where(beside, along, level), left[:, :2])
    top[:, :2] = torch.where(two[:, None], torch.where(beside, level, along), top[:, :2])
    side[:, 1] = torch.where(two, small, 0)

    # Several: each in its own quarter.
    several = scenes.count > 1
    quarter = u[:, 0:4].argsort(dim=1)
    jitter = _on_grid(u[:, 4:8], slack)
    slot = torch.arange(SLOTS)
    left = torch.where(several[:, None], quarter % 2 * 32 + jitter, left)
    top = torch.where(several[:, None], quarter // 2 * 32 + jitter.roll(1, 1), top)
    side = torch.where(several[:, None], torch.where(slot < scenes.count[:, None], small, 0), side)

    filled = side > 0
    x, y = (torch.where(filled, (corner + side / 2) / 64, 0).float() for corner in (left, top))
    return replace(scenes, x=x, y=y, side=(side / 64).float())


def _on_grid(u: Tensor, room: Tensor | int) -> Tensor:
    """u, uniform in [0, 1), as a multiple of STEP in 0 … room."""
    return STEP * (u * (torch.as_tensor(room) // STEP + 1)).long()

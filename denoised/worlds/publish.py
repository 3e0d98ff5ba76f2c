"""`denoised world NAME --publish`: the pictures of a world's page, with what is known of every one of them.

What is shown is chosen by the seed. Only the sheet of ground truth shows scenes that are described here, because
it has to show each kind of truth where there is something of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from denoised.files import write_whole
from denoised.language import Phrase
from denoised.pictures import grid, png
from denoised.site.worlds import Fact, Pictures, Tile
from denoised.worlds.clips import MOTIONS, render_clips
from denoised.worlds.emoji import (
    ACCESSORIES,
    RELATIONS,
    SIZES,
    STYLES,
    TEXTURES,
    Scene,
    Scenes,
    accessory_masks,
    change,
    depth,
    edges,
    keypoints,
    masks,
    place,
    render,
    sample_scenes,
)
from denoised.worlds.fashion_mnist import CLASSES
from denoised.worlds.preview import COLOURS, choose_clips, choose_clothes, framing, preview_toys
from denoised.worlds.toys import TOYS, toy

SIDE = 64  # pixels of a scene and of a frame
ROWS = 5  # of the emoji sheet
POOL = 2000  # scenes to choose from
SECONDS = 1.6  # that a clip lasts
PANEL = 200  # pixels, of the toys


@dataclass(frozen=True)
class Sheet:
    """A PNG file, and what site/assets/worlds/ says beside it."""

    png: bytes
    pictures: Pictures


def publish(root: Path, name: str, seed: int, folder: Path | None) -> list[Path]:
    """Write a world's sheets into the site's assets; the PNG files. DenoisedError as `load_fashion_mnist`."""
    command = f"denoised world {name} --publish" + (f" --seed {seed}" if seed else "")
    match name:
        case "emoji":
            sheets = {"emoji": emoji_sheet(seed, command), "emoji-truth": truth_sheet(seed, command)}
        case "clips":
            sheets = {"clips": clips_sheet(seed, command)}
        case "toys":
            sheets = {"toys": toys_sheet(seed, command)}
        case _:
            sheets = {"fashion-mnist": clothes_sheet(folder, seed, command)}
    written = []
    for part, sheet in sheets.items():
        path = root / "site" / "assets" / "worlds" / f"{part}.png"
        write_whole(path, sheet.png)
        text = sheet.pictures.model_dump_json(indent=2, exclude_defaults=True)
        write_whole(path.with_suffix(".json"), (text + "\n").encode())
        written.append(path)
    return written


# --- scenes ----------------------------------------------------------------------------------------------

Wanted = Callable[[Scene, int], bool]  # whether a scene is what a row of this number shows in one column


def _nth(terms: Sequence[Sequence[object]], number: int) -> object:
    """The ids of `terms` in turn."""
    return terms[number % len(terms)][0]


def _alone(scene: Scene) -> bool:
    return scene.second is None and scene.count == 1


def _unadorned(scene: Scene) -> bool:
    return (scene.texture, scene.accessory, scene.style) == ("plain", "none", "none")


# One column each, and down a column its kinds in turn. Small things show little of a style.
COLUMNS: tuple[Wanted, ...] = (
    lambda scene, row: _alone(scene) and _unadorned(scene) and scene.size == _nth(SIZES, row),
    lambda scene, row: scene.relation == _nth(RELATIONS, row),
    lambda scene, row: scene.accessory == _nth(ACCESSORIES[1:], row) and scene.style == "none",
    lambda scene, row: scene.count == 2 + row % 3,
    lambda scene, row: scene.style == _nth(STYLES[1:], row) and scene.size != "small",
    lambda scene, row: _alone(scene) and scene.texture == _nth(TEXTURES[1:], row) and scene.style == "none",
)


def emoji_sheet(seed: int, command: str) -> Sheet:
    """ROWS × COLUMNS scenes of the pool: every kind of scene, whose objects and then whose backgrounds were shown
    least before it."""
    pool = sample_scenes(POOL, seed, "test", "full")
    scenes = [pool.describe(i) for i in range(len(pool))]
    shown: Counter[str] = Counter()
    chosen: list[int] = []

    def novelty(number: int) -> tuple[int, int]:
        scene = scenes[number]
        return shown[scene.object] + shown[scene.second or ""], shown[scene.background]

    for row in range(ROWS):
        for wanted in COLUMNS:
            number = min((i for i, scene in enumerate(scenes) if wanted(scene, row)), key=novelty)
            chosen.append(number)
            scene = scenes[number]
            shown.update(each for each in (scene.object, scene.second, scene.background) if each)
    pool = pool[chosen]
    tiles = [Tile(ko=ko, en=en, facts=_scene_facts(pool, i)) for i, (ko, en) in enumerate(_captions(pool))]
    return _tiled(render(pool, SIDE), seed, command, len(COLUMNS), tiles)


def _captions(scenes: Scenes) -> list[tuple[str, str]]:
    return list(zip(scenes.captions("ko"), scenes.captions("en"), strict=True))


def _scene_facts(scenes: Scenes, i: int) -> tuple[Fact, ...]:
    """How many there are of one kind, or the boxes of the one or two things, in pixels of the sheet."""
    if scenes.count[i] > 1:
        return (Fact(name="count", value=str(int(scenes.count[i]))),)
    boxes = scenes.boxes()[i]
    return tuple(Fact(name="box", value=_numbers(SIDE * box)) for box in boxes if not box.isnan().any())


def _numbers(values: Tensor | Iterable[float], digits: int = 0) -> str:
    return " ".join(f"{float(value):.{digits}f}" for value in values)


def _tiled(
    pictures: Tensor, seed: int, command: str, columns: int, tiles: Sequence[Tile], frames: int = 1,
    seconds: float | None = None,
) -> Sheet:  # fmt: skip
    """The sheet of pictures (n, 3, h, w) in [-1, 1]."""
    height, width = pictures.shape[-2:]
    return Sheet(
        _opaque_png(grid(pictures, columns)),
        Pictures(
            seed=seed,
            command=command,
            columns=columns,
            width=width,
            height=height,
            frames=frames,
            seconds=seconds,
            tiles=tuple(tiles),
        ),
    )


def _opaque_png(sheet: Image.Image) -> bytes:
    """A sheet of opaque tiles with clear gaps: one colour that no tile has stands for clear.

    A tenth smaller than the same with an alpha channel.
    """
    colours = {tuple(colour) for colour in np.asarray(sheet.convert("RGB")).reshape(-1, 3).tolist()}
    clear = next((r, 0, 255) for r in range(256) if (r, 0, 255) not in colours)
    flat = Image.new("RGB", sheet.size, clear)
    flat.paste(sheet, mask=sheet.getchannel("A"))
    buffer = BytesIO()
    flat.save(buffer, "PNG", optimize=True, transparency=clear)
    return buffer.getvalue()


# --- ground truth ----------------------------------------------------------------------------------------

# Each scene and six changes of it: a page that is six, four, three or two tiles wide keeps scenes apart.
TRUTH: tuple[tuple[Scene, tuple[dict[str, str], ...]], ...] = (
    (
        Scene("cat", background="sky-blue", texture="striped", size="large", accessory="glasses"),
        (
            {"accessory": "hat"},
            {"accessory": "none"},
            {"background": "orange"},
            {"texture": "plain"},
            {"object": "alien"},
            {"style": "sticker"},
        ),
    ),
    (
        Scene("fox", second="robot", relation="left of", background="mint"),
        (
            {"relation": "right of"},
            {"relation": "above"},
            {"object": "clown"},
            {"second": "pizza"},
            {"background": "pink"},
            {"texture": "dotted"},
        ),
    ),
    (
        Scene("panda", count=3, background="red"),
        (
            {"object": "frog"},
            {"object": "strawberry"},
            {"background": "yellow"},
            {"background": "blue"},
            {"texture": "checked"},
            {"texture": "striped"},
        ),
    ),
    (
        Scene("lion", background="green", size="large", accessory="hat", style="sketch"),
        (
            {"style": "greyscale"},
            {"style": "sticker"},
            {"style": "mosaic"},
            {"style": "none"},
            {"accessory": "glasses"},
            {"object": "pig"},
        ),
    ),
)
SLOT_COLOURS = ((240, 112, 96), (96, 168, 240), (250, 205, 85), (120, 200, 130))
POINT_COLOURS = ((70, 220, 255), (255, 90, 200), (255, 225, 60))  # left eye, right eye, crown
NAMES = (
    Phrase(ko="사물 마스크", en="masks of the things"),
    Phrase(ko="장신구 마스크", en="mask of what is worn"),
    Phrase(ko="윤곽선", en="edges"),
    Phrase(ko="깊이", en="depth"),
    Phrase(ko="두 눈과 정수리", en="eyes and crown"),
)
NOTHING_WORN = Phrase(ko="장신구 마스크: 쓴 것이 없다", en="mask of what is worn: nothing is")


def truth_sheet(seed: int, command: str) -> Sheet:
    """A row for each scene of TRUTH: the picture, its ground truth, its counterfactuals."""
    scenes = place([scene for scene, _ in TRUTH], seed)
    pictures = render(scenes, SIDE)
    truths = torch.stack(
        [
            _coloured(masks(scenes, SIDE)),
            _grey(accessory_masks(scenes, SIDE)),
            _grey(edges(scenes, SIDE)),
            _grey(depth(scenes, SIDE)),
            _pointed(pictures, keypoints(scenes)),
        ],
        dim=1,
    )
    rows: list[Tensor] = []
    tiles: list[Tile] = []
    for i, ((scene, changes), (ko, en)) in enumerate(zip(TRUTH, _captions(scenes), strict=True)):
        changed = [change(scenes[i : i + 1], **each) for each in changes]
        rows += [pictures[i : i + 1], truths[i], *(render(each, SIDE) for each in changed)]
        tiles.append(Tile(ko=ko, en=en, facts=_scene_facts(scenes, i)))
        for name in NAMES:
            said = NOTHING_WORN if name is NAMES[1] and scene.accessory == "none" else name
            tiles.append(Tile(ko=said.ko, en=said.en))
        for after in changed:
            ((ko, en),) = _captions(after)
            tiles.append(Tile(ko=f"반사실: {ko}", en=f"counterfactual: {en}"))
    return _tiled(torch.cat(rows), seed, command, 1 + len(NAMES) + len(TRUTH[0][1]), tiles)


def _colours(colours: Sequence[tuple[int, int, int]]) -> Tensor:
    return torch.tensor(colours, dtype=torch.float32) / 255


def _grey(values: Tensor) -> Tensor:
    """(n, 1, h, w) in [0, 1] as pictures, 0 black and 1 white."""
    return 2 * values.expand(-1, 3, -1, -1) - 1


def _coloured(covered: Tensor) -> Tensor:
    """Masks (n, slots, h, w) as pictures, each slot in its colour on black."""
    return 2 * torch.einsum("nshw,sc->nchw", covered, _colours(SLOT_COLOURS)).clamp(max=1) - 1


def _pointed(pictures: Tensor, points: Tensor) -> Tensor:
    """Pale pictures (n, 3, s, s) with a dot, rimmed in black, on every key point (n, slots, 3, 2)."""
    size = pictures.shape[-1]
    centre = torch.arange(size) + 0.5
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    drawn = (pictures + 1) / 2 * 0.6 + 0.4
    at = torch.nan_to_num(points, nan=-1.0) * size  # where there is none, outside the picture
    for slot in range(points.shape[1]):
        for kind, colour in enumerate(_colours(POINT_COLOURS)):
            px, py = at[:, slot, kind, :, None, None].unbind(1)
            away = torch.hypot(x - px, y - py)[:, None]
            for radius, paint in ((2.9, torch.zeros(3)), (1.9, colour)):
                inside = (radius + 0.5 - away).clamp(0, 1)
                drawn = drawn * (1 - inside) + paint.view(1, 3, 1, 1) * inside
    return 2 * drawn - 1


# --- the other worlds ------------------------------------------------------------------------------------


def clips_sheet(seed: int, command: str) -> Sheet:
    """One clip of each motion, a row each, with the object's first and last box."""
    clips = choose_clips(seed)
    tiles = []
    captions = zip(clips.captions("ko"), clips.captions("en"), strict=True)
    for number, (ko, en), boxes in zip(clips.motion.tolist(), captions, clips.boxes(), strict=True):
        facts = [Fact(name="motion", value=MOTIONS[number].id)]
        ends = (0, clips.frames - 1)
        facts += [Fact(name=f"box[{i}]", value=_numbers(boxes[i], 2)) for i in ends]
        tiles.append(Tile(ko=ko, en=en, facts=tuple(facts)))
    pictures = render_clips(clips, SIDE).flatten(0, 1)
    return _tiled(pictures, seed, command, clips.frames, tiles, clips.frames, SECONDS)


def toys_sheet(seed: int, command: str) -> Sheet:
    """Points and score of every density, in one picture of few colours."""
    picture = preview_toys(seed, PANEL, "en").picture
    tiles = []
    for name, each in TOYS.items():
        extent, s = framing(toy(name), seed)
        facts = [("toy", name), ("s", f"{s:.2f}"), ("x, y", f"±{extent:.2f}")]
        tiles.append(
            Tile(
                ko=each.name.ko,
                en=each.name.en,
                facts=tuple(Fact(name=key, value=value) for key, value in facts),
            )
        )
    few = picture.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return Sheet(png(few), Pictures(seed=seed, command=command, pixelated=False, tiles=tuple(tiles)))


def clothes_sheet(folder: Path | None, seed: int, command: str) -> Sheet:
    """A row of test pictures for each class, in their own size. DenoisedError as `load_fashion_mnist`."""
    clothes, chosen = choose_clothes(folder, seed)
    tiles = [
        Tile(
            ko=CLASSES[number].ko,
            en=CLASSES[number].en,
            facts=(Fact(name="label", value=str(number)),),
        )
        for number in clothes.labels[chosen[:, 0]].tolist()
    ]
    columns = chosen.shape[1]
    pictures = -clothes.pictures[chosen.flatten()].expand(-1, 3, -1, -1)
    return _tiled(pictures, seed, command, columns, tiles, columns)

"""The emoji world: independence of scenes, exact boxes, masks and captions, and Pillow as a second painter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from denoised.worlds.emoji import (
    BACKGROUNDS,
    SIZES,
    Scenes,
    held_out_background,
    load_atlas,
    masks,
    render,
    sample_scenes,
)
from denoised.worlds.korean import with_particle


@pytest.mark.parametrize("split", ["train", "test", "compositions"])
def test_scene_i_does_not_depend_on_how_many_are_drawn(split: str) -> None:
    few, many = sample_scenes(5, 3, split), sample_scenes(200, 3, split)  # type: ignore[arg-type]
    for column in ("object", "background", "x", "y", "size"):
        assert torch.equal(getattr(few, column), getattr(many, column)[:5])
    torch.testing.assert_close(render(few), render(many)[:5])


def test_splits_and_seeds_draw_different_scenes() -> None:
    positions = [sample_scenes(50, seed, split).x for seed in (0, 1) for split in ("train", "test")]
    assert len(torch.cat(positions).unique()) > 190


def test_held_out_pairs_appear_in_one_split_only() -> None:
    for split in ("train", "test"):
        scenes = sample_scenes(20_000, 0, split)
        assert not bool((scenes.background == held_out_background(scenes.object)).any())
        pairs = set(zip(scenes.object.tolist(), scenes.background.tolist(), strict=True))
        assert len(pairs) == len(load_atlas().objects) * (len(BACKGROUNDS) - 1)
    held_out = sample_scenes(500, 0, "compositions")
    assert torch.equal(held_out.background, held_out_background(held_out.object))


def test_boxes_stay_inside_and_hold_their_object() -> None:
    scenes = sample_scenes(300, 1)
    boxes = scenes.boxes()
    assert float(boxes.min()) >= -1e-6 and float(boxes.max()) <= 1 + 1e-6
    assert SIZES[0] <= float(scenes.size.min()) and float(scenes.size.max()) <= SIZES[1]
    covered = masks(scenes, 64)[:, 0] > 0.02
    pixel = (torch.arange(64) + 0.5) / 64
    for box, mask in zip(boxes, covered, strict=True):
        rows, columns = pixel[mask.any(dim=1)], pixel[mask.any(dim=0)]
        margin = 1.5 / 64  # interpolation reaches a little beyond
        assert box[1] - margin <= rows.min() and rows.max() <= box[3] + margin
        assert box[0] - margin <= columns.min() and columns.max() <= box[2] + margin


def test_pictures_are_background_where_the_mask_is_empty() -> None:
    scenes = sample_scenes(100, 2)
    pictures, empty = render(scenes), masks(scenes)[:, 0] == 0
    for i, background in enumerate(scenes.background.tolist()):
        colour = torch.tensor(BACKGROUNDS[background][2]) / 127.5 - 1
        torch.testing.assert_close(pictures[i][:, empty[i]], colour[:, None].expand(-1, int(empty[i].sum())))


def test_pillow_paints_the_same_picture() -> None:
    """An object of 48 pixels at a whole-pixel place, scaled by Pillow and pasted on the same background."""
    n = 12
    scenes = Scenes(
        torch.arange(n), torch.arange(n), torch.full((n,), 0.5), torch.full((n,), 0.5), torch.full((n,), 0.75)
    )
    ours = (render(scenes, 64) + 1) * 127.5
    for i in range(n):
        sprite = load_atlas().sprites[i].clone()
        sprite[:3] /= sprite[3:].clamp(min=1e-6)  # straight alpha, as Pillow wants it
        rgba = Image.fromarray((sprite.permute(1, 2, 0) * 255).round().byte().numpy(), "RGBA")
        theirs = Image.new("RGBA", (64, 64), BACKGROUNDS[i][2])
        theirs.alpha_composite(rgba.resize((48, 48), Image.Resampling.BILINEAR), (8, 8))
        difference = np.abs(np.asarray(theirs)[..., :3].astype(float) - ours[i].permute(1, 2, 0).numpy())
        assert difference.mean() < 5  # of 255: the filters differ, the picture does not


def test_captions_are_exact_in_both_languages() -> None:
    ids = [o.id for o in load_atlas().objects]
    backgrounds = [name for name, _, _ in BACKGROUNDS]
    chosen = [("apple", "red"), ("grapes", "orange"), ("robot", "sky-blue"), ("unicorn", "white")]
    middle = torch.full((4,), 0.5)
    scenes = Scenes(
        torch.tensor([ids.index(o) for o, _ in chosen]),
        torch.tensor([backgrounds.index(b) for _, b in chosen]),
        middle,
        middle,
        middle,
    )
    assert scenes.captions("en") == [
        "an apple on a red background",
        "grapes on an orange background",
        "a robot on a sky blue background",
        "a unicorn on a white background",
    ]
    assert scenes.captions("ko") == [
        "빨간 배경에 사과가 있다",
        "주황 배경에 포도가 있다",
        "하늘색 배경에 로봇이 있다",
        "흰 배경에 유니콘이 있다",
    ]


def test_particles_follow_the_final_consonant() -> None:
    assert [with_particle(w, "을", "를") for w in ("곰", "토끼", "별")] == ["곰을", "토끼를", "별을"]
    with pytest.raises(ValueError, match="does not end in a Hangul syllable"):
        with_particle("SD", "이", "가")


def test_an_unknown_object_is_refused_with_the_known_ones() -> None:
    assert load_atlas().index("dog") == 0
    with pytest.raises(ValueError, match="unknown object 'wolf'; the emoji world has dog, cat"):
        load_atlas().index("wolf")

"""The emoji world: independence of scenes, exact geometry, ground truth and captions, counterfactuals."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from denoised.errors import DenoisedError
from denoised.worlds.emoji import (
    BACKGROUNDS,
    Scene,
    Scenes,
    accessory_masks,
    attributes,
    caption,
    change,
    depth,
    distractor,
    edges,
    held_out_accessory,
    held_out_background,
    keypoints,
    load_atlas,
    masks,
    place,
    render,
    sample_scenes,
    truth,
)
from denoised.worlds.emoji.scenes import LOOSE_SIZES, PLAIN_SIDES, SLOTS
from denoised.worlds.korean import with_particle


def test_joined_scenes_are_those_of_the_parts_in_order() -> None:
    a, b = sample_scenes(3, 0, "train", "full"), sample_scenes(2, 1, "test", "full")
    joined = Scenes.joined(a, b)
    assert [joined.describe(i) for i in range(5)] == [*map(a.describe, range(3)), *map(b.describe, range(2))]
    assert torch.equal(render(joined, 32), torch.cat([render(a, 32), render(b, 32)]))


@pytest.mark.parametrize("kind", ["plain", "loose", "full"])
@pytest.mark.parametrize("split", ["train", "test", "compositions"])
def test_scene_i_does_not_depend_on_how_many_are_drawn(split: str, kind: str) -> None:
    few, many = (sample_scenes(n, 3, split, kind) for n in (5, 200))  # type: ignore[arg-type]
    for column in fields(Scenes):
        assert torch.equal(getattr(few, column.name), getattr(many, column.name)[:5])
    torch.testing.assert_close(render(few, 64), render(many, 64)[:5])
    assert few.captions("ko") == many.captions("ko")[:5]


def test_splits_seeds_and_kinds_draw_different_scenes() -> None:
    positions = [
        sample_scenes(50, seed, split, "loose").x[:, 0] for seed in (0, 1) for split in ("train", "test")
    ]
    assert len(torch.cat(positions).unique()) > 190
    captions = [
        sample_scenes(100, seed, split, "full").captions("en")
        for seed in (0, 1)
        for split in ("train", "test")
    ]
    for i, some in enumerate(captions):
        for others in captions[i + 1 :]:
            assert sum(a == b for a, b in zip(some, others, strict=True)) < 3


@pytest.mark.parametrize("kind", ["plain", "loose", "full"])
def test_held_out_pairs_appear_in_one_split_only(kind: str) -> None:
    for split in ("train", "test"):
        scenes = sample_scenes(20_000, 0, split, kind)  # type: ignore[arg-type]
        for things in (scenes.object, scenes.second):
            there = things >= 0
            assert not bool((scenes.background == held_out_background(things))[there].any())
        pairs = set(zip(scenes.object.tolist(), scenes.background.tolist(), strict=True))
        assert len(pairs) == len(load_atlas().objects) * (len(BACKGROUNDS) - 1)
        worn = scenes.accessory > 0
        assert not bool((scenes.accessory == held_out_accessory(scenes.object))[worn].any())
    held_out = sample_scenes(500, 0, "compositions", kind)  # type: ignore[arg-type]
    assert torch.equal(held_out.background, held_out_background(held_out.object))
    worn = held_out.accessory > 0
    assert bool(worn.any()) == (kind == "full")
    assert torch.equal(held_out.accessory[worn], held_out_accessory(held_out.object)[worn])


def test_the_shares_of_full_scenes_are_what_they_say() -> None:
    scenes = sample_scenes(20_000, 0, "train", "full")
    two, several = scenes.second >= 0, scenes.count > 1
    for share, expected in ((two, 0.45), (several, 0.15), (scenes.style > 0, 0.25 * 0.4)):
        assert abs(float(share.float().mean()) - expected) < 0.012
    assert scenes.object.bincount().min() > 0.75 * 20_000 / 48
    assert torch.equal(scenes.second >= 0, scenes.relation >= 0)
    assert not bool((two & several).any())
    assert not bool((scenes.object == scenes.second).any())


def test_boxes_stay_inside_and_hold_their_objects() -> None:
    for kind in ("plain", "loose", "full"):
        scenes = sample_scenes(300, 1, "train", kind)
        boxes, filled = scenes.boxes(), scenes.side > 0
        assert torch.equal(filled.sum(dim=1), torch.where(scenes.second >= 0, 2, scenes.count))
        assert float(boxes[filled].min()) >= -1e-6 and float(boxes[filled].max()) <= 1 + 1e-6
        assert bool(boxes[~filled].isnan().all())
        covered = masks(scenes, 64) > 0.02
        assert not bool(covered[~filled].any())
        pixel = (torch.arange(64) + 0.5) / 64
        for box, mask in zip(boxes[filled], covered[filled], strict=True):
            rows, columns = pixel[mask.any(dim=1)], pixel[mask.any(dim=0)]
            margin = 1.5 / 64  # interpolation reaches a little beyond
            assert box[1] - margin <= rows.min() and rows.max() <= box[3] + margin
            assert box[0] - margin <= columns.min() and columns.max() <= box[2] + margin


def test_loose_scenes_have_the_sizes_they_say() -> None:
    side = sample_scenes(2_000, 1, kind="loose").side[:, 0]
    assert LOOSE_SIZES[0] <= float(side.min()) < 0.61 and 0.94 < float(side.max()) <= LOOSE_SIZES[1]


def test_plain_scenes_stand_on_whole_pixels_of_32_in_three_sizes() -> None:
    scenes = sample_scenes(5_000, 1)
    pixels = scenes.boxes()[:, 0] * 32
    assert torch.equal(pixels, pixels.round())
    assert set((pixels[:, 2] - pixels[:, 0]).int().tolist()) == set(PLAIN_SIDES)
    for side in PLAIN_SIDES:  # and in every place that the picture has room for
        left = pixels[pixels[:, 2] - pixels[:, 0] == side, 0]
        assert set(left.int().tolist()) == set(range(32 - side + 1))


def test_two_objects_stand_as_their_relation_says_and_never_overlap() -> None:
    scenes = sample_scenes(2_000, 5, "train", "full")
    scenes = scenes[scenes.second >= 0]
    left, top, right, bottom = scenes.boxes()[:, :2].unbind(2)
    clear = {
        0: right[:, 0] <= left[:, 1] + 1e-6,
        1: right[:, 1] <= left[:, 0] + 1e-6,
        2: bottom[:, 0] <= top[:, 1] + 1e-6,
        3: bottom[:, 1] <= top[:, 0] + 1e-6,
    }
    for relation, holds in clear.items():
        chosen = scenes.relation == relation
        assert int(chosen.sum()) > 100 and bool(holds[chosen].all())
        assert not bool(clear[relation ^ 1][chosen].any())


def test_full_scenes_stand_on_whole_pixels_at_both_resolutions() -> None:
    boxes = sample_scenes(500, 5, "train", "full").boxes()
    corners = boxes[~boxes.isnan()] * 32
    torch.testing.assert_close(corners, corners.round(), atol=1e-5, rtol=0)


def test_pictures_are_background_where_the_masks_are_empty() -> None:
    scenes = sample_scenes(100, 2)
    pictures, empty = render(scenes), masks(scenes).sum(dim=1) == 0
    for i, background in enumerate(scenes.background.tolist()):
        colour = torch.tensor(BACKGROUNDS[background][2]) / 127.5 - 1
        torch.testing.assert_close(pictures[i][:, empty[i]], colour[:, None].expand(-1, int(empty[i].sum())))


@pytest.mark.parametrize("aligned", [True, False])
def test_pillow_paints_the_same_picture(aligned: bool) -> None:
    """An object of 48 pixels near the middle, scaled by Pillow and pasted on the same background.

    Off whole pixels another path draws, and Pillow, which cannot, is compared at the nearest one.
    """
    n = 12
    corner = 8 / 64 if aligned else 8.1 / 64
    scenes = place([Scene(o.id, size="large") for o in load_atlas().objects[:n]], 0)
    scenes = replace(
        scenes,
        background=torch.arange(n),
        x=torch.full((n, SLOTS), corner + 0.375),
        y=torch.full((n, SLOTS), corner + 0.375),
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


def test_both_ways_of_drawing_agree() -> None:
    """Copied from pictures scaled once on whole pixels, sampled anew a thousandth of a pixel off them."""
    scenes = sample_scenes(200, 4, "train", "full")
    scenes = scenes[(scenes.style == 0) & (scenes.texture == 0)]
    moved = replace(scenes, x=scenes.x + 2e-3 / 64)
    difference = (render(scenes, 64) - render(moved, 64)).abs()
    assert float(difference.mean()) < 0.01


def test_styles_look_as_they_are_named() -> None:
    def drawn(style: str) -> torch.Tensor:
        return render(place([Scene("pizza", background="blue", style=style)], 3), 64)[0]

    photo = drawn("none")
    assert bool((drawn("greyscale") == drawn("greyscale")[:1]).all())
    assert bool((drawn("sketch") == drawn("sketch")[:1]).all())
    assert float((drawn("sketch") > 0.99).float().mean()) > 0.6  # white paper
    blocks = drawn("mosaic").unfold(1, 4, 4).unfold(2, 4, 4).flatten(3)
    assert float(blocks.std(dim=3).max()) < 1e-6
    torch.testing.assert_close(blocks[..., 0], F.avg_pool2d(photo, 4), atol=1e-5, rtol=0)
    changed = (drawn("sticker") - photo).abs().amax(dim=0) > 0.05
    assert 0.02 < float(changed.float().mean()) < 0.3
    solid = masks(place([Scene("pizza")], 3), 64)[0, 0] > 0.999
    assert not bool((changed & solid).any())  # a rim around the object


def test_glasses_lie_on_the_eyes_and_hats_on_the_crown() -> None:
    wearers = [thing for thing in load_atlas().objects if thing.wearable]
    assert len(wearers) >= 16
    glasses, hats = (
        place([Scene(w.id, accessory=a, size="large") for w in wearers], 1) for a in ("glasses", "hat")
    )
    points = keypoints(glasses)[:, 0]
    assert bool(points.isfinite().all()) and bool(keypoints(glasses)[:, 1:].isnan().all())
    covered = accessory_masks(glasses, 64)[:, 0]
    for mask, (left, right, _) in zip(covered, points, strict=True):
        for x, y in (left, right):
            assert mask[int(y * 64), int(x * 64)] > 0.5
    for mask, (_, _, crown), box in zip(
        accessory_masks(hats, 64)[:, 0], keypoints(hats)[:, 0], hats.boxes()[:, 0], strict=True
    ):
        rows = (mask.sum(dim=1) > 1).nonzero().squeeze(1) / 64
        assert rows.min() < crown[1] < rows.max() + 1 / 64
        assert rows.min() >= 0 and rows.max() < (box[1] + box[3]) / 2
    for scene in (glasses, hats):
        plain = change(scene, accessory="none")
        different = (render(scene, 64) - render(plain, 64)).abs().amax(dim=1) > 1e-6
        assert not bool((different & (accessory_masks(scene, 64)[:, 0] == 0)).any())


def test_edges_lie_on_the_objects_whatever_is_behind_them() -> None:
    scenes = sample_scenes(100, 3, "train", "full")
    found = edges(scenes, 64)
    assert set(found.unique().tolist()) == {0.0, 1.0} and 0.02 < float(found.mean()) < 0.3
    near = F.max_pool2d(
        (masks(scenes, 64).sum(dim=1, keepdim=True) + accessory_masks(scenes, 64) > 0).float(), 3, 1, 1
    )
    assert not bool((found * (1 - near)).any())
    same = replace(scenes, background=(scenes.background + 1) % 12, texture=torch.zeros_like(scenes.texture))
    assert torch.equal(found, edges(same, 64))


def test_depth_is_the_painters_order() -> None:
    scenes = sample_scenes(100, 3, "train", "full")
    layers, covered = depth(scenes, 64)[:, 0], masks(scenes, 64) >= 0.5
    for layer, mask, side in zip(layers, covered, scenes.side, strict=True):
        assert not bool(layer[~mask.any(dim=0)].any())
        count = int((side > 0).sum())
        assert sorted(layer.unique().tolist()) == pytest.approx([i / count for i in range(count + 1)])


def test_counterfactuals_differ_where_they_should_and_nowhere_else() -> None:
    scenes = place([Scene("cat", background="red"), Scene("pizza", background="blue", size="large")], 2)
    here = masks(scenes, 64).sum(dim=1, keepdim=True)
    recoloured = change(scenes, background="mint")
    assert torch.equal((render(recoloured, 64) * here.eq(1)), (render(scenes, 64) * here.eq(1)))
    assert bool(
        ((render(recoloured, 64) - render(scenes, 64)).abs().amax(dim=1, keepdim=True) > 0)[here == 0].all()
    )
    swapped = change(scenes, object="bus")
    outside = (here + masks(swapped, 64).sum(dim=1, keepdim=True)) == 0
    torch.testing.assert_close(render(swapped, 64) * outside, render(scenes, 64) * outside)
    assert swapped.describe(0) == replace(scenes.describe(0), object="bus")


@pytest.mark.parametrize("before", ["left of", "right of", "above", "below"])
@pytest.mark.parametrize("after", ["left of", "right of", "above", "below"])
def test_a_changed_relation_is_again_a_scene_of_that_relation(before: str, after: str) -> None:
    scenes = change(place([Scene("cat", "dog", before)] * 20, 4), relation=after)
    assert scenes.captions("en")[0] == caption(Scene("cat", "dog", after), "en")
    (x0, x1), (y0, y1) = scenes.x[:, :2].T, scenes.y[:, :2].T
    holds = {
        "left of": x0 < x1 - 0.4,
        "right of": x1 < x0 - 0.4,
        "above": y0 < y1 - 0.4,
        "below": y1 < y0 - 0.4,
    }
    assert bool(holds[after].all())
    boxes = scenes.boxes()[:, :2]
    assert float(boxes.min()) >= 0 and float(boxes.max()) <= 1


@pytest.mark.parametrize(
    ("scene", "en", "ko"),
    [
        (Scene("apple", background="red"), "an apple on a red background", "빨간 배경에 사과가 있다"),
        (Scene("grapes", background="orange"), "grapes on an orange background", "주황 배경에 포도가 있다"),
        (
            Scene("robot", background="sky-blue", texture="striped", size="small", accessory="hat"),
            "a small robot wearing a hat on a striped sky blue background",
            "줄무늬 하늘색 배경에 모자를 쓴 작은 로봇이 있다",
        ),
        (
            Scene("cat", "airplane", "left of", background="white"),
            "a cat to the left of an airplane on a white background",
            "흰 배경에 비행기 왼쪽에 고양이가 있다",
        ),
        (
            Scene("bear", "fox", "below", background="pink"),
            "a bear below a fox on a pink background",
            "분홍 배경에 여우 아래에 곰이 있다",
        ),
        (
            Scene("tree", count=3, background="mint"),
            "three trees on a mint background",
            "민트색 배경에 나무 세 그루가 있다",
        ),
        (
            Scene("clown", count=2, background="grey"),
            "two clowns on a grey background",
            "회색 배경에 광대 두 명이 있다",
        ),
        (Scene("whale", style="sketch"), "a sketch of a whale", "스케치로 그린 고래가 있다"),
        (
            Scene("unicorn", style="mosaic", size="large", background="purple"),
            "a mosaic of a large unicorn on a purple background",
            "보라 배경에 모자이크로 그린 큰 유니콘이 있다",
        ),
        (
            Scene("umbrella", background="red"),
            "an umbrella on a red background",
            "빨간 배경에 우산이 있다",
        ),
    ],
)
def test_captions_are_exact_in_both_languages(scene: Scene, en: str, ko: str) -> None:
    assert (caption(scene, "en"), caption(scene, "ko")) == (en, ko)
    placed = place([scene], 0)
    assert placed.describe(0) == scene
    assert placed.captions("en") == [en] and placed.captions("ko") == [ko]


def test_every_caption_is_one_scenes_alone() -> None:
    """Two descriptions with one caption would make the caption inexact."""
    scenes = sample_scenes(3_000, 0, "train", "full")
    described = {scenes.describe(i) for i in range(len(scenes))}
    described = {s for s in described if s.style not in ("sketch", "greyscale")}
    for language in ("ko", "en"):
        assert len({caption(s, language) for s in described}) == len(described)


def test_particles_follow_the_final_consonant() -> None:
    assert [with_particle(w, "을", "를") for w in ("곰", "토끼", "별")] == ["곰을", "토끼를", "별을"]
    with pytest.raises(ValueError, match="does not end in a Hangul syllable"):
        with_particle("SD", "이", "가")


def test_truth_does_not_depend_on_which_object_is_named_first() -> None:
    one = place([Scene("cat", "dog", "left of"), Scene("bus", "car", "above")], 0)
    other = place([Scene("dog", "cat", "right of"), Scene("car", "bus", "below")], 0)
    for name, column in truth(one).items():
        assert torch.equal(column, truth(other)[name]), name
    assert truth(one)["object"].tolist() == [load_atlas().index("cat"), load_atlas().index("bus")]
    assert truth(one)["relation"].tolist() == [1, 2]


def test_truth_stays_within_its_classes() -> None:
    for kind in ("plain", "loose", "full"):
        found = truth(sample_scenes(3_000, 0, "test", kind))
        assert found.keys() == attributes().keys()
        for name, classes in attributes().items():
            assert int(found[name].min()) >= -1 and int(found[name].max()) < classes


def test_distractors_differ_in_one_attribute_that_the_caption_names() -> None:
    random = np.random.default_rng(0)
    scenes = sample_scenes(500, 8, "test", "full")
    others = []
    for i in range(len(scenes)):
        scene = scenes.describe(i)
        other = distractor(scene, random)
        different = [f.name for f in fields(Scene) if getattr(scene, f.name) != getattr(other, f.name)]
        assert len(different) == 1, (scene, other)
        assert caption(scene, "en") != caption(other, "en") and caption(scene, "ko") != caption(other, "ko")
        others.append(other)
    assert len(place(others, 0)) == 500  # every one of them can be drawn
    two = next(scenes.describe(i) for i in range(len(scenes)) if scenes.second[i] >= 0)
    turned = distractor(two, random, "relation")
    assert turned.relation != two.relation and replace(turned, relation=two.relation) == two
    with pytest.raises(KeyError, match="size"):
        distractor(two, random, "size")


def test_held_out_objects_can_be_placed_but_are_never_sampled() -> None:
    atlas = load_atlas()
    assert len(atlas.objects) == 48 and len(atlas.held_out) == 16
    scenes = place([Scene(thing.id) for thing in atlas.held_out], 0)
    assert scenes.object.tolist() == list(range(48, 64))
    assert bool((masks(scenes, 64)[:, 0].mean(dim=(1, 2)) > 0.08).all())
    for split in ("train", "test", "compositions"):
        assert int(sample_scenes(5_000, 0, split, "full").object.max()) < 48


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (Scene("wolf"), "the emoji world has no object 'wolf'"),
        (Scene("cat", background="beige"), "the emoji world has no background 'beige'"),
        (Scene("cat", "dog"), "a second object and a relation come together"),
        (Scene("cat", "dog", "beside"), "the emoji world has no relation 'beside'"),
        (Scene("cat", count=5), "a scene has room for 1 to 4 things, not 5"),
        (Scene("cat", "dog", "above", count=2), "no count can be asked for"),
        (Scene("pizza", accessory="hat"), "pizza cannot wear hat"),
        (
            Scene("cat", "dog", "above", accessory="hat"),
            "accessories and styles are for scenes of one object",
        ),
        (Scene("cat", style="sketch", texture="striped"), "a sketch has no texture behind the object"),
    ],
)
def test_scenes_that_cannot_be_placed_are_refused(scene: Scene, message: str) -> None:
    with pytest.raises(DenoisedError, match=message):
        place([scene], 0)


def test_changes_that_make_no_sense_are_refused() -> None:
    scenes = place([Scene("pizza")], 0)
    with pytest.raises(DenoisedError, match="pizza cannot wear hat"):
        change(scenes, accessory="hat")
    with pytest.raises(DenoisedError, match="a scene of one object has no relation to change"):
        change(scenes, relation="above")
    with pytest.raises(DenoisedError, match="'colour' is not an attribute to change"):
        change(scenes, colour="red")


def test_an_unknown_object_is_refused_with_the_known_ones() -> None:
    assert load_atlas().index("dog") == 0
    with pytest.raises(ValueError, match="unknown object 'wolf'; the emoji world has dog, cat"):
        load_atlas().index("wolf")

"""Moving emoji: motions that do what they are called, and boxes, masks and flow that agree with the pixels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from denoised.errors import DenoisedError, Exit
from denoised.language import Language, speaking
from denoised.worlds.clips import (
    MOTIONS,
    Clips,
    caption_of,
    clip_masks,
    flow_fields,
    render_clips,
    sample_clips,
)
from denoised.worlds.emoji import BACKGROUNDS, held_out_background, load_atlas

COLUMNS = ("object", "background", "motion", "x", "y", "side")
MOTION_IDS = [motion.id for motion in MOTIONS]


def of_motion(motion: str, clips: Clips) -> Clips:
    return clips[clips.motion == MOTION_IDS.index(motion)]


@pytest.fixture(scope="module")
def many() -> Clips:
    return sample_clips(2000, 0)


@pytest.mark.parametrize("split", ["train", "test", "compositions"])
def test_clip_i_does_not_depend_on_how_many_are_drawn(split: str) -> None:
    few, some = sample_clips(3, 3, split), sample_clips(60, 3, split)  # type: ignore[arg-type]
    for column in COLUMNS:
        assert torch.equal(getattr(few, column), getattr(some, column)[:3])


def test_splits_and_seeds_draw_different_clips() -> None:
    sides = [sample_clips(50, seed, split).side[:, 0] for seed in (0, 1) for split in ("train", "test")]
    assert len(torch.cat(sides).unique()) > 190


def test_more_frames_are_the_same_motion_seen_more_often() -> None:
    coarse, fine = sample_clips(200, 1, frames=8), sample_clips(200, 1, frames=15)
    for column in ("x", "y", "side"):
        torch.testing.assert_close(getattr(coarse, column), getattr(fine, column)[:, ::2])


def test_held_out_pairs_appear_in_one_split_only(many: Clips) -> None:
    assert not bool((many.background == held_out_background(many.object)).any())
    held_out = sample_clips(200, 0, "compositions")
    assert torch.equal(held_out.background, held_out_background(held_out.object))
    assert len(many.object.unique()) == len(load_atlas().objects)
    assert len(many.motion.unique()) == len(MOTIONS)


def test_boxes_stay_inside_and_flow_is_how_their_centres_move(many: Clips) -> None:
    boxes = many.boxes()
    assert boxes.shape == (2000, 8, 4) and float(boxes.min()) >= -1e-6 and float(boxes.max()) <= 1 + 1e-6
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    torch.testing.assert_close(many.flow(), centres[:, 1:] - centres[:, :-1], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("motion", "right", "down"),
    [
        ("still", 0, 0),
        ("right", 1, 0),
        ("left", -1, 0),
        ("up", 0, -1),
        ("down", 0, 1),
        ("up-right", 1, -1),
        ("up-left", -1, -1),
        ("down-right", 1, 1),
        ("down-left", -1, 1),
        ("grow", 0, 0),
        ("shrink", 0, 0),
    ],
)
def test_straight_motions_go_where_they_say_at_an_even_pace(
    motion: str, right: int, down: int, many: Clips
) -> None:
    clips = of_motion(motion, many)
    flow = clips.flow()
    assert torch.equal((flow / 0.01).round().sign(), torch.tensor([right, down]).expand_as(flow).float())
    torch.testing.assert_close(flow, flow[:, :1].expand_as(flow), atol=1e-6, rtol=0)
    if right or down:
        assert float(flow.sum(1).abs().amax(1).min()) > 0.29  # of the picture: far enough to be seen
    growth = clips.side[:, -1] / clips.side[:, 0]
    low, high = {"grow": (1.7, 3.1), "shrink": (1 / 3.1, 1 / 1.7)}.get(motion, (1 - 1e-6, 1 + 1e-6))
    assert low < float(growth.min()) and float(growth.max()) < high


def test_what_bounces_falls_freely_and_what_sways_comes_back() -> None:
    clips = sample_clips(500, 2, frames=13)
    bounce, sway = of_motion("bounce", clips), of_motion("sway", clips)
    ground = bounce.y[:, 0]
    for frame in (0, 6, 12):  # on the ground at the start, half-way and at the end, highest between
        torch.testing.assert_close(bounce.y[:, frame], ground)
    assert torch.equal(bounce.y.argmin(1) % 6, torch.full((len(bounce),), 3))
    fall = bounce.y[:, :7].diff(dim=1).diff(dim=1)
    torch.testing.assert_close(fall, fall[:, :1].expand_as(fall), atol=1e-5, rtol=0)  # constant acceleration
    assert float(bounce.flow()[..., 0].abs().max()) < 1e-6
    torch.testing.assert_close(sway.x[:, [0, 6]], sway.x[:, 12:].expand(-1, 2))
    torch.testing.assert_close(sway.x[:, 3] - sway.x[:, 0], sway.x[:, 0] - sway.x[:, 9])
    assert float((sway.x[:, 3] - sway.x[:, 9]).min()) > 0.29


def test_masks_lie_in_their_boxes_and_move_by_the_flow() -> None:
    clips, size = sample_clips(40, 4), 64
    covered = clip_masks(clips, size)[:, :, 0]
    pixel = (torch.arange(size) + 0.5) / size
    left, top, right, bottom = clips.boxes().unbind(2)
    margin = 1.5 / size  # interpolation reaches a little beyond
    columns, rows = covered.amax(2) > 0.02, covered.amax(3) > 0.02
    inside_x = (pixel >= left[..., None] - margin) & (pixel <= right[..., None] + margin)
    inside_y = (pixel >= top[..., None] - margin) & (pixel <= bottom[..., None] + margin)
    assert bool((columns <= inside_x).all() and (rows <= inside_y).all())

    unchanged = clips.side[:, 0] == clips.side[:, -1]
    weight = covered / covered.sum((2, 3), keepdim=True)
    centroids = torch.stack([(weight.sum(2) * pixel).sum(2), (weight.sum(3) * pixel).sum(2)], dim=2)
    moved = centroids.diff(dim=1)[unchanged]
    torch.testing.assert_close(moved, clips.flow()[unchanged], atol=0.1 / size, rtol=0)  # a tenth of a pixel


def test_each_frame_is_its_object_on_its_background() -> None:
    clips = sample_clips(20, 5)
    pictures, empty = render_clips(clips), clip_masks(clips)[:, :, 0] == 0
    assert pictures.shape == (20, 8, 3, 64, 64) and pictures.min() >= -1 and pictures.max() <= 1
    for i, background in enumerate(clips.background.tolist()):
        colour = torch.tensor(BACKGROUNDS[background][2]) / 127.5 - 1
        seen = pictures[i].movedim(1, -1)[empty[i]]
        torch.testing.assert_close(seen, colour.expand_as(seen))


@pytest.mark.parametrize("motion", ["down-right", "grow", "sway"])
def test_the_next_frame_read_along_the_flow_is_this_frame(motion: str) -> None:
    clips, size = of_motion(motion, sample_clips(300, 6))[:12], 64
    frames, flow = render_clips(clips, size), flow_fields(clips, size)
    assert flow.shape == (len(clips), 7, 2, size, size)
    pixel = (torch.arange(size) + 0.5) / size
    grid = torch.stack(torch.meshgrid(pixel, pixel, indexing="xy"), dim=2)
    where = 2 * (grid + flow.movedim(2, -1)) - 1
    warped = F.grid_sample(
        frames[:, 1:].flatten(0, 1), where.flatten(0, 1), align_corners=False, padding_mode="border"
    ).unflatten(0, (len(clips), 7))
    inside = clip_masks(clips, size)[:, :-1, 0] > 0.99
    error = (warped - frames[:, :-1]).abs().mean(2)[inside].mean()
    unmoved = (frames[:, 1:] - frames[:, :-1]).abs().mean(2)[inside].mean()
    assert float(error) < 0.05 and float(error) < 0.2 * float(unmoved)  # what is left is interpolation
    assert float(flow.movedim(2, -1)[clip_masks(clips, size)[:, :-1, 0] < 0.5].abs().max()) == 0


def test_frames_are_scenes_that_read_as_scenes() -> None:
    clips = sample_clips(3, 0)
    scenes = clips.scenes()
    assert len(scenes) == 24
    assert scenes.captions("en")[8:16] == [scenes.captions("en")[8]] * 8
    scene = scenes.describe(8)
    assert (scene.object, scene.size, scene.style) == (
        load_atlas().objects[int(clips.object[1])].id,
        "medium",
        "none",
    )
    torch.testing.assert_close(scenes.boxes()[:, 0].reshape(3, 8, 4), clips.boxes())


@pytest.mark.parametrize(
    ("object_id", "background", "motion", "en", "ko"),
    [
        (
            "cat",
            "red",
            "right",
            "a cat moving to the right on a red background",
            "빨간 배경에서 고양이가 오른쪽으로 움직인다",
        ),
        (
            "bear",
            "orange",
            "up-left",
            "a bear moving up and to the left on an orange background",
            "주황 배경에서 곰이 왼쪽 위로 움직인다",
        ),
        (
            "grapes",
            "sky-blue",
            "grow",
            "grapes growing larger on a sky blue background",
            "하늘색 배경에서 포도가 점점 커진다",
        ),
        (
            "octopus",
            "white",
            "bounce",
            "an octopus bouncing up and down on a white background",
            "흰 배경에서 문어가 위아래로 통통 튄다",
        ),
        (
            "robot",
            "grey",
            "still",
            "a robot staying still on a grey background",
            "회색 배경에서 로봇이 가만히 있다",
        ),
    ],
)
def test_captions_are_exact_in_both_languages(
    object_id: str, background: str, motion: str, en: str, ko: str
) -> None:
    moves = MOTIONS[MOTION_IDS.index(motion)]
    assert caption_of(object_id, background, moves, "en") == en
    assert caption_of(object_id, background, moves, "ko") == ko


def test_different_clips_have_different_captions(many: Clips) -> None:
    for language in ("en", "ko"):
        captions = many.captions(language)
        what = list(zip(many.object.tolist(), many.background.tolist(), many.motion.tolist(), strict=True))
        assert len(set(zip(what, captions, strict=True))) == len(set(what)) == len(set(captions))


@pytest.mark.parametrize("frames", [1, 7, 17])
@pytest.mark.parametrize(
    ("language", "message"),
    [
        ("en", "a clip has 8 to 16 frames, not {}"),
        ("ko", "클립은 8에서 16프레임까지인데 {}프레임을 요청했다"),
    ],
)
def test_too_few_or_too_many_frames_are_refused(frames: int, language: Language, message: str) -> None:
    with speaking(language), pytest.raises(DenoisedError) as caught:
        sample_clips(1, 0, frames=frames)
    assert caught.value.message == message.format(frames) and caught.value.code is Exit.USAGE

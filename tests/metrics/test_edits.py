"""What an edit kept: measured on drawn scenes, where the truth is known."""

from __future__ import annotations

import pytest
import torch

from denoised.metrics.edits import layout_iou, outside_rmse, picture_rmse, things
from denoised.worlds.emoji import Scene, change, masks, place, render

SCENES = place(
    [Scene("cat", background="blue"), Scene("pizza", background="white"), Scene("ghost", background="red")], 0
)


def test_things_are_found_where_the_exact_masks_are() -> None:
    exact = masks(SCENES, 64)[:, 0] > 0.5
    assert bool((layout_iou(exact, things(render(SCENES, 64))) > 0.85).all())


def test_holes_are_filled_and_an_empty_picture_has_no_thing() -> None:
    picture = torch.full((1, 3, 16, 16), -1.0)
    assert not bool(things(picture).any())
    picture[:, :, 4:12, 4:12] = 1
    picture[:, :, 6:10, 6:10] = -1
    assert int(things(picture).sum()) == pytest.approx(64, abs=4)  # corners may be shaved


def test_an_edit_of_the_thing_alone_leaves_the_background_untouched() -> None:
    before, after = render(SCENES, 64), render(change(SCENES, object="dog"), 64)
    inside = things(before) | things(after)
    assert outside_rmse(before, after, inside) < 0.5  # a rim that is almost of the background's colour
    assert bool((picture_rmse(before, after) > 10).all())


def test_a_shifted_background_is_measured_in_grey_levels() -> None:
    before = render(SCENES, 64)
    after = before + 0.1
    assert outside_rmse(before, after, things(before)) == pytest.approx(12.75, rel=1e-4)
    torch.testing.assert_close(picture_rmse(before, after), torch.full((3,), 12.75))


def test_what_lies_inside_does_not_count_and_something_must_lie_outside() -> None:
    before, after = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    inside = torch.zeros(1, 16, 16, dtype=torch.bool)
    inside[:, 4:12, 4:12] = True
    after[:, :, 2:14, 2:14] = 1  # the thing and what grows around it
    assert outside_rmse(before, after, inside) == 0
    after[:, :, 0, 0] = 1
    assert outside_rmse(before, after, inside) == pytest.approx(127.5 * (1 / (256 - 144)) ** 0.5)
    with pytest.raises(ValueError, match="no background is left to compare"):
        outside_rmse(before, after, torch.ones(1, 16, 16, dtype=torch.bool))


def test_layout_overlap() -> None:
    a, b = torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    a[0, :2], b[0, 1:3] = True, True
    a[1, 0] = b[1, 0] = True
    assert layout_iou(a, b).tolist() == pytest.approx([1 / 3, 1, 0])

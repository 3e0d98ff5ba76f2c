"""Edge agreement: cases counted by hand, and scenes whose edges are known."""

import pytest
import torch
from torch import Tensor

from denoised.metrics.edges import SIZE, edge_agreement, edge_f1, sobel_edges
from denoised.worlds.emoji import change, edges, render, sample_scenes


def line(column: int, rows: slice = slice(None)) -> Tensor:
    edges = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    edges[:, :, rows, column] = True
    return edges


def test_f1_of_cases_counted_by_hand() -> None:
    empty = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    assert edge_f1(line(5), line(5)).item() == 1
    assert edge_f1(empty, empty).item() == 1
    assert edge_f1(line(5), empty).item() == edge_f1(empty, line(5)).item() == 0
    assert edge_f1(line(5), line(6)).item() == 1  # one pixel of shift is tolerated
    assert edge_f1(line(5), line(7)).item() == 0
    assert edge_f1(line(5), line(7), tolerance=2).item() == 1
    assert edge_f1(line(5), line(6), tolerance=0).item() == 0
    # Two lines found of which one is wanted: precision 1/2, recall 1.
    assert edge_f1(line(5) | line(11), line(5)).item() == pytest.approx(2 / 3)
    # The upper half found, and a ninth row within the tolerance: precision 1, recall 9/16.
    assert edge_f1(line(5, slice(8)), line(5)).item() == pytest.approx(2 * 9 / 16 / (1 + 9 / 16))


def test_a_diagonal_neighbour_is_one_pixel_away() -> None:
    a, b = torch.zeros(2, 1, 1, 8, 8, dtype=torch.bool)
    a[..., 3, 3] = b[..., 4, 4] = True
    assert edge_f1(a, b).item() == 1


def test_f1_does_not_ask_which_of_the_two_was_wanted() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 20, 1, 24, 24, generator=random) < 0.1
    torch.testing.assert_close(edge_f1(a, b), edge_f1(b, a))
    assert bool(((edge_f1(a, b) > 0) & (edge_f1(a, b) < 1)).all())


def test_a_step_has_edges_on_both_sides_and_a_plain_picture_none() -> None:
    picture = torch.full((1, 3, 8, 8), 0.4)
    assert not sobel_edges(picture).any()
    picture[:, 1, :, 4:] -= 0.7  # one channel is enough; half of the step is the gradient
    found = sobel_edges(picture)
    assert found[0, 0].any(dim=0).nonzero().squeeze(1).tolist() == [3, 4]
    assert not sobel_edges(picture, threshold=0.36).any()


def test_edges_turn_with_the_picture() -> None:
    picture = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    turned = sobel_edges(picture.rot90(1, (2, 3)))
    assert torch.equal(turned, sobel_edges(picture).rot90(1, (2, 3)))


def test_scenes_agree_with_their_own_edges_and_not_with_others() -> None:
    scenes = change(sample_scenes(64, 3, "test", "full"), style="none")
    pictures, wanted = render(scenes, SIZE), edges(scenes, SIZE)
    own, others = edge_agreement(pictures, wanted), edge_agreement(pictures, wanted.roll(1, 0))
    assert own.mean() > 0.85 and others.mean() < 0.4
    # A larger drawing of the same scene is brought to the same size first.
    assert float(edge_agreement(render(scenes, 2 * SIZE), wanted).mean()) == pytest.approx(
        float(own.mean()), abs=0.05
    )


@pytest.mark.parametrize(
    ("found", "wanted", "tolerance", "says"),
    [
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5), 1, "edges must be two maps of one shape"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), 1, r"\(n, 1, height, width\)"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), -1, "tolerance must be at least 0 pixels, not -1"),
    ],
)
def test_impossible_edges_are_refused(found: Tensor, wanted: Tensor, tolerance: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        edge_f1(found.bool(), wanted.bool(), tolerance)


def test_pictures_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pictures must lie in \[-1, 1\]"):
        edge_agreement(torch.full((1, 3, SIZE, SIZE), 255.0), torch.zeros(1, 1, SIZE, SIZE))

"""LPIPS arithmetic, structure distance and the two measures of clips, by hand and by what must be so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoised.metrics.clips import temporal_consistency, warping_error
from denoised.metrics.perceptual import perceptual_distance, structure_distance
from denoised.worlds.clips import clip_masks, flow_fields, render_clips, sample_clips


def maps(seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, side, side, generator=random) for c, side in ((4, 6), (7, 3))]


def test_perceptual_distance_place_by_place() -> None:
    a, b = maps(0), maps(1)
    weights = [torch.rand(4, generator=torch.Generator().manual_seed(2)), torch.full((7,), 0.5)]
    for w in (None, weights):
        expected = []
        for i in range(2):
            total = 0.0
            for layer in range(2):
                side = a[layer].shape[2]
                for y in range(side):
                    for x in range(side):
                        u, v = a[layer][i, :, y, x], b[layer][i, :, y, x]
                        square = (u / u.norm() - v / v.norm()) ** 2
                        total += float((square if w is None else square * w[layer]).sum()) / side**2
            expected.append(total)
        assert perceptual_distance(a, b, w).tolist() == pytest.approx(expected, rel=1e-5)
    assert perceptual_distance(a, a).tolist() == [0, 0]
    # of unit vectors |u - v|² = 2 - 2 cos: opposite maps are 4 apart in each layer, and length does not matter
    assert perceptual_distance(a, [-3 * x for x in a]).tolist() == pytest.approx([8, 8])


def test_structure_does_not_see_how_things_look() -> None:
    """Features turned by the same rotation keep all their cosines; features that change places do not."""
    a = maps(0)[0]
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3))).Q
    turned = torch.einsum("dc,nchw->ndhw", rotation, a)
    assert float(structure_distance(a, turned).max()) < 1e-10
    assert float(structure_distance(a, a.flip(3)).min()) > 0.1
    cosine = torch.nn.functional.cosine_similarity
    x, y = (m[0].flatten(1).T for m in maps(0)[:1] + maps(1)[:1])
    squares = [
        float(cosine(x[i], x[j], dim=0) - cosine(y[i], y[j], dim=0)) ** 2
        for i in range(36)
        for j in range(36)
    ]
    found = structure_distance(maps(0)[0], maps(1)[0])[0]
    assert float(found) == pytest.approx(sum(squares) / len(squares), rel=1e-4)


def test_a_still_clip_is_consistent_and_a_jump_is_not() -> None:
    still = torch.ones(1, 4, 5)
    assert temporal_consistency(still).tolist() == pytest.approx([1])
    jump = still.clone()
    jump[:, 2] *= -1  # cosines 1, -1, -1
    assert temporal_consistency(jump).tolist() == pytest.approx([-1 / 3])


def test_true_motion_explains_a_clip_and_no_motion_does_not() -> None:
    clips = sample_clips(6, 0)
    pictures = render_clips(clips, 64)
    flow = flow_fields(clips, 64) * 64
    visible = (
        clip_masks(clips, 64)[:, :-1].reshape(*flow.shape[:2], 64, 64) > 0.99
    )  # the thing, never covered
    explained, still = warping_error(pictures, flow, visible), warping_error(pictures, 0 * flow, visible)
    assert bool((explained <= still).all()) and float(explained.mean()) < 0.5 * float(still.mean())


def test_a_shift_by_whole_pixels_is_explained_exactly() -> None:
    wide = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    clip = torch.stack([wide[..., 2:10], wide[..., 1:9]], dim=1)  # everything moves one pixel to the right
    flow = torch.zeros(1, 1, 2, 8, 8)
    flow[:, :, 0] = 1
    visible = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    visible[..., -1] = False  # what leaves the picture cannot be followed
    assert float(warping_error(clip, flow, visible)) < 1e-3
    assert float(warping_error(clip, -flow, visible)) > 30


def test_impossible_maps_and_clips_are_refused() -> None:
    a = maps(0)
    with pytest.raises(ValueError, match="same layers and weights: 2 and 1"):
        perceptual_distance(a, a[:1])
    with pytest.raises(ValueError, match=r"layer 1: maps must be .* not \(2, 7, 3, 3\), \(2, 7, 2, 3\)"):
        perceptual_distance(a, [a[0], a[1][:, :, :2]])
    with pytest.raises(ValueError, match="layer 0: weights must not be negative"):
        perceptual_distance(a, a, [-torch.ones(4), torch.ones(7)])
    with pytest.raises(ValueError, match="single place has no structure"):
        structure_distance(a[0][:, :, :1, :1], a[0][:, :, :1, :1])
    with pytest.raises(ValueError, match=r"frames >= 2, d\), not \(1, 1, 5\)"):
        temporal_consistency(torch.ones(1, 1, 5))
    clip, flow = torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"need flow \(1, 1, 2, 4, 4\)"):
        warping_error(clip, flow[..., :3], torch.ones(1, 1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="no pixel that can be followed"):
        warping_error(clip, flow, torch.zeros(1, 1, 4, 4, dtype=torch.bool))

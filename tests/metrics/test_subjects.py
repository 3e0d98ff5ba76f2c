"""Cutting out subjects and comparing them: known masks, known places, known cosines."""

import pytest
import torch

from denoised.metrics.subjects import foreground, recognised, similarity, subject_regions
from denoised.worlds.emoji import Scene, masks, place, render


def test_the_foreground_is_the_drawn_object() -> None:
    things = ("cat", "fox", "apple", "car", "tulip", "koala")
    scenes = place([Scene(thing, background="purple", size="large") for thing in things], 0)
    found, drawn = foreground(render(scenes, 64)), masks(scenes, 64)[:, 0] > 0.5
    overlap = (found & drawn).sum(dim=(1, 2)) / (found | drawn).sum(dim=(1, 2))
    assert bool((overlap > 0.85).all()), overlap


def test_speckles_and_empty_pictures_have_no_subject() -> None:
    picture = torch.full((2, 3, 32, 32), -0.5)
    picture[1, :, 10, 10] = picture[1, :, 20, 5] = 1.0
    assert not foreground(picture).any()
    assert torch.equal(subject_regions(picture, 16), torch.ones(2, 3, 16, 16))


def test_a_region_does_not_depend_on_place_or_background() -> None:
    thing = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    pictures = torch.full((3, 3, 48, 48), -0.8)
    pictures[2] = -0.2
    for picture, (y, x) in zip(pictures, ((2, 3), (30, 20), (17, 33)), strict=True):
        picture[:, y : y + 12, x : x + 12] = thing
    regions = subject_regions(pictures, 24)
    assert torch.equal(regions[0], regions[1]) and torch.equal(regions[0], regions[2])
    assert bool((regions[0] < 1).any())


def test_similarity_is_the_mean_cosine() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    references = torch.tensor([[[2.0, 0], [3, 0]], [[1, 0], [0, 1]], [[0, -1], [1, 0]]])
    torch.testing.assert_close(similarity(features, references), torch.tensor([1.0, 0.5**0.5, -0.5]))


def test_the_nearest_prototype_is_the_one_in_the_same_direction() -> None:
    prototypes = torch.tensor([[10.0, 0.0], [0.0, 0.1], [-1.0, -1.0]])
    features = torch.tensor([[0.1, 5.0], [0.2, 0.1], [-3.0, -2.0]])
    wanted = torch.tensor([1, 0, 1])
    assert recognised(features, prototypes, wanted).tolist() == [True, True, False]


def test_diverged_pictures_are_refused() -> None:
    pictures = torch.zeros(3, 3, 8, 8)
    pictures[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 3 pictures hold NaN or infinity: the sampler diverged"):
        subject_regions(pictures)

"""Personal subjects: who is drawn when, in which words, and what their pictures do not show."""

import pytest
import torch

from denoised.lab.subjects import Subject, draw_subjects, looks
from denoised.worlds.emoji import Scene, load_atlas


def subject(name: str) -> Subject:
    return Subject(next(thing for thing in load_atlas().held_out if thing.id == name), [], [])


def test_a_description_has_the_word_where_the_subject_stood() -> None:
    crown = subject("crown")  # which must not be found inside "brown"
    scene = Scene("crown", background="brown", size="small")
    assert crown.describe(scene, crown.placeholder) == "a small <crown> on a brown background"
    assert crown.describe(scene, "guitar", background=False) == "a small guitar"
    assert subject("owl").describe(Scene("owl"), "<owl>", background=False) == "an <owl>"
    assert subject("teddy-bear").describe(Scene("teddy-bear"), "", background=False) == "a "


def test_four_seeds_take_every_subject_once() -> None:
    drawn = [draw_subjects(4, 5, seed) for seed in range(4)]
    taken = [each.thing.id for subjects in drawn for each in subjects]
    assert sorted(taken) == sorted(thing.id for thing in load_atlas().held_out)
    assert drawn[0] == draw_subjects(4, 5, 0)
    assert all(len({each.thing.group for each in subjects}) > 1 for subjects in drawn)


def test_new_scenes_are_on_backgrounds_that_the_examples_lack() -> None:
    for each in draw_subjects(4, 5, 1):
        seen, new = ({scene.background for scene in scenes} for scenes in (each.examples, each.new))
        assert len(each.examples) == len(seen) == 5 and len(new) == 7 and not seen & new
        assert {scene.object for scene in each.examples + each.new} == {each.thing.id}


def test_looks_has_one_row_for_every_emoji() -> None:
    rows = looks(lambda pictures: pictures.flatten(1), 32)
    assert rows.shape == (len(load_atlas().all), 3 * 32 * 32)
    assert len(torch.unique(rows, dim=0)) == len(rows)


@pytest.mark.parametrize(
    ("count", "pictures", "says"),
    [(0, 5, "subjects must be from 1 to 16, not 0"), (17, 5, "not 17"), (4, 12, "from 1 to 11, not 12")],
)
def test_what_the_world_does_not_have_is_refused(count: int, pictures: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        draw_subjects(count, pictures, 0)

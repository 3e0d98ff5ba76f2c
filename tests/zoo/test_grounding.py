"""The token, the pixel and the place loss: which words name which object, and where that object is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from denoised.worlds.emoji import RELATIONS, Scene, load_atlas, masks, place, sample_scenes
from denoised.zoo.grounding import nouns, pixel_loss, place_loss, regions, token_loss
from denoised.zoo.recipes.emoji_t2i import LANGUAGES
from denoised.zoo.tokenizer import load_tokenizer, write_tokenizer


def test_the_words_that_name_the_objects_are_found_in_both_languages(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    scenes = sample_scenes(400, 5, "train", "full")
    things = load_atlas().all
    for language in LANGUAGES:
        captions = scenes.captions(language)
        named = nouns(tokenizer, scenes, captions)
        tokens = tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
        for i, text in enumerate(captions):
            said = [str(tokenizer.decode(tokens[i, which])).replace(" ", "") for which in named[i]]
            for which, number in enumerate((int(scenes.object[i]), int(scenes.second[i]))):
                thing = things[number]
                names = {thing.en, thing.en_plural, thing.ko} if number >= 0 else {""}
                assert said[which] in {name.replace(" ", "") for name in names}, (text, which)
            assert said[2] in ({""}, {"glasses", "안경을"}, {"hat", "모자를"})[int(scenes.accessory[i])], text
    assert not nouns(tokenizer, scenes[:1], [""]).any()


def test_the_second_object_is_named_last_in_english_and_first_in_korean(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    scenes = place([Scene("dog", "cat", "left of"), Scene("cat", "dog", "left of")], seed=0)
    english, korean = scenes.captions("en"), scenes.captions("ko")
    first = nouns(tokenizer, scenes, english).float().argmax(dim=2)
    assert (first[:, 0] < first[:, 1]).all()  # a dog to the left of a cat
    last = nouns(tokenizer, scenes, korean).float().argmax(dim=2)
    assert (last[:, 0] > last[:, 1]).all()  # 고양이 왼쪽에 개가


def test_regions_are_where_the_objects_were_drawn() -> None:
    scenes = place(
        [Scene("cat", "dog", "above"), Scene("cat", count=3), Scene("cat", accessory="hat")], seed=1
    )
    where = regions(scenes, 16)
    assert where.shape == (3, 3, 16, 16) and where.min() >= 0 and where.max() <= 1
    rows = torch.arange(16.0)[:, None]
    upper, lower = ((rows * part).sum() / part.sum() for part in where[0, :2])
    assert upper < lower
    assert (where[1:, 1] == 0).all() and (where[:2, 2] == 0).all()
    hat, cat = ((rows * part).sum() / part.sum() for part in where[2, [2, 0]])
    assert hat < cat
    apart = masks(scenes, 64)[1, :3].mean(dim=(1, 2)).sum()
    torch.testing.assert_close(where[1, 0].mean(), apart, atol=0.02, rtol=0)  # all three cats


def test_the_token_loss_is_the_squared_share_of_attention_outside() -> None:
    where = torch.zeros(1, 2, 16, 16)
    where[0, 0, :, :8] = 1
    named = torch.zeros(1, 2, 24, dtype=torch.bool)
    named[0, 0, 3] = True
    inside = torch.zeros(1, 2, 16, 16, 24)
    inside[:, :, :, :8, 3] = 0.2
    outside = inside.flip(3)
    for side in (16, 8):  # layers of other resolutions see the same
        maps = [
            F.avg_pool2d(m[..., 3], 16 // side).flatten(2)[..., None].expand(-1, -1, -1, 24)
            for m in (inside, outside)
        ]
        assert token_loss([maps[0]], named, where).item() == pytest.approx(0, abs=1e-6)
        assert token_loss([maps[1]], named, where).item() == pytest.approx(1)
        assert token_loss([(maps[0] + 3 * maps[1])], named, where).item() == pytest.approx(0.75**2)
    assert token_loss(maps, torch.zeros_like(named), where) == 0


def test_the_pixel_loss_is_the_cross_entropy_of_attention_with_the_masks() -> None:
    """The object's mask is the left half; what it wears lies within, on the left quarter, and takes half of its share."""
    where = torch.zeros(1, 2, 16, 16)
    where[0, 0, :, :8] = where[0, 1, :, :4] = 1
    named = torch.zeros(1, 2, 24, dtype=torch.bool)
    named[0, 0, 3] = named[0, 1, 5] = True
    attention = torch.full((1, 2, 16, 16, 24), 1e-6)
    attention[..., :4, (3, 5)] = 0.5
    attention[..., 4:8, 3] = 1 - 1e-6
    least = torch.tensor(2.0).log() / 4  # the entropy of a fair coin on a quarter of the pixels
    assert pixel_loss([attention.flatten(2, 3)], named, where).item() == pytest.approx(least.item(), abs=1e-4)
    # Unlike the token loss, it also falls when the same places are looked at more.
    weak = pixel_loss([attention.flatten(2, 3) / 10], named, where)
    assert least < weak < pixel_loss([attention.flatten(2, 3) / 100], named, where)
    assert token_loss([attention.flatten(2, 3) / 10], named, where) == pytest.approx(
        token_loss([attention.flatten(2, 3)], named, where).item(), abs=1e-3
    )
    assert pixel_loss([attention.flatten(2, 3)], torch.zeros_like(named), where) == 0


def test_the_place_loss_asks_of_each_word_where_its_object_is() -> None:
    scenes = place([Scene("cat", "dog", "left of"), Scene("cat")], seed=0)
    named = torch.zeros(2, 2, 24, dtype=torch.bool)
    named[0, 0, 1] = named[0, 1, 5] = named[1, 0, 1] = True
    head = torch.nn.Linear(128, 5)
    torch.nn.init.eye_(head.weight)
    torch.nn.init.zeros_(head.bias)
    states = torch.zeros(2, 24, 128)
    classes = ["alone", *(name for name, _, _ in RELATIONS)]
    states[0, 1, classes.index("left of")] = states[0, 5, classes.index("right of")] = 50
    states[1, 1, classes.index("alone")] = 50
    assert place_loss(head, states, named, scenes) < 1e-6
    assert place_loss(head, states.flip(0), named, scenes) > 10
    assert place_loss(head, states, torch.zeros_like(named), scenes) == 0

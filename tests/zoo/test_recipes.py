"""The recipes: what they train on, that they resume, and that their folders load in plain libraries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from denoised.diffusion.samplers import ddim
from denoised.errors import DenoisedError
from denoised.metrics.judge import Judge, Reading, prepared, read
from denoised.worlds.emoji import Scenes, Split, attributes, render, sample_scenes, truth
from denoised.zoo.manifest import verify
from denoised.zoo.recipes import NAMES, emoji_clip, emoji_judge, emoji_t2i, emoji_vae, load_recipe
from denoised.zoo.text_to_image import load_text_to_image
from denoised.zoo.tokenizer import (
    LENGTH,
    WORD_END,
    byte_characters,
    load_tokenizer,
    merges,
    vocabulary,
    write_tokenizer,
)
from denoised.zoo.train import train

TINY: dict[str, dict[str, Any]] = {
    "emoji-judge": {"batch": 8},
    "emoji-vae": {"batch": 2},
    "emoji-clip": {"batch": 4},
}


def silent(*_: object) -> None: ...


@pytest.mark.parametrize("name", NAMES)
def test_the_learning_rate_rises_and_falls_to_nothing(name: str) -> None:
    recipe = load_recipe(name)
    config = recipe.Config()
    rates = [recipe.learning_rate(config, step) for step in range(config.steps)]
    assert max(rates) == pytest.approx(config.learning_rate)
    assert 0 < rates[0] < max(rates) / 100 and rates[-1] < max(rates) / 1000


@pytest.mark.parametrize("name", sorted(TINY))
def test_every_recipe_resumes_to_the_bit(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    config = recipe.Config(steps=4, warmup=2, **TINY[name])
    unbroken = train(recipe, config, tmp_path / "a", silent)
    train(recipe, config, tmp_path / "b", silent, until=2)
    resumed = train(recipe, config, tmp_path / "b", silent)
    assert all(torch.isfinite(torch.tensor(unbroken.losses)))
    a, b = unbroken.tensors(), resumed.tensors()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", sorted(TINY))
def test_training_moves_the_loss_down(name: str) -> None:
    """A few steps on one batch: what the optimizer is given is a gradient of the loss."""
    recipe = load_recipe(name)
    config = recipe.Config(bf16=False, **TINY[name])
    torch.manual_seed(0)
    network = recipe.build(config).train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = recipe.loss(network, config, 0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


# --- the tokenizer --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return load_tokenizer(folder)


def pieces(tokenizer: Any, text: str) -> list[str]:
    """The tokens of a text without the special ones, in letters."""
    letters = {character: byte for byte, character in byte_characters().items()}
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)[1:-1]
    return [bytes(letters[c] for c in token.removesuffix(WORD_END)).decode() for token in tokens]


def test_every_word_of_every_caption_is_one_token(tokenizer: Any) -> None:
    known = {text for text, _ in vocabulary()}
    scenes = sample_scenes(3_000, 5, "train", "full")
    for caption in [*scenes.captions("en"), *scenes.captions("ko")]:
        found = pieces(tokenizer, caption)
        assert set(found) <= known, caption
        assert "".join(found) == caption.replace(" ", "").lower()
        assert len(found) + 2 <= LENGTH


def test_a_noun_and_its_particle_are_two_tokens(tokenizer: Any) -> None:
    assert pieces(tokenizer, "빨간 배경에 고양이가 있다") == ["빨간", "배경에", "고양이", "가", "있다"]
    assert pieces(tokenizer, "파란 배경에 곰이 있다") == ["파란", "배경에", "곰", "이", "있다"]
    assert pieces(tokenizer, "a jack-o-lantern") == ["a", "jack", "-", "o", "-", "lantern"]
    ids = tokenizer("고양이가").input_ids[1], tokenizer("고양이는").input_ids[1]
    assert ids[0] == ids[1]


def test_the_merges_are_those_that_checkpoints_are_trained_with() -> None:
    """Another order of merges, or a word more, would give every token of a trained network another number."""
    made = json.dumps(merges(vocabulary()), ensure_ascii=False)
    assert hashlib.sha256(made.encode()).hexdigest().startswith("10052afa4d4d2d18b4c4ac9b7c6be580")


def test_bpe_merges_the_most_frequent_pair_first() -> None:
    """By hand: lo stands in all three words, low without the end of a word in two, so does lowe."""
    found = merges([("low", True), ("lower", True), ("lowest", True)])
    assert found[:3] == [("l", "o"), ("lo", "w"), ("low", "e")]


# --- the judge --------------------------------------------------------------------------------------------


def test_reading_takes_the_most_probable_class_of_each_head() -> None:
    heads = attributes()
    asked = truth(sample_scenes(50, 3, "test", "full"))
    logits = torch.cat(
        [torch.nn.functional.one_hot(asked[name].clamp(min=0), heads[name]).float() for name in heads], dim=1
    )
    reading = read(logits, heads)
    none = heads["object"] - 1
    for name in heads:
        found = getattr(reading, name)
        wanted = asked[name].clamp(min=0)
        if name in ("object", "second"):
            wanted = torch.where(wanted == none, -1, wanted)
        assert torch.equal(found, wanted), name
    assert isinstance(reading, Reading)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (torch.zeros(2, 64, 64), r"reads pictures of shape \(n, 3, h, w\), not \(2, 64, 64\)"),
        (torch.zeros(2, 1, 64, 64), r"not \(2, 1, 64, 64\)"),
        (torch.full((1, 3, 64, 64), torch.nan), "NaN or infinite pixels"),
        (torch.full((1, 3, 64, 64), 255.0), r"in \[-1, 1\], and these reach 255"),
    ],
)
def test_the_judge_refuses_what_it_cannot_read(pictures: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared(pictures)


def test_pictures_of_nothing_are_labelled_so() -> None:
    pictures, truths = emoji_judge.nothing(40, 3, "train")
    assert pictures.shape == (40, 3, 64, 64) and float(pictures.abs().max()) <= 1 + 1e-5
    none = attributes()["object"] - 1
    assert set(truths["object"].tolist()) == set(truths["second"].tolist()) == {none}
    assert set(truths["background"].tolist()) == {-1}


# --- the autoencoder ------------------------------------------------------------------------------------------


def test_normalising_folds_mean_and_scale_without_changing_the_pictures() -> None:
    torch.manual_seed(0)
    network = emoji_vae.build(emoji_vae.Config()).eval()
    pictures = render(sample_scenes(64, 1, "test", "full"), 64)
    before = emoji_vae.reconstruct(network, pictures)
    emoji_vae.normalise(network, scenes=256)
    torch.testing.assert_close(emoji_vae.reconstruct(network, pictures), before, atol=2e-4, rtol=0)
    seen = render(sample_scenes(256, 8, "train", "full"), 64)
    with torch.inference_mode():
        latents = network.encode(seen).latent_dist.mean
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-2, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(8), atol=1e-2, rtol=0)


def test_psnr_is_that_of_its_definition() -> None:
    a = torch.zeros(2, 3, 8, 8)
    assert emoji_vae.psnr(a, a + 0.2) == pytest.approx(20.0)  # 10 log10(4 / 0.04)
    weight = torch.zeros(2, 1, 8, 8)
    weight[:, :, :4] = 1
    b = a.clone()
    b[:, :, :4] += 0.02
    assert emoji_vae.psnr(a, b, weight) == pytest.approx(40.0, abs=1e-3)


# --- what a recipe writes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's zoo/ with the autoencoder, CLIP and judge of a step or two, each published by its recipe."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji_vae, "MEASURED", 8)
        patch.setattr(emoji_clip, "MEASURED", 100)
        patch.setattr(emoji_judge, "MEASURED", 40)
        for name, settings in TINY.items():
            recipe = load_recipe(name)
            training = train(
                recipe, recipe.Config(steps=2, warmup=1, **settings), root / "state" / name, silent
            )
            training.measure()
            recipe.publish(training, root / "zoo" / name, silent)
    return root


def test_a_finished_autoencoder_is_a_folder_that_diffusers_loads(small_zoo: Path) -> None:
    folder = small_zoo / "zoo" / "emoji-vae"
    facts = verify(folder)
    assert (
        facts["steps"] == 2 and facts["pictures_seen"] == 4 and facts["recipe"] == "denoised train emoji-vae"
    )
    loaded = AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False)
    assert loaded.config.latent_channels == 8 and loaded.config.scaling_factor == 1
    curve = json.loads((folder / "quality.json").read_text())
    assert [line["step"] for line in curve["rows"]] == [2]
    card = (folder / "README.md").read_text()
    for line in facts["quality"]:
        assert line["en"] in card and line["ko"] in card and f"{line['value']:.2f} dB" in card


def test_a_finished_clip_is_a_folder_that_transformers_loads(small_zoo: Path) -> None:
    folder = small_zoo / "zoo" / "emoji-clip"
    verify(folder)
    clip, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessor.from_pretrained(folder)
    scenes = sample_scenes(3, 0, "test", "full")
    pictures = render(scenes, 64)
    shown = [Image.fromarray(((p + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()) for p in pictures]
    pixels = processor(shown, return_tensors="pt").pixel_values
    torch.testing.assert_close(pixels, pictures, atol=0.005, rtol=0)  # a level of 255
    tokens = tokenizer(scenes.captions("ko"), padding="max_length", return_tensors="pt").input_ids
    with torch.inference_mode():
        theirs = clip.float()(input_ids=tokens, pixel_values=pictures)
    towers = emoji_clip.Towers()
    towers.clip.load_state_dict(clip.state_dict())
    with torch.inference_mode():
        ours = emoji_clip.embed_captions(towers.eval(), scenes.captions("ko"))
        seen = emoji_clip.embed_pictures(towers.clip, pictures)
    torch.testing.assert_close(ours, theirs.text_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen, theirs.image_embeds, atol=1e-5, rtol=0)


def test_text_to_image_trains_on_its_zoo_and_loads_in_plain_diffusers(
    small_zoo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(emoji_t2i, "find_root", lambda: small_zoo)
    monkeypatch.setattr(emoji_t2i, "MEASURED", 6)
    monkeypatch.setattr(emoji_t2i, "DRESSED", 3)
    emoji_t2i.load_vae.cache_clear()
    config = emoji_t2i.Config(
        steps=4,
        batch=5,
        pool=16,
        worn_pool=4,
        warmup=1,
        grounded_from=1,
        worn_from=2,
        seldom_from=2,
        words_from=3,
    )
    unbroken = train(emoji_t2i, config, tmp_path / "a", silent)
    train(emoji_t2i, config, tmp_path / "b", silent, until=1)
    resumed = train(emoji_t2i, config, tmp_path / "b", silent)
    whole, parts = unbroken.tensors(), resumed.tensors()
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)

    folder = tmp_path / "emoji-t2i"
    emoji_t2i.publish(unbroken, folder, silent)
    facts = verify(folder)
    assert facts["parameters"]["unet"] < 12e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"## What limits it\n\n{facts['limits']['en']}\n\n" in card
    assert card.endswith(f"### 무엇이 한계인가\n\n{facts['limits']['ko']}\n")
    pipe = StableDiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    pipe.set_progress_bar_config(disable=True)
    ours = load_text_to_image(folder, shipped=True)
    prompt = "빨간 배경에 고양이가 있다"
    noise = torch.randn(1, *ours.latent_shape, generator=torch.Generator().manual_seed(0))
    drawn = ddim(ours.denoiser(), noise, ours.timesteps(4), condition=ours.encode([prompt]))
    theirs = pipe(
        prompt, guidance_scale=3.0, num_inference_steps=4, latents=noise, output_type="latent"
    ).images
    torch.testing.assert_close(drawn, theirs.float(), atol=2e-2, rtol=0)
    sheets = json.loads((folder / "prompts.json").read_text())
    assert [tile["language"] for tile in sheets["tiles"]] == ["en"] * 16 + ["ko"] * 16
    emoji_t2i.load_vae.cache_clear()
    emoji_t2i.pool.cache_clear()


@pytest.mark.parametrize("split", emoji_t2i.SPLITS)
def test_accessories_are_measured_on_scenes_that_wear_one(split: Split) -> None:
    scenes = emoji_t2i.dressed(40, 3, split)
    assert len(scenes) == 40 and (scenes.accessory > 0).all()
    assert (scenes.second < 0).all() and (scenes.count == 1).all()
    caption = "안경" if int(scenes.accessory[0]) == 1 else "모자"
    assert caption in scenes.captions("ko")[0]


def test_later_batches_take_what_is_seldom_in_the_pool_more_often() -> None:
    scenes = Scenes.joined(sample_scenes(2000, 0, "train", "full"), emoji_t2i.dressed(100, 1, "train"))
    seldom, worn = (scenes.style > 0) | (scenes.accessory > 0), scenes.accessory > 0
    config = emoji_t2i.Config(batch=20_000, pool=2000, worn_pool=100, seldom_from=5, seldom=0.4, words_from=7)

    def share(step: int, of: Tensor) -> float:
        chosen = emoji_t2i.choose(scenes, config, step, torch.Generator().manual_seed(step))
        assert (chosen < 2000).all() if step < 7 else set(range(2000, 2100)) <= set(chosen.tolist())
        return float(of[chosen].float().mean())

    usual, of_seldom = float(seldom[:2000].float().mean()), float(worn[:2000][seldom[:2000]].float().mean())
    assert share(4, seldom) == pytest.approx(usual, abs=0.02)
    assert share(5, seldom) == pytest.approx(0.4 + 0.6 * usual, abs=0.02)
    assert share(7, seldom) == pytest.approx(0.4 + 0.6 * usual, abs=0.02)
    expected = 0.2 + 0.2 * of_seldom + 0.6 * float(worn[:2000].float().mean())
    assert share(7, worn) == pytest.approx(expected, abs=0.02)
    assert (scenes.second[seldom] < 0).all() and (scenes.count[seldom] == 1).all()


def test_a_sentence_is_left_to_its_words(small_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emoji_t2i, "find_root", lambda: small_zoo)
    parts = emoji_t2i.build(emoji_t2i.Config()).eval()
    captions = ["a cat with glasses", "안경을 쓴 고양이가 있다", ""]
    states = parts.encode(captions)
    words = parts.words(captions, states)
    empty = parts.encode([""])[0]
    for caption, state, word in zip(captions, states, words, strict=True):
        last = len(parts.tokenizer(caption).input_ids) - 1  # the end token's place
        assert torch.equal(word[:last], state[:last])
        torch.testing.assert_close(word[last:], empty[last:])
        assert caption == "" or not torch.allclose(state[last:], empty[last:], atol=1e-3)


def test_the_last_phase_has_a_learning_rate_of_its_own() -> None:
    config = emoji_t2i.Config(steps=110, warmup=10, words_from=100, second_rate=3e-4)
    rates = [emoji_t2i.learning_rate(config, step) for step in range(110)]
    assert max(rates) == pytest.approx(config.learning_rate) and rates[99] < config.learning_rate / 20
    assert rates[100:] == pytest.approx([3e-4 * (1 - i / 10) for i in range(10)])


def test_a_run_of_another_configuration_is_refused(tmp_path: Path) -> None:
    train(emoji_clip, emoji_clip.Config(steps=2, batch=4), tmp_path, silent, until=1)
    with pytest.raises(DenoisedError, match=r"was started with another configuration \(batch=4\)"):
        train(emoji_clip, emoji_clip.Config(steps=2, batch=8), tmp_path, silent)


def test_the_judge_of_random_weights_loads_from_its_folder(tmp_path: Path) -> None:
    training = train(emoji_judge, emoji_judge.Config(steps=1, batch=8), tmp_path / "state", silent)
    folder = tmp_path / "judge"
    network = training.average
    network.save_pretrained(folder)  # type: ignore[operator]
    (folder / "heads.json").write_text(json.dumps({"heads": attributes()}))
    judge = Judge(folder)
    pictures = render(sample_scenes(5, 0, "test", "full"), 32)
    reading = judge(pictures)
    assert all(getattr(reading, name).shape == (5,) for name in attributes())
    assert judge.features(pictures).shape == (5, 192)
    asked = truth(sample_scenes(5, 0, "test", "full"))
    assert all(right.dtype == torch.bool for right in judge.agrees(reading, asked).values())
    pictures.requires_grad_(True)
    judge.log_probabilities(pictures, "object")[:, 0].sum().backward()
    assert pictures.grad is not None and float(pictures.grad.abs().sum()) > 0

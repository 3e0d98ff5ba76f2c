"""Textual inversion on tiny random networks of the real classes: one new row is trained, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from denoised.cli import main
from denoised.errors import DenoisedError, Exit
from denoised.lab.record import read_record
from denoised.lab.subjects import draw_subjects
from denoised.zoo.rehearsal import write_sd15
from denoised.zoo.text_to_image import TextToImage, load_text_to_image
from denoised.zoo.tokenizer import known_words, load_tokenizer, write_tokenizer
from runners.personalization.textual_inversion import (
    Config,
    add_words,
    choose_word,
    embedding,
    learn,
    reproduce,
)
from tests.runners.emoji_lab import ROOT, emoji_lab


@pytest.fixture(scope="module")
def t2i(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    folder = tmp_path_factory.mktemp("model") / "sd15"
    write_sd15(folder)
    return load_text_to_image(folder)


def latents(t2i: TextToImage, subjects: int, pictures: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(subjects, pictures, *t2i.latent_shape, generator=random)


def test_a_new_word_says_what_the_word_it_starts_from_says(t2i: TextToImage) -> None:
    taught, _ = add_words(t2i, ["<koala>"], embedding(t2i, "q")[None])  # this tokenizer knows letters alone
    assert torch.equal(taught.encode(["a <koala> on red"]), t2i.encode(["a q on red"]))
    assert torch.equal(taught.encode(["a cat on red"]), t2i.encode(["a cat on red"]))


def test_a_closed_vocabulary_takes_new_words_and_no_others(t2i: TextToImage, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    closed = replace(
        t2i, tokenizer=tokenizer, text_encoder=CLIPTextModel(config).eval(), facts={"words": known_words()}
    )
    subjects = draw_subjects(16, 5, 0)
    names = [subject.placeholder for subject in subjects]
    taught, _ = add_words(closed, names, embedding(closed, "cat").expand(16, -1))
    for subject in subjects:
        for scene in subject.new:
            new, old = (subject.describe(scene, word) for word in (subject.placeholder, "cat"))
            assert torch.equal(taught.encode([new]), closed.encode([old]))
    with pytest.raises(DenoisedError, match=r"does not know|모른다"):
        closed.encode(["a <koala>"])


def test_the_start_of_a_word_of_several_tokens_is_their_mean(t2i: TextToImage) -> None:
    rows = t2i.text_encoder.get_input_embeddings()(t2i.tokenize(["fox"])[0, 1:4])
    torch.testing.assert_close(embedding(t2i, "fox"), rows.mean(dim=0))


def test_only_the_new_rows_are_trained(t2i: TextToImage) -> None:
    before = {n: p.clone() for part in (t2i.text_encoder, t2i.unet) for n, p in part.named_parameters()}
    length = len(t2i.tokenizer)
    start = torch.stack([embedding(t2i, "dog"), embedding(t2i, "cat")])
    taught, words = add_words(t2i, ["<koala>", "<owl>"], start)
    config = Config(subjects=2, pictures=3, train_steps=2, train_batch=2, bf16=False)
    prompts = [["a <koala>"] * 3, ["an <owl>"] * 3]
    learn(taught, words, t2i.network, latents(t2i, 2, 3), prompts, config, torch.Generator().manual_seed(0))
    assert [n for n, p in taught.text_encoder.named_parameters() if p.requires_grad] == [
        "embeddings.token_embedding.words"
    ]
    assert bool((words.words != start).any(dim=1).all())
    assert torch.equal(words.table.weight, before["embeddings.token_embedding.weight"])
    assert all(
        torch.equal(p, before[n]) for part in (t2i.text_encoder, t2i.unet) for n, p in part.named_parameters()
    )
    assert len(t2i.tokenizer) == length and len(taught.tokenizer) == length + 2


def test_words_do_not_meet_in_training(t2i: TextToImage) -> None:
    taught, words = add_words(t2i, ["<koala>", "<owl>"], torch.zeros(2, embedding(t2i, "q").numel()))
    taught.encode_tokens(taught.tokenize(["a small <koala>"])).square().sum().backward()
    assert words.words.grad is not None
    assert bool(words.words.grad[0].any()) and not bool(words.words.grad[1].any())


def test_learning_finds_a_word_that_explains_the_pictures(t2i: TextToImage) -> None:
    """A network that believes in x0 = the mean of one channel of the states: the best word is known to exist."""
    taught, words = add_words(t2i, ["<koala>"], embedding(t2i, "q")[None])
    x0 = torch.full((1, 2, *t2i.latent_shape), 0.3)

    def network(x: Tensor, t: Tensor, states: Tensor | None) -> Tensor:
        assert states is not None
        a, s = t2i.schedule.signal_and_noise(t, x)
        return (x - a * states[:, :, 0].mean(dim=1).reshape(-1, 1, 1, 1)) / s

    def belief() -> float:
        return float(taught.encode(["a <koala>"])[:, :, 0].mean())

    started = abs(belief() - 0.3)
    config = Config(train_steps=150, train_batch=2, learning_rate=0.02, bf16=False)
    learn(taught, words, network, x0, [["a <koala>"] * 2], config, torch.Generator().manual_seed(0))
    assert started > 0.1 and abs(belief() - 0.3) < 0.1 * started


def test_the_existing_word_is_the_one_with_the_lowest_loss(t2i: TextToImage) -> None:
    right = t2i.encode(["a fox"])

    def network(x: Tensor, t: Tensor, states: Tensor | None) -> Tensor:
        assert states is not None
        a, s = t2i.schedule.signal_and_noise(t, x)
        return (x - a * 0.5) / s + (states - right).abs().mean(dim=(1, 2)).reshape(-1, 1, 1, 1)

    x0 = torch.full((3, *t2i.latent_shape), 0.5)
    prompts = [[f"a {word}"] * 3 for word in ("cat", "dog", "fox", "lion")]
    assert choose_word(t2i, network, x0, prompts, 2, torch.Generator().manual_seed(0)) == 2


def test_a_name_that_is_taken_is_refused(t2i: TextToImage) -> None:
    start = embedding(t2i, "q")[None]
    taught, _ = add_words(t2i, ["<koala>"], start)
    with pytest.raises(ValueError, match="the tokenizer knows one of <owl>, <koala> already"):
        add_words(taught, ["<owl>", "<koala>"], start)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"subjects": 0}, "subjects must be from 1 to 16, not 0"),
        ({"pictures": 12}, "pictures must be from 1 to 11, not 12"),
        ({"train_steps": 0}, "train_steps, train_batch, trials and steps must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Config(**settings)  # type: ignore[arg-type]


def test_measures_in_the_emoji_world_are_exact(t2i: TextToImage, tmp_path: Path) -> None:
    lab = emoji_lab(tmp_path, t2i, images=4, batch=2)
    reproduce(lab, Config(subjects=2, pictures=3, train_steps=1, trials=1, bf16=False, steps=2))
    assert [arm.name for arm in lab.arms] == ["existing-word", "new-word", "real-pictures"]
    assert [arm.parameters_trained for arm in lab.arms] == [0, 2 * 32, 0]
    assert [arm.calls for arm in lab.arms] == [4, 4, 0]  # two steps of two batches
    likeness, recognised, following = (
        "subject-similarity[effnet-lite0]",
        "subject-recognised[effnet-lite0]",
        "background[emoji-judge]",
    )
    assert all(list(arm.metrics) == [likeness, recognised, following] for arm in lab.arms)
    real = lab.arms[-1].metrics
    assert real[likeness].value > 0.6 and real[recognised].value == 1 and real[likeness].n == 4
    assert [(c.metric, c.arm, c.relation, c.than, c.margin) for c in lab.claims] == [
        (likeness, "new-word", ">", "existing-word", 0),
        (following, "new-word", ">=", "existing-word", 0.05),
    ]


def test_the_paper_scale_is_rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["run", "textual-inversion", "scale=paper", "--rehearse", "--out", str(tmp_path)]) == Exit.OK
    record = read_record(tmp_path / "textual-inversion" / "rehearsal.json", paper="textual-inversion")
    assert [arm.name for arm in record.arms] == ["existing-word", "new-word"]
    assert [arm.cost.parameters_trained for arm in record.arms] == [0, 2 * 32]
    assert [(claim.metric, claim.relation) for claim in record.claims] == [
        ("subject-similarity[clip-vit-b32]", ">"),
        ("clip-score[clip-vit-b32]", ">="),
    ]


@pytest.mark.text_to_image
def test_a_smoke_run_uses_the_shipped_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["run", "textual-inversion", "scale=smoke", "seeds=[0]", "--out", str(tmp_path)]) == Exit.OK
    record = read_record(tmp_path / "textual-inversion" / "smoke.json", pictures=True)
    assert {file.path.split("/")[1] for file in record.inputs} >= {"emoji-t2i", "emoji-judge"}
    assert [claim.relation for claim in record.claims] == [">", ">="]

"""What the shipped checkpoints can do, measured anew on seeds that neither training nor the cards used."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import ResNetForImageClassification

from denoised.metrics.distances import frechet_distance
from denoised.metrics.features import EfficientNetLite0
from denoised.metrics.judge import Judge, prepared, read
from denoised.worlds.emoji import RELATIONS, Language, caption, render, sample_scenes, truth
from denoised.zoo.clip import load_clip
from denoised.zoo.load import load_checkpoint
from denoised.zoo.recipes.emoji_vae import psnr, reconstruct
from runners.foundations.ddim import sample

ZOO = Path(__file__).resolve().parents[2] / "zoo"
LANGUAGES: tuple[Language, ...] = ("en", "ko")


def test_emoji_pixel_draws_the_class_asked_for() -> None:
    """The judge reads it, and samples are no further from real scenes than the card says by half."""
    facts = json.loads((ZOO / "emoji-pixel" / "manifest.json").read_text())
    rows = {line["name"]: line for line in facts["quality"]}
    row = next(line for name, line in rows.items() if name.startswith("fid[effnet-lite0]"))
    checkpoint = load_checkpoint(ZOO / "emoji-pixel")
    extractor = EfficientNetLite0(ZOO / "effnet-lite0" / "model.safetensors")
    n = 96
    real = extractor(render(sample_scenes(512, 5, "test")))
    x = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    grid = [999 - 50 * i for i in range(20)]
    labels = torch.arange(n) % 48
    drawn = sample(checkpoint.denoiser(), x, grid, condition=labels).clamp(-1, 1)
    assert float((Judge(ZOO / "emoji-judge")(drawn).object == labels).float().mean()) > 0.85
    floor = frechet_distance(extractor(render(sample_scenes(n, 6, "test"))), real)
    assert frechet_distance(extractor(drawn), real) < floor + 1.5 * (row["value"] - row["real"])


def test_the_shipped_judge_reads_scenes_it_never_saw_and_loads_in_plain_transformers() -> None:
    judge = Judge(ZOO / "emoji-judge")
    scenes = sample_scenes(600, 123, "test", "full")
    pictures = render(scenes, 64)
    agrees = judge.agrees(judge(pictures), truth(scenes))
    assert all(float(agrees[name].float().mean()) > 0.98 for name in agrees)
    noise = torch.randn(100, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert float((judge(noise).object < 0).float().mean()) > 0.98
    plain = ResNetForImageClassification.from_pretrained(ZOO / "emoji-judge").eval()
    with torch.inference_mode():
        theirs = read(plain(prepared(pictures[:50])).logits, judge.heads)
    ours = judge(pictures[:50])
    assert all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in judge.heads)


def test_the_shipped_autoencoder_keeps_its_floor() -> None:
    vae = AutoencoderKL.from_pretrained(ZOO / "emoji-vae", low_cpu_mem_usage=False)
    pictures = render(sample_scenes(64, 123, "test", "full"), 64)
    assert psnr(reconstruct(vae, pictures), pictures) > 30  # dB


@pytest.mark.parametrize("language", LANGUAGES)
def test_emoji_clip_finds_captions_and_tells_left_from_right(language: Language) -> None:
    clip, _ = load_clip(ZOO / "emoji-clip", "emoji-clip", shipped=True)
    scenes = sample_scenes(100, 123, "test", "full")
    captions = scenes.captions(language)
    pictures = render(scenes, 64)
    similarity = F.normalize(clip.pictures(pictures)) @ F.normalize(clip.texts(captions)).T
    found = [captions[j] == captions[i] for i, j in enumerate(similarity.argmax(dim=1).tolist())]
    assert sum(found) > 90
    two = (scenes.second >= 0).nonzero().squeeze(1).tolist()
    names = [name for name, _, _ in RELATIONS]
    opposite = [names[int(scenes.relation[i]) ^ 1] for i in two]  # right of for left of, below for above
    wrong = [
        caption(replace(scenes.describe(i), relation=r), language) for i, r in zip(two, opposite, strict=True)
    ]
    right = clip.similarity(pictures[two], [captions[i] for i in two])
    assert float((right > clip.similarity(pictures[two], wrong)).float().mean()) > 0.8


@pytest.mark.text_to_image
def test_emoji_t2i_draws_what_is_said_in_plain_diffusers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a pipeline without a safety checker
        pipeline = StableDiffusionPipeline.from_pretrained(ZOO / "emoji-t2i", low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    judge = Judge(ZOO / "emoji-judge")
    scenes = sample_scenes(40, 123, "test", "full")
    scenes = scenes[scenes.count == 1]
    for language in LANGUAGES:
        drawn = pipeline(
            scenes.captions(language),
            num_inference_steps=20,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(1),
            output_type="pt",
        ).images
        agrees = judge.agrees(judge(drawn * 2 - 1), truth(scenes))
        assert float((agrees["object"] & agrees["second"]).float().mean()) > 0.85
        assert float(agrees["background"].float().mean()) > 0.95

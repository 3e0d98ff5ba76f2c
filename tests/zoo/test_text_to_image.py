"""Text-to-image folders: equal to diffusers' own pipeline, and everything that can be wrong with one is named."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPModel

from denoised.diffusion.samplers import ddim
from denoised.errors import DenoisedError, Exit
from denoised.zoo.clip import load_clip
from denoised.zoo.load import WEIGHTS
from denoised.zoo.manifest import write_manifest
from denoised.zoo.rehearsal import END, START, write_clip, write_sd15
from denoised.zoo.text_to_image import TextToImage, load_text_to_image

PROMPTS = ["a cat on a red background", "two dogs"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd15") / "sd15"
    write_sd15(folder)
    return folder


@pytest.fixture(scope="module")
def model(written: Path) -> TextToImage:
    return load_text_to_image(written)


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(written, tmp_path / "model")
    return tmp_path / "model"


def noise(model: TextToImage) -> Tensor:
    return torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))


def pipeline(folder: Path) -> StableDiffusionPipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a pipeline without a safety checker
        made = StableDiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    # Our last step goes to clean data; Stable Diffusion's own scheduler stops at alpha_bar[0] = 0.99915.
    made.scheduler = DDIMScheduler.from_config(made.scheduler.config, set_alpha_to_one=True)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
def test_it_draws_what_the_pipeline_of_diffusers_draws(
    written: Path, model: TextToImage, guidance_scale: float
) -> None:
    theirs = pipeline(written)
    options = {"num_inference_steps": 4, "guidance_scale": guidance_scale}
    latents = theirs(PROMPTS, latents=noise(model), output_type="latent", **options).images
    ours = ddim(
        model.denoiser(guidance_scale), noise(model), model.timesteps(4), condition=model.encode(PROMPTS)
    )
    torch.testing.assert_close(ours, latents, atol=1e-4, rtol=1e-4)
    pictures = theirs(PROMPTS, latents=noise(model), output_type="pt", **options).images
    torch.testing.assert_close(model.decode(ours), 2 * pictures - 1, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_it_obeys_the_scheduler_of_the_folder(folder: Path, spacing: str, prediction: str) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text()) | {"timestep_spacing": spacing, "prediction_type": prediction}
    path.write_text(json.dumps(config | {"beta_schedule": "squaredcos_cap_v2"}))
    model, theirs = load_text_to_image(folder), pipeline(folder)
    latents = theirs(
        PROMPTS, latents=noise(model), output_type="latent", num_inference_steps=4, guidance_scale=3.0
    ).images
    assert theirs.scheduler.timesteps.tolist() == model.timesteps(4)
    ours = ddim(model.denoiser(3.0), noise(model), model.timesteps(4), condition=model.encode(PROMPTS))
    # Where alpha_bar is almost 0, x0 is huge and float32 has few digits left.
    torch.testing.assert_close(ours, latents, atol=1e-3 * float(latents.abs().max()), rtol=1e-3)


def test_guidance_takes_one_batch_and_counts_both_halves(model: TextToImage) -> None:
    condition = model.encode(PROMPTS)
    denoiser = model.denoiser()
    denoiser(noise(model), 500, condition)
    assert (denoiser.calls, denoiser.samples) == (1, 4)
    plain = model.denoiser(guidance_scale=1)
    plain(noise(model), 500, condition)
    assert (plain.calls, plain.samples) == (1, 2)


def test_null_text_may_be_given(model: TextToImage) -> None:
    condition, x = model.encode(PROMPTS), noise(model)
    default = model.denoiser(3.0)(x, 500, condition).eps
    torch.testing.assert_close(model.denoiser(3.0, null=model.encode([""]))(x, 500, condition).eps, default)
    same = model.denoiser(3.0, null=condition)(x, 500, condition).eps  # nothing to push away from
    torch.testing.assert_close(same, model.denoiser(1)(x, 500, condition).eps, atol=1e-5, rtol=1e-5)


def test_another_network_may_stand_in_for_the_unet(model: TextToImage) -> None:
    rows = []

    def network(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        rows.append(len(x))
        return torch.zeros_like(x)

    assert bool(
        (model.denoiser(2.0, network=network)(noise(model), 500, model.encode(PROMPTS)).eps == 0).all()
    )
    assert rows == [4]


def test_latents_are_the_posterior_mean_in_the_scale_of_the_unet(written: Path, model: TextToImage) -> None:
    pictures = torch.rand(2, 3, model.picture_size, model.picture_size) * 2 - 1
    vae = pipeline(written).vae
    with torch.no_grad():
        expected = vae.encode(pictures).latent_dist.mode() * vae.config.scaling_factor
    latents = model.encode_pictures(pictures)
    assert latents.shape == (2, *model.latent_shape)
    torch.testing.assert_close(latents, expected)


def test_gradients_reach_embeddings_and_network_inputs(model: TextToImage) -> None:
    x = noise(model).requires_grad_()
    states = model.encode_tokens(model.tokenize(PROMPTS))
    model.network(x, torch.tensor([5, 500]), states).square().mean().backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)
    assert not model.encode(PROMPTS).requires_grad and not model.decode(x).requires_grad


def test_words_are_the_groups_of_tokens(model: TextToImage) -> None:
    words = model.words("a cat, two")
    assert [len(word) for word in words] == [1, 3, 1, 3]  # the rehearsal's tokenizer spells
    tokens = model.tokenize(["a cat, two"])[0].tolist()
    assert tokens[1:9] == [token for word in words for token in word]
    assert len(tokens) == model.tokenizer.model_max_length


def test_a_prompt_that_is_too_long_is_refused(model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    model.encode(["a" * 75])
    with pytest.raises(
        DenoisedError, match=r"the prompt has 76 tokens, but this text encoder reads 75: 'aaa"
    ):
        model.encode([PROMPTS[0], "a" * 76])


# --- a closed vocabulary ----------------------------------------------------------------------------------


def letters(text: str) -> list[str]:
    """The byte-level letters of a text."""
    ((piece, _),) = ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    return list(piece)


def close_vocabulary(folder: Path, words: list[str], particles: list[str]) -> None:
    """Teach the tokenizer whole words, with `particles` only at the end of others, and list them all."""
    path = folder / "tokenizer" / "vocab.json"
    ids, merges = json.loads(path.read_text()), []
    stems = [word for word in words if not word.isascii()]
    for text, final in [*((w, True) for w in words + particles), *((s, False) for s in stems)]:
        symbols = letters(text)
        symbols[-1] += "</w>" if final else ""
        while len(symbols) > 1:
            merges.append(f"{symbols[0]} {symbols[1]}")
            symbols[:2] = [symbols[0] + symbols[1]]
            ids.setdefault(symbols[0], len(ids))
    path.write_text(json.dumps(ids))
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]))
    config = json.loads((folder / "text_encoder" / "config.json").read_text()) | {"vocab_size": len(ids)}
    config |= {"bos_token_id": ids[START], "eos_token_id": ids[END]}
    (folder / "text_encoder" / "config.json").write_text(json.dumps(config))
    weights = safetensors.torch.load_file(folder / "text_encoder" / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    weights[name] = torch.randn(len(ids), weights[name].shape[1])
    safetensors.torch.save_file(weights, folder / "text_encoder" / "model.safetensors")
    files = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    write_manifest(folder, files, {"words": [*words, *particles], "guidance_scale": 3})


@pytest.fixture(scope="module")
def closed(written: Path, tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    folder = tmp_path_factory.mktemp("closed") / "model"
    shutil.copytree(written, folder)
    close_vocabulary(folder, ["a", "cat", "glasses", "고양이", "배경"], ["가", "에"])
    return load_text_to_image(folder, shipped=True)


def test_the_manifest_states_the_guidance_scale(closed: TextToImage, model: TextToImage) -> None:
    assert (closed.guidance_scale, model.guidance_scale) == (3.0, 7.5)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("a cat", 2), ("A CAT", 2), ("배경에 고양이가", 2), ("고양이 배경", 2), ("", 0)],
)
def test_known_words_pass(closed: TextToImage, prompt: str, words: int) -> None:
    assert len(closed.words(prompt)) == words
    closed.encode([prompt])


@pytest.mark.parametrize(
    ("prompt", "says", "helps"),
    [
        ("a glases", "does not know the word 'glases' (prompt: 'a glases')", "did you mean 'glasses'?"),
        ("a zebra", "does not know the word 'zebra'", None),
        ("a aa", "does not know the word 'aa'", "did you mean 'a'?"),
        ("a cat, a", "does not know the word ','", None),
        ("배경에 강아지가", "does not know the word '강아지가' (prompt: '배경에 강아지가')", None),
        ("catcat", "does not know the word 'catcat'", "did you mean 'cat'?"),
    ],
)
def test_unknown_words_are_named(
    closed: TextToImage, prompt: str, says: str, helps: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    with pytest.raises(DenoisedError) as caught:
        closed.encode(["a cat", prompt])
    assert says in caught.value.message
    assert caught.value.help == helps


def test_a_word_that_was_added_is_known(closed: TextToImage) -> None:
    closed.tokenizer.add_tokens("<toy>")
    assert len(closed.words("a <toy>")) == 2
    with pytest.raises(DenoisedError):
        closed.words("a <boy>")


# --- folders that are something else ----------------------------------------------------------------------


def test_half_precision_files_are_read_where_there_are_no_others(folder: Path, model: TextToImage) -> None:
    for part, name in (("unet", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", "model.safetensors")):
        weights = safetensors.torch.load_file(folder / part / name)
        half = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        safetensors.torch.save_file(half, folder / part / name.replace(".safetensors", ".fp16.safetensors"))
        (folder / part / name).unlink()
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "config.json").write_text("not even JSON")
    loaded = load_text_to_image(folder)
    assert loaded.unet.dtype == loaded.vae.dtype == torch.float32
    assert sum(file.name.endswith(".fp16.safetensors") for file in loaded.files) == 3
    x, condition = noise(model), model.encode(PROMPTS)
    theirs, ours = (m.denoiser()(x, 500, condition).eps for m in (model, loaded))
    torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.05)


def test_the_files_that_were_read_are_listed(written: Path, model: TextToImage) -> None:
    names = sorted(file.relative_to(written).as_posix() for file in model.files)
    assert names == [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_component_is_named(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    (folder / name).unlink()
    with pytest.raises(DenoisedError) as caught:
        load_text_to_image(folder)
    assert caught.value.message == f"{folder / name} is missing"
    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusionXLPipeline"},
            "a StableDiffusionPipeline is needed, not 'StableDiffusionXLPipeline'",
        ),
        (
            "unet/config.json",
            {"_class_name": "UNet2DModel"},
            "a UNet2DConditionModel is needed, not 'UNet2DModel'",
        ),
        ("vae/config.json", {"_class_name": "VQModel"}, "a AutoencoderKL is needed, not 'VQModel'"),
        ("text_encoder/config.json", {"architectures": ["T5EncoderModel"]}, "a CLIPTextModel is needed"),
        ("tokenizer/tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}, "a CLIPTokenizer is needed"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 64}, "the tokenizer in"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "odd"}, "beta_schedule 'odd' is not known"),
        ("unet/config.json", {"block_out_channels": [32, 32, 64, 64]}, "cannot be used"),
    ],
)
def test_a_foreign_component_is_named(
    folder: Path, name: str, change: dict[str, object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DenoisedError) as caught:
        load_text_to_image(folder)
    assert says in caught.value.message
    assert caught.value.code == Exit.INTEGRITY


def test_components_of_different_models_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text encoder of another width, whole in itself."""
    monkeypatch.setenv("DENOISED_LANG", "en")
    write_clip(folder / "other")
    config = json.loads((folder / "other" / "config.json").read_text())["text_config"]
    config |= {"hidden_size": 16, "num_hidden_layers": 0, "architectures": ["CLIPTextModel"]}
    (folder / "text_encoder" / "config.json").write_text(json.dumps(config))
    width, size, length = 16, config["vocab_size"], config["max_position_embeddings"]
    weights = {
        "embeddings.token_embedding.weight": torch.zeros(size, width),
        "embeddings.position_embedding.weight": torch.zeros(length, width),
        "final_layer_norm.weight": torch.ones(width),
        "final_layer_norm.bias": torch.zeros(width),
    }
    safetensors.torch.save_file(weights, folder / "text_encoder" / "model.safetensors")
    with pytest.raises(DenoisedError, match=r"the text_encoder in .* its size is 16, not 32"):
        load_text_to_image(folder)


def test_damage_is_found_before_anything_is_parsed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    files = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    write_manifest(folder, files, {})
    path = folder / "vae" / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DenoisedError, match="it was not loaded"):
        load_text_to_image(folder)
    assert not path.exists() and path.with_name(path.name + ".damaged").exists()


def test_a_shipped_folder_needs_its_manifest(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    with pytest.raises(DenoisedError, match=r"has no manifest\.json, so its files cannot be checked"):
        load_text_to_image(written, shipped=True)


def test_a_pickle_is_never_opened(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()
    for part, name in (("unet", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", "model.safetensors")):
        (folder / part / name).unlink()
        for pickled in (name.replace(".safetensors", ".bin"), "pytorch_model.bin"):
            (folder / part / pickled).write_bytes(payload)
    with pytest.raises(DenoisedError):
        load_text_to_image(folder)
    (folder / "unet" / WEIGHTS).write_bytes(payload)
    with pytest.raises(DenoisedError):
        load_text_to_image(folder)
    assert not canary.exists()


# --- CLIP -------------------------------------------------------------------------------------------------


def test_clip_scores_as_transformers_does(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip")
    clip, files = load_clip(tmp_path / "clip", "tiny")
    assert {file.name for file in files} >= {"config.json", "model.safetensors", "vocab.json", "merges.txt"}
    theirs = CLIPModel.from_pretrained(tmp_path / "clip").eval()
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, deviation = (
        torch.tensor(values).reshape(3, 1, 1)
        for values in ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    )
    tokens = clip._tokenizer(PROMPTS, padding="max_length", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        scores = theirs(input_ids=tokens, pixel_values=((pictures + 1) / 2 - mean) / deviation)
    logits = scores.logits_per_image / theirs.logit_scale.exp()
    torch.testing.assert_close(clip.similarity(pictures, PROMPTS), logits.diagonal(), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="2 pictures need as many prompts, not 1"):
        clip.similarity(pictures, PROMPTS[:1])

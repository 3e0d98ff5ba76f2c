"""Prompt-to-Prompt: edits that ask for nothing change nothing, and each operation does what section 3.2 says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from denoised.cli import main
from denoised.diffusion.attention import Injection, Layer, stack
from denoised.diffusion.samplers import ddim
from denoised.errors import Exit
from denoised.lab.editing import Edit, parse
from denoised.lab.record import read_record
from denoised.zoo.rehearsal import write_sd15
from denoised.zoo.text_to_image import TextToImage, load_text_to_image
from runners.image_editing.prompt_to_prompt import (
    SCALES,
    Config,
    edit_maps,
    edited_prompt,
    in_force,
    injection,
    sample,
)

ROOT = Path(__file__).resolve().parents[2]
SWAP = Edit("swap", "a cat here", "a dog here")
ADD = Edit("add", "a cat", "a red cat", "red")
REMOVE = Edit("remove", "a red cat", "a cat", "red")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    folder = tmp_path_factory.mktemp("sd15") / "sd15"
    write_sd15(folder)
    return load_text_to_image(folder)


def noise(model: TextToImage) -> Tensor:
    return torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))


def edit_of(model: TextToImage, edit: Edit, **changed: Any) -> tuple[Tensor, Tensor]:
    """Latents of the source and of the edit, of two noises, in three steps."""
    options: dict[str, Any] = {"tau": 1.0, "self_steps": 0.4, "self_pixels": 1 / 16} | changed
    guidance_scale = options.pop("guidance_scale", 7.5)
    pairs = sample(
        model.denoiser(guidance_scale),
        model.unet,
        noise(model),
        model.timesteps(3),
        stack([injection(model, edit, -2.0)] * 2),
        source=model.encode([edit.source] * 2),
        edited=model.encode([edited_prompt(edit)] * 2),
        **options,
    )
    return pairs[:, 0], pairs[:, 1]


def alone(model: TextToImage, prompt: str, guidance_scale: float = 7.5) -> Tensor:
    return ddim(
        model.denoiser(guidance_scale), noise(model), model.timesteps(3), condition=model.encode([prompt] * 2)
    )


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-3 * b.abs().max())


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
def test_with_identical_prompts_replacement_changes_nothing(
    model: TextToImage, guidance_scale: float
) -> None:
    same = Edit("swap", "a cat", "a cat")
    options = {"self_steps": 1.0, "self_pixels": 1.0, "guidance_scale": guidance_scale}
    source, edited = edit_of(model, same, **options)
    assert close(edited, source) and close(source, alone(model, "a cat", guidance_scale))


@pytest.mark.parametrize("edit", [SWAP, ADD, REMOVE])
def test_the_source_is_never_disturbed(model: TextToImage, edit: Edit) -> None:
    source, edited = edit_of(model, edit)
    assert close(source, alone(model, edit.source))
    assert not close(edited, source)


@pytest.mark.parametrize("edit", [SWAP, ADD])
def test_without_injection_it_is_the_plain_prompt_change(model: TextToImage, edit: Edit) -> None:
    _, edited = edit_of(model, edit, tau=0.0, self_steps=0.0)
    assert close(edited, alone(model, edit.edited))
    _, injected = edit_of(model, edit)
    assert not close(injected, edited)


def test_a_weight_of_one_takes_nothing_back(model: TextToImage) -> None:
    options: dict[str, Any] = {
        "source": model.encode([REMOVE.source] * 2),
        "edited": model.encode([REMOVE.source] * 2),
    }
    pairs = sample(
        model.denoiser(), model.unet, noise(model), model.timesteps(3),
        stack([injection(model, REMOVE, 1.0)] * 2), tau=1.0, **options,
    )  # fmt: skip
    assert close(pairs[:, 1], pairs[:, 0])


def test_each_kind_of_edit_has_its_injection(model: TextToImage) -> None:
    swap = injection(model, SWAP, -2.0)  # the rehearsal's tokenizer spells: one token a letter
    assert bool((swap.kept == 1).all()) and bool((swap.scale == 1).all())
    added = injection(model, ADD, -2.0)
    assert (added.kept == 0).nonzero().flatten().tolist() == [2, 3, 4]  # r, e, d
    removed = injection(model, REMOVE, -2.0)
    assert (removed.scale == -2).nonzero().flatten().tolist() == [2, 3, 4]
    torch.testing.assert_close(removed.mapping, torch.eye(77))


@pytest.mark.parametrize("guided", [True, False])
def test_maps_are_edited_in_the_conditional_rows_alone(guided: bool) -> None:
    rows = 8 if guided else 4
    maps = torch.rand(rows, 2, 16, 5, generator=torch.Generator().manual_seed(0))
    eye = Injection(torch.eye(5), torch.ones(5), torch.full((5,), 3.0))
    cross = edit_maps(eye, guided, 4)(maps, Layer("mid_block.attn2", "mid", True))
    torch.testing.assert_close(cross[: rows - 2], maps[: rows - 2])
    torch.testing.assert_close(cross[rows - 2 :], 3 * maps[rows - 4 : rows - 2])
    own = Layer("mid_block.attn1", "mid", False)
    torch.testing.assert_close(edit_maps(eye, guided, 15)(maps, own), maps)  # 16 queries are too many
    replaced = edit_maps(eye, guided, 16)(maps, own)
    torch.testing.assert_close(replaced[rows - 2 :], maps[rows - 4 : rows - 2])


def test_injection_is_in_force_for_the_first_steps() -> None:
    cross, own = Layer("a", "up", True), Layer("b", "up", False)
    at = [in_force(i / 10, tau=0.8, self_steps=0.4) for i in range(10)]
    assert [chosen(cross) for chosen in at] == [True] * 8 + [False] * 2
    assert [chosen(own) for chosen in at] == [True] * 4 + [False] * 6


def test_the_prompts_of_the_paper_scale_can_be_edited(model: TextToImage) -> None:
    edits = [parse(text) for text in SCALES["paper"]["edits"]]
    assert {edit.kind for edit in edits} == {"swap", "add", "remove"}
    assert {injection(model, edit, -2.0).mapping.shape for edit in edits} == {(77, 77)}


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"steps": 0}, {"tau": 1.1}, {"self_pixels": -0.1}):
        with pytest.raises(ValueError, match="steps must be at least 1; tau, early, self_steps"):
            Config(**wrong)


def test_the_paper_scale_is_rehearsed_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    few = ["images=2", "seeds=[0]", "steps=2", "threads=1"]
    assert (
        main(["run", "prompt-to-prompt", "scale=paper", *few, "--rehearse", "--out", str(tmp_path)])
        == Exit.OK
    )
    record = read_record(tmp_path / "prompt-to-prompt" / "rehearsal.json", pictures=True)
    assert [(arm.name, arm.settings["edit"]) for arm in record.arms] == [
        ("p2p", "swap"),
        ("p2p-early", "swap"),
        ("plain", "swap"),
        ("p2p", "refine"),
        ("plain", "refine"),
        ("p2p", "reweight"),
        ("plain", "reweight"),
    ]
    nfe = {arm.name: arm.cost.network_samples / 2 for arm in record.arms}
    assert nfe == {"p2p": 8, "p2p-early": 8, "plain": 4}  # steps × guidance × (source and edit)
    assert {metric.name for arm in record.arms for metric in arm.metrics} == {
        "edit-success[clip-vit-b32]",
        "picture-rmse",
    }
    names = {file.path for file in record.inputs}
    assert {"unet/diffusion_pytorch_model.safetensors", "clip-vit-b32/model.safetensors"} <= names


@pytest.mark.text_to_image
def test_a_smoke_run_reads_scenes_and_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["run", "prompt-to-prompt", "scale=smoke", "--out", str(tmp_path)]) == Exit.OK
    record = read_record(tmp_path / "prompt-to-prompt" / "smoke.json", pictures=True)
    names = {metric.name for arm in record.arms for metric in arm.metrics}
    assert names == {"edit-success[emoji-judge]", "background-rmse", "layout-iou"}
    assert len(record.claims) == 8
    assert {file.path.split("/")[1] for file in record.inputs} == {"emoji-t2i", "emoji-judge"}

"""The estimate before a run at the paper's scale: counts against counts by hand, and what is said of them."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoised.cli import main
from denoised.errors import Exit
from denoised.lab.estimate import (
    FLOAT,
    KEPT,
    REFERENCE,
    Estimate,
    Gpu,
    describe,
    duration,
    estimate,
    one_pass,
    visible_gpu,
)
from denoised.lab.settings import compose_run
from denoised.language import speaking
from denoised.zoo.load import build_unet
from denoised.zoo.rehearsal import (
    DDPM_CIFAR10,
    DDPM_CIFAR10_SCHEDULER,
    SD15_UNET,
    SD15_VAE,
    write_sd15,
)
from runners.foundations import ddim, ddpm
from runners.image_editing import prompt_to_prompt
from runners.personalization import textual_inversion

ROOT = Path(__file__).resolve().parents[2]
RUNNERS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.glob("runners/*/*.py")
    if path.name != "__init__.py"
)


def meta(*shape: int, gradient: bool = False) -> Tensor:
    return torch.empty(*shape, device="meta", requires_grad=gradient)


# --- counting -------------------------------------------------------------------------------------------------


def test_operations_of_a_convolution_are_those_counted_by_hand() -> None:
    """For each of 2 · 5 · 4 · 4 outputs a sum over 3 · 3 · 3 products: a product and an addition each."""
    convolution = nn.Conv2d(3, 5, 3, padding=1, device="meta")
    found = one_pass(lambda: convolution(meta(2, 3, 4, 4)), convolution.parameters())
    assert found.flops == 2 * (2 * 5 * 4 * 4) * (3 * 3 * 3)


def test_bytes_are_of_what_is_alive_at_once() -> None:
    """A chain needs two links at a time; what is kept stays, and a view is no tensor more."""
    x, size = meta(10, 100), 10 * 100 * FLOAT

    def chain() -> None:
        y = x + 1
        for _ in range(8):
            y = y * 2

    def kept() -> list[Tensor]:
        return [x + i for i in range(8)]

    assert one_pass(chain, [x]).peak_bytes == 2 * size
    assert one_pass(kept, [x]).peak_bytes == 8 * size
    assert one_pass(lambda: x.view(100, 10).T, [x]).peak_bytes == 0


def test_a_backward_pass_keeps_what_the_forward_pass_made() -> None:
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.SiLU()) for _ in range(6))).to("meta")
    x = meta(1000, 64)

    def forward() -> None:
        with torch.no_grad():
            layers(x)

    inference = one_pass(forward, [x, *layers.parameters()])
    training = one_pass(lambda: layers(x).sum().backward(), [x, *layers.parameters()])
    # A layer's two tensors, and its input, to which the loop over the layers still holds on.
    assert inference.peak_bytes == 3 * 1000 * 64 * FLOAT
    assert training.peak_bytes > 6 * 2 * 1000 * 64 * FLOAT  # six activations and six products before them
    # The gradient of each weight costs as much as the forward pass, that of each input too, but the first's.
    assert training.flops == 3 * inference.flops - 2 * 1000 * 64 * 64


def test_attention_holds_no_map() -> None:
    """n · n numbers would be 64 times what is alive; the products are counted nevertheless."""
    q = meta(1, 1, 4096, 64)
    found = one_pass(lambda: F.scaled_dot_product_attention(q, q, q), [q])
    assert found.peak_bytes < 2 * 4096 * 64 * FLOAT
    assert found.flops == 2 * (2 * 4096 * 4096 * 64)


# --- networks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """A folder with the configs of google/ddpm-cifar10-32 and no weights: they are not asked for."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(DDPM_CIFAR10))
    (tmp_path / "model" / "scheduler_config.json").write_text(json.dumps(DDPM_CIFAR10_SCHEDULER))
    return tmp_path / "model"


def found(runner: ModuleType, model: Path, *overrides: str) -> Estimate:
    settings, config = compose_run(runner, ["scale=paper", f"model={model}", *overrides])
    result = estimate(ROOT, runner, settings, config)
    assert result is not None
    return result


def test_of_the_network_of_ddpm_it_knows_parameters_rows_and_memory(cifar: Path) -> None:
    few = found(ddim, cifar, "steps=[10,20]", "images=100", "batch=10", "seeds=[0,1]")
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build_unet(DDPM_CIFAR10).parameters())
    assert few.parameters == parameters == 35_746_307  # 35.7 M, as the paper says
    assert few.rows == 2 * 2 * (10 + 20) * 100  # seeds, arms, steps, pictures
    weights = parameters * FLOAT
    assert few.memory > weights + KEPT * 100 * 3 * 32 * 32 * FLOAT
    more, many = found(ddim, cifar, "images=100", "batch=20"), found(ddim, cifar, "images=50100", "batch=10")
    # Activations grow with the batch and nothing else does; pictures are held whatever the batch.
    pictures = KEPT * 100 * 3 * 32 * 32 * FLOAT
    assert more.memory - weights - pictures == pytest.approx(2 * (few.memory - weights - pictures), rel=0.01)
    assert many.memory - few.memory == KEPT * 50_000 * 3 * 32 * 32 * FLOAT
    assert more.flops_per_row == pytest.approx(few.flops_per_row)
    assert 10e9 < few.flops_per_row < 15e9  # 6 G multiplications and additions


def test_training_needs_gradients_moments_and_activations(cifar: Path) -> None:
    trained = found(ddpm, cifar, "images=2", "train_batch=1", "batch=1")
    more = found(ddpm, cifar, "images=2", "train_batch=8", "batch=1")
    assert trained.memory > 4 * trained.parameters * FLOAT  # weights, gradients, two moments
    assert more.memory > trained.memory


def test_a_text_to_image_model_is_counted_with_all_its_parts(tmp_path: Path) -> None:
    write_sd15(tmp_path / "sd")
    result = found(prompt_to_prompt, tmp_path / "sd", "images=4", "steps=2", "batch=2")
    with torch.device("meta"):
        from diffusers import AutoencoderKL, UNet2DConditionModel

        parts = (UNet2DConditionModel.from_config(SD15_UNET), AutoencoderKL.from_config(SD15_VAE))
        parameters = sum(p.numel() for part in parts for p in part.parameters())
    assert parameters < result.parameters < 1.2 * parameters  # and a small text encoder
    assert result.rows == 2 * 2 * 4 * (2 * 4 + 3)
    assert result.memory > result.parameters * FLOAT
    inverted = found(textual_inversion, tmp_path / "sd", "batch=2", "train_batch=8")
    assert inverted.memory > result.memory  # four words are trained at once, eight pictures each


def test_without_a_config_there_is_none(tmp_path: Path) -> None:
    settings, config = compose_run(ddim, ["scale=paper"])
    assert estimate(ROOT, ddim, settings, config) is None  # no folder was given
    settings, config = compose_run(ddim, ["scale=paper", "model=emoji-pixel"])
    assert estimate(ROOT, ddim, settings, config) is None  # no network of a paper's
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "DiTTransformer2DModel"}')
    for name in ("empty", "other"):
        settings, config = compose_run(ddim, ["scale=paper", f"model={tmp_path / name}"])
        assert estimate(ROOT, ddim, settings, config) is None


# --- what is said -----------------------------------------------------------------------------------------------

SOME = Estimate(35_746_307, 12.4e9, 18_000_000, 7 * 2**30, 512)


@pytest.mark.parametrize(
    ("seconds", "en", "ko"),
    [
        (20, "less than a minute", "1분 미만"),
        (89 * 60, "about 89 min", "약 89분"),
        (90 * 60, "about 1.5 hours", "약 1.5시간"),
        (5_000_000, "about 1,389 hours", "약 1,389시간"),
    ],
)
def test_times_are_said_in_minutes_or_hours(seconds: float, en: str, ko: str) -> None:
    with speaking("en"):
        assert duration(seconds) == en
    with speaking("ko"):
        assert duration(seconds) == ko


@pytest.mark.parametrize("memory", [None, 4 * 2**30, 80 * 2**30])
def test_both_languages_say_the_same_numbers_and_that_it_is_an_estimate(memory: int | None) -> None:
    said = {}
    for language in ("en", "ko"):
        with speaking(language):
            said[language] = describe(SOME, Gpu("NVIDIA X", 20.0, memory))
    # 18e6 · 12.4e9 operations at 40 % of 20 TFLOP/s
    assert "estimate: about 7.8 hours and 7.0 GiB of GPU memory on NVIDIA X (batch=512)" in said["en"]
    assert "어림: NVIDIA X에서 약 7.8시간, GPU 메모리 7.0 GiB (batch=512)" in said["ko"]
    assert "40%" in said["en"] and "20 TFLOP/s" in said["en"]
    numbers = {language: sorted(re.findall(r"\d[\d,.]*", text)) for language, text in said.items()}
    assert [n.strip(",.") for n in numbers["en"]] == [n.strip(",.") for n in numbers["ko"]]
    assert ("no GPU of known speed is visible" in said["en"]) == (memory is None)
    assert ("batch=256" in said["en"]) == (memory == 4 * 2**30)


@pytest.fixture
def _h100(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        total_memory = 80 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)


@pytest.mark.usefixtures("_h100")
def test_the_gpu_that_is_here_is_taken_and_else_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible_gpu("cuda") == Gpu("NVIDIA H100 80GB HBM3", 67.0, 80 * 2**30)
    assert visible_gpu("cpu").name == REFERENCE and visible_gpu("cpu").memory is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce GT 710")
    assert visible_gpu("cuda") == Gpu(REFERENCE, 19.5)


@pytest.mark.parametrize(
    ("language", "word"), [("en", "estimate: about"), ("ko", "어림: NVIDIA A100에서 약")]
)
def test_a_run_says_it_before_it_begins(
    language: str, word: str, cifar: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Here nothing can begin, for want of weights, and that is said after the estimate."""
    run = ["--lang", language, "run", "ddim", "scale=paper", "device=cpu", "--out", str(tmp_path / "out")]
    assert main([*run, f"model={cifar}"]) == Exit.USAGE
    said = capsys.readouterr().err
    assert said.index(word) < said.index("diffusion_pytorch_model.safetensors")
    assert main(run) == Exit.USAGE
    assert word not in capsys.readouterr().err  # without a model folder its error is all there is


# --- runners ----------------------------------------------------------------------------------------------------


# Settings that say how much is measured where no pictures are drawn: points of the plane, or a bound's pictures.
OTHER_COUNTS = {"points", "bound_images"}


@pytest.mark.parametrize("name", RUNNERS)
def test_every_runner_says_how_many_pictures_networks_are_asked_about(name: str) -> None:
    runner = importlib.import_module(name)
    known = {field.name for field in fields(runner.Config)}
    for scale in ("mini", "paper"):
        chosen = {k: v for k, v in runner.SCALES.get(scale, {}).items() if k in known}
        config = runner.Config(**chosen)
        few, many = runner.network_rows(config, 64), runner.network_rows(config, 6400)
        assert isinstance(few, int) and few > 0
        assert few < many or (few == many and known & OTHER_COUNTS), f"{name} at {scale}"

"""Which network sets of pictures are compared through: as shipped, as papers do it, and what is told where it is missing."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from denoised.cli import main
from denoised.errors import DenoisedError, Exit
from denoised.lab.cache import load_moments
from denoised.lab.inputs import FEATURES, Inputs
from denoised.lab.lab import Lab
from denoised.lab.record import read_record
from denoised.lab.reproduce import _public
from denoised.lab.settings import DataSettings, ExtractorSettings, ModelSettings, Settings, compose_run
from denoised.metrics import inception
from denoised.metrics.distances import frechet_distance
from denoised.project import cache_folder
from denoised.worlds.emoji import render, sample_scenes
from runners.foundations import ddim
from runners.image_editing import prompt_to_prompt

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")


class MeanColour:
    """An extractor whose features are so short that few pictures are many."""

    name, description, fingerprint = "mean-colour", "the mean of each channel", "1"

    def __call__(self, pictures: Tensor) -> Tensor:
        return pictures.mean(dim=(2, 3))


def small_lab(root: Path, extractor: ExtractorSettings | None = None, *, reference_images: int = 12) -> Lab:
    settings = Settings(
        scale="paper",
        seeds=[0],
        images=6,
        batch=6,
        reference_images=reference_images,
        model=ModelSettings("emoji-pixel", "zoo/emoji-pixel"),
        data=DataSettings("emoji"),
        extractor=extractor,
    )
    inputs = Inputs(root, settings)
    inputs._picture_size = 16
    return Lab(0, settings, inputs, report=lambda what: None, advance=lambda: None)


def test_papers_are_measured_through_inception_unless_told_otherwise(tmp_path: Path) -> None:
    settings, _ = compose_run(ddim, ["scale=paper"])
    assert settings.extractor == ExtractorSettings("inception-v3", None)
    file = tmp_path / "weights.pth"
    file.touch()
    settings, _ = compose_run(ddim, ["scale=paper", f"extractor={file}"])
    assert settings.extractor == ExtractorSettings("inception-v3", str(file.resolve()))
    for overrides, rehearse in ((["scale=paper", "extractor=effnet-lite0"], False), (["scale=paper"], True)):
        settings, _ = compose_run(ddim, overrides, rehearse=rehearse)
        assert settings.extractor is not None and settings.extractor.name == "effnet-lite0"
    assert compose_run(ddim, [])[0].extractor is None
    # Prompts have no pictures to be compared with.
    assert compose_run(prompt_to_prompt, ["scale=paper"])[0].extractor is None


def test_a_record_names_the_file_without_the_user_s_folders_and_older_ones_stay_as_they_are() -> None:
    assert "extractor" not in _public(Settings())
    public = _public(Settings(extractor=ExtractorSettings("inception-v3", "/home/someone/weights.pth")))
    assert public["extractor"] == {"name": "inception-v3", "file": "weights.pth"}


def test_mistakes_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "ddim", "extractor=inception", "scale=smoke"]) == Exit.USAGE
    assert "there is no extractor 'inception'\nhelp: did you mean 'inception-v3'?" in capsys.readouterr().err
    lab = small_lab(tmp_path, ExtractorSettings("inception-v3"))
    with pytest.raises(
        DenoisedError, match="the weights of inception-v3 are not in this repository"
    ) as caught:
        lab.reference()
    assert caught.value.help is not None
    assert "weights-inception-2015-12-05-6726825d.pth" in caught.value.help
    assert "pip install 'denoised[inception]'" in caught.value.help
    other = tmp_path / "weights.pth"
    other.write_bytes(b"something else")
    lab = small_lab(tmp_path, ExtractorSettings("inception-v3", str(other)))
    with pytest.raises(DenoisedError, match=r"weights\.pth is not weights-inception") as caught:
        lab.reference()
    assert caught.value.code is Exit.INTEGRITY


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of weights and, in place of torch-fidelity, which cannot be installed here, a network of its interface."""
    weights = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "WEIGHTS", f"weights-{sha256[:8]}.pth")

    class Network(nn.Module):
        def __init__(self, name: str, features: list[str], feature_extractor_weights_path: str) -> None:
            super().__init__()
            assert (name, features) == ("inception", ["2048"])
            assert torch.load(feature_extractor_weights_path, weights_only=True).keys() == {"a"}

        def forward(self, levels: Tensor) -> tuple[Tensor]:
            assert levels.dtype == torch.uint8 and not self.training
            return (levels.float().mean(dim=(2, 3)),)

    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return weights


def test_arms_references_and_claims_go_through_the_extractor_that_was_chosen(
    stand_in: Path, tmp_path: Path
) -> None:
    lab = small_lab(tmp_path, ExtractorSettings("inception-v3", str(stand_in)))
    real = lab.reference()
    assert real.extractor.name == "inception-v3" and real.features.shape == (12, 3)
    with lab.arm("a") as arm:
        arm.images = render(sample_scenes(6, 3), 16)
    arm.measure("fid", "kid", reference=real)
    lab.claim("fid", "a", "<", "b")
    assert list(arm.metrics) == ["fid[inception-v3]", "kid[inception-v3]"]
    assert lab.claims[0].metric == "fid[inception-v3]"
    assert stand_in in lab.inputs.files


def test_of_a_large_reference_the_moments_are_stored_and_measured_against(tmp_path: Path) -> None:
    lab = small_lab(tmp_path)
    extractor: Callable[[str], MeanColour] = lambda name: MeanColour()  # noqa: E731
    lab.inputs.extractor = extractor  # type: ignore[method-assign, assignment]
    real = lab.inputs.reference("mean-colour")
    assert real.moments is not None and real.moments.n == 12
    with lab.arm("a") as arm:
        arm.images = render(sample_scenes(6, 3), 16)
    arm.measure("fid", "kid", reference=real)
    drawn = MeanColour()(arm.images)
    assert arm.metrics["fid[mean-colour]"].value == pytest.approx(frechet_distance(real.features, drawn))
    stored = [p for p in (cache_folder(tmp_path) / FEATURES).iterdir() if _holds(p, real.moments_sha256)]
    assert len(stored) == 1
    again = small_lab(tmp_path)
    again.inputs.extractor = extractor  # type: ignore[method-assign, assignment]
    assert again.inputs.reference("mean-colour").moments_sha256 == real.moments_sha256
    # Three pictures tell no covariance of three numbers: the features themselves are kept.
    few = small_lab(tmp_path, reference_images=3)
    few.inputs.extractor = extractor  # type: ignore[method-assign, assignment]
    assert few.inputs.reference("mean-colour").moments is None


def _holds(path: Path, sha256: str | None) -> bool:
    try:
        load_moments(path, sha256)
    except (ValueError, KeyError):
        return False
    return True


def test_a_record_names_the_stored_moments_by_their_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DDIM at its smallest, with an extractor whose features are shorter than its reference is large."""
    monkeypatch.setattr(Inputs, "extractor", lambda self, name: MeanColour())
    monkeypatch.setattr(Inputs, "extractor_name", "mean-colour")
    arguments = ["steps=[2,10]", "images=4", "reference_images=8", "--out", str(tmp_path)]
    assert main(["run", "ddim", "scale=smoke", *arguments]) == Exit.OK
    metric = read_record(tmp_path / "ddim" / "smoke.json").arms[0].metrics[0]
    assert metric.reference is not None and metric.reference.moments_sha256 is not None

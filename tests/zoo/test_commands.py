"""`denoised train` and `denoised world`, from the command line to the files they leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from denoised.cli import main
from denoised.errors import Exit
from denoised.files import sha256_of
from denoised.zoo import publish
from denoised.zoo.load import WEIGHTS, load_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    monkeypatch.chdir(ROOT)


def test_a_recipe_ends_in_a_checkpoint_with_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SAMPLES", 60), ("STEPS", 2), ("REFERENCE", 64)):  # its quality, in seconds
        monkeypatch.setattr(publish, name, value)
    assert main(["train", "emoji-pixel", "steps=3", "batch=4", "--out", str(tmp_path)]) == Exit.OK
    folder = tmp_path / "emoji-pixel" / "checkpoint"
    facts = load_checkpoint(folder, shipped=True).facts
    assert facts["config"]["steps"] == 3 and facts["pictures_seen"] == 12
    assert facts["recipe"] == "denoised train emoji-pixel"
    assert facts["quality"]["floor"]["fid[effnet-lite0]"] < facts["quality"]["fp16"]["fid[effnet-lite0]"]
    card = (folder / "README.md").read_text()
    assert sha256_of(folder / "unet" / WEIGHTS) in card
    assert f"{facts['quality']['fp16']['fid[effnet-lite0]']:g}" in card
    assert len(json.loads((folder / "losses.json").read_text())["loss"]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["emoji-pixels"], "emoji-pixel"),
        (["emoji-pixel", "step=3"], "did you mean 'steps'?"),
        (["emoji-pixel", "batch=few"], "batch=few"),
    ],
)
def test_mistakes_are_told(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == Exit.USAGE
    assert says in capsys.readouterr().err


def test_the_world_is_previewed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "emoji.png"
    assert (
        main(["--lang", "ko", "world", "emoji", "--size", "32", "--seed", "4", "--out", str(path)]) == Exit.OK
    )
    captions = capsys.readouterr().out.splitlines()
    assert len(captions) == 24 and all(line.endswith("있다") for line in captions)
    with Image.open(path) as picture:
        assert picture.size == (6 * 34 - 2, 4 * 34 - 2)

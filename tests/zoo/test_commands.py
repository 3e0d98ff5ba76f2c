"""`denoised train` and `denoised world`, from the command line to the files they leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from denoised.cli import main
from denoised.errors import Exit
from denoised.files import sha256_of
from denoised.zoo.load import WEIGHTS, load_checkpoint
from denoised.zoo.recipes import emoji_pixel

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    monkeypatch.chdir(ROOT)


def test_a_recipe_ends_in_a_checkpoint_with_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MEASURED", 60), ("STEPS", 2), ("REFERENCE", 64)):  # its quality, in seconds
        monkeypatch.setattr(emoji_pixel, name, value)
    settings = ["steps=3", "batch=4", "warmup=1"]
    assert main(["train", "emoji-pixel", *settings, "--out", str(tmp_path)]) == Exit.OK
    folder = tmp_path / "emoji-pixel" / "checkpoint"
    facts = load_checkpoint(folder, shipped=True).facts
    assert facts["config"]["steps"] == 3 and facts["pictures_seen"] == 12
    assert facts["recipe"] == "denoised train emoji-pixel"
    rows = {row["name"]: row for row in facts["quality"]}
    distance = rows["fid[effnet-lite0].unguided"]
    assert distance["real"] < distance["value"]
    assert rows["class.guided"]["value"] < 0.5 < rows["class.guided"]["floor"]  # three steps draw nothing
    card = (folder / "README.md").read_text()
    assert sha256_of(folder / "unet" / WEIGHTS) in card
    assert f"{distance['value']:.4g}" in card
    assert len(json.loads((folder / "losses.json").read_text())["loss"]) == 3
    curve = json.loads((folder / "quality.json").read_text())
    assert [row["step"] for row in curve["rows"]] == [1, 2, 3]
    assert len(list((tmp_path / "emoji-pixel" / "samples").glob("*.png"))) == 3


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

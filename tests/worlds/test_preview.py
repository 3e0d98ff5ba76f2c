"""`denoised world`: the list of worlds, the picture of each, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from denoised.cli import main
from denoised.errors import Exit
from denoised.terminal import width
from denoised.worlds.clips import MOTIONS
from denoised.worlds.command import WORLDS
from denoised.worlds.preview import COLOURS, points_over
from denoised.worlds.toys import TOYS, GaussianMixture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    monkeypatch.chdir(ROOT)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    code = main(["world", *arguments])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def test_without_a_name_the_worlds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for language in ("en", "ko"):
        code, out, err = run(capsys, "--lang", language)
        assert code == Exit.OK and "denoised world emoji" in err
        assert [line.split()[0] for line in out if not line.startswith(" ")] == list(WORLDS)
        assert max(map(width, out)) <= 100


def test_the_help_says_what_each_world_is(capsys: pytest.CaptureFixture[str]) -> None:
    for language in ("en", "ko"):
        _, out, _ = run(capsys, "--help", "--lang", language)
        assert all(f"{name}:" in " ".join(out) for name in WORLDS)


def test_the_list_needs_no_torch() -> None:
    code = "import sys; from denoised.cli import main; main(['world']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "size", "last"),
    [
        (["emoji", "--size", "32"], (6 * 34 - 2, 4 * 34 - 2), "background"),
        (["emoji", "--lang", "ko"], (6 * 66 - 2, 4 * 66 - 2), "있다"),
        (["clips", "--size", "16"], (8 * 18 - 2, len(MOTIONS) * 18 - 2), "background"),
        (["clips", "--lang", "ko", "--size", "16"], (8 * 18 - 2, len(MOTIONS) * 18 - 2), "한다"),
        (["toys", "--size", "96"], (2 * (2 * 96 + 32) + 24, 4 * (96 + 50) + 24), "two spirals"),
    ],
)
def test_a_world_is_one_picture_and_what_is_on_it(
    arguments: list[str], size: tuple[int, int], last: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "picture.png"
    code, out, err = run(capsys, *arguments, "--out", str(path))
    assert code == Exit.OK and err.endswith(f": {path}\n")
    assert len(out) == {"emoji": 24, "clips": len(MOTIONS), "toys": len(TOYS)}[arguments[0]]
    assert out[-1].endswith(last)
    with Image.open(path) as picture:
        assert picture.size == size
    before = path.read_bytes()
    run(capsys, *arguments, "--out", str(path), "--seed", "0")
    assert path.read_bytes() == before
    run(capsys, *arguments, "--out", str(path), "--seed", "1")
    assert path.read_bytes() != before


def test_clips_are_shown_one_of_each_motion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "clips", "--size", "16", "--out", str(tmp_path / "clips.png"))
    for caption, motion in zip(out, MOTIONS, strict=True):
        assert f" {motion.en} on " in caption


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["emojis"], Exit.USAGE, "error: WORLD: there is no `emojis`\nhelp: did you mean `emoji`?\n"),
        (["emoji", "--folder", "."], Exit.USAGE, "error: the world emoji has no option --folder\n"),
        (
            ["fashion-mnist", "--size", "64"],
            Exit.USAGE,
            "error: the world fashion-mnist has no option --size\n",
        ),
        (["fashion-mnist", "--folder", "/nowhere"], Exit.USAGE, "t10k-images-idx3-ubyte.gz is missing\n"),
        (["toys", "--size", "64"], Exit.USAGE, "error: --size is 64, and toys takes 96 to 512\n"),
        (["emoji", "--size", "4"], Exit.USAGE, "error: --size is 4, and emoji takes 16 to 512\n"),
        (["clips", "--size", "1024"], Exit.USAGE, "error: --size is 1024, and clips takes 16 to 512\n"),
        (
            ["clips", "--size", "4", "--lang", "ko"],
            Exit.USAGE,
            "오류: clips의 --size는 16에서 512까지인데 4이다\n",
        ),
        (["emoji", "--seed", "-1"], Exit.USAGE, "--seed"),
        (
            ["emoji", "--size", "32", "--out", "/proc/emoji.png"],
            Exit.RESOURCES,
            "cannot write /proc/emoji.png",
        ),
    ],
)
def test_mistakes_are_told_and_nothing_is_printed(
    arguments: list[str], code: Exit, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, err = run(capsys, *arguments)
    assert (ended, out) == (code, []) and says in err


def test_points_are_drawn_where_they_are_in_a_frame_that_fits_the_density() -> None:
    """Two flat modes far from the origin: the frame is theirs, not a square around 0."""
    means = torch.tensor([[92.0, 50.0], [108.0, 50.0]], dtype=torch.float64)
    flat = torch.tensor([1.0, 0.01], dtype=torch.float64).diag().expand(2, 2, 2)
    points = torch.tensor([[92.0, 50.0], [100.0, 50.0], [100.0, 80.0], [0.0, 0.0]], dtype=torch.float64)
    picture, outside = points_over(GaussianMixture(means, flat), points, 400)
    assert picture.size == (400, 160) and outside == 2
    colours = np.asarray(picture.convert("RGB"))
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) <= COLOURS
    assert colours[0, 0].tolist() == [255, 255, 255]
    y, x = np.nonzero(colours.max(axis=2) < 60)  # ink: the two points inside
    left, right = x[x < 150], x[x >= 150]
    assert len(x) <= 24 and abs(y - 80).max() < 8
    # A sample of 800 reaches about 3.2 deviations beyond both modes, and the frame a fifth further.
    assert right.mean() - left.mean() == pytest.approx(400 * 8 / (1.2 * (16 + 2 * 3.2)), rel=0.1)

"""What the repository promises about itself: both READMEs say the same, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from denoised.catalog import load
from denoised.cli import main

ROOT = Path(__file__).resolve().parent.parent
READMES = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md")]


def test_the_readmes_agree() -> None:
    for pattern in (r"^#+ ", r"```.*?```", r"\]\((?!README)[^)]+\)", r"`[^`\n]+`"):
        en, ko = (re.findall(pattern, text, re.MULTILINE | re.DOTALL) for text in READMES)
        assert sorted(en) == sorted(ko), pattern


def test_every_path_the_readme_names_exists() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", READMES[0]):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize(
    "command", ["list", "show", "check", "run", "sweep", "train", "world", "site build", "site serve"]
)
def test_every_command_of_the_readme_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for language in ("ko", "en"):
        assert main(["--lang", language, *command.split(), "--help"]) == 0
    assert command.split()[-1] in capsys.readouterr().out


def test_the_catalog_is_clean_and_complete_enough() -> None:
    catalog = load(ROOT / "catalog.yaml")
    assert len(catalog.categories) == 24
    for paper in catalog.papers:
        if (ROOT / "papers" / paper.id).exists():
            notes = sorted(path.name for path in (ROOT / "papers" / paper.id).glob("*.md"))
            assert notes == ["en.md", "ko.md"], paper.id


def test_every_version_is_pinned_exactly() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    names = {pin.split("==")[0] for pin in pins}
    assert "torch" in names and "torchvision" not in names

"""CONTRIBUTING's commands, run as they stand there, with arXiv played by a server on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from denoised.cli import main
from denoised.language import Language
from tests.contribute.fake_arxiv import entry

ROOT = Path(__file__).parents[2]
NAMES: dict[Language, str] = {"en": "CONTRIBUTING.md", "ko": "CONTRIBUTING.ko.md"}

FLOW_MATCHING = entry(
    "2210.02747v2",
    "Flow Matching for Generative Modeling",
    ("Yaron Lipman", "Ricky T. Q. Chen", "Heli Ben-Hamu", "Maximilian Nickel", "Matt Le"),
    "2022-10-06T08:32:20Z",
)


def blocks(language: Language, kind: str) -> list[str]:
    """The fenced blocks of one kind in one language's guide."""
    text = (ROOT / NAMES[language]).read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


def transcripts(language: Language) -> list[tuple[str, str]]:
    """Every command of the guide that shows what it prints, and that."""
    found = []
    for block in blocks(language, "console"):
        command, _, output = block.partition("\n")
        assert command.startswith("$ denoised "), command
        found.append((command.removeprefix("$ "), output))
    return found


def run(command: str, language: Language, read: Callable[[], tuple[str, str]]) -> str:
    """What a command prints, errors last, as a terminal that is no terminal shows it."""
    main(["--lang", language, *command.split()[1:]])
    out, err = read()
    return out + err

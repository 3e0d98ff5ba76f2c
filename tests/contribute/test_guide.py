"""CONTRIBUTING says what happens: its commands are run and print what stands there, in both languages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from denoised.catalog import load
from denoised.language import LANGUAGES, Language
from tests.contribute.fake_arxiv import fake_arxiv
from tests.contribute.guide import FLOW_MATCHING, NAMES, ROOT, blocks, run, transcripts


def timeless(text: str) -> str:
    """Without the numbers that change as the catalog grows: lines and counts."""
    return re.sub(r" *\d{3,5}|(?m:^ +)(?= [|=])", "#", text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_ten_minutes(
    language: Language,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    catalog = tmp_path / "catalog.yaml"
    shutil.copy(ROOT / "catalog.yaml", catalog)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DENOISED_CACHE", str(tmp_path / "cache"))
    new, *others = transcripts(language)
    with fake_arxiv(entries={"2210.02747": FLOW_MATCHING}) as server:
        monkeypatch.setenv("DENOISED_ARXIV_URL", server.url)
        printed = run(new[0], language, capsys.readouterr)
    assert timeless(printed.strip()) == timeless(new[1].strip())
    draft = printed[: printed.index("\n\n")]
    (entry,) = blocks(language, "yaml")
    catalog.write_text(catalog.read_text("utf-8").replace(draft, entry.rstrip()), encoding="utf-8")
    assert [command for command, _ in others] == ["denoised check", "denoised fix", "denoised check"]
    for command, expected in others:
        printed = run(command, language, capsys.readouterr)
        assert timeless(printed.strip()) == timeless(expected.strip())
    paper = load(catalog).paper("flow-matching")
    assert paper.tags == ("flow", "ode") and paper.venue == "ICLR 2023"


def test_both_languages_tell_the_same() -> None:
    texts = [(ROOT / NAMES[language]).read_text(encoding="utf-8") for language in LANGUAGES]
    for kind in ("sh", "yaml"):
        assert blocks("ko", kind) == blocks("en", kind)
    assert [command for command, _ in transcripts("ko")] == [command for command, _ in transcripts("en")]
    prose = [re.sub(r"```.*?```", "", text, flags=re.DOTALL) for text in texts]
    for pattern in (r"^#+ ", r"^\*\*\d", r"^\| ", r"^- ", r"`[^`\n]+`"):
        ko, en = (sorted(re.findall(pattern, text, re.MULTILINE)) for text in prose)
        assert ko == en, pattern


def test_every_path_that_it_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([\w./-]+/[\w.-]+|[\w-]+\.(?:yaml|md))`", text):
        if name not in ("en.md",):
            assert (ROOT / name).exists(), name

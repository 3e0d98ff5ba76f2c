"""Each code is explained in both languages, by an example that causes it and by lines that mend it."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from denoised.catalog import CODES
from denoised.catalog.characters import FORBIDDEN
from denoised.catalog.explain import CODES_FILE, COLUMNS, Explanations, explain, read_explanations
from denoised.catalog.load import read_data
from denoised.errors import DenoisedError, Exit
from denoised.language import LANGUAGES, Language, speaking
from denoised.terminal import width

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def explanations() -> Explanations:
    return read_explanations(ROOT)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    shutil.copy(ROOT / CODES_FILE, tmp_path / CODES_FILE)
    return tmp_path


def test_every_code_is_explained_once(explanations: Explanations) -> None:
    assert set(explanations.codes) == set(CODES)
    written = re.findall(r"^  (E\d+):$", (ROOT / CODES_FILE).read_text(encoding="utf-8"), re.MULTILINE)
    assert written == sorted(CODES)


def test_the_example_catalog_has_no_errors(explanations: Explanations) -> None:
    assert read_data("catalog.yaml", explanations.catalog.encode()).findings == []


@pytest.mark.parametrize("code", CODES)
def test_the_wrong_lines_cause_the_code_and_the_right_ones_nothing(
    explanations: Explanations, code: str
) -> None:
    (finding,) = explanations.reading(code).findings
    assert finding.code == code
    assert explanations.reading(code, right=True).findings == []


@pytest.mark.parametrize("code", CODES)
def test_the_mark_stands_where_any_font_puts_it(explanations: Explanations, code: str) -> None:
    reading = explanations.reading(code)
    (finding,) = reading.findings
    assert reading.source.lines[finding.line - 1][: finding.column - 1].isascii()


@pytest.mark.parametrize("code", CODES)
def test_what_is_shown_can_be_seen(explanations: Explanations, code: str) -> None:
    explanation = explanations.codes[code]
    for shown in (explanation.shown, explanation.right):
        assert not FORBIDDEN.search(shown)
        assert unicodedata.is_normalized("NFC", shown)
        assert max(map(width, shown.splitlines())) <= COLUMNS


def test_what_cannot_be_seen_is_written_out(explanations: Explanations) -> None:
    shown = {code: each.shown for code, each in explanations.codes.items()}
    assert shown["E0102"] == r"- {id: foundations, name: {ko: \xb1\xe2\xc3\xca, en: Foundations}}"
    assert shown["E0103"] == "<U+FEFF>categories:"
    decomposed = "<U+1100><U+1175><U+110E><U+1169>,"
    assert shown["E0104"] == f"- {{id: foundations, name: {{ko: {decomposed} en: Foundations}}}}"
    assert shown["E0105"] == "title: Variational<U+200B> Diffusion Models"


@pytest.mark.parametrize("code", CODES)
def test_each_language_says_it_in_its_own_words(explanations: Explanations, code: str) -> None:
    explanation = explanations.codes[code]
    for text in filter(None, (explanation.title, explanation.why, explanation.note)):
        assert re.search("[가-힣]", text.ko) and not re.search("[가-힣]", text.en)
        assert re.findall("`[^`]+`", text.ko) == re.findall("`[^`]+`", text.en)
        # Sites in both languages show the same numbers.
        assert sorted(re.findall(r"\d+", text.ko)) == sorted(re.findall(r"\d+", text.en))
    for language in LANGUAGES:
        assert not re.search(r"[.{}`]", explanation.title.to(language))
        assert 2 <= len(re.findall(r"\.(?= |$)", explanation.why.to(language))) <= 4


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_the_terminal_shows_all_of_it(explanations: Explanations, code: str, language: Language) -> None:
    told, explanation = explain(ROOT, code, language), explanations.codes[code]
    title, why, *_ = told.split("\n\n")
    assert title == f"{code}: {explanation.title.to(language)}"
    assert " ".join(why.split("\n")) == explanation.why.to(language)
    assert all(width(line) <= COLUMNS for line in why.split("\n"))
    for lines in (explanation.shown, explanation.right, *explanation.example.runners.values()):
        assert "".join(f"    {line}\n" for line in lines.splitlines()).rstrip() in told
    assert not re.search(r"[ \t]$", told, re.MULTILINE)


def test_one_explanation_in_full() -> None:
    assert explain(ROOT, " e0316 ", "en") == (
        "E0316: A runner that cites another paper\n\n"
        "The text at the top of a runner names the arXiv identifier of the paper it reproduces. If the entry\n"
        "has another, one of the two is about a different paper, and the page would set the claim of one\n"
        "beside the code of the other. A runner may name further papers, as long as its entry's is among\n"
        "them.\n\n"
        'wrong:\n    arxiv: "2107.00636"\n\n'
        'right:\n    arxiv: "2107.00630"\n\n'
        'runners/foundations/vdm.py:\n    """VDM: variational diffusion models (arXiv:2107.00630)."""'
    )


@pytest.mark.parametrize(
    ("code", "ko", "en"),
    [
        ("E0302x", "있는 코드: E0302", "codes that there are: E0302"),
        ("e 219", "있는 코드: E0219", "codes that there are: E0219"),
        ("", "있는 코드: E0101 … E0316", "codes that there are: E0101 … E0316"),
        ("venue", "있는 코드: E0101 … E0316", "codes that there are: E0101 … E0316"),
    ],
)
def test_an_unknown_code_names_the_nearest(code: str, ko: str, en: str) -> None:
    said: list[tuple[Language, str, str]] = [
        ("ko", f"없는 코드이다: `{code}`", ko),
        ("en", f"there is no code `{code}`", en),
    ]
    for language, message, help in said:
        with pytest.raises(DenoisedError) as caught, speaking(language):
            explain(ROOT, code, language)
        assert caught.value.message == message
        assert caught.value.help is not None and caught.value.help.startswith(help)
        assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda code: code["why"].pop("ko"), "codes.E0203.why.ko\n  Field required"),
        (lambda code: code["title"].update(en=" "), "codes.E0203.title.en\n  String should match pattern"),
        (lambda code: code.update(hint="x"), "codes.E0203.hint\n  Extra inputs are not permitted"),
        (lambda code: code.pop("right"), "codes.E0203.right\n  Field required"),
        (lambda code: code.update(wrong=1), "codes.E0203.wrong\n  Input should be a valid string"),
        (
            lambda code: code.update(right="arxiv: nowhere"),
            "E0203: stands 0 times in the example catalog: 'arxiv: nowhere'",
        ),
        (
            lambda code: code.update(example={"old": "kind: method"}),
            "E0203: stands 2 times in the example catalog: 'kind: method'",
        ),
    ],
)
def test_an_incomplete_explanation_is_refused(
    project: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = project / CODES_FILE
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(data["codes"]["E0203"])
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    with pytest.raises(DenoisedError) as caught:
        read_explanations(project)
    assert caught.value.message.startswith(f"{path}: ") and said in caught.value.message
    assert caught.value.code is Exit.FINDINGS


def test_a_file_that_is_no_yaml_or_not_there_is_named(project: Path) -> None:
    path = project / CODES_FILE
    path.write_text("codes: [", encoding="utf-8")
    with pytest.raises(DenoisedError) as caught:
        read_explanations(project)
    assert caught.value.message.startswith(f"{path}: ") and caught.value.code is Exit.FINDINGS
    path.unlink()
    with pytest.raises(DenoisedError) as caught, speaking("en"):
        explain(project, "E0203", "en")
    assert caught.value.message == f"cannot read {path}: No such file or directory"

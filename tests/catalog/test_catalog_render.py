"""How findings are shown: the mark under the right columns, nothing invisible, nothing endless."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from denoised.catalog import render
from denoised.catalog.findings import CODES, Finding, Span
from denoised.catalog.load import read_data
from denoised.catalog.render import COLUMNS, excerpt
from denoised.catalog.source import Source
from denoised.terminal import width

VALID = (Path(__file__).parent / "fixtures" / "valid.yaml").read_text(encoding="utf-8")


def shown(old: str, new: str, language: str = "en") -> str:
    reading = read_data("catalog.yaml", VALID.replace(old, new).encode())
    return render(reading.findings, reading.source, "human", "ko" if language == "ko" else "en")


def test_a_finding_looks_like_a_diagnostic_of_a_compiler() -> None:
    assert (
        shown('    links: {arxiv: "2006.11239"}', "    links:\n      arxiv: 2006.11230")
        == """\
error[E0203]: `arxiv` is a number, so YAML would read 2006.11230 as 2006.1123
 --> catalog.yaml:36:14
   |
36 |       arxiv: 2006.11230
   |              ^^^^^^^^^^ must be a quoted string
   |
   = help: arxiv: "2006.11230\""""
    )


def test_in_korean_every_word_is_korean() -> None:
    assert (
        shown("kind: video", "kind: vidio", "ko")
        == """\
오류[E0206]: `kind`에 쓸 수 없는 값이다: `vidio`
 --> catalog.yaml:44:11
   |
44 |     kind: vidio
   |           ^^^^^ 모르는 값
   |
   = 도움: 혹시 `video`인가?"""
    )


def test_the_mark_stands_under_text_that_follows_hangul() -> None:
    lines = shown("{ko: 빠른 샘플링, en: Fast sampling}", "{ko: 빠른 샘플링, en: 1.10}").split("\n")
    text, mark = lines[3], lines[4]
    # The columns of a terminal, not the characters: each of the five syllables takes two.
    assert mark.index("^") == text.index("1.10") + 5 == width(text[: text.index("1.10")])
    assert mark.count("^") == 4


def test_the_mark_under_hangul_is_twice_as_long() -> None:
    lines = shown("[training]", "[훈련]").split("\n")
    assert lines[4].count("^") == 4


def test_an_invisible_character_is_written_out_and_the_mark_covers_it() -> None:
    lines = shown("title: A review", "title: A \u202ereview").split("\n")
    assert lines[3] == "45 |     title: A <U+202E>review of diffusion"
    assert lines[4] == "   |              ^^^^^^^^ invisible to a reader"


def test_a_terminal_escape_in_the_file_does_not_reach_the_terminal() -> None:
    said = shown("name: Review", "na\x1b[31mme: Review")
    assert "\x1b" not in said
    assert "<U+001B>" in said


@pytest.mark.parametrize(("start", "end"), [(0, 4), (150, 160), (296, 300), (100, 300)])
def test_a_long_line_is_cut_around_the_mark(start: int, end: int) -> None:
    line = "".join(chr(ord("가") + index) for index in range(300))
    text, column, length = excerpt(line, start, end)
    assert width(text) <= COLUMNS + 2
    assert text.startswith("…") == (start > 12)
    # What stands above the mark is the first marked character.
    before = next(index for index in range(len(text)) if width(text[:index]) == column)
    assert text[before] == line[start]
    assert column + length <= COLUMNS + 1


def test_json_is_the_same_in_every_language_and_holds_both() -> None:
    reading = read_data("catalog.yaml", VALID.replace("kind: video", "kind: vidio").encode())
    in_english = render(reading.findings, reading.source, "json", "en")
    assert in_english == render(reading.findings, reading.source, "json", "ko")
    assert json.loads(in_english) == [
        {
            "file": "catalog.yaml",
            "line": 44,
            "column": 11,
            "end_line": 44,
            "end_column": 16,
            "code": "E0206",
            "message": {
                "ko": "`kind`에 쓸 수 없는 값이다: `vidio`",
                "en": "`vidio` is no `kind` that we know",
            },
            "label": {"ko": "모르는 값", "en": "unknown value"},
            "help": {"ko": "혹시 `video`인가?", "en": "did you mean `video`?"},
        }
    ]
    assert render([], reading.source, "json", "en") == "[]"


def test_an_annotation_cannot_be_broken_out_of() -> None:
    values = {"field": "`a`", "value": "100%", "hint": "b"}
    finding = Finding("odd,name:\n::error::x.yaml", Span(3, 5, 3, 9), "E0206", values)
    assert render([finding], Source("odd", ""), "github", "en") == (
        "::error file=odd%2Cname%3A%0A%3A%3Aerror%3A%3Ax.yaml,line=3,endLine=3,col=5,endColumn=8,title=E0206"
        "::100%25 is no `a` that we know%0Aunknown value%0Ab"
    )


def test_every_code_speaks_both_languages_with_the_same_places() -> None:
    for code, texts in CODES.items():
        for text in (texts.message, texts.label, texts.help):
            assert bool(text.ko) == bool(text.en), code
            names = [{part.split("}")[0] for part in side.split("{")[1:]} for side in text]
            assert names[0] == names[1], code

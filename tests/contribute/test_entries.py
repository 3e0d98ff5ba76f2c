"""A catalog's text divided into entries and put together again."""

from __future__ import annotations

from pathlib import Path

import pytest

from denoised.contribute.entries import divide, works

ROOT = Path(__file__).parents[2]
REAL = (ROOT / "catalog.yaml").read_text(encoding="utf-8")
VALID = (ROOT / "tests" / "catalog" / "fixtures" / "valid.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        REAL,
        VALID,
        VALID.rstrip(),
        VALID.replace("\n", "\r\n"),
        VALID + "\n\n# the end\n",
        VALID + "tags: []\n",
        VALID.replace("  - id: ddpm", "\n\n  # about DDPM\n  - id: ddpm"),
    ],
    ids=["real", "small", "no last line end", "windows", "comment after", "field after", "comment before"],
)
def test_the_parts_are_the_whole(text: str) -> None:
    entries = divide(text)
    assert entries is not None
    assert entries.text() == text
    assert entries.ids == sorted(entries.ids)
    assert entries.in_order().text().rstrip() == text.rstrip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "papers: []",
        "papers: [{id: a}]",
        "papers: {id: a}",
        "papers:\n  -\n    id: a\n",
        "papers:\n  - name: without an id\n",
        "papers:\n  - id: [a]\n",
        "papers: [",
    ],
)
def test_what_is_no_block_list_of_entries_is_not_divided(text: str) -> None:
    assert divide(text) is None


def test_a_comment_after_the_last_entry_stays_at_the_end() -> None:
    entries = divide("papers:\n  - id: b\n    name: B\n  - id: a\n# the end\n")
    assert entries is not None
    assert entries.in_order().text() == "papers:\n  - id: a\n  - id: b\n    name: B\n# the end\n"


@pytest.mark.parametrize(
    "id, neighbours",
    [("a", ("papers:", "ddim")), ("ddj", ("ddim", "ddpm")), ("z", ("review", None))],
)
def test_a_new_entry_takes_its_place(id: str, neighbours: tuple[str, str | None]) -> None:
    entries = divide(VALID)
    assert entries is not None
    new = entries.with_entry(id, f"  - id: {id}\n    name: New")
    lines = [line.split()[-1] for line in new.text().split("\n") if line.startswith(("  - id", "papers"))]
    at = lines.index(id)
    assert (lines[at - 1], lines[at + 1] if at + 1 < len(lines) else None) == neighbours
    without = new.text().replace(f"  - id: {id}\n    name: New\n", "")
    assert without == VALID


def test_entries_that_are_set_off_by_blank_lines_stay_so() -> None:
    entries = divide(REAL)
    assert entries is not None
    text = entries.with_entry("ddin", "  - id: ddin").text()
    assert "\n\n  - id: ddin\n\n  - id: ddnm\n" in text


def test_lines_end_as_in_the_rest_of_the_file() -> None:
    entries = divide(VALID.replace("\n", "\r\n"))
    assert entries is not None
    assert "\r\n  - id: a\r\n    name: New\r\n" in entries.with_entry("a", "  - id: a\n    name: New").text()


def test_works_are_read_from_a_catalog_with_errors() -> None:
    found = works(
        VALID.replace("kind: video", "kind: vidio").replace("category: foundations", "category: nowhere")
    )
    assert [(work.id, work.line, work.arxiv) for work in found] == [
        ("ddim", 6, "2010.02502"),
        ("ddpm", 26, "2006.11239"),
        ("review", 42, ""),
    ]
    assert found[0].addresses == ("https://github.com/ermongroup/ddim",)
    assert works("papers: [") == [] == works("papers: 1")

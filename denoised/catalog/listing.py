"""The catalog in a terminal: which papers match, how each one stands, a table of them, one in full."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from denoised.catalog.bibtex import bibtex
from denoised.catalog.characters import visible
from denoised.catalog.model import Catalog, Paper, Reported
from denoised.errors import DenoisedError
from denoised.language import Language, Phrase
from denoised.terminal import pad, width, wrap

Standing = Literal["holds", "fails", "inconclusive", "unverified", "not-run", "no-runner", "no-claim"]

STANDINGS: dict[Standing, Phrase] = {
    "holds": Phrase(ko="성립", en="holds"),
    "fails": Phrase(ko="불성립", en="fails"),
    "inconclusive": Phrase(ko="판정 보류", en="inconclusive"),
    "unverified": Phrase(ko="확인되지 않음", en="unverified"),
    "not-run": Phrase(ko="아직 실행 안 함", en="not run yet"),
    "no-runner": Phrase(ko="아직 러너 없음", en="no runner yet"),
    "no-claim": Phrase(ko="검증할 주장 없음", en="no claim to test"),
}
Style = Callable[[str, str], str]  # a text and what it is ("id", "year" or a Standing) -> the text, styled


def standing(paper: Paper, root: Path) -> Standing:
    """How the paper's reproduction at mini scale stands: the verdict over all its claims, or what is missing.

    One claim that fails makes the paper fail; it holds only if every claim does. A record that cannot be
    trusted is `unverified`.
    """
    path = root / "papers" / paper.id / "results" / "mini.json"
    if path.is_symlink() or path.exists():
        from denoised.lab.record import read_record  # only where there is a record: most commands need none

        try:
            verdicts = {claim.verdict for claim in read_record(path, paper=paper.id).claims}
        except DenoisedError:
            return "unverified"
        if "fails" in verdicts:
            return "fails"
        return "holds" if verdicts == {"holds"} else "inconclusive"
    if (root / paper.runner_file).is_file():
        return "not-run"
    return "no-runner" if paper.claim else "no-claim"


def matches(paper: Paper, query: str) -> bool:
    """Whether every word of the query occurs somewhere in the entry, inside words too, in either language."""
    texts = [paper.id, paper.name, paper.title, paper.category, paper.links.arxiv or "", paper.venue or ""]
    texts += [*paper.authors, *paper.tags, paper.sentence.ko, paper.sentence.en]
    texts += [text for each in (paper.claim, paper.test) if each for text in (each.ko, each.en)]
    haystack = "\n".join(texts).casefold()
    return all(word in haystack for word in unicodedata.normalize("NFC", query).casefold().split())


def lines_of(papers: Sequence[Paper], root: Path, language: Language) -> str:
    """One line a paper, aligned, nothing cut: for a pipe."""
    heads = _heads(papers, [standing(paper, root) for paper in papers], language)
    return "\n".join(
        "  ".join([*head, paper.sentence.to(language)]) for paper, head in zip(papers, heads, strict=True)
    )


def entries_of(papers: Sequence[Paper], root: Path, language: Language, style: Style) -> str:
    """A few lines a paper, the sentence wrapped to the terminal: for a person."""
    columns = min(shutil.get_terminal_size().columns, 100)
    standings = [standing(paper, root) for paper in papers]
    lines = []
    for paper, state, head in zip(papers, standings, _heads(papers, standings, language), strict=True):
        id, year, said, name = head
        lines.append("  ".join([style(id, "id"), style(year, "year"), style(said, state), name]).rstrip())
        lines += ["    " + line for line in wrap(paper.sentence.to(language), columns - 4)]
    return "\n".join(lines)


def _heads(papers: Sequence[Paper], standings: Sequence[Standing], language: Language) -> list[list[str]]:
    """Id, year, standing and name of each paper, padded to the same widths."""
    states = [STANDINGS[state].to(language) for state in standings]
    rows = [
        (paper.id, str(paper.year or ""), state, paper.name)
        for paper, state in zip(papers, states, strict=True)
    ]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [[pad(cell, columns) for cell, columns in zip(row, widths, strict=True)] for row in rows]


def full(
    paper: Paper, catalog: Catalog, root: Path, language: Language, title: Callable[[str], str] = str
) -> str:
    """Everything about one paper, as text wrapped to the terminal; `title` sets off its headings."""
    columns = min(shutil.get_terminal_size().columns, 100)

    def paragraph(text: str) -> list[str]:
        return ["  " + line for line in wrap(text, columns - 2)]

    def heading(ko: str, en: str) -> list[str]:
        return ["", title(ko if language == "ko" else en)]

    facts = [
        str(paper.published) if paper.published else None,
        paper.venue,
        catalog.category(paper.category).name.to(language),
        paper.kind,
    ]
    lines = [
        title(f"{paper.name} ({paper.id})"),
        *wrap(paper.title, columns),
        *wrap(", ".join(paper.authors), columns),
        *wrap(" · ".join(fact for fact in facts if fact), columns),
        *wrap(", ".join(paper.tags), columns),
        *heading("한 문장", "One sentence"),
        *paragraph(paper.sentence.to(language)),
    ]
    if paper.claim:
        lines += [*heading("주장", "Claim"), *paragraph(paper.claim.to(language))]
    if paper.test:
        lines += [*heading("mini 규모의 시험", "Test at mini scale"), *paragraph(paper.test.to(language))]
    lines += [
        *heading("재현", "Reproduction"),
        *(f"  {line}" for line in _reproduction(paper, root, language)),
    ]
    if paper.reported:
        lines += heading("논문이 보고한 값", "Reported by the paper")
        lines += [line for number in paper.reported for line in paragraph(_reported(number, language))]
    links = {"arXiv": paper.arxiv_url} | {name: address for name, address in paper.links if name != "arxiv"}
    if any(links.values()):
        lines += heading("링크", "Links")
        lines += [f"  {pad(name, 10)}  {address}" for name, address in links.items() if address]
    if paper.builds_on:
        lines += [*heading("바탕이 된 논문", "Builds on"), *paragraph(", ".join(paper.builds_on))]
    if paper.prerequisites:
        lines += [*heading("먼저 읽을 것", "Read first"), *paragraph(", ".join(paper.prerequisites))]
    if later := catalog.built_on(paper.id):
        names = ", ".join(other.id for other in later)
        lines += [*heading("이 논문을 바탕으로 한 논문", "Built on by"), *paragraph(names)]
    note = Path("papers", paper.id, f"{language}.md")
    if (root / note).is_file():
        lines += [*heading("노트", "Note"), f"  {note}"]
    lines += [*heading("BibTeX", "BibTeX"), *("  " + line for line in bibtex(paper).splitlines())]
    return "\n".join(lines)


def _reproduction(paper: Paper, root: Path, language: Language) -> list[str]:
    state = standing(paper, root)
    said = STANDINGS[state].to(language)
    if state in ("no-runner", "no-claim"):
        return [said]
    command = f"denoised run {paper.id}"
    if state == "not-run":
        return [said, command]
    path = Path("papers", paper.id, "results", "mini.json")
    lines = [f"{said} (mini): {path}"]
    if state != "unverified":
        from denoised.lab.record import read_record

        for claim in read_record(root / path, paper=paper.id).claims:
            at = ", ".join(f"{name}={value}" for name, value in claim.at.items())
            said = f"{claim.metric}: {claim.arm} {claim.relation} {claim.than}" + (f" ({at})" if at else "")
            bounds = f" [{claim.interval[0]:.4g}, {claim.interval[1]:.4g}]" if claim.interval else ""
            verdict = STANDINGS[claim.verdict].to(language)
            lines.append(visible(f"{said}: {verdict}, {claim.effect:+.4g}{bounds}"))
    return [*lines, command]


def _reported(number: Reported, language: Language) -> str:
    parts = [
        f"{number.metric} {number.value:g}",
        number.dataset,
        f"NFE {number.nfe}" if number.nfe else None,
        number.setting,
        number.source,
    ]
    said = " · ".join(part for part in parts if part)
    unchecked = Phrase(ko=" (출처와 대조하지 않음)", en=" (not checked against its source)")
    return said if number.checked else said + unchecked.to(language)

"""Findings as a person reads them, as JSON, and as annotations of a pull request."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal, assert_never, get_args

from denoised.catalog.characters import shown
from denoised.catalog.findings import Finding
from denoised.catalog.source import Source
from denoised.language import LANGUAGES, Language, Phrase
from denoised.terminal import width

Format = Literal["human", "json", "github"]
FORMATS: tuple[str, ...] = get_args(Format)

COLUMNS = 100  # of a quoted line; what is longer is cut around the marked place
_MARGIN = 24  # columns kept before the marked place of a cut line

_ERROR = Phrase(ko="오류", en="error")
_HELP = Phrase(ko="도움", en="help")


def render(findings: Iterable[Finding], source: Source, format: Format, language: Language) -> str:
    """All findings of one file, ready to print (without a last newline).

    `json` holds both languages, so that whoever reads it can choose; `github` is the runner's annotations.
    """
    match format:
        case "human":
            return "\n\n".join(_human(finding, source, language) for finding in findings)
        case "json":
            return json.dumps([_plain(finding) for finding in findings], ensure_ascii=False, indent=2)
        case "github":
            return "\n".join(_annotation(finding, language) for finding in findings)
        case _:
            assert_never(format)


def _human(finding: Finding, source: Source, language: Language) -> str:
    number = str(finding.line)
    gutter = " " * len(number)
    lines = [
        f"{_ERROR.to(language)}[{finding.code}]: {finding.message(language)}",
        f" --> {finding.file}:{finding.line}:{finding.column}",
    ]
    if finding.line <= len(source.lines) and source.lines[finding.line - 1]:
        text, start, length = excerpt(source.lines[finding.line - 1], *_marked(finding, source))
        marks = " " * start + "^" * length
        lines += [
            f"{gutter} |",
            f"{number} | {text}",
            f"{gutter} | {marks} {finding.label(language)}".rstrip(),
            f"{gutter} |",
        ]
    if help := finding.help(language):
        lines.append(f"{gutter} = {_HELP.to(language)}: {help}")
    return "\n".join(lines)


def _marked(finding: Finding, source: Source) -> tuple[int, int]:
    """The marked stretch of the finding's first line, in characters from 0."""
    line = source.lines[finding.line - 1]
    start = finding.column - 1
    end = finding.end_column - 1 if finding.end_line == finding.line else len(line.rstrip())
    return start, max(end, start + 1)


def excerpt(line: str, start: int, end: int) -> tuple[str, int, int]:
    """The part of a line to show, and where in it the marked characters stand, in terminal columns.

    Forbidden characters are written out, Hangul counts two columns, a long line is cut around the mark.
    """
    pieces = [shown(character) for character in line]
    widths = [width(piece) for piece in pieces]
    first, column = 0, sum(widths[:start])
    if sum(widths) > COLUMNS:
        while column > _MARGIN and first < start:
            column -= widths[first]
            first += 1
    last, used = first, 0
    while last < len(pieces) and used + widths[last] <= COLUMNS:
        used += widths[last]
        last += 1
    left, right = "…" if first else "", "…" if last < len(pieces) else ""
    marked = sum(widths[start : min(end, last)])
    return left + "".join(pieces[first:last]) + right, column + len(left), max(marked, 1)


def _plain(finding: Finding) -> dict[str, object]:
    return {
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "end_line": finding.end_line,
        "end_column": finding.end_column,
        "code": finding.code,
        "message": {language: finding.message(language) for language in LANGUAGES},
        "label": {language: finding.label(language) for language in LANGUAGES},
        "help": {language: finding.help(language) for language in LANGUAGES},
    }


def _annotation(finding: Finding, language: Language) -> str:
    """A workflow command of GitHub Actions; its columns are inclusive."""
    properties = {
        "file": finding.file,
        "line": str(finding.line),
        "endLine": str(finding.end_line),
        "col": str(finding.column),
        "endColumn": str(max(finding.end_column - 1, 1)),
        "title": finding.code,
    }
    listed = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    parts = [finding.message(language), finding.label(language), finding.help(language)]
    return f"::error {listed}::{_escaped(chr(10).join(part for part in parts if part))}"


def _escaped(text: str, also: str = "") -> str:
    for character in "%\r\n" + also:  # the percent sign first
        text = text.replace(character, f"%{ord(character):02X}")
    return text

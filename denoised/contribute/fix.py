"""What can be mended without asking: the same value written so that it is read as it was meant.

A fix never chooses between two meanings. Each is tried on the text and kept only if `check` then finds less and
nothing new; what is left is for a person. Only the marked characters change, so comments and layout stay.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from denoised.catalog.characters import LINE_END, is_blank, visible
from denoised.catalog.findings import Finding
from denoised.catalog.load import Reading, read_data
from denoised.catalog.model import ARXIV_INSIDE, kebab
from denoised.catalog.source import read_bytes
from denoised.catalog.yaml_nodes import quote
from denoised.contribute.entries import divide
from denoised.files import write_whole

ROUNDS = 20  # one fix may uncover what another mends; no catalog needed more than four


@dataclass(frozen=True)
class Fixed:
    """A catalog's text before and after, how often each code was mended, and what is left to do."""

    before: str
    after: str
    mended: dict[str, int]
    left: Reading


@dataclass(frozen=True)
class _Edit:
    code: str
    start: int
    end: int
    text: str


def fix_file(path: Path, *, write: bool) -> Fixed:
    """Mend a file, in place where `write` is set.

    Raises DenoisedError (USAGE) where it cannot be read, (RESOURCES) where it cannot be written.
    """
    data = read_bytes(path)
    fixed = fix(path.name, data)
    if write and fixed.after != fixed.before:
        write_whole(path, fixed.after.encode())
    return fixed


def fix(name: str, data: bytes) -> Fixed:
    """The bytes of a catalog mended; `name` stands for the file in findings."""
    reading = read_data(name, data)
    if any(finding.code in ("E0101", "E0102") for finding in reading.findings):
        return Fixed(reading.source.text, reading.source.text, {}, reading)
    text = before = data.decode("utf-8")
    mended: Counter[str] = Counter()
    for _ in range(ROUNDS):
        kept, reading = _round(name, text, reading)
        if not kept:
            break
        text = _applied(text, kept)
        mended.update(edit.code for edit in kept)
    if any(finding.code == "E0306" for finding in reading.findings) and (entries := divide(text)):
        trial = entries.in_order().text()
        after = read_data(name, trial.encode())
        if not any(finding.code == "E0306" for finding in after.findings):
            mended["E0306"] = sum(finding.code == "E0306" for finding in reading.findings)
            text, reading = trial, after
    return Fixed(before, text, dict(sorted(mended.items())), reading)


def _round(name: str, text: str, reading: Reading) -> tuple[list[_Edit], Reading]:
    """The edits of `text` that mend a finding without causing another, and what `check` says after them."""
    starts = [0, *(match.end() for match in LINE_END.finditer(reading.source.text))]
    skipped = len(text) - len(reading.source.text)  # a byte-order mark
    proposed = (_edit(text, finding, starts, skipped) for finding in reading.findings)
    kept: list[_Edit] = []
    # All at once; what does not go together is halved until it does.
    groups = [[edit for edit in proposed if edit is not None]]
    while groups:
        group = groups.pop()
        trial = _applied(text, kept + group)
        after = read_data(name, trial.encode())
        if group and _is_better(reading, after, group):
            kept, reading = kept + group, after
        elif len(group) > 1:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
    return kept, reading


def diff(fixed: Fixed, name: str) -> str:
    """What changed, as a unified diff; characters that cannot be seen are written out."""
    lines = difflib.unified_diff(
        fixed.before.splitlines(), fixed.after.splitlines(), name, name, lineterm="", n=2
    )
    return "\n".join(map(visible, lines))


def _is_better(before: Reading, after: Reading, edits: Sequence[_Edit]) -> bool:
    """Whether edits did what they were for. Cleaning characters may uncover errors that were there already."""
    was, now = (
        Counter(finding.code for finding in reading.findings if finding.code != "E0306")
        for reading in (before, after)
    )
    if all(edit.code in ("E0103", "E0104", "E0105") for edit in edits):
        return any(now[code] < was[code] for code in ("E0103", "E0104", "E0105"))
    solved = all(now[edit.code] < was[edit.code] for edit in edits)
    return solved and now.total() <= was.total() and not (now - was).keys() - _UNCOVERED


def _applied(text: str, edits: Sequence[_Edit]) -> str:
    """`text` with the edits made; of two that touch each other, the first."""
    parts, end = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if edit.start >= end:
            parts += [text[end : edit.start], edit.text]
            end = edit.end
    return "".join([*parts, text[end:]])


def _edit(text: str, finding: Finding, starts: list[int], skipped: int) -> _Edit | None:
    """The change that would mend one finding; None where a person must decide.

    `starts` are the offsets of the lines in the text that findings count in, which lacks the first `skipped`.
    """
    if finding.code == "E0103":
        return _Edit("E0103", 0, 1, "")
    mend, span = _MENDERS.get(finding.code), finding.span
    if mend is None or max(span.line, span.end_line) > len(starts):
        return None
    start = starts[span.line - 1] + span.column - 1 + skipped
    end = starts[span.end_line - 1] + span.end_column - 1 + skipped
    marked = text[start:end]
    if finding.code == "E0218":
        # The item goes with the comma before it; in a list of lines a person deletes the line.
        comma = re.search(r", *$", text[:start])
        return _Edit("E0218", comma.start(), end, "") if comma else None
    if finding.code == "E0105" and not text[text.rfind("\n", 0, start) + 1 : start].strip():
        return None  # in the indentation: how many spaces are meant?
    new = mend(marked) if marked else None
    return None if new is None or new == marked else _Edit(finding.code, start, end, new)


# --- one value ---------------------------------------------------------------------------------------------


def _inner(scalar: str) -> str | None:
    """The text of a scalar on one line, without its quotes; None where it holds escapes or goes on below."""
    if "\n" in scalar or "\\" in scalar:
        return None
    for mark in "\"'":
        if len(scalar) > 1 and scalar[0] == scalar[-1] == mark:
            return scalar[1:-1] if mark not in scalar[1:-1] else None
    return scalar


def _like(scalar: str, new: str) -> str:
    """`new` in the quotes that `scalar` has."""
    return f"{scalar[0]}{new}{scalar[0]}" if scalar[0] in "\"'" else new


def _on_inner(change: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """A change of a scalar's text as a change of the scalar."""

    def mend(scalar: str) -> str | None:
        inner = _inner(scalar)
        new = change(inner) if inner is not None else None
        return None if new is None else _like(scalar, new)

    return mend


def _characters(marked: str) -> str | None:
    if all(is_blank(each) for each in marked):
        return " "
    # Format characters mean nothing in a catalog. A control or U+FFFD stands where something was lost.
    return "" if all(unicodedata.category(each) == "Cf" for each in marked) else None


def _unquoted(scalar: str) -> str | None:
    inner = _inner(scalar)
    if inner is None:
        return None
    truth = {"yes": "true", "true": "true", "on": "true", "no": "false", "false": "false", "off": "false"}
    return truth.get(inner.lower(), inner)


def _slug(text: str) -> str | None:
    return kebab(text) or None


def _arxiv(scalar: str) -> str | None:
    """The one identifier in an address or before a version: never part of a longer number."""
    found = {
        match.group()
        for match in ARXIV_INSIDE.finditer(scalar)
        if not re.match(r"[0-9]", scalar[match.end() :])
        and not re.search(r"[0-9.]$", scalar[: match.start()])
    }
    return quote(found.pop()) if len(found) == 1 else None


def _date(scalar: str) -> str | None:
    """Year first is unambiguous: 2020/10/6, 2020.10.06."""
    match = re.fullmatch(r"([0-9]{4})([-./])([0-9]{1,2})\2([0-9]{1,2})", _inner(scalar) or "")
    return quote(f"{match[1]}-{int(match[3]):02}-{int(match[4]):02}") if match else None


def _venue(text: str) -> str | None:
    """NeurIPS2021, NeurIPS, 2021 and NeurIPS'21 -> NeurIPS 2021."""
    match = re.fullmatch(
        r"([A-Za-z][A-Za-z &]*?)[\s,]*(?:'|’)?((?:19|20)?[0-9]{2})( Workshop)?", text.strip()
    )
    if match is None or (len(match[2]) == 2 and not re.search("['’]", text)):
        return None
    return f"{match[1]} {match[2] if len(match[2]) == 4 else '20' + match[2]}{match[3] or ''}"


# Found only once a field's name, or the items of a list, can be read at all; to be mended next.
_UNCOVERED = {"E0203", "E0205", "E0206", "E0208", "E0210", "E0217", "E0218", "E0219"}

_MENDERS: dict[str, Callable[[str], str | None]] = {
    "E0104": lambda marked: unicodedata.normalize("NFC", marked),
    "E0105": _characters,
    "E0203": lambda marked: quote(marked) if "\n" not in marked else None,
    "E0204": lambda marked: marked.lower().replace("-", "_") if marked.isascii() else None,
    "E0205": _unquoted,
    "E0206": _on_inner(_slug),
    "E0207": _on_inner(_slug),
    "E0208": _arxiv,
    "E0210": _date,
    "E0217": _on_inner(lambda text: " ".join(text.split())),
    "E0218": lambda marked: "",
    "E0219": _on_inner(_venue),
    "E0303": _on_inner(_slug),
    "E0304": _on_inner(_slug),
    "E0309": _on_inner(_slug),
}

"""A catalog file as text: read with a size limit, decoded strictly, its characters checked."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from denoised.catalog.characters import FORBIDDEN, LINE_END, describe, is_blank
from denoised.catalog.findings import Finding, Span, quoted
from denoised.errors import DenoisedError
from denoised.language import say

SIZE_LIMIT = 32 * 2**20  # bytes; ten thousand entries take about half of it

MOST = 100  # forbidden characters told at once; a binary file has millions

_RUN = re.compile(f"({FORBIDDEN.pattern})\\1*")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Source:
    """The text of a catalog and the name it goes by in messages."""

    name: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The lines as the YAML parser counts them, without their ends."""
        return LINE_END.split(self.text)

    @property
    def parsable(self) -> str:
        """The text with each forbidden character replaced by one that YAML accepts, every place kept."""
        return FORBIDDEN.sub(_stand_in, self.text)


def read_bytes(path: Path) -> bytes:
    """The file's bytes, one more than SIZE_LIMIT at most.

    Raises DenoisedError (USAGE) where there is no such file, it may not be read, or it is no file: a pipe
    would never end, and behind a link could stand anything, of which findings then quote lines.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise _unreadable(path, say(ko="링크이다", en="it is a link")) from error
        raise _unreadable(path, os.strerror(error.errno or 0)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _unreadable(path, say(ko="보통 파일이 아니다", en="it is no regular file"))
    with os.fdopen(descriptor, "rb") as file:
        return file.read(SIZE_LIMIT + 1)


def _unreadable(path: Path, reason: str) -> DenoisedError:
    return DenoisedError(
        say(ko=f"{path}: 읽을 수 없다 ({reason})", en=f"cannot read {path}: {reason}"),
        help=say(
            ko="프로젝트 폴더에서 실행하거나 파일을 지정한다",
            en="run this in the project's folder, or name the file",
        ),
    )


def decode(name: str, data: bytes) -> tuple[Source, list[Finding]]:
    """The text of `data` (NFC checked, not changed) and what is wrong with its bytes and characters.

    Where there is an E0101 or E0102 among the findings, the text is not worth parsing.
    """
    if len(data) > SIZE_LIMIT:
        limit = f"{SIZE_LIMIT // 2**20} MiB"
        return Source(name, ""), [Finding(name, Span(1, 1, 1, 1), "E0101", {"limit": limit})]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        # The display still needs the lines; what cannot be decoded is shown as U+FFFD.
        source = Source(name, data.decode("utf-8", errors="replace"))
        before = LINE_END.split(data[: error.start].decode("utf-8"))
        line, column = len(before), len(before[-1]) + 1
        values = {"byte": f"0x{data[error.start]:02X}"}
        return source, [Finding(name, Span(line, column, line, column + 1), "E0102", values)]

    findings = []
    if text.startswith("\ufeff"):
        findings.append(Finding(name, Span(1, 1, 1, 1), "E0103"))
        text = text[1:]
    source = Source(name, text)
    if not text.isascii():
        findings += _decomposed(source)
    return source, findings + _forbidden(source)


def _decomposed(source: Source) -> list[Finding]:
    """One finding a line: the first word that is not in NFC."""
    findings: list[Finding] = []
    if unicodedata.is_normalized("NFC", source.text):
        return findings
    for number, line in enumerate(source.lines, start=1):
        for word in _WORD.finditer(line):
            composed = unicodedata.normalize("NFC", word.group())
            if composed != word.group():
                span = Span(number, word.start() + 1, number, word.end() + 1)
                findings.append(Finding(source.name, span, "E0104", {"value": quoted(composed)}))
                break
    return findings


def _forbidden(source: Source) -> list[Finding]:
    """Each run of one forbidden character."""
    findings = []
    start_of_line, number = 0, 1
    ends = LINE_END.finditer(source.text)
    end = next(ends, None)
    for run in islice(_RUN.finditer(source.text), MOST):
        while end is not None and end.end() <= run.start():
            start_of_line, number = end.end(), number + 1
            end = next(ends, None)
        column = run.start() - start_of_line + 1
        span = Span(number, column, number, column + len(run.group()))
        findings.append(Finding(source.name, span, "E0105", {"character": describe(run.group(1))}))
    return findings


def _stand_in(match: re.Match[str]) -> str:
    character = match.group()
    if LINE_END.fullmatch(character):
        return "\n"
    return " " if is_blank(character) else "\ufffd"

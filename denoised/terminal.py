"""Text in a terminal, where a Hangul syllable takes two columns: measuring, cutting, filling and wrapping.

Rich's tables drop syllables where a line of wide characters just fits its cell (unless the column's overflow
is "fold"), and typer's help does not know wide characters at all. Nothing here imports either.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache


@lru_cache(maxsize=4096)
def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me") or "\u1160" <= character <= "\u11ff":
        return 0  # combining marks, and the vowels and finals that complete a Hangul syllable
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def width(text: str) -> int:
    """How many columns `text` takes in a terminal: Hangul takes two a syllable."""
    return sum(map(_columns, text))


def cut(text: str, columns: int) -> str:
    """`text` in at most `columns` columns, ending in … where something is left out."""
    if width(text) <= columns:
        return text
    kept, used = "", 0
    for character in text:
        used += _columns(character)
        if used > columns - 1:
            break
        kept += character
    return kept.rstrip() + "…"


def pad(text: str, columns: int) -> str:
    """`text` filled with spaces to `columns` columns."""
    return text + " " * (columns - width(text))


def wrap(text: str, columns: int) -> list[str]:
    """`text` broken at spaces into lines of at most `columns` columns (a longer word stays whole)."""
    lines: list[str] = []
    for word in text.split():
        if lines and width(lines[-1]) + 1 + width(word) <= columns:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines

"""Characters: which ones a catalog may not hold, and how those are shown.

A catalog is read by people in a diff. A character that cannot be seen there (a control, a direction mark, a
blank that is not a space) can make the diff lie, so none is allowed, and messages show it escaped.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Controls (C0, C1), except the line ends; soft hyphen; Arabic letter mark; Hangul and Khmer fillers;
# Mongolian separators; zero-width and direction marks; line and paragraph separators; invisible operators;
# surrogates; private use; byte-order mark; annotations; U+FFFD, which a wrong decoding leaves behind;
# non-characters; tags.
_INVISIBLE = (
    "\\x00-\\x09\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f"
    "\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ud800-\\uf8ff\\ufdd0-\\ufdef\\ufeff\\uffa0\\ufff0-\\uffff"
    "\\U000e0000-\\U0010ffff"
)
_BLANKS = "\\xa0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000"  # spaces that are not the space

FORBIDDEN = re.compile(f"[{_INVISIBLE}{_BLANKS}]|\\r(?!\\n)")
_BLANK = re.compile(f"[\\t{_BLANKS}]")

# What YAML 1.1 takes for the end of a line; the parser counts lines by these.
LINE_END = re.compile("\\r\\n|[\\n\\r\\x85\\u2028\\u2029]")


def is_blank(character: str) -> bool:
    """Whether it looks like a space (and an ordinary space is meant)."""
    return _BLANK.fullmatch(character) is not None


def describe(character: str) -> str:
    """U+202E RIGHT-TO-LEFT OVERRIDE"""
    names = {"\t": "TAB", "\r": "CARRIAGE RETURN", "\0": "NULL", "\x1b": "ESCAPE", "\x7f": "DELETE"}
    name = names.get(character) or unicodedata.name(character, "")
    return f"U+{ord(character):04X} {name}".rstrip()


def visible(text: str) -> str:
    """`text` with every forbidden character written out, safe to print: a⟨U+202E⟩b."""
    return "".join(shown(character) for character in text)


@lru_cache(maxsize=4096)
def shown(character: str) -> str:
    """One character as it is printed."""
    if character == "\n" or FORBIDDEN.fullmatch(character):
        return f"<U+{ord(character):04X}>"
    return character

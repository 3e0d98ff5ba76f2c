"""Search that finds Korean inside words, and either language's word for a thing.

The theme's search matches the beginnings of words. So every entry of its index gets one more field: for each
run of Hangul all of its endings of two syllables or more, of which a word's inside is the beginning, and every
other name that the glossary knows for what the entry speaks of. The field counts little, so that a whole word
in a title or a text still comes first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import unescape
from pathlib import Path

from denoised.site.library import Term

FIELD = "inside"
BOOST = 0.1
_HANGUL = re.compile("[가-힣]{2,}")
_LONGEST = 40  # a longer run is not a word


def endings(text: str) -> list[str]:
    """The endings of two syllables or more of each run of Hangul, each once, in order."""
    found: dict[str, None] = {}
    for run in _HANGUL.findall(text):
        word = run[:_LONGEST]
        for start in range(len(word) - 1):
            found[word[start:]] = None
    return list(found)


def other_names(text: str, glossary: Sequence[Term]) -> list[str]:
    """The glossary's other names for the terms that `text` uses, in both languages."""
    lowered = text.casefold()
    found: dict[str, None] = {}
    for term in glossary:
        names = [name for name in term.names if name]
        if any(_mentions(lowered, name) for name in names):
            found.update((name, None) for name in names if not _mentions(lowered, name))
    return list(found)


def _mentions(lowered: str, name: str) -> bool:
    """Hangul is found anywhere, Latin as a whole word: "is" is not in "this"."""
    wanted = name.casefold()
    if _HANGUL.search(wanted):
        return wanted in lowered
    return re.search(rf"(?<![a-z0-9]){re.escape(wanted)}(?![a-z0-9])", lowered) is not None


def extend_index(path: Path, glossary: Iterable[Term]) -> None:
    """Add the field to every entry of a search_index.json.

    A page's own head, which the theme indexes as a section `#top`, becomes the entry of the page.
    """
    index = json.loads(path.read_bytes())
    terms = tuple(glossary)
    pages = {entry["location"]: entry for entry in index["docs"]}
    docs = []
    for entry in index["docs"]:
        page, _, section = entry["location"].partition("#")
        if section == "top" and page in pages:
            pages[page]["text"] = entry["text"]
        else:
            docs.append(entry)
    for entry in docs:
        text = unescape(re.sub(r"<[^>]*>", " ", f"{entry['title']} {entry['text']}"))
        names = other_names(text, terms)
        entry[FIELD] = " ".join([*endings(" ".join([text, *names])), *names])
    index["config"]["fields"][FIELD] = {"boost": BOOST}
    index["docs"] = docs
    path.write_text(json.dumps(index, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")

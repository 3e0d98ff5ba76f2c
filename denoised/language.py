"""Which language the reader reads, and texts that are written in both.

Korean and English stand side by side wherever a sentence is written, so that neither can be forgotten:
`say(ko="…", en="…")` picks the reader's at once, a `Phrase` keeps both until the reader is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple

from denoised.errors import DenoisedError

Language = Literal["ko", "en"]
LANGUAGES: tuple[Language, ...] = ("ko", "en")

_spoken: ContextVar[Language | None] = ContextVar("spoken", default=None)


class Phrase(NamedTuple):
    """One text in both languages."""

    ko: str
    en: str

    def to(self, language: Language) -> str:
        """The text in one language."""
        return self.ko if language == "ko" else self.en


def reader_language(explicit: str | None = None) -> Language:
    """The language to write in.

    In this order: `explicit` (an option), the language of the enclosing `speaking(...)`, DENOISED_LANG, the
    locale (the first of LC_ALL, LC_MESSAGES and LANG that is set), English.

    Raises DenoisedError (USAGE) where `explicit` or DENOISED_LANG names a language that we do not write.
    """
    if explicit is not None:
        return _known(explicit, "--lang")
    spoken = _spoken.get()
    if spoken is not None:
        return spoken
    wanted = os.environ.get("DENOISED_LANG")
    return _known(wanted, "DENOISED_LANG") if wanted else locale_language()


def locale_language() -> Language:
    """The language of the locale alone: what is left when nobody chose one."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return "ko" if value.lower().startswith("ko") else "en"
    return "en"


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Everything said inside this block is said in `language`."""
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


def say(*, ko: str, en: str) -> str:
    """The one of two texts that the reader reads."""
    return ko if reader_language() == "ko" else en


def _known(name: str, origin: str) -> Language:
    if name in LANGUAGES:
        return name
    raise DenoisedError(f"{origin}: no such language `{name}`", help="ko (한국어) or en (English)")

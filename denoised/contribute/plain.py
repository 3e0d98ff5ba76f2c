"""Text that others wrote as one line of the catalog: nothing invisible, no LaTeX."""

from __future__ import annotations

import logging
import re
import unicodedata

from bibtexparser.library import Library
from bibtexparser.middlewares import LatexDecodingMiddleware
from bibtexparser.model import String
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db

from denoised.catalog.characters import FORBIDDEN, is_blank

LONGEST = 2_000  # characters; the decoder takes seconds for a megabyte, and no title or name is longer

# What is left of a title when each library has told the log of its doubts is all that a person needs.
for _library in ("bibtexparser", "pylatexenc"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


def plain(text: str) -> str:
    """`text` as one line in NFC with single spaces, without the characters that a catalog may not hold.

    U+FFFD, which a wrong decoding leaves behind, becomes a question mark: a person should see that a letter is missing.
    """
    spaced = "".join(" " if is_blank(each) or each.isspace() else each for each in text)
    composed = unicodedata.normalize("NFC", FORBIDDEN.sub("", spaced.replace("\ufffd", "?")))
    return " ".join(composed.split())


def from_latex(text: str) -> str | None:
    r"""`text` with LaTeX's commands read, as `plain` text; None where that cannot be done.

    Schr{\"o}dinger -> Schrödinger, $\infty$-Diff -> ∞-Diff. A percent sign is one: in a title it starts no comment.
    """
    if len(text) > LONGEST:
        return None
    escaped = re.sub(r"(?<!\\)%", r"\\%", text)
    # The decoder raises whatever its rules stumble over; the middleware turns that into a block that says so.
    block = _DECODE.transform_block(String("", escaped), Library())
    return plain(block.value) if isinstance(block, String) else None


def _decoder() -> LatexNodes2Text:
    known = get_default_latex_context_db()
    known.add_context_category(
        "denoised",
        prepend=True,
        macros=[
            MacroTextSpec("url", simplify_repl="%s"),  # else in angle brackets
            MacroTextSpec("textasciicircum", simplify_repl="^"),  # else a modifier letter
        ],
    )
    return LatexNodes2Text(latex_context=known, math_mode="text")


_DECODE = LatexDecodingMiddleware(decoder=_decoder())

"""TeX formulas -> MathML, which browsers draw without a script or a font from elsewhere.

latex2mathml parses; this module keeps only MathML elements and attributes of a list, escapes every text anew,
and refuses what the parser did not understand (it would print the command's name as a variable).
"""

from __future__ import annotations

import re
import unicodedata
from html import escape, unescape
from xml.etree.ElementTree import Element

from latex2mathml import exceptions as tex
from latex2mathml.converter import Converter

# fmt: off
_TAGS = frozenset({
    "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "ms", "mfrac", "msqrt", "mroot", "mstyle",
    "mpadded", "mphantom", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr",
    "mtd",
})
_ATTRIBUTES = frozenset({
    "display", "stretchy", "fence", "form", "separator", "lspace", "rspace", "minsize", "maxsize",
    "symmetric", "largeop", "movablelimits", "accent", "accentunder", "linethickness", "width", "height",
    "depth", "displaystyle", "scriptlevel", "columnalign", "rowspacing", "columnspacing",
})
# fmt: on
_CHILDREN = {
    "mfrac": 2,
    "mroot": 2,
    "msub": 2,
    "msup": 2,
    "msubsup": 3,
    "munder": 2,
    "mover": 2,
    "munderover": 3,
}
# Macros could grow without bound; the rest of TeX's definitions make no sense in one formula.
_DEFINITION = re.compile(r"\\(re|provide)?(newcommand|def|let|DeclareMathOperator)\b")
# What the parser raises on input it does not expect: its own errors, and others that slip through it.
_PARSER_ERRORS: tuple[type[Exception], ...] = (
    *(each for each in vars(tex).values() if isinstance(each, type) and issubclass(each, Exception)),
    *(ValueError, LookupError, TypeError, RuntimeError, StopIteration),
)


class MathError(ValueError):
    """A formula that cannot be typeset."""


def to_mathml(source: str, *, display: bool = False) -> str:
    """The formula as a <math> element on one line. Raises MathError where it is not understood."""
    if len(source) > 2000:
        raise MathError("a formula of more than 2000 characters")
    if definition := _DEFINITION.search(source):
        raise MathError(f"{definition[0]} is not allowed")
    # The parser knows align* and not aligned, which is the one that stands inside $$.
    source = source.replace("{aligned}", "{align*}").strip()
    try:
        tree = Converter(display="block" if display else "inline").convert_to_element(source)
    except _PARSER_ERRORS as error:
        raise MathError(type(error).__name__.removesuffix("Error")) from error
    return _serialise(tree)


def _serialise(element: Element) -> str:
    if element.tag not in _TAGS:
        raise MathError(f"<{element.tag}> is not allowed")
    if _CHILDREN.get(element.tag, len(element)) != len(element):
        raise MathError(f"<{element.tag}> lacks a part")
    text = unescape(element.text or "")
    braces = "" if element.tag == "mo" else "{}"
    if unknown := re.search(rf"\\\w+|[\\&{braces}]", text):
        raise MathError(f"{unknown[0]} is not understood")
    if element.get("mathvariant") == "bold-italic":
        text = "".join(map(_bold_italic, text))
    attributes = "".join(
        f' {name}="{escape(value)}"' for name, value in element.attrib.items() if name in _ATTRIBUTES
    )
    inside = "".join(map(_serialise, element))
    return f"<{element.tag}{attributes}>{escape(text, quote=False)}{inside}</{element.tag}>"


def _bold_italic(character: str) -> str:
    """The letter's own code point in bold italic: browsers know no other way to write \\boldsymbol."""
    name = unicodedata.name(character, "")
    name = re.sub(r"^(LATIN|GREEK) (SMALL|CAPITAL) LETTER", r"MATHEMATICAL BOLD ITALIC \2", name)
    name = name.replace("GREEK LUNATE EPSILON SYMBOL", "MATHEMATICAL BOLD ITALIC EPSILON SYMBOL")
    try:
        return unicodedata.lookup(name)
    except KeyError:
        return character

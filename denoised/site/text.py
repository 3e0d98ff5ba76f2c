"""Contributed text -> HTML that is inert.

Whatever comes from a catalog entry, a note, a glossary or a record passes through here before a page sees it:
`plain` (one clean line, to be escaped by the template), `inline` (emphasis, code, links, inline math) or `note`
(a whole Markdown document). Markdown's raw HTML is switched off, the result is sanitised by nh3, and only then
is math put in, which is built element by element and can hold nothing but MathML.

Every function returns a single line, so that the page's own Markdown processor, which works on lines, finds
nothing of the contributor's at the start of one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from html import escape

import nh3
from markdown import Markdown
from markupsafe import Markup

from denoised.site.math import MathError, to_mathml

Resolve = Callable[[str], str | None]
"""From an address in a text to the one to link to; None where there is nothing to link to."""

_OPEN, _CLOSE = "\ue000", "\ue001"  # around the number of a formula, while Markdown and nh3 work
_INLINE_TAGS = {"p", "em", "strong", "code", "a"}
_NOTE_TAGS = _INLINE_TAGS | {
    *("ul", "ol", "li", "blockquote", "pre", "hr", "br", "h1", "h2", "h3", "h4", "h5", "h6"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
# Code first, so that a dollar inside it stays one. The rule for `$` is pandoc's: no blank just inside, no digit
# after, so that "$5 and $6" is money.
_MATH = re.compile(
    r"(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<dollar>\\\$)"
    r"|\$\$(?P<display>[^$]+)\$\$"
    r"|\$(?!\s)(?P<inline>[^$`\n]+?)(?<![\s\\])\$(?!\d)",
    re.DOTALL | re.MULTILINE,
)
# A lone symbol with an index, x_t or σ_0: sentences are also read in a terminal, so they are written without $.
_SYMBOL = re.compile(
    r"(?P<code>(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)|\$[^$]*\$|\S*://\S*)"
    r"|(?<![A-Za-z0-9_\\])(?P<symbol>[A-Za-zΑ-Ωα-ω]_[A-Za-z0-9α-ω])(?![A-Za-z0-9_{])"
)
_LINK = re.compile(r'<a(?: href="([^"]*)")?([^>]*)>(.*?)</a>', re.DOTALL)
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)


@dataclass
class Problems:
    """What was wrong with contributed text, by where it stands, for the person who builds the site."""

    found: list[str] = field(default_factory=list)

    def add(self, where: str, wrong: Iterable[str]) -> None:
        """Note what is wrong in the text at `where`, each thing once."""
        self.found += [message for what in wrong if (message := f"{where}: {what}") not in self.found]


def plain(text: str) -> str:
    """One line: NFC, no control, bidirectional, private or unassigned characters, runs of blanks made one."""
    return " ".join(_clean(text).split())


def _clean(text: str) -> str:
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    return "".join(
        character if character in "\n\t" or unicodedata.category(character)[0] != "C" else " "
        for character in text
    )


def inline(text: str, *, where: str = "", problems: Problems | None = None) -> Markup:
    """A sentence: emphasis, code, http(s) links and inline math; anything else is shown as it was typed."""
    html, wrong = _inline(text)
    if problems is not None:
        problems.add(where, wrong)
    return Markup(html)  # sanitised by _render


@cache  # a sentence stands on many pages
def _inline(text: str) -> tuple[str, tuple[str, ...]]:
    wrong: list[str] = []
    marked = _SYMBOL.sub(lambda m: m["code"] or f"${m['symbol']}$", plain(text))
    html = _render(_inline_markdown(), marked, _INLINE_TAGS, lambda address: None, wrong)
    return re.sub(r"</?p>", "", html), tuple(wrong)


def note(text: str, *, resolve: Resolve, where: str = "", problems: Problems | None = None) -> Markup:
    """A whole note: headings begin at <h3> with the ids note-1, note-2, …, equal in both languages.

    `resolve` turns an address that is not http(s), such as `../ddpm/index.md`, into one of this site.
    """
    wrong: list[str] = []
    html = _render(_note_markdown(), _clean(text), _NOTE_TAGS, resolve, wrong)
    if problems is not None:
        problems.add(where, wrong)
    levels = [int(level) for level in re.findall(r"<h(\d)>", html)]
    shift = 3 - min(levels, default=3)
    numbers = iter(range(1, len(levels) + 1))
    html = re.sub(
        r"<h(\d)>(.*?)</h\1>",
        lambda m: (
            f'<h{min(int(m[1]) + shift, 6)} id="note-{next(numbers)}">{m[2]}</h{min(int(m[1]) + shift, 6)}>'
        ),
        html,
    )
    html = _TABLE.sub(r'<div class="dn-scroll" tabindex="0">\g<0></div>', html)
    # One line: a line feed in code becomes a reference, and is a line feed again in the browser.
    html = re.sub(r"<pre>.*?</pre>", lambda m: m[0].replace("\n", "&#10;"), html, flags=re.DOTALL)
    return Markup(html.replace("\n", " "))  # sanitised by _render


def typeset(markdown: str) -> Markup:
    """A page of our own: its formulas as MathML, everything else as it stands. Raises MathError."""

    def replace(match: re.Match[str]) -> str:
        if match["code"] or match["dollar"]:
            return match[0]
        if match["inline"]:
            # In a span: Markdown takes a line that begins with <math> for a block and ends the paragraph there.
            return f"<span>{to_mathml(match['inline'])}</span>"
        return f'<div class="dn-math" tabindex="0">{to_mathml(match["display"], display=True)}</div>'

    return Markup(_MATH.sub(replace, markdown))  # our own page


@cache
def _inline_markdown() -> Markdown:
    markdown = _safe_markdown([])
    for name in ("code", "hashheader", "setextheader", "hr", "olist", "ulist", "quote", "indent", "empty"):
        markdown.parser.blockprocessors.deregister(name)
    return markdown


@cache
def _note_markdown() -> Markdown:
    return _safe_markdown(["fenced_code", "tables", "sane_lists"])


def _safe_markdown(extensions: list[str]) -> Markdown:
    """Markdown without raw HTML and without pictures, which would come from other hosts."""
    markdown = Markdown(extensions=extensions, output_format="html")
    markdown.preprocessors.deregister("html_block")
    for name in ("html", "image_link", "image_reference", "short_image_ref", "automail"):
        markdown.inlinePatterns.deregister(name)
    return markdown


def _render(markdown: Markdown, text: str, tags: set[str], resolve: Resolve, wrong: list[str]) -> str:
    formulas: list[str] = []

    def keep(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        if match["dollar"]:
            return "$"
        display = match["display"] is not None
        source = match["display"] if display else match["inline"]
        try:
            formulas.append(to_mathml(source, display=display))
        except MathError as error:
            wrong.append(f"cannot typeset ${plain(source)}$: {error}")
            formulas.append(f"<code>{escape(plain(match[0]))}</code>")
        return f"{_OPEN}{len(formulas) - 1}{_CLOSE}"

    def link(match: re.Match[str]) -> str:
        address, attributes, content = match.groups()
        if address is None:  # nh3 took away what is neither http(s) nor relative
            wrong.append(f"the link `{plain(content)}` is neither http nor https")
            return content
        if re.match(r"https?://[^/\s]", address):
            return f'<a href="{address}"{attributes}>{content}</a>'
        target = resolve(address)
        if target is None:
            wrong.append(f"nothing to link to at {address}")
            return content
        return f'<a href="{escape(target)}">{content}</a>'

    html = markdown.reset().convert(_MATH.sub(keep, text))
    html = nh3.clean(
        html,
        tags=tags,
        attributes={"a": {"href"}},
        url_schemes={"http", "https"},
        link_rel="noopener nofollow",
    )
    html = _LINK.sub(link, html)
    if tags is _NOTE_TAGS:
        html = re.sub(
            f"<p>{_OPEN}(\\d+){_CLOSE}</p>",
            lambda m: f'<div class="dn-math" tabindex="0">{formulas[int(m[1])]}</div>',
            html,
        )
    html = re.sub(f"{_OPEN}(\\d+){_CLOSE}", lambda m: formulas[int(m[1])], html)
    # A fence or a placeholder of the page's own Markdown must not arise from this text.
    return html.replace("`", "&#96;").replace("~", "&#126;")

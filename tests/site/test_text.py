"""Contributed text comes out as what it says and nothing else."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser

import pytest
from markdown import Markdown

from denoised.site.math import MathError, to_mathml
from denoised.site.pages import as_markdown, fence
from denoised.site.text import Problems, inline, note, plain, typeset

HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox)",
    '[x](https://a.example "\\" onmouseover=alert(1) x=\\"")',
    "![x](https://a.example/x.png)",
    "[x](//a.example/x)",
    "x {: onclick=alert(1) }",
    "{onclick=alert(1)}",
    '--8<-- "/etc/passwd"',
    "{{ config }} {% include 'x' %}",
    "`<script>alert(1)</script>`",
    "```\n</code><script>alert(1)</script>\n```",
    "~~~ { .x onclick=alert(1) }\nx\n~~~",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\text{<script>alert(1)</script>}$",
    "$\\style{background:url(https://a.example)}{x}$",
    "$$</math><script>alert(1)</script>$$",
    "<https://a.example/><script>",
    "<a href=https://a.example onclick=alert(1)>x</a>",
    "<math><mtext></p><style><img src=x onerror=alert(1)></style>",
    "---\ntitle: x\n---",
    "\ue0000\ue001",
    "\x02amp\x03 wzxhzdk:0 \x02klzzwxh:0001\x03",
    "<!-- --!><script>alert(1)</script>",
    "[x]: javascript:alert(1)\n\n[x]",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "</p></div></article><h1>mine</h1>",
    "# heading\n\n## {#claim}",
]


class Tags(HTMLParser):
    """The elements and attributes that a parser finds."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def assert_inert(html: str) -> None:
    for tag, attributes in Tags(html).found:
        assert tag not in ("script", "img", "svg", "iframe", "style", "object", "h1", "h2", "article")
        assert not [
            name for name in attributes if name.startswith("on") or name in ("style", "src", "srcdoc")
        ]
        assert re.match(r"https?://|\.\./", attributes.get("href") or "https://"), attributes
    assert "\n" not in html
    assert "`" not in html and "~" not in html, "a fence of the page's own Markdown could begin here"
    assert "<!--" not in html


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert(text: str) -> None:
    assert_inert(inline(text))
    assert_inert(note(text, resolve=lambda address: None))
    assert "\n" not in plain(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert_in_headings_and_fences(text: str) -> None:
    assert not re.search(r"[<>`*_\[\]{}()!$]", as_markdown(text))
    block = fence(text, "text").split("\n")
    ticks = block[0].removesuffix("text")
    assert block[-1] == ticks and ticks not in "\n".join(block[1:-1])


def test_the_small_subset_works() -> None:
    html = inline("**a** *b* `c<d` [e](https://f.example/?g=1&h=2) $x^2$ & <i>")
    assert html.startswith("<strong>a</strong> <em>b</em> <code>c&lt;d</code>")
    assert '<a href="https://f.example/?g=1&amp;h=2" rel="noopener nofollow">e</a>' in html
    assert "<math" in html and "<msup>" in html
    assert html.endswith("&amp; &lt;i&gt;")


def test_blocks_are_not_begun_by_a_sentence() -> None:
    for text in ("# a", "- a", "1. a", "> a", "    a", "a\n===", "***"):
        assert not re.search("<(h1|ul|ol|blockquote|pre|hr|li)", inline(text)), text


def test_money_and_code_are_not_math() -> None:
    assert "<math" not in inline("from $5 to $6, `$x$`, \\$y\\$")
    assert "$y$" in inline("\\$y\\$")


def test_a_symbol_with_an_index_is_typeset_in_a_sentence() -> None:
    assert inline("x_T는").count("<msub>") == 1
    assert "<math" not in inline("`x_t` alpha_bar https://a.example/x_t")


def test_a_notes_headings_begin_at_the_third_level_with_ids_of_their_order() -> None:
    html = note("## One\n\na\n\n### Two\n\n## Three", resolve=lambda address: None)
    assert re.findall(r"<h(\d) id=\"([^\"]*)\">", html) == [("3", "note-1"), ("4", "note-2"), ("3", "note-3")]


def test_notes_link_to_papers_of_the_catalog_only() -> None:
    problems = Problems()
    known = {"../ddpm/index.md": "../ddpm/"}
    html = note(
        "[a](../ddpm/index.md) [b](../nothing/index.md)", resolve=known.get, where="n", problems=problems
    )
    assert '<a href="../ddpm/">a</a> b' in html
    assert problems.found == ["n: nothing to link to at ../nothing/index.md"]


def test_a_notes_code_keeps_its_lines() -> None:
    html = note("```python\nif x:\n    y = `1`\n\n\nz\n```", resolve=lambda address: None)
    assert html == "<pre><code>if x:&#10;    y = &#96;1&#96;&#10;&#10;&#10;z&#10;</code></pre>"


def test_plain_text_is_one_composed_line_without_hidden_characters() -> None:
    assert plain("가\n\u202e b\u200bc\x07\ue000") == "가 b c"


# --- math ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (r"\bar\alpha_t", "<mover><mi>α</mi>"),
        (r"\sqrt{1-\bar\alpha_t}", "<msqrt>"),
        (r"\frac{a}{b}", "<mfrac>"),
        (r"\mathbb{E}", "𝔼"),
        (r"\boldsymbol{\epsilon}", "𝝐"),
        (r"\begin{aligned}a&=b\\c&=d\end{aligned}", "<mtr>"),
        (r"\text{a<b}", "<mtext>a&lt;b</mtext>"),
    ],
)
def test_formulas_become_mathml(source: str, part: str) -> None:
    assert part in to_mathml(source)


@pytest.mark.parametrize(
    "source",
    [
        r"\foo{x}",
        r"x^{",
        r"\frac{1}",
        "a & b",
        r"\left( x",
        r"\def\x{\x\x}\x",
        r"\newcommand{\a}{x}\a",
        "x" * 2001,
    ],
)
def test_what_is_not_understood_is_refused(source: str) -> None:
    with pytest.raises(MathError):
        to_mathml(source)


@pytest.mark.parametrize("page", ["$x$ begins it.", "a line\n$x$ begins a line", "it ends in $x$"])
def test_a_formula_stays_inside_the_paragraph_of_its_page(page: str) -> None:
    html = Markdown().convert(typeset(page))
    assert (
        html.startswith("<p>") and html.endswith("</p>") and html.count("<p>") == 1 and "<mi>x</mi>" in html
    )


def test_a_bad_formula_is_shown_as_typed_and_reported() -> None:
    problems = Problems()
    assert inline(r"$\foo<b>$", where="w", problems=problems) == r"<code>$\foo&lt;b&gt;$</code>"
    assert problems.found == [r"w: cannot typeset $\foo<b>$: \foo is not understood"]


def test_random_formulas_give_inert_mathml_or_a_math_error() -> None:
    # fmt: off
    pieces = [
        r"\frac", r"{", r"}", r"^", r"_", r"x", r"\sqrt", r"[", r"]", r"\left(", r"\right)",
        r"\begin{align*}", r"\end{align*}", r"\begin{cases}", r"\end{cases}", r"&", r"\\", r"\text{",
        r"\mathbf", r"\hat", r"\sum", r"\limits", r"\color", r"\genfrac", r"1", r"'", r"\operatorname",
        r"\hspace{1em}", r"\begin{array}{cc}", r"\end{array}", r"\big", r"\not", r"\overset", r"\binom",
        r"\substack", r"\href", r"\hline", r"\middle|", r"\tag{1}", r"\prescript", r"\above",
        r"\rule{1em}{2em}", r"\raise", r"\skew", r"\class", r"\style", r"<script>", r"\left",
        r"\color{red}", r"\mathrm{", r"\rm", r"\phantom",
    ]
    # fmt: on
    chance = random.Random(0)
    for _ in range(3000):
        source = "".join(chance.choice(pieces) for _ in range(chance.randint(1, 9)))
        try:
            html = to_mathml(source)
        except MathError:
            continue
        assert {tag for tag, _ in Tags(html).found} <= {
            "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "ms", "mfrac", "msqrt", "mroot", "mstyle", "mpadded",
            "mphantom", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd",
        }  # fmt: skip

"""The built site as HTML: both languages equal, every link leads somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from tests.site.samples import Built

SECTIONS = ["claim", "samples", "plot", "run", "how", "numbers", "provenance", "bibtex", "graph"]
PROSE = ("dn-sentence", "dn-claim", "dn-card__sentence", "dn-terms")
LOADING = {
    "img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
    "embed": "src", "object": "data", "use": "href", "image": "href", "track": "src", "input": "src",
}  # fmt: skip


@dataclass
class Facts(HTMLParser):
    """What a test wants to know of a page's article, or of the whole page."""

    headings: list[tuple[str, str]] = field(default_factory=list)  # level, id
    ids: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)  # what the browser fetches by itself
    handlers: list[str] = field(default_factory=list)
    tags: Counter[str] = field(default_factory=Counter)
    text: str = ""
    prose: str = ""  # the part of the text that each language words for itself

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[tuple[str, str]] = []  # tag, class

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self._open.append((tag, values.get("class", "")))
        if "id" in values:
            self.ids.append(values["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((tag, values.get("id", "")))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in (
            "stylesheet",
            "icon",
            "preload",
            "preconnect",
            "prefetch",
            "manifest",
        ):
            self.loaded.append(values["href"])
        if tag in LOADING and LOADING[tag] in values:
            self.loaded.append(values[LOADING[tag]])
        self.loaded += re.findall(r"url\(([^)]*)\)", values.get("style", ""))
        self.handlers += [name for name in values if name.startswith("on")]
        if tag == "code":
            self.code.append("")
        if tag in ("img", "br", "hr", "input", "meta", "link", "col", "wbr", "source"):
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in ("script", "style", "time"):
            return
        if any(tag == "code" for tag, _ in self._open):
            self.code[-1] += data
        self.text += data
        if any(name in PROSE for _, name in self._open):
            self.prose += data + " "


def facts(html: str) -> Facts:
    parser = Facts()
    parser.feed(html)
    return parser


def article(html: str) -> Facts:
    return facts(html[html.index("<article") : html.index("</article>")])


def pages(site: Path, language: str) -> list[str]:
    return sorted(path.relative_to(site / language).as_posix() for path in (site / language).rglob("*.html"))


def numbers(page: Facts) -> Counter[str]:
    """The numbers of a page. In prose one language may write 0 where the other writes a word."""
    every, prose = (Counter(re.findall(r"\d+(?:[.,]\d+)*", text)) for text in (page.text, page.prose))
    return every - Counter({number: count for number, count in prose.items() if len(number) == 1})


# --- both languages --------------------------------------------------------------------------------------


def test_both_languages_have_the_same_pages(built: Built) -> None:
    assert pages(built.site, "ko") == pages(built.site, "en")
    ids = {item.paper.id for item in built.pages.library.items}
    assert {f"papers/{id}/index.html" for id in ids} <= set(pages(built.site, "ko"))
    categories = {category.id for category in built.pages.library.catalog.categories}
    assert {f"categories/{id}/index.html" for id in categories} <= set(pages(built.site, "en"))


def test_both_languages_have_the_same_headings_code_links_and_numbers(built: Built) -> None:
    for page in pages(built.site, "ko"):
        ko, en = (article((built.site / language / page).read_text()) for language in ("ko", "en"))
        assert ko.headings == en.headings, page
        assert ko.code == en.code, page
        assert ko.links == en.links, page
        assert ko.tags == en.tags, page
        differing = numbers(ko) - numbers(en), numbers(en) - numbers(ko)
        assert not any(differing), f"{page}: numbers only in ko and only in en: {differing}"


def test_the_sites_own_words_are_in_the_pages_language(built: Built) -> None:
    for page in pages(built.site, "en"):
        html = (built.site / "en" / page).read_text()
        # Captions and words of the worlds are shown in both languages, and marked as what they are; a runner's
        # source is quoted as it stands, with its messages in both.
        html = re.sub(r"<pre\b.*?</pre>", "", html, flags=re.DOTALL)
        text = article(re.sub(r'<(\w+)\b[^>]* lang="ko"[^>]*>[^<]*</\1>', "", html)).text
        if page not in ("glossary/index.html",):  # which names the Korean terms
            assert not re.search("[가-힣]", text), page
    for page in pages(built.site, "ko"):
        assert re.search("[가-힣]", article((built.site / "ko" / page).read_text()).text), page


def test_the_switch_and_hreflang_stay_on_the_page(built: Built) -> None:
    for language, other in (("ko", "en"), ("en", "ko")):
        for page in pages(built.site, language):
            html = (built.site / language / page).read_text()
            here = f"http://h/{language}/{page}".removesuffix("index.html")
            switch = re.search(r'<a href="([^"]*)" hreflang="(\w+)"[^>]*data-dn-language', html)
            assert switch and switch[2] == other
            assert urljoin(here, switch[1]) == here.replace(f"/{language}/", f"/{other}/", 1)
            alternates = dict(re.findall(r'<link rel="alternate " hreflang="(\w+)" href="([^"]*)"', html))
            assert {code: urljoin(here, href) for code, href in alternates.items()} == {
                code: here.replace(f"/{language}/", f"/{code}/", 1) for code in ("ko", "en")
            }
            assert f'<html lang="{language}"' in html


# --- links and assets ------------------------------------------------------------------------------------


def test_every_internal_link_and_asset_exists(built: Built) -> None:
    anchors: dict[Path, set[str]] = {}
    for path in sorted(built.site.rglob("*.html")):
        page = facts(path.read_text())
        assert len(page.ids) == len(set(page.ids)), f"{path}: an id stands twice"
        anchors[path] = set(page.ids)
    for path in sorted(built.site.rglob("*.html")):
        page = facts(path.read_text())
        here = path.relative_to(built.site).as_posix()
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(urljoin(f"http://h/{here}", link))
            if parts.netloc != "h" or parts.scheme == "data":
                continue
            target = built.site / unquote(parts.path).lstrip("/")
            target = target / "index.html" if parts.path.endswith("/") else target
            assert target.is_file(), f"{here} links to {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in anchors[target], f"{here} links to {link}"


def test_nothing_is_fetched_from_another_host(built: Built) -> None:
    for path in sorted(built.site.rglob("*.html")):
        for address in facts(path.read_text()).loaded:
            assert urlsplit(address.strip("'\"")).scheme in ("", "data"), f"{path} loads {address}"
    for path in sorted(built.site.rglob("*.css")):
        for address in re.findall(r"(?:url\(|@import\s+)['\"]?([^'\")]+)", path.read_text()):
            assert urlsplit(address).scheme in ("", "data"), f"{path} loads {address}"
    for name in ("ko/index.html", "en/papers/ddim/index.html", "index.html", "404.html"):
        assert "Content-Security-Policy" in (built.site / name).read_text()


def test_links_to_other_sites_are_plain_https(built: Built) -> None:
    for path in sorted(built.site.rglob("*.html")):
        for link in facts(path.read_text()).links:
            assert urlsplit(link).scheme in ("", "https", "http"), f"{path} links to {link}"


# --- what a paper's page says ----------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_papers_sections_stand_in_the_order_of_the_design(built: Built, language: str) -> None:
    for item in built.pages.library.items:
        html = (built.site / language / "papers" / item.paper.id / "index.html").read_text()
        found = [id for level, id in article(html).headings if level == "h2"]
        if item.method:
            assert found == SECTIONS
        elif (
            item.paper.kind == "method"
        ):  # nobody has run it: what there is, and nothing of what there is not
            assert found == ["claim", "run", "numbers", "bibtex", "graph"]
        else:
            assert found == ["bibtex", "graph"]


def test_the_numbers_of_a_claim_stand_beside_its_verdict(built: Built) -> None:
    text = article((built.site / "en" / "papers" / "ddim" / "index.html").read_text()).text
    claim = text[text.index("Claim and verdict") : text.index("Samples")]
    for said in ("Holds", "fid[effnet-lite0@64]", "steps = 10", "22.07 ± 0.83", "51.17 ± 1.94", "−29.1",
                 "95 % interval [−30.2, −28.0]", "n = 256 × 3 seeds", "Some CPU @ 2.80GHz, 2 threads"):  # fmt: skip
        assert said in claim, said
    assert "Not run yet" in claim, "the paper's scale is shown, and not as if it had been run"


def test_published_and_local_results_are_told_apart(built: Built) -> None:
    for id, said in (("ddim", False), ("ddpm", True)):
        text = article((built.site / "en" / "papers" / id / "index.html").read_text()).text
        assert ("this machine, not published" in text) is said
        data = json.loads((built.site / "api" / "papers" / f"{id}.json").read_text())
        assert data["results"]["mini"]["published"] is not said
        assert data["results"]["paper"]["record"] is None


def test_mini_and_paper_numbers_share_no_table(built: Built) -> None:
    html = (built.site / "en" / "papers" / "ddim" / "index.html").read_text()
    tables = [
        article(f"<article>{table}</article>").text
        for table in re.findall(r"<table>.*?</table>", html, re.DOTALL)
    ]
    reported = [table for table in tables if "13.36" in table]
    assert len(reported) == 1
    assert "fid[effnet-lite0@64]" not in reported[0]


def test_unchecked_numbers_are_marked(built: Built) -> None:
    for item in built.pages.library.items:
        html = (built.site / "en" / "papers" / item.paper.id / "index.html").read_text()
        assert html.count('class="dn-unchecked"') == sum(not row.checked for row in item.paper.reported)


def test_the_code_is_the_runners_own(built: Built) -> None:
    for id in ("ddim", "ddpm"):
        page = article((built.site / "ko" / "papers" / id / "index.html").read_text())
        item = built.pages.library.item(id)
        assert item is not None and item.method is not None and item.method.pieces
        for piece in item.method.pieces:
            assert piece.code.strip() in [each.strip() for each in page.code], piece.name
            assert f"code-{piece.name}" in page.ids
        assert not any("def reproduce" in each for each in page.code)


def test_a_paper_without_runner_says_so(built: Built) -> None:
    item = next(item for item in built.pages.library.items if item.method is None and item.paper.claim)
    html = (built.site / "en" / "papers" / item.paper.id / "index.html").read_text()
    assert "No runner yet" in article(html).text


def test_every_formula_of_the_project_is_typeset(built: Built) -> None:
    assert built.pages.problems == ()
    page = article((built.site / "ko" / "papers" / "ddim" / "index.html").read_text())
    assert page.tags["math"] > 10
    assert "$" not in re.sub(
        r"\$\s", "", "".join(page.text.split("@inproceedings")[0].split("denoised run")[0])
    )

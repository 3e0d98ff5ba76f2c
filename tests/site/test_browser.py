"""The built site as a reader meets it: in Chromium, in both languages, wide and narrow, light and dark."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from denoised.lab.record import write_record
from denoised.site import build
from tests.site import exhibits
from tests.site.chromium import Browser
from tests.site.samples import Built, copy_project, ddim_arms, png, record_of, serving
from tests.site.test_text import HOSTILE

pytestmark = pytest.mark.browser

KINDS = [
    "", "papers/", "papers/ddim/", "papers/ddpm/", "papers/cfg/", "categories/", "categories/foundations/",
    "years/", "tags/", "verdicts/", "compare/", "paths/", "glossary/", "method/", "worlds/", "worlds/emoji/",
    "worlds/clips/", "worlds/toys/", "worlds/fashion-mnist/", "zoo/", "zoo/example/",
    "codes/", "codes/E0203/",
]  # fmt: skip


def foreign(browser: Browser, address: str) -> list[str]:
    return [url for url in browser.requests if not url.startswith((address, "data:", "blob:", "about:"))]


@pytest.mark.parametrize("language", ["ko", "en"])
@pytest.mark.parametrize("kind", KINDS)
def test_pages_load_cleanly_and_fit_the_narrowest_phone(
    browser: Browser, address: str, language: str, kind: str
) -> None:
    browser.open(f"{address}/{language}/{kind}", width=360)
    assert browser.errors == []
    assert foreign(browser, address) == []
    assert browser.run("document.documentElement.lang") == language
    assert browser.run("document.documentElement.scrollWidth") <= 360
    assert browser.run("document.querySelectorAll('h1').length") == 1


def test_the_switch_leads_to_the_same_page_and_back(browser: Browser, address: str) -> None:
    browser.open(f"{address}/ko/papers/ddim/")
    for language in ("en", "ko"):
        browser.run("document.querySelector('[data-dn-language]').click()")
        browser.wait_for(
            f"location.pathname === '/{language}/papers/ddim/' && document.readyState === 'complete'"
        )
    assert browser.errors == []


@pytest.mark.parametrize(
    ("languages", "path"), [("ko-KR", "/ko/"), ("en-GB", "/en/"), ("fr,ko", "/ko/"), ("fr", "/en/")]
)
def test_the_root_picks_the_readers_language(
    browser: Browser, address: str, languages: str, path: str
) -> None:
    browser.open(f"{address}/404.html")
    browser.run("localStorage.clear()")
    browser.call("Network.setUserAgentOverride", {"userAgent": "x", "acceptLanguage": languages})
    browser.open(f"{address}/")
    browser.wait_for(f"location.pathname === '{path}'")


def test_the_root_remembers_the_language_chosen_last(browser: Browser, address: str) -> None:
    browser.call("Network.setUserAgentOverride", {"userAgent": "x", "acceptLanguage": "en"})
    browser.open(f"{address}/en/")
    browser.run("document.querySelector('[data-dn-language]').click()")
    browser.wait_for("location.pathname === '/ko/'")
    browser.open(f"{address}/")
    browser.wait_for("location.pathname === '/ko/'")


def test_a_missing_page_leads_home(browser: Browser, address: str) -> None:
    browser.open(f"{address}/ko/nothing/here/")
    assert browser.run("[...document.links].map((link) => link.pathname).join()") == "/ko/,/en/"


@pytest.mark.parametrize(
    ("language", "query", "page"),
    [
        ("ko", "확산", "papers/"),  # the texts say 디퓨전
        ("ko", "마르코프", "papers/ddim/"),  # inside 비마르코프
        ("ko", "변분포", "papers/ddim/"),  # inside 주변분포
        ("en", "노이즈", "papers/"),
        ("en", "marginals", "papers/ddim/"),
        ("ko", "이모지", "worlds/emoji/"),
        ("en", "펭귄", "worlds/emoji/"),  # the vocabulary speaks both
        ("en", "checkerboard", "worlds/toys/"),
    ],
)
def test_search_finds_inside_words_and_in_either_language(
    browser: Browser, address: str, language: str, query: str, page: str
) -> None:
    browser.open(f"{address}/{language}/?q={quote(query)}")
    script = "[...document.querySelectorAll('.md-search-result__link')].map((a) => a.pathname).join(' ')"
    assert f"/{language}/{page}" in browser.wait_for(script)
    assert browser.errors == []


def test_the_list_narrows_by_words_and_choices(browser: Browser, address: str, built: Built) -> None:
    browser.open(f"{address}/en/papers/")
    total = len(built.pages.library.items)
    visible = "[...document.querySelectorAll('.dn-card')].filter((card) => !card.hidden).length"
    assert browser.run(visible) == total
    change = "(() => {{ const f = document.querySelector('.dn-filter'); {}; f.dispatchEvent(new Event('input')) }})()"
    browser.run(change.format("f.elements.text.value = 'nonequilibrium'"))
    assert browser.run(visible) == 1
    browser.run(change.format("f.elements.text.value = ''; f.elements.status.value = 'holds'"))
    assert browser.run(visible) == 1
    browser.run(change.format("f.elements.text.value = 'zzz'"))
    assert browser.run(visible) == 0
    assert browser.run("document.querySelector('.dn-filter output').textContent") == "No paper fits"


@pytest.mark.parametrize("kind", ["papers/ddim/", "papers/ddpm/", "compare/", "zoo/example/"])
def test_plots_are_legible_on_the_narrowest_phone(browser: Browser, address: str, kind: str) -> None:
    browser.open(f"{address}/ko/{kind}", width=360)
    script = """Math.min(...[...document.querySelectorAll('.dn-plot')].map((svg) =>
        13 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))"""
    assert browser.run(script) >= 10


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(browser: Browser, address: str, dark: bool) -> None:
    """WCAG AA: 4.5 to 1 for every text of the article, in both schemes."""
    script = """(() => {
      const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
      const rgb = (colour) => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
      };
      const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
      const behind = (e) => { for (; e; e = e.parentElement) {
        const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255]; };
      const poor = [];
      for (const e of document.querySelectorAll('.md-content *')) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
        if (e.closest('svg, .headerlink, .md-clipboard, [hidden]') || !e.checkVisibility()) continue;
        const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
        const ratio = (a + .05) / (b + .05);
        if (ratio < 4.5) poor.push(`${e.className || e.tagName} ${ratio.toFixed(2)} ${e.textContent.slice(0, 20)}`);
      }
      return [...new Set(poor)].join('\\n');
    })()"""
    for kind in (
        *("", "papers/ddim/", "papers/ddpm/", "verdicts/", "categories/", "method/", "worlds/"),
        *("worlds/emoji/", "worlds/fashion-mnist/", "zoo/", "zoo/example/"),
    ):
        browser.open(f"{address}/en/{kind}", dark=dark)
        scheme = browser.run("document.body.dataset.mdColorScheme")
        assert scheme == ("slate" if dark else "default")
        assert browser.run(script) == "", kind


def test_clips_play_until_they_are_paused_or_motion_is_not_wanted(browser: Browser, address: str) -> None:
    browser.open(f"{address}/en/worlds/clips/")
    style = "getComputedStyle(document.querySelector('.dn-clip')).{}"
    assert browser.run(style.format("animationName")) == "dn-clip"
    assert browser.run(style.format("animationPlayState")) == "running"
    browser.run("document.querySelector('.dn-pause__box').click()")
    assert browser.run(style.format("animationPlayState")) == "paused"
    still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.call("Emulation.setEmulatedMedia", {"features": still})
    assert browser.run(style.format("animationName")) == "none"


def test_a_tile_shows_its_own_pixels(browser: Browser, address: str) -> None:
    """The point in the middle of each window is the middle of its tile in the picture behind it."""
    browser.open(f"{address}/en/worlds/emoji/")
    script = """[...document.querySelectorAll('.dn-grid-of-tiles .dn-cut')].slice(0, 6).map((window) => {
        const [frame, picture] = [window, window.firstElementChild].map((e) => e.getBoundingClientRect());
        const scale = picture.width / 134;
        return [frame.left + frame.width / 2 - picture.left, frame.top + frame.height / 2 - picture.top]
          .map((distance) => Math.round(distance / scale)); })"""
    assert browser.run(script) == [[16, 16], [50, 16], [84, 16], [118, 16], [16, 50], [50, 50]]


def test_hostile_entries_are_inert_in_a_real_browser(browser: Browser, tmp_path: Path) -> None:
    """Payloads in every field that takes text, in a note, and in a record: no dialog, no request, no script."""
    root = copy_project(tmp_path / "project")
    catalog = yaml.safe_load((root / "catalog.yaml").read_text())
    lines = [" ".join(re.sub(r"[^\x20-\x7e]", " ", text).split()) for text in HOSTILE]
    for number, (paper, one, two) in enumerate(zip(catalog["papers"], lines, lines[1:], strict=False)):
        paper["name"] = one
        paper["title"] = f"{one} {number}"  # some payloads differ in their punctuation alone
        paper["venue"] = f"ICLR 2021 ({' '.join(re.sub('[()]', ' ', one).split())})"
        paper["authors"] = [one, two]
        paper["sentence"] = {
            "ko": f"가나다라마바사아자차카타파하 {one}",
            "en": f"Every letter of the alphabet {two}",
        }
        paper["claim"] = {
            "ko": f"가나다라마바사아자차카타파하 {two}",
            "en": f"Every letter of the alphabet {one}",
        }
        paper["reported"] = [{"metric": one, "value": 1.0, "dataset": two, "setting": one, "source": two}]
    (root / "catalog.yaml").write_text(yaml.safe_dump(catalog, allow_unicode=True))
    for language in ("ko", "en"):
        (root / "papers" / "ddim" / f"{language}.md").write_text("\n\n".join(HOSTILE))
    evil = HOSTILE[0] + HOSTILE[1]
    arms = ddim_arms()
    for arm in arms:
        arm["name"] += evil
        arm["settings"][evil] = evil
    record = record_of(root, "ddim", arms, [])
    record["environment"]["cpu"] = record["inputs"][0]["path"] = record["config"]["evil"] = evil
    record["pictures"][0]["caption"] = {"ko": evil, "en": evil}
    write_record(root / "outputs" / "ddim", "mini", record, {"sample.png": png(8, 8, 1)})
    both = {"ko": evil, "en": evil}
    facts = exhibits.manifest(
        about=both,
        protocol=both,
        samples=both,
        limits=both,
        recipe=evil,
        hardware=evil,
        config={evil: evil},
    )
    facts["quality"][0] |= both
    folder = exhibits.write_checkpoint(root, facts=facts)
    (folder / "README.md").write_text(f"```python\n{evil}\n````\n{evil}\n```\n")
    odd = exhibits.prompts(command=evil)
    odd["tiles"][0]["prompt"] = evil
    (folder / "prompts.json").write_text(json.dumps(odd))
    scenes = exhibits.pictures(command=f"denoised {evil}")
    scenes["tiles"][0] |= {**both, "facts": [{"name": evil, "value": evil}]}
    exhibits.write_world(root, "emoji", scenes)
    pages = build(root, records=root / "outputs")
    assert pages.problems
    with serving(root) as address:
        kinds = ["", "papers/", "years/", "compare/", "worlds/", "worlds/emoji/", "zoo/", "zoo/example/"]
        for kind in [*kinds, *(f"papers/{p['id']}/" for p in catalog["papers"])]:
            browser.open(f"{address}/en/{kind}")
            assert browser.errors == [], kind
            assert foreign(browser, address) == [], kind
            assert (
                browser.run(
                    "document.querySelectorAll('.md-content :is(script, iframe, [onerror], [onclick])').length"
                )
                == 0
            )
            assert browser.run("document.querySelectorAll('h1').length") == 1, kind

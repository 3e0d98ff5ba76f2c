"""The pages of the codes: one for each, with what the checker really prints, found by name."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from markdown import Markdown

from denoised.catalog import CODES
from denoised.catalog.explain import Explanations, read_explanations
from denoised.cli import main
from denoised.contribute.fix import fix
from denoised.language import LANGUAGES, Language
from denoised.site import generate
from denoised.site.codes import GROUPS, code_groups, printed
from tests.site.samples import Built
from tests.site.test_html import Facts, facts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(ROOT, tmp_path_factory.mktemp("codes") / "pages").out


@pytest.fixture(scope="module")
def explanations() -> Explanations:
    return read_explanations(ROOT)


def page(pages: Path, language: str, code: str) -> Facts:
    text = (pages / language / "codes" / code / "index.md").read_text(encoding="utf-8")
    extensions = ["attr_list", "meta", "pymdownx.highlight", "pymdownx.superfences"]
    return facts(Markdown(extensions=extensions).convert(text))


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_code_has_its_page_and_stands_in_the_list(pages: Path, language: str) -> None:
    folder = pages / language / "codes"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(CODES)
    listed = page(pages, language, ".")
    assert [link for link in listed.links if link.startswith("E")] == [f"{code}/" for code in sorted(CODES)]
    assert [id for _, id in listed.headings] == ["top", *GROUPS]
    for group in code_groups(read_explanations(ROOT), "en"):
        assert {code.name[:3] for code in group.codes} == {group.id}


@pytest.mark.parametrize("code", CODES)
def test_a_page_shows_the_explanation_and_is_the_same_in_both_languages(
    pages: Path, explanations: Explanations, code: str
) -> None:
    explanation = explanations.codes[code]
    ko, en = (page(pages, language, code) for language in LANGUAGES)
    assert (ko.headings, ko.code, ko.links, ko.tags) == (en.headings, en.code, en.links, en.tags)
    assert sorted(re.findall(r"\d+", ko.text)) == sorted(re.findall(r"\d+", en.text))
    assert [id for _, id in en.headings] == ["top", "wrong", "right", "printed"]
    for lines in (explanation.shown, explanation.right, *explanation.example.runners.values()):
        assert lines.strip() in [each.strip() for each in en.code]
    for language, shown in (("ko", ko), ("en", en)):
        for text in filter(None, (explanation.title, explanation.why, explanation.note)):
            assert text.to(language).replace("`", "") in shown.text  # type: ignore[arg-type]
        assert not re.search(r"\{[a-z]+\}", shown.text.replace(explanation.shown, ""))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_a_page_prints_what_the_command_prints(
    pages: Path,
    explanations: Explanations,
    code: str,
    language: Language,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("catalog.yaml").write_bytes(explanations.data(code))
    for name, text in explanations.codes[code].example.runners.items():
        Path("runners", name).parent.mkdir(parents=True)
        Path("runners", name).write_text(text, encoding="utf-8")
    assert main(["--lang", language, "check", "catalog.yaml"]) == 1
    said = capsys.readouterr().out.rstrip("\n")
    assert printed(explanations, code, language).unescape() == said
    text = (pages / language / "codes" / code / "index.md").read_text(encoding="utf-8")
    shown = re.findall('<pre class="dn-printed" tabindex="0"><samp>(.*)</samp></pre>', text)
    assert [unescape(each) for each in shown] == [said]


def test_a_page_says_whether_the_code_can_be_mended(pages: Path, explanations: Explanations) -> None:
    mended = set()
    for code in CODES:
        if "denoised fix" in page(pages, "en", code).text:
            mended.add(code)
            assert fix("catalog.yaml", explanations.data(code)).left.findings == []
    assert {"E0103", "E0203", "E0306"} <= mended
    assert not mended & {"E0101", "E0102", "E0212", "E0315"}
    assert page(pages, "ko", ".").text.count("fix") == len(mended) + 2  # and the line that says what it means


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_code_is_found_by_its_name_and_stands_behind_papers(built: Built, language: str) -> None:
    index = json.loads((built.site / language / "search" / "search_index.json").read_bytes())["docs"]
    for code in CODES:
        (entry,) = [each for each in index if each["location"].startswith(f"codes/{code}/")]
        assert re.split(r"[\s·]+", entry["title"])[0] == code
        assert entry["boost"] < 1
        assert "catalog.yaml:" not in entry["text"], "examples speak of papers and are not searched"


def test_every_page_leads_to_the_list(built: Built) -> None:
    for language in LANGUAGES:
        for name in ("index.html", "papers/ddim/index.html", "codes/E0203/index.html"):
            html = (built.site / language / name).read_text(encoding="utf-8")
            footer = html[html.index("<footer") :]
            assert re.search(r'<a href="[./]*/codes/">', footer)

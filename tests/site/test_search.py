"""Search finds Korean inside words, and what the glossary calls by another name."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from denoised.site.library import Term
from denoised.site.search import BOOST, FIELD, endings, extend_index, other_names
from tests.site.samples import Built


def test_endings_of_a_word() -> None:
    assert endings("확산모델은 x가 DDIM에서") == ["확산모델은", "산모델은", "모델은", "델은", "에서"]
    assert endings("가 나") == []


def test_the_glossary_knows_other_names() -> None:
    terms = [
        Term.model_validate(
            {
                "term": {"ko": "디퓨전", "en": "diffusion"},
                "also": {"ko": ["확산"], "en": []},
                "meaning": {"ko": "가", "en": "a"},
            }
        ),
        Term.model_validate({"term": {"ko": "척도", "en": "IS"}, "meaning": {"ko": "가", "en": "a"}}),
    ]
    assert other_names("디퓨전모델", terms) == ["diffusion", "확산"]
    assert other_names("Diffusion models", terms) == ["디퓨전", "확산"]
    assert other_names("this is", terms) == ["척도"]
    assert other_names("this", terms) == []


def index_of(built: Built, language: str) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((built.site / language / "search" / "search_index.json").read_bytes())
    return index


def finds(entry: dict[str, Any], query: str) -> bool:
    """As the theme searches: a token of any field that begins with the query."""
    text = unescape(re.sub("<[^>]*>", " ", " ".join([entry["title"], entry["text"], entry[FIELD]])))
    return any(
        token.casefold().startswith(query.casefold())
        for token in re.split(r"[\s\-_,:!=\[\]()\"/`·.?;]+", text)
    )


def test_two_syllables_inside_any_word_are_found(built: Built) -> None:
    index = index_of(built, "ko")
    assert index["config"]["fields"][FIELD] == {"boost": BOOST}
    queries = missed = 0
    for entry in index["docs"]:
        text = unescape(re.sub("<[^>]*>", " ", f"{entry['title']} {entry['text']}"))
        for run in set(re.findall("[가-힣]{2,}", text)):
            for start in range(len(run) - 1):
                queries += 1
                missed += not finds(entry, run[start : start + 2])
    assert queries > 3000
    assert missed == 0


def test_either_language_finds_the_page(built: Built) -> None:
    for language in ("ko", "en"):
        for query in ("노이즈", "noise", "잡음"):
            found = {
                entry["location"].split("#")[0]
                for entry in index_of(built, language)["docs"]
                if finds(entry, query)
            }
            assert "papers/ddim/" in found, (language, query)


def test_lists_do_not_crowd_out_papers(built: Built) -> None:
    locations = [entry["location"] for entry in index_of(built, "ko")["docs"]]
    assert not any(location.endswith("#top") for location in locations)
    assert not any(re.match(r"(papers/|tags/|years/|verdicts/)?(#|$)", location) for location in locations)
    sentence = built.pages.library.catalog.paper("cfg").sentence.ko[:12]
    assert [entry["location"] for entry in index_of(built, "ko")["docs"] if sentence in entry["text"]] == [
        "papers/cfg/"
    ]


def test_extending_an_index_without_heads_keeps_its_entries(tmp_path: Path) -> None:
    path = tmp_path / "search_index.json"
    docs = [
        {"location": "a/", "title": "가나다", "text": ""},
        {"location": "b/#top", "title": "b", "text": "b"},
    ]
    path.write_text(json.dumps({"config": {"fields": {}}, "docs": docs}))
    extend_index(path, [])
    assert [(entry["location"], entry[FIELD]) for entry in json.loads(path.read_text())["docs"]] == [
        ("a/", "가나다 나다"),
        ("b/#top", ""),
    ]

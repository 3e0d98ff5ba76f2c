"""The project's own catalog: everything that it set out to hold is there, and every entry is whole."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from denoised.catalog import Catalog, Paper, load
from denoised.catalog.bibtex import CONFERENCES, JOURNALS
from denoised.catalog.model import VENUE
from denoised.project import find_root

WANTED = (Path(__file__).parent / "fixtures" / "everything.txt").read_text().split()


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load(find_root() / "catalog.yaml")


@pytest.fixture(scope="module")
def methods(catalog: Catalog) -> list[Paper]:
    return [paper for paper in catalog.papers if paper.kind == "method"]


def test_everything_that_the_sources_name_is_there(catalog: Catalog) -> None:
    assert len(WANTED) == 186
    assert sorted(set(WANTED) - {paper.id for paper in catalog.papers}) == []


def test_every_method_says_how_it_is_tested(methods: list[Paper]) -> None:
    assert [paper.id for paper in methods if paper.test is None] == []


def test_every_entry_says_how_hard_it_is_and_has_tags(catalog: Catalog) -> None:
    assert [paper.id for paper in catalog.papers if paper.difficulty is None] == []
    assert [paper.id for paper in catalog.papers if not 1 <= len(paper.tags) <= 5] == []


def test_every_tag_is_used_and_none_is_for_one_entry_alone_by_mistake(catalog: Catalog) -> None:
    used = Counter(tag for paper in catalog.papers for tag in paper.tags)
    assert sorted({tag.id for tag in catalog.tags} - used.keys()) == []
    assert len(catalog.tags) <= 72  # a vocabulary that a person can read through


def test_every_method_can_be_read_somewhere(methods: list[Paper]) -> None:
    found = [
        p.id for p in methods if not (p.links.arxiv or p.links.paper or p.links.openreview or p.links.project)
    ]
    assert found == []


def test_venues_are_known(catalog: Catalog) -> None:
    names = {VENUE.fullmatch(paper.venue)["name"] for paper in catalog.papers if paper.venue}  # type: ignore[index]
    assert names - CONFERENCES - JOURNALS.keys() <= {"OpenAI"}


def test_sentences_are_one_or_two(catalog: Catalog) -> None:
    for paper in catalog.papers:
        for text in (paper.sentence.ko, paper.sentence.en):
            assert text.endswith((".", "?")), paper.id
            assert len(re.findall(r"[가-힣a-z)][.?](?= |$)", text)) <= 2, paper.id


def test_unchecked_numbers_say_so_and_checked_ones_name_their_source(methods: list[Paper]) -> None:
    reported = [number for paper in methods for number in paper.reported]
    assert len(reported) > 200
    assert all(len(number.source) > 3 for number in reported)
    assert not [n.source for n in reported if "memory" in n.source.lower()]


def test_what_is_read_first_came_first_or_explains(catalog: Catalog) -> None:
    """A method is never a prerequisite of a method that it builds on."""
    for paper in catalog.papers:
        for id in paper.prerequisites:
            assert paper.id not in catalog.paper(id).builds_on, f"{paper.id} and {id}"

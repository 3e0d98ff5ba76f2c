"""The models: what an entry may hold, and what can be asked of a catalog."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from denoised.catalog import Catalog, Links, Paper, Reported, Text, load
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking

VALID = Path(__file__).parent / "fixtures" / "valid.yaml"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load(VALID)


def test_a_paper_knows_its_year_its_page_and_its_runner(catalog: Catalog) -> None:
    ddim = catalog.paper("ddim")
    assert ddim.year == 2020
    assert ddim.arxiv_url == "https://arxiv.org/abs/2010.02502"
    assert ddim.runner_module == "runners.fast_sampling.ddim"
    assert ddim.runner_file == "runners/fast_sampling/ddim.py"
    assert catalog.paper("review").arxiv_url is None


def test_what_builds_on_a_paper_is_found_from_it(catalog: Catalog) -> None:
    assert [paper.id for paper in catalog.built_on("ddpm")] == ["ddim"]
    assert catalog.built_on("ddim") == ()


@pytest.mark.parametrize(
    ("wanted", "help"),
    [
        ("ddin", "did you mean `ddim`?"),
        ("DDPM", "did you mean `ddpm`, `ddim`?"),
        ("2006.11239", "did you mean `ddpm`?"),
        ("zzz", "to see every id: denoised list"),
    ],
)
def test_an_unknown_id_names_the_nearest(catalog: Catalog, wanted: str, help: str) -> None:
    with speaking("en"), pytest.raises(DenoisedError) as caught:
        catalog.paper(wanted)
    assert caught.value.message == f"no paper has the id `{wanted}`"
    assert caught.value.help == help
    assert caught.value.code is Exit.USAGE


def test_an_unknown_category_names_the_nearest_or_all(catalog: Catalog) -> None:
    with speaking("en"):
        with pytest.raises(DenoisedError) as caught:
            catalog.category("foundation")
        assert caught.value.help == "did you mean `foundations`?"
        with pytest.raises(DenoisedError) as caught:
            catalog.category("zzz")
        assert caught.value.help == "categories: foundations, fast-sampling"


@pytest.mark.parametrize(
    "arxiv", ["2010.02502", "1412.6980", "0704.0001", "1501.00001", "hep-th/9901001", "math.GT/0309136"]
)
def test_arxiv_identifiers_of_every_age_are_known(arxiv: str) -> None:
    assert Links(arxiv=arxiv).arxiv == arxiv


@pytest.mark.parametrize(
    "arxiv",
    [
        "2013.02502",
        "2000.02502",
        "2010.2502",
        "1412.06980",
        "0703.0001",
        "2010.02502v1",
        "２０１０.02502",
        "arXiv:2010.02502",
        "",
    ],
)
def test_what_only_looks_like_an_arxiv_identifier_is_refused(arxiv: str) -> None:
    with pytest.raises(ValidationError, match="E0208"):
        Links(arxiv=arxiv)


@pytest.mark.parametrize("url", ["https://a.org", "http://taohu.me/sgdm/", "https://a.org:8443/x?y=1#z%20"])
def test_web_addresses_are_let_through(url: str) -> None:
    assert Links(code=url).code == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://a.org",
            "//a.org",
            "a.org",
            "https://",
            "https://a",
        ),
        *("https://user@a.org", "https://a.org:99999", "https://[::1", "https://a.org/ b", 'https://a.org/"'),
        *("https://a.org/<script>", "https://a.org/\x7f", "https://a.org/`", "HTTPS:\\\\a.org"),
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="E0209"):
        Links(code=url)


def test_values_are_not_converted_and_fields_not_invented() -> None:
    with pytest.raises(ValidationError, match="float_type"):
        Reported(metric="fid", value="3.17", source="Table 1")  # type: ignore[arg-type]
    extra: dict[str, Any] = {"ko": "기초", "en": "Foundations", "fr": "Bases"}
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Text(**extra)


def test_an_entry_cannot_be_changed(catalog: Catalog) -> None:
    paper: Any = catalog.papers[0]
    with pytest.raises(ValidationError, match="frozen"):
        paper.name = "other"


def test_every_field_of_a_paper_is_one_a_person_can_look_up() -> None:
    guide = {"id", "name", "kind", "title", "authors", "published", "venue", "category", "tags", "links"}
    guide |= {
        "sentence",
        "claim",
        "test",
        "reported",
        "builds_on",
        "must_read",
        "difficulty",
        "prerequisites",
    }
    assert set(Paper.model_fields) == guide
    assert all(re.fullmatch("[a-z_]+", name) for name in Paper.model_fields)

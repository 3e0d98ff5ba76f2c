"""What is exported is read back by programs that nobody here wrote."""

from __future__ import annotations

import csv
import io
import json

import jsonschema
import pytest

from denoised.catalog import Catalog, load
from denoised.catalog.bibtex import bibtex, key
from denoised.catalog.export import COLUMNS, csl, export, schema
from denoised.catalog.model import Paper
from denoised.cli import main
from denoised.project import find_root


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load(find_root() / "catalog.yaml")


def test_json_fits_its_schema_and_other_json_does_not(catalog: Catalog) -> None:
    document = json.loads(export(catalog.papers, "json"))
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    validator.validate(document)
    assert [each["id"] for each in document["papers"]] == [paper.id for paper in catalog.papers]
    for change in ({"kind": "novel"}, {"unknown": 1}, {"sentence": {"ko": "하나"}}):
        assert not validator.is_valid({"papers": [document["papers"][0] | change]})


def test_csv_holds_every_entry(catalog: Catalog) -> None:
    rows = list(csv.DictReader(io.StringIO(export(catalog.papers, "csv"))))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(catalog.papers)
    for row, paper in zip(rows, catalog.papers, strict=True):
        assert row["id"] == paper.id and row["sentence_ko"] == paper.sentence.ko
        assert row["authors"].split("; ") == list(paper.authors or [""])


def test_no_cell_is_a_formula(catalog: Catalog) -> None:
    paper = catalog.paper("ddim").model_copy(update={"title": "=HYPERLINK(1)", "name": "@SUM"})
    (row,) = csv.DictReader(io.StringIO(export([paper], "csv")))
    assert (row["title"], row["name"]) == ("'=HYPERLINK(1)", "'@SUM")


@pytest.mark.parametrize(
    ("id", "kind", "where"),
    [
        ("ddim", "paper-conference", "ICLR"),
        ("cfg", "paper-conference", "NeurIPS Workshop"),
        ("guided-distillation", "paper-conference", "CVPR"),
    ],
)
def test_csl_names_the_kind_of_work(catalog: Catalog, id: str, kind: str, where: str) -> None:
    item = csl(catalog.paper(id))
    assert (item["type"], item["container-title"]) == (kind, where)


def test_csl_has_names_dates_and_addresses(catalog: Catalog) -> None:
    item = csl(catalog.paper("ddim"))
    assert item["author"][0] == {"family": "Song", "given": "Jiaming"}
    assert item["issued"] == {"date-parts": [[2021]]}  # the venue's year, as in BibTeX
    assert item["URL"] == "https://arxiv.org/abs/2010.02502" and item["id"] == key(catalog.paper("ddim"))


def test_citation_keys_are_unique(catalog: Catalog) -> None:
    keys = [key(paper) for paper in catalog.papers]
    assert len(set(keys)) == len(keys)


def test_an_organisation_stays_whole(catalog: Catalog) -> None:
    paper: Paper = catalog.paper("ddim").model_copy(update={"authors": ("OpenAI", "Song, Jiaming")})
    assert [each["literal"] for each in csl(paper)["author"]] == ["OpenAI", "Song, Jiaming"]


def test_the_command(capsys: pytest.CaptureFixture[str], catalog: Catalog) -> None:
    assert main(["export", "ddim", "ddpm"]) == 0
    assert capsys.readouterr().out == f"{bibtex(catalog.paper('ddim'))}\n{bibtex(catalog.paper('ddpm'))}"
    assert main(["export", "--category", "guidance", "--format", "csl"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == sum(paper.category == "guidance" for paper in catalog.papers)
    assert main(["--lang", "en", "export", "--format", "bib"]) == 2
    assert "did you mean `bibtex`?" in capsys.readouterr().err
    assert main(["--lang", "en", "export", "ddmi"]) == 2
    assert main(["export", "--format", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()

"""The catalog in the forms that other programs read: BibTeX, CSL-JSON, plain JSON with its schema, CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

from denoised.catalog.bibtex import CONFERENCES, JOURNALS, bibtex, key
from denoised.catalog.model import VENUE, Catalog, Paper

ExportFormat = Literal["bibtex", "csl", "json", "schema", "csv"]
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormat)

COLUMNS = (
    *("id", "name", "kind", "category", "published", "venue", "title", "authors", "tags", "arxiv"),
    *("sentence_ko", "sentence_en"),
)

# What makes a spreadsheet take a cell for a formula.
_FORMULA = re.compile(r"[=+\-@\t\r]")


def export(papers: Sequence[Paper], form: ExportFormat) -> str:
    """Some entries in one form, as a text that ends in a newline; `schema` is of the form `json` and needs none."""
    if form == "bibtex":
        return "\n".join(map(bibtex, papers))
    if form == "csl":
        return _json([csl(paper) for paper in papers])
    if form == "json":
        return _json({"papers": [paper.model_dump(mode="json", exclude_none=True) for paper in papers]})
    if form == "schema":
        return _json(schema())
    return _csv(papers)


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of what `export` writes as json."""
    entry = Catalog.model_json_schema(mode="serialization")
    definitions = entry["$defs"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Denoised catalog",
        "type": "object",
        "required": ["papers"],
        "additionalProperties": False,
        "properties": {"papers": {"type": "array", "items": {"$ref": "#/$defs/Paper"}}},
        "$defs": definitions,
    }


def csl(paper: Paper) -> dict[str, Any]:
    """One entry as CSL-JSON 1.0 has it: what citation managers import."""
    match = VENUE.fullmatch(paper.venue or "")
    name = match["name"] if match else ""
    item: dict[str, Any] = {"id": key(paper), "title": paper.title}
    if name in JOURNALS and match is not None and not match["workshop"]:
        item |= {"type": "article-journal", "container-title": JOURNALS[name]}
    elif name in CONFERENCES and match is not None:
        item |= {"type": "paper-conference", "container-title": name + (match["workshop"] or "")}
    else:
        item["type"] = {
            "dataset": "dataset",
            "tool": "software",
            "model-release": "software",
            "video": "motion_picture",
            "post": "post-weblog",
            "course": "webpage",
        }.get(paper.kind, "article")
    if paper.authors:
        item["author"] = [_author(each) for each in paper.authors]
    if match is not None and "container-title" in item:
        item["issued"] = {"date-parts": [[int(match["year"])]]}
    elif paper.published:
        day = paper.published
        item["issued"] = {"date-parts": [[day.year, day.month, day.day]]}
    if paper.links.arxiv:
        item |= {"archive": "arXiv", "number": paper.links.arxiv}
    if url := paper.arxiv_url or paper.links.paper or paper.links.openreview or paper.links.project:
        item["URL"] = url
    return item


def _author(name: str) -> dict[str, str]:
    """A name as family and given; what cannot be divided stays whole."""
    given, _, family = name.rpartition(" ")
    return {"family": family, "given": given} if given and "," not in name else {"literal": name}


def _csv(papers: Sequence[Paper]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for paper in papers:
        values = [
            paper.id, paper.name, paper.kind, paper.category, str(paper.published or ""), paper.venue or "", paper.title,
            "; ".join(paper.authors), "; ".join(paper.tags), paper.links.arxiv or "", paper.sentence.ko, paper.sentence.en,
        ]  # fmt: skip
        writer.writerow([f"'{value}" if _FORMULA.match(value) else value for value in values])
    return buffer.getvalue()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"

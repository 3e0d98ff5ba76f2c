"""Reading catalog.yaml: everything that is wrong with it at once, each with its place, or the catalog.

bytes -> text (`source`) -> nodes with places (`yaml_nodes`) -> values by the models' types (`schema`) ->
models -> what must agree between entries (here).
"""

from __future__ import annotations

import bisect
import gc
import graphlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from denoised.catalog.characters import visible
from denoised.catalog.findings import CODES, Finding, Span, Value, did_you_mean, quoted
from denoised.catalog.model import Catalog
from denoised.catalog.schema import EXAMPLES, Conversion, Place, shape_of
from denoised.catalog.source import Source, decode, read_bytes
from denoised.catalog.yaml_nodes import Node, read_nodes
from denoised.errors import DenoisedError, Exit
from denoised.language import Phrase, say

MOST = 1000  # findings of one file; nobody reads more, and a hostile file could cause millions


class CatalogError(DenoisedError):
    """A catalog that has errors. `findings` says which; `source` is the text they point into."""

    def __init__(self, source: Source, findings: list[Finding]) -> None:
        count = len(findings)
        super().__init__(
            say(
                ko=f"{source.name}: 고칠 곳이 {count}개 있다",
                en=f"{source.name} has {count} error{'s' if count > 1 else ''}",
            ),
            help=f"denoised check {source.name}",
            code=Exit.FINDINGS,
        )
        self.source = source
        self.findings = findings


@dataclass(frozen=True)
class Reading:
    """What became of a file: the catalog, or the findings that keep it from being one."""

    source: Source
    findings: list[Finding]
    catalog: Catalog | None


def load(path: Path) -> Catalog:
    """The catalog in a file.

    Raises CatalogError (FINDINGS) with everything that is wrong with it, DenoisedError (USAGE) where the file
    cannot be read at all.
    """
    reading = read(path)
    if reading.catalog is None:
        raise CatalogError(reading.source, reading.findings)
    return reading.catalog


def check(path: Path) -> list[Finding]:
    """Everything that is wrong with a catalog file, in the order of the file."""
    return read(path).findings


def read(path: Path) -> Reading:
    """Read a file. Raises DenoisedError (USAGE) where it cannot be read at all."""
    return read_data(_display_name(path), read_bytes(path))


def read_data(name: str, data: bytes) -> Reading:
    """Read the bytes of a catalog; `name` stands for the file in messages."""
    with _garbage_left():
        return _read_data(name, data)


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Without the garbage collector: half of the time would go to nodes that are all still in use."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_data(name: str, data: bytes) -> Reading:
    source, findings = decode(name, data)
    catalog = None
    if not any(finding.code in ("E0101", "E0102") for finding in findings):
        root, unreadable = read_nodes(source)
        findings = findings + unreadable
        if root is not None:
            catalog, wrong = _catalog(name, root)
            findings += wrong
    findings = sorted(findings, key=lambda finding: (finding.span, finding.code))[:MOST]
    return Reading(source, findings, None if findings else catalog)


def _display_name(path: Path) -> str:
    """The path as a person in the current folder would type it, safe to print."""
    try:
        return visible(str(path.resolve().relative_to(Path.cwd())))
    except ValueError:  # somewhere else
        return visible(str(path))


def _catalog(name: str, root: Node) -> tuple[Catalog | None, list[Finding]]:
    findings: list[Finding] = []
    conversion = Conversion(lambda code, span, values: findings.append(Finding(name, span, code, values)))
    whole = Phrase(ko="카탈로그", en="the catalog")
    data = conversion.convert(root, shape_of(Catalog), Place(root.span, whole, whole, ""))
    catalog = None
    try:
        catalog = Catalog.model_validate(data)
    except ValidationError as errors:
        # What could not be read fails here as well, by a type of pydantic's own; it has its finding already.
        ours = [error for error in errors.errors(include_url=False) if error["type"] in CODES]
        if not ours and not findings:
            raise
        for error in ours:
            _refused_value(conversion, error["loc"], error["type"], error["ctx"]["values"])
    if isinstance(data, dict):
        _cross_check(conversion, data)
    return catalog, findings


_RANGE = {
    "value": Phrase(ko="유한한 수", en="a finite number"),
    "nfe": Phrase(ko="1 이상의 수", en="a number from 1"),
}


def _refused_value(
    conversion: Conversion, path: tuple[int | str, ...], code: str, values: dict[str, str]
) -> None:
    """Tell what a validator of the models refuses, at the place that pydantic's `path` leads to."""
    if "index" in values:
        path = (*path, int(values["index"]))
    place = conversion.places[path]
    value = values.get("value", "")
    said: dict[str, Value] = {**values, "field": place.label, "owner": place.owner, "value": quoted(value)}
    if code == "E0207":
        word = values["kebab"]
        line = word if place.in_list else f"{place.key}: {word}"
        said["fix"] = line if word else EXAMPLES[place.key]
    elif code == "E0208":
        said["fix"] = f'arxiv: "{values["found"] or "2010.02502"}"'
    elif code == "E0215":
        said["fix"] = EXAMPLES[place.key]
    elif code == "E0216":
        said["expected"] = _RANGE[place.key]
    conversion.report(code, place.span, **said)


Entries = dict[int, dict[str, Any]]  # the readable entries of a list, by index


def _cross_check(conversion: Conversion, data: dict[str, Any]) -> None:
    """What must agree between entries."""
    categories, papers = _entries(data, "categories"), _entries(data, "papers")
    _check_unique(conversion, "categories", categories, "E0302")
    _check_unique(conversion, "papers", papers, "E0301")
    _check_order(conversion, papers)
    _check_arxiv(conversion, papers)
    if (category_ids := _ids(data, "categories")) is not None:
        _check_categories(conversion, papers, category_ids)
    if (tag_ids := _ids(data, "tags")) and isinstance(data.get("tags"), tuple):
        _check_unique(conversion, "tags", _entries(data, "tags"), "E0310")
        _check_tags(conversion, papers, tag_ids)
    if (paper_ids := _ids(data, "papers")) is not None:
        for field in ("builds_on", "prerequisites"):
            _check_references(conversion, papers, paper_ids, field)


def _entries(data: dict[str, Any], part: str) -> Entries:
    listed = data.get(part)
    if not isinstance(listed, tuple):
        return {}
    return {index: entry for index, entry in enumerate(listed) if isinstance(entry, dict)}


def _ids(data: dict[str, Any], part: str) -> set[str] | None:
    """All ids of a part; None where one cannot be read, so that "there is no such id" cannot be said."""
    listed = data.get(part)
    if not isinstance(listed, tuple):
        return None
    ids = [entry.get("id") if isinstance(entry, dict) else None for entry in listed]
    return {id for id in ids if id is not None} if all(isinstance(id, str) for id in ids) else None


def _check_unique(conversion: Conversion, part: str, entries: Entries, code: str) -> None:
    first: dict[str, Span] = {}
    for index, entry in entries.items():
        if isinstance(id := entry.get("id"), str):
            span = conversion.places[part, index, "id"].span
            if id in first:
                conversion.report(code, span, value=quoted(id), first=str(first[id].line))
            first.setdefault(id, span)


def _check_order(conversion: Conversion, papers: Entries) -> None:
    """Each entry against the one before it, so that one entry out of place is one finding."""
    seen: list[str] = []  # sorted
    before = ""
    for index, entry in papers.items():
        if not isinstance(id := entry.get("id"), str):
            continue
        if id < before:
            target = quoted(seen[bisect.bisect_right(seen, id)])
            place = Phrase(ko=f"이 항목을 {target} 앞으로 옮긴다", en=f"move this entry up, before {target}")
            span = conversion.places["papers", index, "id"].span
            conversion.report("E0306", span, value=quoted(id), before=quoted(before), place=place)
        bisect.insort(seen, id)
        before = id


def _check_arxiv(conversion: Conversion, papers: Entries) -> None:
    first: dict[str, tuple[str, Span]] = {}
    for index, entry in papers.items():
        links = entry.get("links")
        if isinstance(links, dict) and isinstance(arxiv := links.get("arxiv"), str):
            span = conversion.places["papers", index, "links", "arxiv"].span
            if arxiv in first:
                other, where = first[arxiv]
                values = {"value": quoted(arxiv), "other": quoted(other), "first": str(where.line)}
                conversion.report("E0307", span, **values)
            first.setdefault(arxiv, (str(entry.get("id")), span))


def _check_categories(conversion: Conversion, papers: Entries, known: set[str]) -> None:
    for index, entry in papers.items():
        if isinstance(category := entry.get("category"), str) and category not in known:
            listed = ", ".join(sorted(known))
            otherwise = Phrase(ko=f"있는 범주: {listed}", en=f"the categories are {listed}")
            hint = did_you_mean(get_close_matches(category, known), otherwise)
            span = conversion.places["papers", index, "category"].span
            conversion.report("E0303", span, value=quoted(category), hint=hint)


def _check_tags(conversion: Conversion, papers: Entries, known: set[str]) -> None:
    otherwise = Phrase(
        ko="카탈로그 위쪽의 `tags`에 있는 말만 쓴다",
        en="use the words that stand under `tags` at the catalog's top",
    )
    for index, entry in papers.items():
        listed = entry.get("tags")
        for position, tag in enumerate(listed if isinstance(listed, tuple) else ()):
            if isinstance(tag, str) and tag not in known:
                span = conversion.places["papers", index, "tags", position].span
                hint = did_you_mean(get_close_matches(tag, known), otherwise)
                conversion.report("E0309", span, value=quoted(tag), hint=hint)


def _check_references(conversion: Conversion, papers: Entries, known: set[str], field: str) -> None:
    """A field of ids: each is there, none is the entry's own, and they lead in no circle."""
    ancestors: dict[str, set[str]] = {}
    spans: dict[tuple[str, str], Span] = {}
    otherwise = Phrase(
        ko="먼저 그 논문의 항목을 넣거나 이 id를 지운다",
        en="add an entry for that paper first, or delete this id",
    )
    for index, entry in papers.items():
        id, listed = entry["id"], entry.get(field)
        for position, other in enumerate(listed if isinstance(listed, tuple) else ()):
            if not isinstance(other, str):
                continue
            span = conversion.places["papers", index, field, position].span
            if other == id:
                conversion.report("E0305", span, field=field, value=quoted(id))
            elif other in known:
                ancestors.setdefault(id, set()).add(other)
                spans[id, other] = span
            else:
                hint = did_you_mean(get_close_matches(other, known), otherwise)
                conversion.report("E0304", span, field=field, value=quoted(other), hint=hint)
    try:
        graphlib.TopologicalSorter(ancestors).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1][::-1]  # now each builds on the next
        # The wrong step is probably the one from an earlier to a later paper.
        days = {entry["id"]: str(entry.get("published")) for entry in papers.values()}
        steps = list(itertools.pairwise(circle))
        wrong = next((step for step in steps if days[step[0]] < days[step[1]]), steps[0])
        conversion.report("E0308", spans[wrong], field=field, cycle=quoted(" → ".join(circle)))

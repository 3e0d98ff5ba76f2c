"""Reading catalog.yaml: everything that is wrong with it at once, each with its place, or the catalog.

bytes -> text (`source`) -> nodes with places (`yaml_nodes`) -> values by the models' types (`schema`) ->
models -> what must agree between entries, and with their runners (`agreement`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from denoised.catalog.agreement import check_entries, check_runners
from denoised.catalog.characters import visible
from denoised.catalog.findings import CODES, Finding, Span, Value, quoted
from denoised.catalog.model import Catalog
from denoised.catalog.schema import EXAMPLES, Conversion, Place, shape_of, unwritten
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


def read(path: Path, *, runners: Path | None = None) -> Reading:
    """Read a file, and where the folder `runners` is given, compare the entries with the runners in it.

    Raises DenoisedError (USAGE) where it cannot be read at all.
    """
    return read_data(_display_name(path), read_bytes(path), runners=runners)


def read_data(name: str, data: bytes, *, runners: Path | None = None) -> Reading:
    """Read the bytes of a catalog; `name` stands for the file in messages."""
    with _garbage_left():
        return _read_data(name, data, runners)


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


class _Enough(Exception):
    """So much is wrong that looking further tells nobody anything."""


def _read_data(name: str, data: bytes, runners: Path | None) -> Reading:
    source, findings = decode(name, data)
    catalog = None
    if not any(finding.code in ("E0101", "E0102") for finding in findings):
        root, unreadable = read_nodes(source)
        findings = findings + unreadable
        if root is not None:
            catalog, wrong = _catalog(name, root, runners)
            findings += wrong
    findings = sorted(findings, key=lambda finding: (finding.span, finding.code))[:MOST]
    return Reading(source, findings, None if findings else catalog)


def _display_name(path: Path) -> str:
    """The path as a person in the current folder would type it, safe to print."""
    try:
        return visible(str(path.resolve().relative_to(Path.cwd())))
    except ValueError:  # somewhere else
        return visible(str(path))


def _catalog(name: str, root: Node, runners: Path | None) -> tuple[Catalog | None, list[Finding]]:
    findings: list[Finding] = []

    def report(code: str, span: Span, values: Mapping[str, Value]) -> None:
        findings.append(Finding(name, span, code, values))
        if len(findings) == 2 * MOST:
            raise _Enough

    conversion = Conversion(report)
    try:
        return _converted(conversion, root, runners, findings), findings
    except _Enough:
        return None, findings


def _converted(
    conversion: Conversion, root: Node, runners: Path | None, findings: list[Finding]
) -> Catalog | None:
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
        check_entries(conversion, data)
        if runners is not None:
            check_runners(conversion, data, runners)
    return catalog


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
    elif code == "E0212":
        said["hint"] = unwritten(place.key)
    elif code == "E0215":
        said["fix"] = EXAMPLES[place.key]
    elif code == "E0216":
        said["expected"] = _RANGE[place.key]
    conversion.report(code, place.span, **said)

"""Everything a page may show, gathered once: catalog, notes, runners, glossary, records, worlds and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from denoised.catalog import Catalog, Paper, load
from denoised.catalog.explain import Explanations, read_explanations
from denoised.errors import DenoisedError, Exit
from denoised.lab.record import RecordError, entry_sha256, obstacles, read_record
from denoised.lab.schema import Record
from denoised.language import LANGUAGES, Language, Phrase, say
from denoised.site.metrics import Benchmark, MetricFacts, read_benchmark, read_facts
from denoised.site.sampling import Sampling, read_sampling
from denoised.site.source import Method, read_method
from denoised.site.words import read_yaml
from denoised.site.worlds import Vocabulary, World, gather_worlds, read_vocabulary
from denoised.site.zoo import Checkpoint, gather_zoo

Status = Literal["holds", "fails", "inconclusive", "unverified", "not-run", "no-runner", "no-claim"]
STATUSES: tuple[Status, ...] = (
    "holds",
    "fails",
    "inconclusive",
    "unverified",
    "not-run",
    "no-runner",
    "no-claim",
)
SCALES: tuple[Literal["mini", "paper"], ...] = ("mini", "paper")


@dataclass(frozen=True)
class Result:
    """The record that a scale shows, if there is a good one, and what was wrong with those that are not shown."""

    record: Record | None = None
    path: Path | None = None
    local: bool = False  # made on this machine, not published
    problems: tuple[Phrase, ...] = ()

    @property
    def pictures(self) -> list[Path]:
        """The record's pictures, where they lie."""
        if self.record is None or self.path is None:
            return []
        return [self.path.with_name(picture.path) for picture in self.record.pictures]


@dataclass(frozen=True)
class Item:
    """One paper with all that belongs to it."""

    paper: Paper
    method: Method | None
    notes: Mapping[Language, str]
    results: Mapping[str, Result]
    entry_sha256: str

    @property
    def status(self) -> Status:
        """What the site says of the paper in one word: from its mini record, else its paper-scale one."""
        first, second = (self.at(scale) for scale in SCALES)
        return second if first == "not-run" else first

    def at(self, scale: str) -> Status:
        """What is known of the claim at one scale."""
        result = self.results[scale]
        if self.paper.claim is None:
            return "no-claim"
        if result.record is not None and result.record.claims:
            verdicts = {claim.verdict for claim in result.record.claims}
            return "fails" if "fails" in verdicts else "holds" if verdicts == {"holds"} else "inconclusive"
        if result.record is None and result.problems:
            return "unverified"
        return "not-run" if self.method or result.record else "no-runner"

    @property
    def shown(self) -> Result | None:
        """The result that `status` speaks of."""
        return next((self.results[scale] for scale in SCALES if self.results[scale].record), None)


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Line(_Model):
    ko: str
    en: str


class _Lines(_Model):
    ko: list[str] = []
    en: list[str] = []


class Term(_Model):
    """A term of the glossary, what else it is called, and what it means."""

    term: _Line
    also: _Lines = _Lines()
    meaning: _Line

    @property
    def names(self) -> tuple[str, ...]:
        """Every way to write it, in either language."""
        return (self.term.ko, self.term.en, *self.also.ko, *self.also.en)


class Step(_Model):
    """One entry of a reading path, and what to look for in it."""

    id: str
    why: _Line


class ReadingPath(_Model):
    """Entries to read in order: who they are for, and why each comes where it does."""

    id: str
    name: _Line
    audience: _Line
    steps: list[Step]


@dataclass(frozen=True)
class Library:
    """The whole content of the site."""

    root: Path
    catalog: Catalog
    items: tuple[Item, ...]
    glossary: tuple[Term, ...]
    paths: tuple[ReadingPath, ...]
    worlds: tuple[World, ...]
    vocabulary: Vocabulary  # of the emoji world
    checkpoints: tuple[Checkpoint, ...]
    metrics: tuple[MetricFacts, ...]
    benchmark: Benchmark | None  # of the metrics
    sampling: Sampling | None  # how fast it is
    codes: Explanations  # of what `denoised check` finds

    def item(self, id: str) -> Item | None:
        """The item of a paper's id; None if the catalog has none."""
        return next((item for item in self.items if item.paper.id == id), None)


def gather(root: Path, records: Path | None = None) -> Library:
    """Read the project at `root`; `records` holds fresh results as <id>/<scale>.json, which go first.

    A bad record is not an error: the page says what is wrong with it. Raises DenoisedError where the catalog, a
    runner, the glossary, a reading path, a world's description, a checkpoint's manifest or the codes of findings
    cannot be read.
    """
    catalog = load(root / "catalog.yaml")
    items = []
    for paper in catalog.papers:
        folder = root / "papers" / paper.id
        notes = {
            language: path.read_text(encoding="utf-8")
            for language in LANGUAGES
            if (path := folder / f"{language}.md").is_file()
        }
        results: dict[str, Result] = {
            scale: _result(paper, scale, folder / "results", records) for scale in SCALES
        }
        items.append(Item(paper, read_method(root, paper.runner_file), notes, results, entry_sha256(paper)))
    return Library(
        root,
        catalog,
        tuple(items),
        _read_glossary(root / "site" / "glossary.yaml"),
        _read_paths(root / "site" / "paths.yaml", catalog),
        gather_worlds(root),
        read_vocabulary(root),
        gather_zoo(root),
        read_facts(),
        read_benchmark(root),
        read_sampling(root),
        read_explanations(root),
    )


def _result(paper: Paper, scale: str, published: Path, records: Path | None) -> Result:
    problems: list[Phrase] = []
    places = [(published, False)] if records is None else [(records / paper.id, True), (published, False)]
    for folder, local in places:
        path = folder / f"{scale}.json"
        if not path.is_symlink() and not path.exists():
            continue
        try:
            record = read_record(path, paper=paper.id, pictures=True)
        except RecordError as error:
            problems.append(error.reason)
            continue
        if not local and (found := obstacles(record)):
            problems.append(found[0])
            continue
        return Result(record, path, local, tuple(problems))
    return Result(problems=tuple(problems))


def _read_glossary(path: Path) -> tuple[Term, ...]:
    if not path.is_file():
        return ()
    try:
        return tuple(Term.model_validate(each) for each in read_yaml(path))
    except ValidationError as error:
        raise DenoisedError(f"{path}: {error}", code=Exit.FINDINGS) from error


def _read_paths(path: Path, catalog: Catalog) -> tuple[ReadingPath, ...]:
    if not path.is_file():
        return ()
    try:
        paths = tuple(ReadingPath.model_validate(each) for each in read_yaml(path))
    except ValidationError as error:
        raise DenoisedError(f"{path}: {error}", code=Exit.FINDINGS) from error
    known = {paper.id for paper in catalog.papers}
    for each in paths:
        if unknown := [step.id for step in each.steps if step.id not in known]:
            raise DenoisedError(
                say(
                    ko=f"{path}: 읽기 경로 {each.id}에 카탈로그에 없는 항목이 있다: {', '.join(unknown)}",
                    en=f"{path}: the reading path {each.id} names entries that the catalog lacks: {', '.join(unknown)}",
                ),
                code=Exit.FINDINGS,
            )
    return paths

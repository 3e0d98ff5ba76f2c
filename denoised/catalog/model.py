"""The catalog as data: what an entry of catalog.yaml may hold.

The models are strict (no conversion between types), closed (no unknown fields) and frozen. They say what is
right; where a wrong value stands in the file and how that is told to a person is `load.py` and `findings.py`.
A validator here names its finding by code, for example `PydanticCustomError("E0208", …)`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import date, timedelta
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Literal, LiteralString, NoReturn, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from denoised.catalog.characters import FORBIDDEN, describe
from denoised.errors import DenoisedError
from denoised.language import Language, say

Difficulty = Literal["introductory", "intermediate", "advanced"]
Kind = Literal["method", "survey", "post", "video", "course", "model-release", "tool", "dataset"]
KINDS: tuple[str, ...] = get_args(Kind)

_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
VENUE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9 .&-]*?) (?P<year>(19|20)[0-9]{2})(?P<workshop> Workshop)?( \([^()]+\))?"
)
_TAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ARXIV_NEW = re.compile(r"([0-9]{2})([0-9]{2})\.([0-9]{4,5})")
_ARXIV_OLD = re.compile(r"[a-z-]+(\.[A-Z]{2})?/[0-9]{7}")
ARXIV_INSIDE = re.compile(r"[0-9]{4}\.[0-9]{4,5}|[a-z-]+(\.[A-Z]{2})?/[0-9]{7}")
_PLACEHOLDER = re.compile(r"\b(TODO|FIXME|TBD|XXX)\b|^\W+$")
_HOST = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", re.IGNORECASE)


def _wrong(code: LiteralString, /, **values: str) -> NoReturn:
    """Refuse the value being validated, with a finding's code and what its message needs."""
    raise PydanticCustomError(code, "finding {code}: {values}", {"code": code, "values": values})


def _line(value: str) -> str:
    """One line of text that says something: no forbidden character, no blank, no placeholder."""
    if not value.strip():
        _wrong("E0211")
    # A YAML escape such as "\u202e" hides from the check of the file's own characters. U+FFFD stands for what
    # that check has found already; line ends and tabs have a finding of their own.
    if bad := FORBIDDEN.search(re.sub("[\n\t\ufffd]", "", value)):
        _wrong("E0105", character=describe(bad.group()))
    if value != value.strip() or "\n" in value or "\t" in value or "  " in value:
        _wrong("E0217")
    if is_placeholder(value):
        _wrong("E0212", value=value)
    return value


def is_placeholder(text: str) -> bool:
    """Whether a text only keeps the place of one that is still to be written: TODO, an ellipsis."""
    return _PLACEHOLDER.search(text) is not None


def _id(value: str) -> str:
    if is_placeholder(value):
        _wrong("E0212", value=value)
    return (
        value if _ID.fullmatch(value) else _wrong("E0207", value=value, kebab=kebab(value, letter_first=True))
    )


def _tag(value: str) -> str:
    return value if _TAG.fullmatch(value) else _wrong("E0207", value=value, kebab=kebab(value))


def kebab(text: str, *, letter_first: bool = False) -> str:
    """`text` as lower-case ASCII words joined by hyphens, the form of ids and tags; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    result = "-".join(words)
    return result.lstrip("0123456789-") if letter_first else result


def _arxiv(value: str) -> str:
    """An arXiv identifier without version: 2010.02500, or before April 2007 hep-th/9901001."""
    if _ARXIV_OLD.fullmatch(value):
        return value
    if match := _ARXIV_NEW.fullmatch(value):
        year, month, number = match.groups()
        # Five digits since January 2015, four before: a missing digit must not name another paper.
        digits = 5 if year >= "15" else 4
        if year + month >= "0704" and "01" <= month <= "12" and len(number) == digits:
            return value
    found = ARXIV_INSIDE.search(value)
    _wrong("E0208", value=value, found=found.group() if found and found.group() != value else "")


def arxiv_month(identifier: str) -> tuple[date, date] | None:
    """The first and the last day of the month in which arXiv gave an identifier; None where it is none."""
    digits = identifier.rpartition("/")[2][:4]
    if not digits.isascii() or not digits.isdigit() or not 1 <= int(digits[2:]) <= 12:
        return None
    # The oldest identifiers are of 1991.
    year = int(digits[:2]) + (1900 if digits >= "9100" else 2000)
    first = date(year, int(digits[2:]), 1)
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.hostname or "") is not None
        good = good and parts.username is None and (parts.port or 1) > 0
    except ValueError:  # a port that is no number, a bracketed address that is none
        good = False
    if not good or re.search(r"[\s\x00-\x1f<>\"'`{}|\\^]", value) or FORBIDDEN.search(value):
        _wrong("E0209", value=value)
    return value


def _venue(value: str) -> str:
    """NAME YEAR, NAME YEAR Workshop, and what it was there for in brackets: ICLR 2021 (Oral)."""
    return value if VENUE.fullmatch(value) else _wrong("E0219", value=value)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else _wrong("E0216", value=str(value))


def _positive(value: int) -> int:
    return value if value >= 1 else _wrong("E0216", value=str(value))


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            _wrong("E0218", value=value, index=str(index))
    return values


Line = Annotated[str, AfterValidator(_line)]
Id = Annotated[str, AfterValidator(_id)]
Tag = Annotated[str, AfterValidator(_tag)]
Arxiv = Annotated[str, AfterValidator(_arxiv)]
Url = Annotated[str, AfterValidator(_url)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Text(_Model):
    """A text in both languages, one line each."""

    ko: Line
    en: Line

    def to(self, language: Language) -> str:
        """The text in one language."""
        return self.ko if language == "ko" else self.en


class Prose(Text):
    """A text of which each side is written in its own script: sentences and claims, not names such as 3D."""

    @field_validator("ko")
    @classmethod
    def _ko_is_korean(cls, value: str) -> str:
        return value if _hangul(value) else _wrong("E0213")

    @field_validator("en")
    @classmethod
    def _en_is_english(cls, value: str) -> str:
        latin = sum(character.isascii() and character.isalpha() for character in value)
        return value if _hangul(value) <= latin else _wrong("E0214")


def _hangul(text: str) -> int:
    return sum("가" <= character <= "힣" for character in text)


class Category(_Model):
    """One shelf of the catalog."""

    id: Id
    name: Text


class TagName(_Model):
    """A word that entries may be tagged with, and what it is called."""

    id: Tag
    name: Text


class Reported(_Model):
    """A number that the paper reports, and where it says so."""

    metric: Line
    value: Annotated[float, AfterValidator(_finite)]
    dataset: Line | None = None
    nfe: Annotated[int, AfterValidator(_positive)] | None = None  # network evaluations per sample
    setting: Line | None = None
    source: Line  # table, page or address
    checked: bool = True  # False: nobody has compared it with its source


class Links(_Model):
    """Where the work lives. `arxiv` is an identifier, the others are addresses."""

    arxiv: Arxiv | None = None
    code: Url | None = None  # the authors' own
    code_unofficial: Url | None = None
    project: Url | None = None
    paper: Url | None = None
    slides: Url | None = None
    openreview: Url | None = None
    weights: Url | None = None
    demo: Url | None = None
    notebook: Url | None = None
    video: Url | None = None
    post: Url | None = None


class Paper(_Model):
    """One entry: a paper, or another work that the catalog knows (`kind`)."""

    id: Id
    name: Line  # what people call it: DDIM
    kind: Kind
    title: Line
    authors: Annotated[tuple[Line, ...], AfterValidator(_distinct)] = Field(default=(), validate_default=True)
    # The first public version; None only for what is no paper and bears no date.
    published: Annotated[date | None, Field(validate_default=True)] = None
    venue: Annotated[Line, AfterValidator(_venue)] | None = None
    category: Id
    tags: Annotated[tuple[Tag, ...], AfterValidator(_distinct)] = ()
    links: Links = Links()
    sentence: Prose
    claim: Prose | None = Field(default=None, validate_default=True)
    test: Prose | None = None  # how the mini scale puts the claim to the test
    reported: tuple[Reported, ...] = ()
    builds_on: Annotated[tuple[Id, ...], AfterValidator(_distinct)] = ()
    must_read: bool = False
    difficulty: Difficulty | None = None
    prerequisites: Annotated[tuple[Id, ...], AfterValidator(_distinct)] = ()  # to be read before

    # Field validators, not a model validator: those run only once everything else is right, and a
    # contributor should see every finding at once.
    @field_validator("authors")
    @classmethod
    def _papers_have_authors(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not value and info.data.get("kind") in ("method", "survey"):
            _wrong("E0215", field="authors", kind=info.data["kind"])
        return value

    @field_validator("published")
    @classmethod
    def _papers_have_dates(cls, value: date | None, info: ValidationInfo) -> date | None:
        if value is None and info.data.get("kind") in ("method", "survey"):
            _wrong("E0215", field="published", kind=info.data["kind"])
        return value

    @field_validator("claim")
    @classmethod
    def _methods_claim(cls, value: Prose | None, info: ValidationInfo) -> Prose | None:
        if value is None and info.data.get("kind") == "method":
            _wrong("E0215", field="claim", kind="method")
        return value

    @property
    def year(self) -> int | None:
        """The year of the first public version, where that is known."""
        return self.published.year if self.published else None

    @property
    def arxiv_url(self) -> str | None:
        """The abstract's page on arXiv."""
        return f"https://arxiv.org/abs/{self.links.arxiv}" if self.links.arxiv else None

    @property
    def runner_module(self) -> str:
        """The module that holds the runner, whether or not it is written yet: runners.fast_sampling.dmcmc."""
        return f"runners.{snake(self.category)}.{snake(self.id)}"

    @property
    def runner_file(self) -> str:
        """The runner's file, relative to the project: runners/fast_sampling/dmcmc.py."""
        return self.runner_module.replace(".", "/") + ".py"


def snake(kebab_name: str) -> str:
    """An id as Python writes it: p-plus -> p_plus."""
    return kebab_name.replace("-", "_")


class Catalog(_Model):
    """All categories, tags and papers, in the order of the file (papers by id)."""

    categories: tuple[Category, ...]
    tags: tuple[TagName, ...] = ()  # none: any tag may be used
    papers: tuple[Paper, ...]

    @cached_property
    def _papers_by_id(self) -> dict[str, Paper]:
        return {paper.id: paper for paper in self.papers}

    @cached_property
    def _categories_by_id(self) -> dict[str, Category]:
        return {category.id: category for category in self.categories}

    def paper(self, id: str) -> Paper:
        """The paper with this id. Raises DenoisedError (USAGE) that names the nearest ids."""
        if (paper := self._papers_by_id.get(id)) is not None:
            return paper
        everything = say(ko="모든 id를 보려면: denoised list", en="to see every id: denoised list")
        raise DenoisedError(
            say(ko=f"id가 `{id}`인 논문이 없다", en=f"no paper has the id `{id}`"),
            help=_suggestion(self._near(id)) or everything,
        )

    def category(self, id: str) -> Category:
        """The category with this id. Raises DenoisedError (USAGE) that names the nearest ids."""
        if (category := self._categories_by_id.get(id)) is not None:
            return category
        raise DenoisedError(
            say(ko=f"없는 범주이다: `{id}`", en=f"there is no category `{id}`"),
            help=_suggestion(get_close_matches(id, self._categories_by_id))
            or say(ko="범주: ", en="categories: ") + ", ".join(self._categories_by_id),
        )

    def built_on(self, id: str) -> tuple[Paper, ...]:
        """The papers that build on this one."""
        return tuple(paper for paper in self.papers if id in paper.builds_on)

    def _near(self, wanted: str) -> list[str]:
        """Ids that `wanted` may have meant: as an id, a name, or an arXiv identifier."""
        known: dict[str, str] = {}
        for paper in self.papers:
            for key in (paper.id, paper.name.casefold(), paper.links.arxiv):
                if key:
                    known.setdefault(key, paper.id)
        return list(dict.fromkeys(known[key] for key in get_close_matches(wanted.casefold(), known, n=3)))


def _suggestion(names: list[str]) -> str | None:
    listed = ", ".join(f"`{name}`" for name in names)
    return say(ko=f"혹시 {listed}인가?", en=f"did you mean {listed}?") if names else None

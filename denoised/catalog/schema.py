"""From nodes to values: what each field of the models expects, read from the raw text of the file.

The models say which types there are (`shape_of`); a `Conversion` reads the text accordingly and says, with
its place, what cannot be read. Where a value cannot be had it leaves HOLE, so that the rest is still checked.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from collections.abc import Mapping as Mapping_
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel

from denoised.catalog.findings import Span, Value, did_you_mean, quoted
from denoised.catalog.model import is_placeholder
from denoised.catalog.yaml_nodes import Field, Mapping, Node, Refused, Scalar, Sequence, quote
from denoised.language import Phrase

Path = tuple[int | str, ...]


class Hole:
    """What stands for a value that could not be read and already has its finding."""


HOLE: Final = Hole()


@dataclass(frozen=True)
class Plain:
    """A scalar of one type: str, int, float, bool or date."""

    type: type


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """A list whose items have one shape."""

    item: Shape


@dataclass(frozen=True)
class Record:
    """A mapping with the fields of a model."""

    fields: dict[str, Shape]
    required: tuple[str, ...]


Shape = Plain | Choice | Listing | Record

TEXT = Phrase(ko="한 줄 글", en="a text")
LIST = Phrase(ko="목록", en="a list")
FIELDS = Phrase(ko="필드 묶음", en="a set of fields")
EXPECTED = {
    float: Phrase(ko="따옴표 없는 수", en="a number without quotes"),
    int: Phrase(ko="따옴표 없는 자연수", en="a whole number without quotes"),
    bool: Phrase(ko="true 또는 false", en="true or false"),
}

# A line to copy for each field, for when it is missing or of the wrong type.
EXAMPLES = {
    "": "categories:",
    "categories": "categories: [{id: fast-sampling, name: {ko: 빠른 샘플링, en: Fast sampling}}]",
    "papers": "papers: []",
    "id": "id: ddim",
    "name": "name: DDIM",
    "name of a category": "name: {ko: 빠른 샘플링, en: Fast sampling}",
    "tags of the catalog": "tags: [{id: sampler, name: {ko: 샘플러, en: Sampler}}]",
    "kind": "kind: method",
    "title": "title: Denoising Diffusion Implicit Models",
    "authors": "authors: [Jiaming Song, Chenlin Meng, Stefano Ermon]",
    "published": 'published: "2020-10-06"',
    "venue": "venue: ICLR 2021",
    "category": "category: fast-sampling",
    "tags": "tags: [sampler, deterministic]",
    "links": 'links: {arxiv: "2010.02502"}',
    "arxiv": 'arxiv: "2010.02502"',
    "code": 'code: "https://github.com/ermongroup/ddim"',
    "code_unofficial": 'code_unofficial: "https://…"',
    "project": 'project: "https://…"',
    "paper": 'paper: "https://…"',
    "slides": 'slides: "https://…"',
    "openreview": 'openreview: "https://openreview.net/forum?id=St1giarCHLP"',
    "weights": 'weights: "https://…"',
    "demo": 'demo: "https://…"',
    "notebook": 'notebook: "https://…"',
    "video": 'video: "https://…"',
    "post": 'post: "https://…"',
    "sentence": "sentence: {ko: 한 문장으로 쓴다., en: One sentence.}",
    "claim": "claim: {ko: 재현할 주장을 쓴다., en: The claim to reproduce.}",
    "test": "test: {ko: mini 규모에서 어떻게 시험하는지 쓴다., en: How the mini scale tests it.}",
    "reported": "reported: [{metric: fid, value: 4.16, dataset: CIFAR-10, nfe: 100, source: Table 1}]",
    "builds_on": "builds_on: [ddpm]",
    "must_read": "must_read: true",
    "difficulty": "difficulty: intermediate",
    "prerequisites": "prerequisites: [ddpm]",
    "metric": "metric: fid",
    "value": "value: 4.16",
    "dataset": "dataset: CIFAR-10",
    "nfe": "nfe: 100",
    "setting": "setting: class-conditional",
    "source": "source: Table 1",
    "checked": "checked: false",
    "ko": "ko: 한국어로 쓴다.",
    "en": "en: Write English.",
}

# What is to be written in the place of a TODO.
_UNWRITTEN = {
    "category": Phrase(
        ko="카탈로그 위쪽의 `categories`에서 하나를 고른다", en="choose one of the `categories` at the top"
    ),
    "id": Phrase(ko="사람들이 부르는 이름을 소문자로: ddim", en="what people call it, in lower case: ddim"),
    "name": Phrase(ko="사람들이 부르는 이름: DDIM", en="what people call it: DDIM"),
    "published": Phrase(
        ko='첫 공개판의 날짜: published: "2020-10-06"',
        en='the day of the first public version: published: "2020-10-06"',
    ),
    "title": Phrase(ko="제목을 그대로 옮긴다", en="copy the title"),
    "authors": Phrase(ko="저자를 적힌 차례대로 옮긴다", en="copy the authors in their order"),
}
_UNWRITTEN_TEXT = Phrase(
    ko="무엇을 하는 논문인지 자기 말로 쓴다. 초록을 옮기지 않는다",
    en="say in your own words what the work does; do not copy the abstract",
)


def unwritten(field: str) -> Phrase:
    """What belongs in a field that still says TODO."""
    return _UNWRITTEN.get(field, _UNWRITTEN_TEXT)


@cache
def shape_of(annotation: Any) -> Shape:
    """The shape that a model's field (or a model) expects."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return shape_of(arguments[0])
    if origin is Literal:
        return Choice(arguments)
    if origin in (Union, types.UnionType):  # X | None: absent or X, never written as null
        return shape_of(next(argument for argument in arguments if argument is not types.NoneType))
    if origin is tuple:
        return Listing(shape_of(arguments[0]))
    if issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return Record(
            {name: shape_of(field.annotation) for name, field in fields.items()},
            tuple(name for name, field in fields.items() if field.is_required()),
        )
    return Plain(annotation)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: in the file, and among the fields as messages name them."""

    span: Span
    label: Value  # the field's name in messages
    owner: Value  # the entry or field around it
    key: str  # the field's own name; of an item, the list's
    in_list: bool = False


class Conversion:
    """One file's nodes turned into values. `places` leads from a path of keys and indices to its place."""

    def __init__(self, report: Callable[[str, Span, Mapping_[str, Value]], None]) -> None:
        self._report = report
        self.places: dict[Path, Place] = {}

    def report(self, code: str, span: Span, **values: Value) -> None:
        self._report(code, span, values)

    def convert(self, node: Node, shape: Shape, place: Place, path: Path = ()) -> Any:
        """The value of `node`: str, int, float, bool, date, tuple or dict; HOLE where it cannot be read."""
        self.places[path] = place
        if isinstance(node, Refused):
            return HOLE
        if isinstance(node, Scalar) and node.plain and node.text in _NULLS:
            self.report("E0211", place.span, field=place.label)
            return HOLE
        if isinstance(shape, Record):
            return self._record(node, shape, place, path)
        if isinstance(shape, Listing):
            return self._list(node, shape, place, path)
        if not isinstance(node, Scalar):
            return self._misshapen(node, shape, TEXT, place)
        if isinstance(shape, Choice):
            return self._choice(node, shape, place)
        if shape.type in (str, date):
            return self._text(node, shape.type, place)
        return self._number(node, shape.type, place)

    def _record(self, node: Node, shape: Record, place: Place, path: Path) -> Any:
        if not isinstance(node, Mapping):
            return self._misshapen(node, shape, FIELDS, place)
        owner = _owner(node, shape, place)
        values: dict[str, Any] = {}
        for name, field in node.fields.items():
            if (expected := shape.fields.get(name)) is None:
                self._unknown(name, field, node, shape, owner)
                continue
            # An empty value has no extent of its own: then the key is pointed at.
            span = field.node.span if field.node.span[:2] < field.node.span[2:] else field.span
            label = f"`{place.key}.{name}`" if name in ("ko", "en") else f"`{name}`"
            values[name] = self.convert(field.node, expected, Place(span, label, owner, name), (*path, name))
        for name in shape.fields:
            if name not in node.fields:
                self.places[(*path, name)] = missing = Place(_header(node), f"`{name}`", owner, name)
                if name in shape.required:
                    fix = _example(name, shape.fields[name])
                    self.report("E0202", missing.span, owner=owner, field=missing.label, fix=fix)
                    values[name] = HOLE
        return values

    def _unknown(self, name: str, field: Field, node: Mapping, shape: Record, owner: Value) -> None:
        absent = [known for known in shape.fields if known not in node.fields]
        near = get_close_matches(name.lower(), absent, n=1)
        listed = ", ".join(shape.fields)
        otherwise = Phrase(ko=f"여기 올 수 있는 필드: {listed}", en=f"fields that may stand here: {listed}")
        self.report("E0204", field.span, owner=owner, field=quoted(name), hint=did_you_mean(near, otherwise))

    def _list(self, node: Node, shape: Listing, place: Place, path: Path) -> Any:
        if not isinstance(node, Sequence):
            return self._misshapen(node, shape, LIST, place)
        label = Phrase(ko=f"`{place.key}`의 항목", en=f"an item of `{place.key}`")
        values = []
        for index, item in enumerate(node.items):
            inner = Place(item.span, label, place.owner, place.key, in_list=True)
            values.append(self.convert(item, shape.item, inner, (*path, index)))
        return tuple(values)

    def _misshapen(self, node: Node, shape: Shape, expected: Phrase, place: Place) -> Hole:
        found = LIST if isinstance(node, Sequence) else FIELDS if isinstance(node, Mapping) else TEXT
        fix = "- id: ddim" if place.in_list and place.key == "papers" else _example(place.key, shape)
        self.report("E0201", place.span, field=place.label, expected=expected, found=found, fix=fix)
        return HOLE

    def _choice(self, node: Scalar, shape: Choice, place: Place) -> Any:
        if node.text in shape.words:
            return node.text
        near = get_close_matches(node.text.lower(), shape.words, n=1)
        listed = ", ".join(shape.words)
        hint = did_you_mean(near, Phrase(ko=f"쓸 수 있는 값: {listed}", en=f"one of {listed}"))
        self.report("E0206", place.span, field=place.label, value=quoted(node.text), hint=hint)
        return HOLE

    def _text(self, node: Scalar, wanted: type, place: Place) -> Any:
        text = node.text
        is_date = _DATE.fullmatch(text) is not None
        if node.plain and (taken := _taken_for(text)) is not None:
            kind, read = taken
            fix = quote(text) if place.in_list else f"{place.key}: {quote(text)}"
            if wanted is date and not is_date:
                fix = EXAMPLES[place.key]
            self.report("E0203", place.span, field=place.label, kind=kind, read=read, fix=fix)
            return HOLE
        if wanted is str:
            return text
        try:
            if is_date:
                return date.fromisoformat(text)
        except ValueError:  # the thirtieth of February
            pass
        if is_placeholder(text):
            self.report("E0212", place.span, field=place.label, hint=unwritten(place.key))
        else:
            self.report("E0210", place.span, value=quoted(text), fix=EXAMPLES[place.key])
        return HOLE

    def _number(self, node: Scalar, wanted: type, place: Place) -> Any:
        text = node.text
        is_number = _NUMBER.fullmatch(text) is not None
        if node.plain:
            if wanted is bool and text in ("true", "false"):
                return text == "true"
            if wanted is int and _WHOLE.fullmatch(text):
                return int(text)
            if wanted is float and is_number:
                return float(text)
        fix = f"{place.key}: {text}" if wanted is float and is_number else EXAMPLES[place.key]
        expected, value = EXPECTED[wanted], quoted(text)
        self.report("E0205", place.span, field=place.label, expected=expected, value=value, fix=fix)
        return HOLE


def _example(key: str, shape: Shape) -> str:
    """A line to copy for a field; a category's name is in two languages, and the catalog's tags have names."""
    if key == "name" and isinstance(shape, Record):
        return EXAMPLES["name of a category"]
    if key == "tags" and isinstance(shape, Listing) and isinstance(shape.item, Record):
        return EXAMPLES["tags of the catalog"]
    return EXAMPLES[key]


def _owner(node: Mapping, shape: Record, place: Place) -> Value:
    """What to call an entry in messages: by its id where it has one."""
    identity = node.fields.get("id")
    if "id" not in shape.fields:
        return place.label
    if identity is None or not isinstance(identity.node, Scalar) or not identity.node.text:
        return Phrase(ko="이 항목", en="this entry")
    name = quoted(identity.node.text)
    return Phrase(ko=f"{name} 항목", en=f"the entry {name}")


def _header(node: Mapping) -> Span:
    """Where to point at for a whole mapping: `{…}` itself, else its id, else its first key."""
    first = next(iter(node.fields.values()), None)
    if first is None or first.span[:2] != node.span[:2]:  # braces stand before the first key
        return node.span
    identity = node.fields.get("id")
    return identity.node.span if identity is not None and isinstance(identity.node, Scalar) else first.span


_NULLS = frozenset(("", "~", "null", "Null", "NULL"))  # as YAML 1.1 writes nothing
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,14})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _yaml_tag(text: str) -> str:
    """What YAML 1.1 takes an unquoted `text` for: str, int, float, bool, null, timestamp, merge or value."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    for tag, pattern in resolvers.get(text[:1], []):
        if pattern.match(text):
            return cast(str, tag).rpartition(":")[2]
    return "str"


def _taken_for(text: str) -> tuple[Phrase, Phrase] | None:
    """What YAML 1.1 takes an unquoted `text` for, if not for text: its kind, and how it would be read."""
    tag = _yaml_tag(text)
    if tag == "str":
        return None
    kind = {
        "bool": Phrase(ko="참·거짓이어서", en="true or false"),
        "timestamp": Phrase(ko="날짜여서", en="a date"),
    }.get(tag, Phrase(ko="숫자여서", en="a number"))
    if tag in ("merge", "value"):
        kind = Phrase(ko="특수 기호여서", en="a special mark")
    read = _yaml_value(text, tag)
    if read is None or read == text:
        return kind, Phrase(ko="이 값을 글로 읽지 않는다", en="it as something else than text")
    shown = quoted(text)[1:-1]
    return kind, Phrase(ko=f"{shown} 대신 {read} 값으로 읽는다", en=f"{shown} as {read}")


def _yaml_value(text: str, tag: str) -> str | None:
    """How YAML 1.1 reads an unquoted `text`, written out; None where it cannot."""
    constructor = yaml.constructor.SafeConstructor()
    construct = {
        "bool": constructor.construct_yaml_bool,
        "int": constructor.construct_yaml_int,
        "float": constructor.construct_yaml_float,
        "timestamp": constructor.construct_yaml_timestamp,
    }.get(tag)
    if construct is None or len(text) > 60:
        return None
    try:
        value = construct(yaml.ScalarNode(f"tag:yaml.org,2002:{tag}", text))
    except (ValueError, OverflowError):  # it looks like a date or a number, and is none: 2021-13-45, 0b_
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)

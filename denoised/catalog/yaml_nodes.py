"""YAML as nodes that know their place, from a subset without surprises.

Only what a catalog needs is let through: mappings with plain keys, lists and scalars, in one document.
Anchors, aliases, tags, directives, merge keys and deep nesting are refused at the level of parser events,
before anything is built. A scalar stays the text that stands in the file: what type it has is for the schema
to say, not for YAML 1.1, which reads `2010.02500` as 2010.025 and `no` as False.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from denoised.catalog.findings import Finding, Span, Value, quoted
from denoised.catalog.source import Source
from denoised.language import Phrase

DEPTH_LIMIT = 12
NODE_LIMIT = 2_000_000  # keys and values; ten thousand entries have about half as many

# The parser in C is many times faster; a PyYAML built without it gives the same events.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A piece of text. `plain`: it stands without quotes, so YAML 1.1 might take it for something else."""

    text: str
    plain: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: list[Node]
    span: Span


@dataclass(frozen=True, slots=True)
class Field:
    """One `key: value` of a mapping; `span` is the key's."""

    span: Span
    node: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """Fields by name, in the order of the file."""

    fields: dict[str, Field]
    span: Span


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that already has a finding, so that nothing more is said about it."""

    span: Span


Node = Scalar | Sequence | Mapping | Refused


class _Abandoned(Exception):
    """Reading on makes no sense; the finding that says why is already there."""


def read_nodes(source: Source) -> tuple[Node | None, list[Finding]]:
    """The document's root (None where there is none to speak of) and what is wrong with it as YAML."""
    reader = _Reader(source)
    try:
        root = reader.document()
    except _Abandoned:
        root = None
    except yaml.MarkedYAMLError as error:
        root = None
        reader.findings.append(_diagnosis(source, error))
    return root, reader.findings


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.findings: list[Finding] = []
        self.count = 0
        self.events: Iterator[Any] = yaml.parse(source.parsable, Loader=_Loader)

    def add(self, code: str, span: Span, **values: Value) -> None:
        self.findings.append(Finding(self.source.name, span, code, values))

    def document(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.add("E0109", self.span(event))
                    return root
                if event.version or event.tags:
                    self.add("E0115", self.span(event))
            elif isinstance(event, NodeEvent):
                root = self.node(event, depth=1)
        if root is None or (isinstance(root, Scalar) and root.plain and not root.text):
            self.add("E0114", Span(1, 1, 1, 1))
            return None
        return root

    def node(self, event: Any, depth: int) -> Node:
        """The node that begins with `event`; its other events are taken from the stream."""
        self.count += 1
        if self.count > NODE_LIMIT:
            limit = Phrase(ko=f"값 {NODE_LIMIT:,}개", en=f"{NODE_LIMIT:,} values")
            self.add("E0101", self.span(event), limit=limit)
            raise _Abandoned
        if isinstance(event, AliasEvent):
            span = self.span(event)
            self.add("E0107", span, value=quoted(f"*{event.anchor}"))
            return Refused(span)
        if event.anchor is not None:
            self.add("E0107", self.span(event), value=quoted(f"&{event.anchor}"))
        tag: str | None = event.tag
        if tag is not None:
            self.add("E0108", self.span(event), value=quoted(tag))
        if isinstance(event, ScalarEvent):
            return Scalar(event.value, tag is None and event.implicit[0], self.span(event))
        if depth > DEPTH_LIMIT:
            self.add("E0111", self.span(event), limit=str(DEPTH_LIMIT))
            raise _Abandoned
        if isinstance(event, SequenceStartEvent):
            return self.sequence(event, depth)
        return self.mapping(event, depth)

    def sequence(self, start: SequenceStartEvent, depth: int) -> Sequence:
        items = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            items.append(self.node(event, depth + 1))
        return Sequence(items, self.span(start, event))

    def mapping(self, start: MappingStartEvent, depth: int) -> Mapping:
        fields: dict[str, Field] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if isinstance(key, Refused):
                continue
            if not isinstance(key, Scalar) or not key.text.strip():
                self.add("E0112", key.span)
            elif key.plain and key.text == "<<":
                self.add("E0110", key.span)
            elif first := fields.get(key.text):
                self.add("E0113", key.span, field=quoted(key.text), first=str(first.span.line))
            else:
                fields[key.text] = Field(key.span, value)
        return Mapping(fields, self.span(start, event))

    def span(self, event: Any, end: Any = None) -> Span:
        """Where a node stands. What is written as a block is marked on its first line only."""
        start, stop = event.start_mark, (end or event).end_mark
        line, column = start.line + 1, start.column + 1
        match event:
            case ScalarEvent():
                block = event.style in ("|", ">")
            case CollectionStartEvent():
                block = not event.flow_style
            case _:
                block = isinstance(event, DocumentStartEvent)
        if block:
            return Span(line, column, line, max(len(self.source.lines[line - 1].rstrip()) + 1, column))
        return Span(line, column, stop.line + 1, stop.column + 1)


_PAIR = re.compile(r"\s*(?:- )*(?P<key>[\w-]+): +(?P<value>\S.*?)\s*")


def quote(text: str) -> str:
    """`text` as a double-quoted YAML scalar."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _diagnosis(source: Source, error: yaml.MarkedYAMLError) -> Finding:
    """The parser's complaint in terms of what a person probably meant.

    The two parsers word their complaints differently; what is looked for here occurs in both.
    """
    problem, context = error.problem or "", error.context or ""
    mark, opening = error.problem_mark, error.context_mark
    row, column = (mark.line, mark.column) if mark else (0, 0)
    text = source.lines[row] if row < len(source.lines) else ""
    character = text[column : column + 1]
    before = text[:column].rstrip()
    pair = _PAIR.fullmatch(text)
    in_quotes = Phrase(ko="따옴표로 감싼다", en="put the text in quotes")
    if pair:
        line = f"{pair['key']}: {quote(pair['value'])}"
        in_quotes = Phrase(line, line)

    if "document start" in problem:
        return Finding(source.name, Span(row + 1, column + 1, row + 1, len(text) + 1), "E0109")
    if "quoted scalar" in context and "found unexpected" in problem and opening:
        row, column = opening.line, opening.column
        said = Phrase(ko="따옴표가 닫히지 않았다", en="the quotation mark is never closed")
        hint = Phrase(ko="같은 따옴표로 닫는다", en="close it with the same mark")
    elif "flow " in context and opening and opening.line < row:
        row, column = opening.line, opening.column
        said = Phrase(ko="괄호가 닫히지 않았다", en="the bracket is never closed")
        hint = Phrase(ko="목록은 `]`, 매핑은 `}`로 닫는다", en="close a list with `]`, a mapping with `}`")
    elif "flow " in context:
        said = Phrase(
            ko="괄호 안에서 쉼표나 닫는 괄호가 빠졌다", en="a comma or a closing bracket is missing"
        )
        hint = Phrase(
            ko="쉼표, 콜론, 괄호가 든 글은 따옴표로 감싼다",
            en="put a text with commas, colons or brackets in quotes",
        )
    elif "mapping values are not allowed" in problem and pair and column >= pair.start("value"):
        said = Phrase(ko="따옴표 없는 글 안에 콜론이 있다", en="a colon inside a text without quotes")
        hint = in_quotes
    elif "expected ':'" in problem and opening:
        row, column = opening.line, opening.column
        said = Phrase(ko="콜론이 없는 줄이 있다", en="a line without its colon")
        hint = Phrase(ko="`이름: 값` 꼴로 쓴다", en="write `name: value`")
    elif "mapping values are not allowed" in problem:
        said = Phrase(ko="콜론이 없는 줄이 있다", en="a line without its colon")
        hint = Phrase(
            ko="윗줄을 `이름: 값` 꼴로 고친다",
            en="write the line above as `name: value`",
        )
    elif "cannot start any token" in problem or "undefined tag handle" in problem:
        said = Phrase(
            ko=f"따옴표 없는 글은 `{character}` 문자로 시작할 수 없다",
            en=f"a text without quotes cannot begin with `{character}`",
        )
        hint = in_quotes
    elif "escape" in problem:
        said = Phrase(ko="큰따옴표 안의 모르는 `\\` 표기", en="an unknown escape after `\\` in double quotes")
        hint = Phrase(ko="작은따옴표를 쓰거나 `\\\\`로 쓴다", en="use single quotes, or write `\\\\`")
    elif "sequence entries are not allowed" in problem:
        said = Phrase(ko="목록의 `-`가 있을 자리가 아니다", en="a list's `-` may not stand here")
        hint = Phrase(ko="목록은 다음 줄에서 시작한다", en="begin the list on the next line")
    elif character in ("]", "}"):
        said = Phrase(ko="열지 않은 괄호를 닫는다", en="a bracket closes that was never opened")
        hint = Phrase(ko="이 괄호를 지운다", en="delete it")
    elif before.endswith(('"', "'")) and ("expected key" in problem or "block end" in problem):
        said = Phrase(ko="닫는 따옴표 뒤에 글이 이어진다", en="text goes on after the closing quotation mark")
        hint = Phrase(
            ko="글 안의 따옴표와 다른 따옴표로 전체를 감싼다",
            en="enclose the whole text in the other kind of quotation mark",
        )
    elif "expected key" in problem or "block end" in problem or "'-' indicator" in problem:
        said = Phrase(ko="들여쓰기가 이웃 줄과 다르다", en="indented unlike its neighbours")
        hint = Phrase(
            ko="같은 항목의 필드는 같은 칸에서 시작한다", en="fields of one entry begin in the same column"
        )
    else:
        said = Phrase(problem, problem)
        hint = Phrase(ko="이 줄과 윗줄을 살펴본다", en="look at this line and the one above")
    span = Span(row + 1, column + 1, row + 1, column + 2)
    return Finding(source.name, span, "E0106", {"problem": said, "hint": hint})

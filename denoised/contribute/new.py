"""The draft of a new entry: what can be known is filled in, what only a person can write says TODO.

`denoised check` names every TODO with its line, so a draft cannot pass for an entry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import yaml

from denoised.catalog.model import kebab
from denoised.catalog.source import SIZE_LIMIT, decode, read_bytes
from denoised.catalog.yaml_nodes import quote
from denoised.contribute.entries import Work, divide, works
from denoised.errors import DenoisedError, Exit
from denoised.files import write_whole
from denoised.language import say

TODO = "TODO"
_TITLE_WORDS = 4  # of an id made from a title that names no system
_SMALL_WORDS = frozenset(
    (
        "a",
        "an",
        "and",
        "as",
        "at",
        "by",
        "for",
        "from",
        "in",
        "is",
        "of",
        "on",
        "or",
        "the",
        "to",
        "via",
        "with",
    )
)


@dataclass(frozen=True)
class Draft:
    """What is known of a work before a person writes about it."""

    title: str = TODO
    authors: tuple[str, ...] = ()
    published: date | None = None
    venue: str | None = None
    links: dict[str, str] = field(default_factory=dict)
    id: str = ""  # empty: from the title
    kind: str = "method"
    category: str = TODO

    @property
    def name(self) -> str:
        """What people call it, as far as the title says so: the word before its colon."""
        head, colon, _ = self.title.partition(":")
        return head.strip() if colon and 1 <= len(head.split()) <= 3 else TODO

    def named(self, taken: set[str]) -> str:
        """An id that is not taken: the one asked for, else the name's, else the title's first words."""
        if self.id:
            return self.id
        words = [word for word in kebab(self.title, letter_first=True).split("-") if word not in _SMALL_WORDS]
        identifier = self.links.get("arxiv", "")
        unnamed = f"arxiv-{kebab(identifier)}" if identifier else "new-entry"
        title = "" if self.title == TODO else "-".join(words[:_TITLE_WORDS])
        name = "" if self.name == TODO else kebab(self.name, letter_first=True)
        proposed = name or title or unnamed
        candidates = [proposed, *(f"{proposed}-{number}" for number in range(2, 1000))]
        return next(each for each in candidates if each not in taken)


@dataclass(frozen=True)
class Added:
    """A draft in its place: the id, the file's line where it begins, its text, and how many TODOs it holds."""

    id: str
    line: int
    text: str
    todos: int


def known_as(draft: Draft, entries: Sequence[Work]) -> Work | None:
    """The entry that is this work already: by arXiv identifier, another address, or title and kind."""
    arxiv = draft.links.get("arxiv")
    addresses = {address.rstrip("/") for name, address in draft.links.items() if name != "arxiv"}
    for work in entries:
        if arxiv and work.arxiv == arxiv:
            return work
        if any(address.rstrip("/") in addresses for address in work.addresses):
            return work
        same = _letters(draft.title) == _letters(work.title) and draft.kind == work.kind
        if same and draft.title != TODO:
            return work
    return None


def read_text(path: Path) -> str:
    """The text of a catalog that a draft can be added to.

    Raises DenoisedError (USAGE) where the file cannot be read, or is not UTF-8.
    """
    source, findings = decode(path.name, read_bytes(path))
    if any(finding.code in ("E0101", "E0102") for finding in findings):
        raise DenoisedError(
            say(ko=f"{path}: UTF-8 글이 아니다", en=f"{path} is not a text in UTF-8"),
            help=f"denoised check {path}",
        )
    return source.text


def add(path: Path, drafts: Sequence[Draft], *, write: bool) -> list[Added]:
    """Put drafts into a catalog file, each in its place by id; nothing else in the file changes.

    Raises DenoisedError (USAGE) where an id is taken or the file is no list of entries, (FINDINGS) where a work
    is there already, (RESOURCES) where it cannot be written.
    """
    text = read_text(path)
    if (entries := divide(text)) is None:
        raise DenoisedError(
            say(
                ko=f"{path}: 항목의 목록으로 읽을 수 없어 초안을 넣을 수 없다",
                en=f"{path} cannot be read as a list of entries, so a draft cannot be added",
            ),
            help=f"denoised check {path}",
        )
    present = works(text)
    ids = []
    for draft in drafts:
        if (work := known_as(draft, present)) is not None:
            raise already_there(path, work)
        id = draft.named({*entries.ids})
        if id in entries.ids:
            raise DenoisedError(
                say(ko=f"id `{id}` 항목이 이미 있다", en=f"there already is an entry `{id}`"),
                help=say(ko="다른 id를 준다: --id", en="choose another with --id"),
            )
        entries = entries.with_entry(id, _entry(draft, id, entries.indent))
        present = [*present, Work(id, 0, draft.kind, draft.title, draft.links.get("arxiv", ""), ())]
        ids.append(id)
    new = entries.text()
    if len(data := new.encode()) > SIZE_LIMIT:
        raise DenoisedError(say(ko=f"{path}: 카탈로그가 너무 커진다", en=f"{path} would become too large"))
    if write:
        write_whole(path, data)
    lines = {work.id: work.line for work in works(new)}
    texts = dict(zip(entries.ids, entries.blocks, strict=True))
    return [Added(id, lines[id], "".join(texts[id]), sum(TODO in line for line in texts[id])) for id in ids]


def already_there(path: Path, work: Work) -> DenoisedError:
    """The refusal of a second entry for one work."""
    place = f"{path.name}:{work.line}" if work.line else path.name
    return DenoisedError(
        say(
            ko=f"이미 카탈로그에 있다: `{work.id}` ({place})",
            en=f"it is in the catalog already: `{work.id}` ({place})",
        ),
        help=f"denoised show {work.id}",
        code=Exit.FINDINGS,
    )


def _entry(draft: Draft, id: str, indent: int) -> str:
    """The entry as the catalog writes them, its dash in column `indent`."""
    links = ", ".join(f"{name}: {quote(value)}" for name, value in draft.links.items())
    lines = [
        f"id: {id}",
        f"name: {_scalar(draft.name)}",
        f"kind: {draft.kind}",
        f"title: {_scalar(draft.title)}",
        f"authors: [{', '.join(map(_scalar, draft.authors or (TODO,)))}]",
        f'published: "{draft.published}"' if draft.published else f"published: {TODO}",
        *([f"venue: {_scalar(draft.venue)}"] if draft.venue else []),
        f"category: {draft.category}",
        "tags: []",
        f"links: {{{links}}}",
        *("sentence:", f"  ko: {TODO}", f"  en: {TODO}"),
    ]
    if draft.kind == "method":
        lines += ["claim:", f"  ko: {TODO}", f"  en: {TODO}"]
    first, *rest = lines
    return "\n".join([f"{' ' * indent}- {first}", *(f"{' ' * indent}  {line}" for line in rest)])


def _scalar(text: str) -> str:
    """`text` as YAML writes it on one line, quoted where a list or a colon would break it."""
    written: str = yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=10**6)
    plain = written.strip()[1:-1]
    return quote(text) if plain[:1] in "'\"" else plain


def _letters(title: str) -> str:
    return "".join(re.findall(r"\w", title.casefold()))

"""A catalog's entries as stretches of its text, so that they can be moved and added without touching the rest.

Comments, blank lines, quotes and the order of fields are the writers': nothing here writes YAML anew.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass

from denoised.catalog.characters import LINE_END
from denoised.catalog.source import Source
from denoised.catalog.yaml_nodes import Mapping, Scalar, Sequence, read_nodes


@dataclass(frozen=True)
class Entries:
    """The lines (with their ends) of a file in parts: before the entries, each entry, between two, after them."""

    before: list[str]
    blocks: list[list[str]]
    ids: list[str]
    gaps: list[list[str]]  # the blank lines after each entry but the last
    after: list[str]
    indent: int  # the column of the entries' dashes, from 0

    def text(self) -> str:
        """The file again."""
        parts = [self.before]
        for block, gap in zip(self.blocks, [*self.gaps, []], strict=True):
            parts += [block, gap]
        return "".join(line for part in [*parts, self.after] for line in part)

    def in_order(self) -> Entries:
        """Sorted by id; blank lines stay where they are. Entries of one id keep their order."""
        order = sorted(range(len(self.ids)), key=lambda index: self.ids[index])
        blocks = [_ended(self.blocks[index]) for index in order]
        return Entries(
            self.before, blocks, [self.ids[index] for index in order], self.gaps, self.after, self.indent
        )

    def with_entry(self, id: str, block: str) -> Entries:
        """With one more entry, before the first that sorts after it, set off as the others are."""
        place = bisect.bisect_right(self.ids, id)
        end = "\r\n" if self.blocks[0][0].endswith("\r\n") else "\n"
        gaps = list(self.gaps)
        gaps.insert(min(place, len(gaps)), [end] if not gaps or any(gaps) else [])
        ids, blocks = list(self.ids), [_ended(each) for each in self.blocks]
        ids.insert(place, id)
        blocks.insert(place, [line + end for line in block.splitlines()])
        return Entries(self.before, blocks, ids, gaps, self.after, self.indent)


@dataclass(frozen=True)
class Work:
    """What tells an entry from a new one, as far as it can be read."""

    id: str
    line: int
    kind: str
    title: str
    arxiv: str
    addresses: tuple[str, ...]  # every other link


def works(text: str) -> list[Work]:
    """The entries of a catalog's text, which may have errors; none where it cannot be read at all."""
    root, _ = read_nodes(Source("catalog.yaml", text))
    papers = root.fields.get("papers") if isinstance(root, Mapping) else None
    if papers is None or not isinstance(papers.node, Sequence):
        return []
    found = []
    for item in papers.node.items:
        if not isinstance(item, Mapping):
            continue
        links = item.fields.get("links")
        inner = links.node if links is not None and isinstance(links.node, Mapping) else None
        addresses = {name: _scalar(inner, name) for name in inner.fields} if inner else {}
        found.append(
            Work(
                _scalar(item, "id"), item.span.line, _scalar(item, "kind"), _scalar(item, "title"),
                addresses.pop("arxiv", ""), tuple(each for each in addresses.values() if each),
            )
        )  # fmt: skip
    return found


def _scalar(node: Mapping, name: str) -> str:
    field = node.fields.get(name)
    return field.node.text if field is not None and isinstance(field.node, Scalar) else ""


def divide(text: str) -> Entries | None:
    """The entries of a catalog's text; None where it cannot be read as a block list of entries with ids."""
    source = Source("catalog.yaml", text)
    root, _ = read_nodes(source)
    papers = root.fields.get("papers") if isinstance(root, Mapping) else None
    if papers is None or not isinstance(papers.node, Sequence):
        return None
    ends = [0, *(match.end() for match in LINE_END.finditer(text)), len(text)]
    lines = [text[start:end] for start, end in itertools.pairwise(ends) if start < end]
    ids, starts = [], []
    indent = None
    for item in papers.node.items:
        identity = item.fields.get("id") if isinstance(item, Mapping) else None
        if identity is None or not isinstance(identity.node, Scalar):
            return None
        dash = lines[item.span.line - 1][: item.span.column - 1]
        if dash.strip() != "-" or indent not in (None, dash.index("-")):
            return None  # `[{…}]`, or a dash on a line of its own
        indent = dash.index("-")
        ids.append(identity.node.text)
        starts.append(_with_comments(lines, item.span.line - 1, indent))
    if indent is None:
        return None
    end = starts[-1]
    for number in range(starts[-1], len(lines)):
        stripped = lines[number].strip()
        if (
            stripped
            and not _is_inside(lines[number], indent)
            and number > papers.node.items[-1].span.line - 1
        ):
            break
        end = number + 1 if stripped else end
    blocks, gaps = [], []
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        last = stop
        while last > start and not lines[last - 1].strip():
            last -= 1
        blocks.append(lines[start:last])
        gaps.append(lines[last:stop])
    return Entries(lines[: starts[0]], blocks, ids, gaps[:-1], lines[end:], indent)


def _with_comments(lines: list[str], start: int, indent: int) -> int:
    """Where an entry begins that begins with its dash on line `start`: comments right above belong to it."""
    while start and lines[start - 1].startswith(" " * indent + "#"):
        start -= 1
    return start


def _is_inside(line: str, indent: int) -> bool:
    """Whether a line that is not blank belongs to an entry whose dash stands at `indent`."""
    return len(line) - len(line.lstrip(" ")) > indent


def _ended(block: list[str]) -> list[str]:
    """The block with an end after its last line, which the last of a file may lack."""
    return [*block[:-1], block[-1] if block[-1].endswith("\n") else block[-1] + "\n"]

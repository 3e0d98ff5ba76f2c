"""What must agree: entries with each other, and an entry with its runner.

Works on the values of `schema`, not on the models, so that entries with errors of their own are compared too.
"""

from __future__ import annotations

import ast
import bisect
import graphlib
import itertools
import re
from datetime import date, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from denoised.catalog.bibtex import citation_key
from denoised.catalog.findings import Span, did_you_mean, quoted
from denoised.catalog.model import ARXIV_INSIDE, arxiv_month, is_placeholder, kebab, snake
from denoised.catalog.schema import Conversion
from denoised.language import Phrase

Entries = dict[int, dict[str, Any]]  # the readable entries of a list, by index


def check_entries(conversion: Conversion, data: dict[str, Any], *, today: date | None = None) -> None:
    """Report what does not agree between the entries of a catalog, or with the calendar (`today`)."""
    categories, papers = _entries(data, "categories"), _entries(data, "papers")
    _check_unique(conversion, "categories", categories, "E0302")
    _check_unique(conversion, "papers", papers, "E0301")
    _check_order(conversion, papers)
    taken = _check_arxiv(conversion, papers)
    _check_dates(conversion, papers, taken, today or date.today())
    _check_titles(conversion, papers)
    _check_citation_keys(conversion, papers)
    if (category_ids := _ids(data, "categories")) is not None:
        _check_categories(conversion, papers, category_ids)
    if (tag_ids := _ids(data, "tags")) and isinstance(data.get("tags"), tuple):
        _check_unique(conversion, "tags", _entries(data, "tags"), "E0310")
        _check_tags(conversion, papers, tag_ids)
    if (paper_ids := _ids(data, "papers")) is not None:
        for field in ("builds_on", "prerequisites"):
            _check_references(conversion, papers, paper_ids, field)


def check_runners(conversion: Conversion, data: dict[str, Any], folder: Path) -> None:
    """Report where the runners in `folder` (runners/<category>/<id>.py) and the entries disagree.

    Runners are parsed, never run: this also reads what a stranger sent.
    """
    papers = _entries(data, "papers")
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.glob("*/*.py"))}
    for index, entry in papers.items():
        id, category = entry.get("id"), entry.get("category")
        if not isinstance(id, str) or not isinstance(category, str):
            continue
        path = files.pop(f"{snake(category)}/{snake(id)}.py", None)
        if path is None:
            continue
        place = conversion.places["papers", index, "id"].span
        for field in ("claim", "test"):
            if field not in entry:
                conversion.report("E0314", place, field=quoted(field), value=quoted(id), file=_runner(path))
        _check_cited(conversion, entry, index, path)
    whole = conversion.places.get(("papers",))
    ids = _ids(data, "papers")
    if whole is None or ids is None:
        return
    by_module = {snake(entry["id"]): entry for entry in papers.values()}
    for name, path in files.items():
        if path.name == "__init__.py":
            continue
        owner = by_module.get(path.stem, {})
        if isinstance(category := owner.get("category"), str):
            right = f"runners/{snake(category)}/{path.name}"
            hint = Phrase(ko=f"{right}로 옮긴다", en=f"move it to {right}")
        else:
            hint = did_you_mean(
                get_close_matches(path.stem.replace("_", "-"), ids),
                Phrase(ko="먼저 그 논문의 항목을 넣는다", en="add an entry for its paper first"),
            )
        conversion.report("E0315", whole.span, file=quoted(f"runners/{name}"), hint=hint)


def _runner(path: Path) -> str:
    return quoted(f"runners/{path.parent.name}/{path.name}")


def _check_cited(conversion: Conversion, entry: dict[str, Any], index: int, path: Path) -> None:
    """The arXiv identifier in a runner's docstring is its entry's."""
    links = entry.get("links")
    arxiv = links.get("arxiv") if isinstance(links, dict) else None
    if not isinstance(arxiv, str):
        return
    try:
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (SyntaxError, ValueError):  # no Python: the tests and the site say so, and where
        return
    cited = [match.group() for match in ARXIV_INSIDE.finditer(docstring)]
    if cited and arxiv not in cited:
        span = conversion.places["papers", index, "links", "arxiv"].span
        conversion.report("E0316", span, value=quoted(arxiv), cited=quoted(cited[0]), file=_runner(path))


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


def _check_arxiv(conversion: Conversion, papers: Entries) -> set[int]:
    """The entries, by index, whose identifier is another's."""
    taken = set()
    first: dict[str, tuple[str, Span]] = {}
    for index, entry in papers.items():
        links = entry.get("links")
        if isinstance(links, dict) and isinstance(arxiv := links.get("arxiv"), str):
            span = conversion.places["papers", index, "links", "arxiv"].span
            if arxiv in first:
                other, where = first[arxiv]
                values = {"value": quoted(arxiv), "other": quoted(other), "first": str(where.line)}
                conversion.report("E0307", span, **values)
                taken.add(index)
            first.setdefault(arxiv, (str(entry.get("id")), span))
    return taken


def _check_dates(conversion: Conversion, papers: Entries, taken: set[int], today: date) -> None:
    """A first version is public by today, and came out about when arXiv gave its identifier."""
    for index, entry in papers.items():
        published, links = entry.get("published"), entry.get("links")
        if not isinstance(published, date):
            continue
        span = conversion.places["papers", index, "published"].span
        if published > today + timedelta(days=1):  # it may be tomorrow already where the writer lives
            conversion.report("E0220", span, value=quoted(str(published)), today=str(today))
        if not isinstance(links, dict) or index in taken:
            continue
        arxiv = links.get("arxiv")
        month = arxiv_month(arxiv) if isinstance(arxiv, str) else None
        if month is None:
            continue
        first, last = month
        # Identifiers are given when a paper is announced, days after it was sent in.
        earliest = (first - timedelta(days=1)).replace(day=1)
        elsewhere = any(name in links for name in ("openreview", "paper", "project", "post"))
        if published > last or (published < earliest and not elsewhere):
            values = {"value": quoted(str(published)), "arxiv": quoted(str(arxiv)), "month": f"{first:%Y-%m}"}
            conversion.report("E0311", span, **values)


def _check_titles(conversion: Conversion, papers: Entries) -> None:
    """One work is one entry; a post or a talk may bear the title of the paper that it is about."""
    first: dict[tuple[str, str], tuple[str, Span]] = {}
    for index, entry in papers.items():
        title, kind, id = entry.get("title"), entry.get("kind"), entry.get("id")
        if not isinstance(title, str) or not isinstance(kind, str) or not isinstance(id, str):
            continue
        span = conversion.places["papers", index, "title"].span
        words = "".join(re.findall(r"\w", title.casefold()))
        if words and (known := first.setdefault((kind, words), (id, span))) != (id, span):
            other, where = known
            conversion.report("E0312", span, other=quoted(other), first=str(where.line))


def _check_citation_keys(conversion: Conversion, papers: Entries) -> None:
    """Whoever cites two entries needs two keys."""
    first: dict[str, tuple[str, Span]] = {}
    for index, entry in papers.items():
        id, authors, published = entry.get("id"), entry.get("authors", ()), entry.get("published")
        if not isinstance(id, str) or not isinstance(authors, tuple):
            continue
        names = tuple(name for name in authors if isinstance(name, str))
        key = citation_key(names, published.year if isinstance(published, date) else None, id)
        span = conversion.places["papers", index, "id"].span
        other, where = first.setdefault(key, (id, span))
        if other != id:  # the same id twice has a finding of its own
            conversion.report("E0313", span, key=quoted(key), other=quoted(other), first=str(where.line))


def _is_word(text: str) -> bool:
    """Whether it is written as ids and tags are; what is not has its finding, and is not looked up."""
    return text == kebab(text) and not is_placeholder(text)


def _check_categories(conversion: Conversion, papers: Entries, known: set[str]) -> None:
    for index, entry in papers.items():
        category = entry.get("category")
        if not isinstance(category, str) or not _is_word(category):
            continue
        if category not in known:
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
            if isinstance(tag, str) and _is_word(tag) and tag not in known:
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
            if not isinstance(other, str) or not _is_word(other):
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

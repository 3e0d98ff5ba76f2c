"""`denoised links`: which addresses of the catalog, its notes and the site's pages lead nowhere any more.

Nobody is called dead at first sight: an address must have been missing in three runs on three different days, which a
state file remembers from run to run, and one run that finds it again clears it. What only says that we may not look
(403, 429, a time-out, a certificate) is unknown, and changes nothing.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import quote

from markdown_it import MarkdownIt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from denoised.catalog import load
from denoised.catalog.characters import visible
from denoised.catalog.model import Catalog, Paper
from denoised.catalog.source import read_bytes
from denoised.command_line import note
from denoised.contribute.link_check import Answer, Limits, Resolve, ask, system_addresses
from denoised.errors import DenoisedError, Exit
from denoised.files import cannot_write, write_whole
from denoised.language import LANGUAGES, Phrase, reader_language, say
from denoised.project import CATALOG
from denoised.terminal import cut

Format = Literal["human", "json", "markdown"]
FORMATS: tuple[Format, ...] = get_args(Format)
Standing = Literal["dead", "missing", "moved", "refused", "unknown", "ok"]

DEAD_AFTER = 3  # days on which an address was missing
ROWS = 100  # of an issue
ISSUE_LIMIT = 55_000  # bytes; GitHub takes 65,536 characters, and the workflow adds nothing
MOST_HOSTS = 32
STATE_LIMIT = 4 * 2**20  # bytes; every address of the catalog takes some 30 kB
_SHOWN = 300  # characters of an address in an issue
_HARMLESS = ":/?#[]@!&'()*+,;=%-._~ "  # in a code span, beside letters and digits
_STEP = 50  # addresses between two lines of progress where nobody watches

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_UNASKABLE = re.compile(r"mailto:|tel:", re.IGNORECASE)  # a link, and nothing to ask
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")  # as the site reads a note
_OFFLINE = Phrase(
    ko="아무 호스트도 답하지 않았다: 이 컴퓨터가 오프라인일 수 있다",
    en="no host answered: this machine may be offline",
)
_HEADINGS: dict[Standing, Phrase] = {
    "dead": Phrase(ko="끊어졌다", en="Dead"),
    "missing": Phrase(
        ko="없다. 세 날에 걸쳐 없으면 끊어진 것으로 본다", en="Missing; dead once missing on three days"
    ),
    "moved": Phrase(ko="옮겨 갔다. 새 주소로 고친다", en="Moved for good; write the new address"),
    "refused": Phrase(ko="묻지 않는다", en="Never asked"),
    "unknown": Phrase(ko="알 수 없다", en="Unknown"),
}


# --- what to check ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """Where an address stands: in a field of an entry (`dmcmc`, `links.code`) or in a line of a file."""

    entry: str | None
    place: str

    def __str__(self) -> str:
        return f"{self.entry}: {self.place}" if self.entry else self.place


def collect(root: Path, catalog: Catalog, ids: Sequence[str] = ()) -> dict[str, list[Use]]:
    """Every address once, without its fragment, and where it is used.

    `ids`: only of these entries and their notes; else also of the pages that the site has besides.

    Raises DenoisedError (USAGE) for an unknown id, and for a note or a page that cannot be read.
    """
    papers = [catalog.paper(id) for id in ids] if ids else catalog.papers
    files = [root / "papers" / paper.id / f"{language}.md" for paper in papers for language in LANGUAGES]
    if not ids:
        files += sorted((root / "site" / "pages").glob("*.md")) + sorted(
            (root / "site" / "worlds").glob("*.md")
        )
    found = [each for paper in papers for each in _of_entry(paper)]
    found += [each for path in files if os.path.lexists(path) for each in _of_file(root, path)]
    uses: dict[str, list[Use]] = {}
    for address, use in found:
        places = uses.setdefault(address.partition("#")[0], [])
        if use not in places:
            places.append(use)
    return uses


def _of_entry(paper: Paper) -> Iterator[tuple[str, Use]]:
    if paper.arxiv_url:
        yield paper.arxiv_url, Use(paper.id, "links.arxiv")
    for name, address in paper.links:
        if address and name != "arxiv":
            yield address, Use(paper.id, f"links.{name}")
    for index, reported in enumerate(paper.reported):
        if re.fullmatch(r"https?://\S+", reported.source):
            yield reported.source, Use(paper.id, f"reported[{index}].source")
    texts = {"sentence": paper.sentence, "claim": paper.claim, "test": paper.test}
    for name, text in texts.items():
        for language in LANGUAGES:
            for address, _ in _of_markdown(text.to(language) if text else ""):
                yield address, Use(paper.id, f"{name}.{language}")


def _of_file(root: Path, path: Path) -> Iterator[tuple[str, Use]]:
    name = path.relative_to(root).as_posix()
    for address, line in _of_markdown(read_bytes(path).decode(errors="replace")):
        yield address, Use(None, f"{name}:{line}")


def _of_markdown(text: str) -> Iterator[tuple[str, int]]:
    """The addresses that a text links to and the lines where they stand, code left out."""
    if "//" not in text:  # as in most sentences; parsing takes its time
        return
    for block in _MARKDOWN.parse(text):
        line = 1 + (block.map[0] if block.map else 0)
        for token in block.children or ():
            line += token.type in ("softbreak", "hardbreak")
            address = str(token.attrs.get("href", ""))
            if _SCHEME.match(address) and not _UNASKABLE.match(address):
                yield address, line


# --- what earlier runs saw --------------------------------------------------------------------------------


class State(BaseModel):
    """The addresses that were missing, each with the first days on which it was."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    missing: dict[str, Annotated[tuple[date, ...], Field(min_length=1, max_length=DEAD_AFTER)]] = {}

    def written(self) -> bytes:
        """Its one spelling."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def read_state(path: Path, today: date) -> State:
    """What earlier runs saw; nothing where there is no file yet.

    A file that is not what we write is renamed to `<name>.damaged`, and a person is told. Raises DenoisedError
    (RESOURCES) where it cannot be renamed.
    """
    if not os.path.lexists(path):
        return State()
    try:
        data = read_bytes(path)
        if len(data) > STATE_LIMIT:
            raise ValueError("too large")
        state = State.model_validate_json(data)
        if state.written() != data or not all(_possible(days, today) for days in state.missing.values()):
            raise ValueError("not as it was written")
    except (DenoisedError, ValidationError, ValueError):
        aside = path.with_name(path.name + ".damaged")
        try:
            os.replace(path, aside)
        except OSError as error:
            raise cannot_write(aside, 0, error) from error
        note(
            say(
                ko=f"{path}는 denoised links가 쓴 그대로가 아니다. 믿지 않고 {aside.name}으로 옮겨 두었다",
                en=f"{path} is not as denoised links wrote it: it is not trusted, and now lies in {aside.name}",
            )
        )
        return State()
    return state


def _possible(days: Sequence[date], today: date) -> bool:
    return all(earlier < later for earlier, later in pairwise(days)) and days[-1] <= today


def next_state(
    old: State, answers: Mapping[str, Answer], today: date, *, known: frozenset[str] | None
) -> State:
    """What is remembered after these answers; of addresses outside of `known`, where that is given, nothing."""
    missing = dict(old.missing)
    for address, answer in answers.items():
        if answer.outcome == "missing":
            days = missing.get(address, ())
            if today not in days and len(days) < DEAD_AFTER:
                missing[address] = (*days, today)
        elif answer.outcome in ("ok", "moved"):
            missing.pop(address, None)
    if known is not None:
        missing = {address: days for address, days in missing.items() if address in known}
    return State(missing=missing)


# --- the report -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """One address, what became of it, and on which days it was missing."""

    address: str
    uses: tuple[Use, ...]
    standing: Standing
    answer: Answer
    days: tuple[date, ...]

    @property
    def why(self) -> Phrase:
        """The reason, for a missing address with the days on which it was."""
        why = self.answer.why
        if self.standing == "dead":
            since = self.days[0]
            return Phrase(ko=f"{why.ko}, {since}부터", en=f"{why.en}, since {since}")
        if self.standing == "missing" and self.days:
            count = f"{len(self.days)}/{DEAD_AFTER}"
            return Phrase(ko=f"{why.ko} ({count}일)", en=f"{why.en} (day {count})")
        return why


def judged(uses: Mapping[str, Sequence[Use]], answers: Mapping[str, Answer], state: State) -> list[Link]:
    """Every answered address, the worst first, those alike in the order of `uses`."""
    links = []
    for address, answer in answers.items():
        days = state.missing.get(address, ()) if answer.outcome == "missing" else ()
        standing: Standing = "dead" if len(days) == DEAD_AFTER else answer.outcome
        links.append(Link(address, tuple(uses[address]), standing, answer, days))
    places = {address: index for index, address in enumerate(uses)}
    worst = get_args(Standing)
    return sorted(links, key=lambda link: (worst.index(link.standing), places[link.address]))


def believed(answers: Mapping[str, Answer]) -> dict[str, Answer]:
    """The answers, but no name called missing in a run in which no server answered at all."""
    if any(answer.answered for answer in answers.values()):
        return dict(answers)
    return {
        address: replace(answer, outcome="unknown", why=_OFFLINE) if answer.outcome == "missing" else answer
        for address, answer in answers.items()
    }


def as_text(links: Sequence[Link]) -> str:
    """For a terminal: the counts, then what needs a person, each address with its reason and its places."""
    language = reader_language()
    lines = [_counts(links).to(language)]
    for standing, heading in _HEADINGS.items():
        alike = [link for link in links if link.standing == standing]
        if alike:
            lines += ["", f"{heading.to(language)}:"]
        for link in alike:
            lines.append(f"  {visible(link.address)}")
            if link.answer.new:
                lines.append(f"    → {visible(link.answer.new)}")
            places = ", ".join(visible(str(use)) for use in link.uses)
            lines.append(f"    {link.why.to(language)} · {places}")
    return "\n".join(lines)


def as_json(links: Sequence[Link], today: date) -> str:
    """For a program: every address."""
    document = {
        "date": today.isoformat(),
        "counts": {standing: _count(links, standing) for standing in get_args(Standing)},
        "links": [
            {
                "address": link.address,
                "standing": link.standing,
                "status": link.answer.status,
                "why": link.answer.why._asdict(),
                "new": link.answer.new,
                "missing_on": [day.isoformat() for day in link.days],
                "uses": [{"entry": use.entry, "place": use.place} for use in link.uses],
            }
            for link in links
        ],
    }
    return json.dumps(document, indent=1)


def as_markdown(links: Sequence[Link], today: date) -> str:
    """For an issue, in both languages: a table for each standing, at most ROWS rows and ISSUE_LIMIT bytes.

    Addresses and places stand in code spans and hold only what RFC 3986 lets an address hold, everything else
    percent-encoded: no backquote, bar or line end, so that none leaves its span, where nobody is mentioned and
    nothing is a link.
    """
    counts = _counts(links)
    text, told = f"{today} · {counts.ko}\n\n{today} · {counts.en}\n", 0
    room = ISSUE_LIMIT - 500  # for the end of a table and the lines about what is left out
    for standing, heading in _HEADINGS.items():
        title = f"{heading.ko} · {heading.en}"
        folded = standing == "unknown"  # nobody has to do anything about those
        table = f"\n<details>\n<summary>{title}</summary>\n\n" if folded else f"\n### {title}\n\n"
        table += "| 주소 · Address | 까닭 · Why | 쓰는 곳 · Used by |\n| --- | --- | --- |\n"
        rows = ""
        for link in links:
            if link.standing == standing and told < ROWS:
                row = _row(link)
                if len((text + table + rows + row).encode()) > room:
                    break
                rows, told = rows + row, told + 1
        if rows:
            text += table + rows + ("\n</details>\n" if folded else "")
    if rest := len(links) - _count(links, "ok") - told:
        text += f"\n그 밖에 {rest:,}개가 더 있다. `denoised links`가 모두 보여 준다.\n"
        text += f"\n{rest:,} more are left out here; `denoised links` shows them all.\n"
    return text


def _row(link: Link) -> str:
    address = _code(link.address) + (f"<br>→ {_code(link.answer.new)}" if link.answer.new else "")
    places = [_code(str(use)) for use in link.uses[:3]] + (["…"] if len(link.uses) > 3 else [])
    why = link.why.ko if link.why.ko == link.why.en else f"{link.why.ko} · {link.why.en}"
    return f"| {address} | {why} | {'<br>'.join(places)} |\n"


def _code(text: str) -> str:
    """A code span that nothing gets out of."""
    harmless = quote(text, safe=_HARMLESS, errors="replace")
    return f"`{cut(harmless, _SHOWN)}`"


def _counts(links: Sequence[Link]) -> Phrase:
    dead, missing, moved, refused, unknown, ok = (_count(links, each) for each in get_args(Standing))
    return Phrase(
        ko=f"주소 {len(links):,}개: 끊어짐 {dead:,}, 없음 {missing:,}, 옮겨 감 {moved:,}, 묻지 않음 {refused:,}, "
        f"알 수 없음 {unknown:,}, 정상 {ok:,}",
        en=f"{len(links):,} addresses: {dead:,} dead, {missing:,} missing, {moved:,} moved, {refused:,} never asked, "
        f"{unknown:,} unknown, {ok:,} ok",
    )


def _count(links: Sequence[Link], standing: Standing) -> int:
    return Counter(link.standing for link in links)[standing]


# --- the command ------------------------------------------------------------------------------------------


def links_command(
    root: Path,
    ids: Sequence[str],
    *,
    state: Path | None,
    format: Format,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    today: date | None = None,
    allow: frozenset[tuple[str, int]] = frozenset(),
    resolve: Resolve = system_addresses,
) -> Exit:
    """Ask the addresses of these entries (of everything, without `ids`) and print the report.

    `state`: the file that remembers what was missing on which day; without it nothing is ever dead. `today` is UTC's.
    FINDINGS only where something is dead.

    Raises DenoisedError: USAGE for an unknown id or senseless limits, RESOURCES where the state cannot be written,
    before anything is asked. On Ctrl-C what has been learned is kept, and KeyboardInterrupt goes on.
    """
    if not 0 < limits.total <= 600 or not 1 <= limits.hosts <= MOST_HOSTS:
        raise DenoisedError(
            say(
                ko=f"시간 제한은 0초보다 길고 600초 이하, 호스트는 1개에서 {MOST_HOSTS}개까지이다",
                en=f"the time-out is more than 0 and at most 600 seconds, the hosts are 1 to {MOST_HOSTS}",
            )
        )
    today = today or datetime.now(UTC).date()
    uses = collect(root, load(root / CATALOG), ids)
    seen = State() if state is None else read_state(state, today)
    if state is not None:
        write_whole(state, seen.written())  # better told now than after ten minutes
    answers: dict[str, Answer] = {}

    def tell(address: str, answer: Answer) -> None:
        answers[address] = answer
        _progress(len(answers), len(uses), address)

    try:
        ask(uses, tell, limits=limits, allow=allow, resolve=resolve)
    except KeyboardInterrupt:
        if state is not None:
            write_whole(state, next_state(seen, believed(answers), today, known=None).written())
        raise
    answers = believed(answers)
    known = None if ids else frozenset(uses)
    now = next_state(seen, answers, today, known=known) if state is not None else seen
    if state is not None:
        write_whole(state, now.written())
    links = judged(uses, answers, now)
    if format == "json":
        print(as_json(links, today))
    elif format == "markdown":
        print(as_markdown(links, today), end="")
    else:
        print(as_text(links))
    return Exit.FINDINGS if _count(links, "dead") else Exit.OK


def _progress(done: int, total: int, address: str) -> None:
    """How far it is, for who waits: one line that changes in a terminal, elsewhere a line now and then."""
    if sys.stderr.isatty():
        line = cut(f"{done}/{total} {visible(address)}", 79)
        print(f"\r\x1b[K{line}" if done < total else "\r\x1b[K", end="", file=sys.stderr, flush=True)
    elif done % _STEP == 0 or done == total:
        note(f"{done}/{total}")

"""What `denoised new` and `denoised fix` do, from words to a changed catalog and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from denoised.catalog.source import read_bytes
from denoised.command_line import note
from denoised.contribute.entries import works
from denoised.contribute.fix import diff, fix_file
from denoised.contribute.identify import Identified, identify
from denoised.contribute.new import TODO, Added, Draft, add, already_there, known_as, read_text
from denoised.errors import Exit
from denoised.language import say
from denoised.project import cache_folder


def new_command(
    root: Path, path: Path, work: str, *, id: str, category: str, kind: str, offline: bool, dry: bool
) -> None:
    """Add the draft of one work to a catalog file; its metadata comes from arXiv where it is there.

    Raises DenoisedError: USAGE for what is no identifier or an id that is taken, FINDINGS where the catalog has
    the work already, RETRY where arXiv does not answer as it should (then nothing is written).
    """
    identified = identify(work)
    draft = replace(_known_of(identified), id=id, category=category or TODO, kind=kind)
    text = read_text(path)
    if (there := known_as(draft, works(text))) is not None:  # before anybody is asked
        raise already_there(path, there)
    if identified.kind == "arxiv" and not offline:
        draft = _from_arxiv(root, draft, identified.value)
    elif identified.kind != "arxiv":
        note(
            say(
                ko="arXiv에 있는 논문이 아니어서 링크만 채웠다. arXiv 판이 있으면 그 식별자를 준다",
                en="not on arXiv, so only its link is filled in; if there is an arXiv version, give its identifier",
            )
        )
    else:
        note(
            say(
                ko="--offline: arXiv에 묻지 않았다. 제목, 저자, 날짜도 써야 한다",
                en="--offline: arXiv was not asked, so title, authors and date are still to be written",
            )
        )
    _finish(path, add(path, [draft], write=not dry), dry=dry)


def import_command(path: Path, file: Path, *, category: str, dry: bool) -> None:
    """Add drafts of all works of a BibTeX file that the catalog does not have.

    Raises DenoisedError (USAGE) where the file cannot be read.
    """
    from denoised.contribute.bibtex_import import drafts

    text = read_bytes(file).decode(
        "utf-8", errors="replace"
    )  # a lost letter of one work is no reason to stop
    present = works(read_text(path))
    wanted = []
    for entry in drafts(text, file.name, tell=note):
        links = {"arxiv": entry.arxiv} if entry.arxiv else {"paper": entry.url} if entry.url else {}
        draft = Draft(entry.title, entry.authors, None, entry.venue, links, category=category or TODO)
        if (there := known_as(draft, present)) is not None:
            note(
                say(ko=f"{entry.key}: 이미 있다 ({there.id})", en=f"{entry.key}: already there ({there.id})")
            )
        else:
            wanted.append(draft)
    if not wanted:
        note(say(ko="새 항목이 없다", en="nothing new"))
        return
    _finish(path, add(path, wanted, write=not dry), dry=dry)


def fix_command(path: Path, *, dry: bool) -> int:
    """Mend what can be mended safely, show the change, and say what is left; the exit code."""
    fixed = fix_file(path, write=not dry)
    changed, left = fixed.after != fixed.before, len(fixed.left.findings)
    if changed:
        print(diff(fixed, path.name))
        codes = ", ".join(f"{code} × {count}" for code, count in fixed.mended.items())
        verb = say(ko="고칠 수 있다", en="can be mended") if dry else say(ko="고쳤다", en="mended")
        note(f"\n{path.name}: {verb}: {codes}")
    else:
        note(say(ko=f"{path.name}: 저절로 고칠 것이 없다", en=f"{path.name}: nothing to mend by itself"))
    if left:
        note(
            say(
                ko=f"사람이 고칠 곳 {left}개가 남았다: denoised check",
                en=f"{left} left for a person: denoised check",
            )
        )
    return Exit.FINDINGS if left or (dry and changed) else Exit.OK


def _known_of(identified: Identified) -> Draft:
    """The draft of a work of which only the identifier is known."""
    if identified.kind == "arxiv":
        return Draft(links={"arxiv": identified.value})
    place = "openreview" if identified.url.startswith("https://openreview.net/") else "paper"
    return Draft(links={place: identified.url})


def _from_arxiv(root: Path, draft: Draft, identifier: str) -> Draft:
    """The draft with title, authors and day filled in; as it was where there is no network."""
    from denoised.contribute.arxiv import Offline, fetch

    try:
        found = fetch(identifier, cache=cache_folder(root), tell=note)
    except Offline as error:
        note(f"{error.message}")
        note(
            say(
                ko="네트워크 없이 초안만 만든다. 제목, 저자, 날짜도 써야 한다",
                en="a draft without network: title, authors and date are still to be written",
            )
        )
        return draft
    if found.comment or found.journal_ref:
        said = " / ".join(each for each in (found.journal_ref, found.comment) if each)
        note(
            say(
                ko=f"arXiv의 메모 (학회는 직접 쓴다): {said}",
                en=f"arXiv's remark (write the venue yourself): {said}",
            )
        )
    if found.withdrawn:
        note(say(ko="주의: 저자가 이 논문을 철회했다", en="note: the authors have withdrawn this paper"))
    return replace(draft, title=found.title, authors=found.authors, published=found.published)


def _finish(path: Path, added: Sequence[Added], *, dry: bool) -> None:
    """Show the drafts and what to do next."""
    for each in added:
        print(each.text, end="\n" if each is not added[-1] else "")
    if dry:
        note(say(ko="\n--dry-run: 아무것도 쓰지 않았다", en="\n--dry-run: nothing was written"))
        return
    note("")
    for each in added:
        note(
            say(
                ko=f"{path.name}:{each.line} `{each.id}` 초안을 넣었다. 쓸 곳(TODO)이 {each.todos}군데 있다",
                en=f"{path.name}:{each.line} has the draft of `{each.id}`, with {each.todos} TODOs",
            )
        )
    first = added[0].id
    note(
        say(
            ko=f"다음: TODO를 쓰고 denoised check, denoised fix, denoised preview {first}",
            en=f"next: write the TODOs, then denoised check, denoised fix, denoised preview {first}",
        )
    )

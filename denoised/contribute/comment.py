"""The comment under a pull request: the findings of its catalog, as Markdown, in both languages.

The findings come from a job that read a stranger's files, in a workflow that the stranger could change. So nothing
here trusts them: anything but the exact shape that `denoised check --format json` writes is refused, and what it says
is shown in fenced blocks only, where neither GitHub nor a browser sees a mention, a link, a picture or HTML. What
stands outside of a block is ours: known codes, numbers, names of files that match a pattern.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from denoised.catalog.characters import visible
from denoised.catalog.findings import CODES
from denoised.catalog.load import MOST
from denoised.catalog.source import read_bytes
from denoised.errors import DenoisedError, Exit
from denoised.language import LANGUAGES, Language, Phrase, say
from denoised.terminal import width, wrap

MARKER = "<!-- denoised-check -->"  # by which the next run finds the comment, to write it anew
SIZE_LIMIT = 8 * 2**20  # bytes of the findings; a thousand of the longest take about half of it
COMMENT_LIMIT = 65_536  # GitHub counts characters; bytes are never fewer
SHOWN = 50  # findings; `denoised check` shows the rest
_TEXT = 400  # characters of a message, which `Finding` keeps as well
_COLUMNS = 100  # of a block, which GitHub shows without a scroll bar
_MARKS = 2  # accents on one letter; a tower of them would cover the lines above

_FILE = re.compile(
    r"(?:head/)?(?P<name>(?:[a-z0-9][a-z0-9_-]{0,63}/){0,3}[a-z0-9][a-z0-9_-]{0,63}\.(?:yaml|md))"
)
_HEAD = re.compile(r"[0-9a-f]{40}")
_SITE = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*/?")
_HELP = Phrase(ko="도움", en="help")


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Texts(_Model):
    ko: str
    en: str


_Number = Annotated[int, Field(ge=1, le=10**8)]


class _Finding(_Model):
    file: str
    line: _Number
    column: _Number
    end_line: _Number
    end_column: _Number
    code: str
    message: _Texts
    label: _Texts
    help: _Texts


_FINDINGS = TypeAdapter(Annotated[list[_Finding], Field(max_length=MOST)])
_FIELDS = frozenset([*_Finding.model_fields, *_Texts.model_fields])


def comment(data: bytes, *, head: str, site: str | None = None) -> str:
    """The Markdown of one comment, at most COMMENT_LIMIT bytes, that ends with MARKER.

    `data` is what `denoised check --format json` wrote, or what somebody made of it; `head` the commit that was
    checked, 40 hex digits; `site` the address below which each code has its page (without it, codes are no links).

    Raises DenoisedError: INTEGRITY where `data` is anything else, USAGE for another `head` or `site`.
    """
    if not _HEAD.fullmatch(head):
        raise DenoisedError(
            say(ko="head는 커밋의 16진수 40자리여야 한다", en="head must be a commit's 40 hex digits")
        )
    if site is not None and not _SITE.fullmatch(site):
        raise DenoisedError(
            say(
                ko="site는 http:// 또는 https:// 주소여야 한다",
                en="site must be an http:// or https:// address",
            )
        )
    findings = _read(data)
    return _clean(head[:7]) if not findings else _told(findings, head[:7], site and site.rstrip("/"))


# --- writing ---------------------------------------------------------------------------------------------


def _clean(head: str) -> str:
    # GitHub shows each line end of a comment as one: here and below, a paragraph is a line.
    paragraphs = (
        "### 고칠 곳이 없다 · Nothing to fix",
        f"`{head}`의 카탈로그가 모든 검사를 통과했다. 이제 사람이 내용을 읽을 차례이다. 기여에 감사한다.",
        f"The catalog at `{head}` passed every check. A person reads what it says next. Thank you for contributing.",
    )
    return "\n\n".join((*paragraphs, MARKER)) + "\n"


def _told(findings: list[_Finding], head: str, site: str | None) -> str:
    """As many findings as fit, the same ones in both languages."""
    opening = (
        f"### 고칠 곳 {len(findings):,}개 · {_errors(len(findings))}\n\n"
        f"`{head}`의 카탈로그를 검사했다. 앞의 몇 자리는 **Files changed** 탭에도 표시해 두었다. "
        "고치고 `denoised check`로 확인한 뒤 다시 푸시하면 이 댓글이 새로 쓰인다. "
        "기계가 고쳐도 되는 것은 `denoised fix`가 고친다.\n\n"
    )
    between = (
        "<details>\n<summary><b>English</b></summary>\n\n"
        f"This is about the catalog at `{head}`. The first few are marked in the **Files changed** tab as well. "
        "Mend them, run `denoised check`, push again, and this comment is written anew. "
        "`denoised fix` mends what a machine may mend.\n\n"
    )
    closing = f"</details>\n\n{MARKER}\n"
    room = COMMENT_LIMIT - sum(_size(part) for part in (opening, between, closing, *_left_out(len(findings))))
    told: list[tuple[str, ...]] = []
    for finding in findings[:SHOWN]:
        blocks = tuple(_block(finding, language, site) for language in LANGUAGES)
        room -= sum(map(_size, blocks))
        if room < 0:
            break
        told.append(blocks)
    rest = _left_out(len(findings) - len(told))
    korean, english = ("".join(parts) for parts in zip(*told, rest, strict=True))
    return opening + korean + between + english + closing


def _block(finding: _Finding, language: Language, site: str | None) -> str:
    """One finding: its code and place, and below them, fenced, what the validator said."""
    texts = [finding.message, finding.help]
    message, help = (_text(text.ko if language == "ko" else text.en) for text in texts)
    said = _lines(message) + (_lines(f"{_HELP.to(language)}: {help}") if help else [])
    inside = "\n".join(said)
    # Longer than any run of backquotes inside, so that no line there can be its end.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", inside)), default=0))
    return f"{_code(finding.code, language, site)} · {_place(finding, language)}\n\n{fence}text\n{inside}\n{fence}\n\n"


def _code(code: str, language: Language, site: str | None) -> str:
    if code not in CODES:
        return Phrase(ko="**모르는 코드**", en="**unknown code**").to(language)
    return f"**[{code}]({site}/{language}/codes/{code}/)**" if site else f"**{code}**"


def _place(finding: _Finding, language: Language) -> str:
    if named := _FILE.fullmatch(finding.file):
        return f"`{named['name']}:{finding.line}:{finding.column}`"
    unknown = Phrase(ko="모르는 파일", en="unknown file").to(language)
    return f"{unknown} `:{finding.line}:{finding.column}`"


def _left_out(count: int) -> tuple[str, str]:
    if not count:
        return "", ""
    return (
        f"그 밖에 {count:,}개가 더 있다. `denoised check`가 모두 보여 준다.\n\n",
        f"{count:,} more are left out here; `denoised check` shows them all.\n\n",
    )


def _errors(count: int) -> str:
    return f"{count:,} error{'s' if count > 1 else ''}"


def _size(text: str) -> int:
    return len(text.encode())


def _text(text: str) -> str:
    """What may be shown of a text: one line, nothing invisible, nothing that climbs over its neighbours."""
    kept, marks = "", 0
    for character in unicodedata.normalize("NFC", text[:_TEXT]):
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        if marks <= _MARKS:
            kept += character
    return visible(kept).strip()


def _lines(text: str) -> list[str]:
    """A text as it stands where it fits, to be copied; else broken at its spaces."""
    return [text] if width(text) <= _COLUMNS else wrap(text, _COLUMNS)


# --- reading ---------------------------------------------------------------------------------------------


def _read(data: bytes) -> list[_Finding]:
    if len(data) > SIZE_LIMIT:
        _refuse(
            ko=f"{SIZE_LIMIT:,}바이트보다 크다",
            en=f"larger than {SIZE_LIMIT:,} bytes",
        )
    try:
        document = json.loads(data.decode(), object_pairs_hook=_each_once, parse_constant=_not_finite)
    except UnicodeError:
        _refuse(ko="UTF-8이 아니다", en="not UTF-8")
    except json.JSONDecodeError as error:
        _refuse(
            ko=f"JSON이 아니다 ({error.lineno}번째 줄, {error.colno}번째 칸)",
            en=f"not JSON (line {error.lineno}, column {error.colno})",
        )
    except RecursionError:
        _refuse(ko="너무 깊이 중첩되어 있다", en="nested too deeply")
    except ValueError:  # an integer of thousands of digits, and what the two hooks refuse
        _refuse(
            ko="같은 키가 두 번 있거나 있을 수 없는 수가 있다",
            en="a key stands twice, or a number is none",
        )
    try:
        return _FINDINGS.validate_python(document)
    except ValidationError as error:
        # The first wrong place, by names of ours only: a log is read by the runner, too.
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(
            str(step) if isinstance(step, int) or step in _FIELDS else "?" for step in first["loc"]
        )
        _refuse(
            ko=f"`denoised check`가 쓰는 모양이 아니다 ({place or '전체'}: {first['type']})",
            en=f"not of the shape that `denoised check` writes ({place or 'the whole'}: {first['type']})",
        )


def _refuse(*, ko: str, en: str) -> NoReturn:
    raise DenoisedError(
        say(ko=f"검사 결과를 믿을 수 없다: {ko}", en=f"these findings cannot be trusted: {en}"),
        help="denoised check --format json > findings.json",
        code=Exit.INTEGRITY,
    )


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


# --- the command of the workflow --------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m denoised.contribute.comment FILE --head SHA [--site URL]`: print the comment; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m denoised.contribute.comment", description=__doc__)
    parser.add_argument("file", type=Path, help="what `denoised check --format json` wrote")
    parser.add_argument("--head", required=True, metavar="SHA", help="the commit that was checked")
    parser.add_argument("--site", metavar="URL", help="where the site is, for links to the codes' pages")
    options = parser.parse_args(arguments)
    try:
        written = comment(read_bytes(options.file), head=options.head, site=options.site)
    except DenoisedError as error:
        labelled = [(say(ko="오류", en="error"), error.message), (say(ko="도움", en="help"), error.help)]
        print("\n".join(f"{label}: {visible(text)}" for label, text in labelled if text), file=sys.stderr)
        return error.code
    sys.stdout.buffer.write(written.encode())  # whatever the locale
    sys.stdout.buffer.flush()
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())

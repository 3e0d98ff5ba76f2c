"""The comment under a pull request: whatever the findings hold, only our own words become Markdown."""

from __future__ import annotations

import json
import os
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from denoised.catalog import render
from denoised.catalog.characters import FORBIDDEN
from denoised.catalog.findings import CODES, Finding, Span
from denoised.catalog.load import MOST, read_data
from denoised.catalog.source import Source
from denoised.contribute.comment import COMMENT_LIMIT, MARKER, SHOWN, SIZE_LIMIT, comment, main
from denoised.errors import DenoisedError, Exit
from denoised.language import LANGUAGES, speaking

ROOT = Path(__file__).resolve().parent.parent.parent
VALID = (ROOT / "tests" / "catalog" / "fixtures" / "valid.yaml").read_text(encoding="utf-8")
HEAD = "0123456789abcdef0123456789abcdef01234567"
SITE = "https://denoised.example/site"

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def finding(text: str = "wrong", **changes: object) -> dict[str, Any]:
    """One finding as the validator writes it, with `text` wherever it may put words of the file."""
    both = {"ko": text, "en": text}
    place = {"file": "head/catalog.yaml", "line": 3, "column": 5, "end_line": 3, "end_column": 9}
    return {**place, "code": "E0201", "message": both, "label": both, "help": both, **changes}


def written(*findings: dict[str, Any], site: str | None = SITE) -> str:
    return comment(json.dumps(findings).encode(), head=HEAD, site=site)


def tokens(markdown: str) -> list[Token]:
    """Every token of the Markdown, those inside lines too, in their order."""
    found = []
    for token in PARSER.parse(markdown):
        found += [token, *(token.children or [])]
    return found


def skeleton(markdown: str) -> list[tuple[str, str, str, str]]:
    """What the Markdown becomes, without what stands inside fenced blocks."""
    return [
        (token.type, token.tag, str(token.attrs), "" if token.type in ("fence", "inline") else token.content)
        for token in tokens(markdown)
    ]


def fenced(markdown: str) -> str:
    return "".join(token.content for token in tokens(markdown) if token.type == "fence")


HOSTILE = {
    "mention": "@octocat please look",
    "team": "@denoised/owners",
    "mention after a code span": "` @octocat `",
    "e-mail": "someone@example.org",
    "issue": "#1 GH-1 owner/repo#1 closes #1",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "address": "https://evil.example/ www.evil.example",
    "autolink": "<https://evil.example/>",
    "link": "[click](https://evil.example/)",
    "link by reference": "[click][1]\n\n[1]: https://evil.example/",
    "script link": "[click](javascript:alert(1))",
    "picture": "![x](https://evil.example/pixel.png)",
    "picture in HTML": '<img src="https://evil.example/pixel.png">',
    "script": "<script>alert(1)</script>",
    "handler": "<details open ontoggle=alert(1)>",
    "end of the details": "</summary></details>",
    "end of the details alone": "\n\n</details>\n\n",
    "comment": "<!-- -->",
    "open comment": "<!--",
    "our marker": MARKER,
    "processing": "<?php ?>",
    "declaration": "<!DOCTYPE html>",
    "character data": "<![CDATA[ x ]]>",
    "entity": "&lt;b&gt; &#64;octocat &commat;octocat",
    "code span": "` <b>x</b> `",
    "two backquotes": "`` x",
    "end of the fence": "```",
    "end of a longer fence": "`" * 40,
    "end of the fence on its own line": "x\n```\n[click](https://evil.example/)\n",
    "end of the fence after a carriage return": "x\r```\r[click](https://evil.example/)\r",
    "end of the fence after NEL": "x\x85```\x85[click](https://evil.example/)",
    "end of the fence after a line separator": "x\u2028```\u2028[click](https://evil.example/)",
    "end of the fence after a form feed": "x\f```\f@octocat\v```",
    "indented end of the fence": "   ```",
    "tilde fence": "~~~\n@octocat\n~~~",
    "end of the fence in a long text": "wrapped " * 14 + "``` " * 30 + "@octocat",
    "end of the fence where a line is broken": "x" * 99 + " ```",
    "longer than a line": "w" * 99 + " " + "`" * 300,
    "table": "| a | b |\n| - | - |\n| 1 | 2 |",
    "cell": "a | b || c",
    "heading": "# heading",
    "underlined heading": "x\n===",
    "rule": "\n---\n",
    "list": "\n* [ ] item",
    "quote": "> quoted",
    "alert": "> [!CAUTION]\n> run this",
    "footnote": "[^1]\n\n[^1]: @octocat",
    "mathematics": "$`\\href{javascript:alert(1)}{x}`$ $$x$$",
    "diagram": "```mermaid\ngraph TD;\n```",
    "suggestion": "```suggestion\nrm -rf /\n```",
    "emoji": ":+1: :octocat:",
    "slash command": "/close",
    "workflow command": "::add-mask::x",
    "expression": "${{ github.token }}",
    "backslashes": "\\` \\[x\\](y) \\",
    "backslash at the end": "x\\",
    "right to left": "\u202e@octocat\u202c",
    "isolates": "\u2066x\u2069\u200f",
    "zero width": "@\u200boctocat\u2060",
    "tags": "\U000e0041\U000e007f",
    "controls": "".join(map(chr, range(32))) + "\x7f\x9b",
    "terminal escape": "\x1b]8;;https://evil.example/\x07x",
    "byte-order mark": "\ufeffx",
    "private use": "\ue000\uf8ff",
    "accents": "e" + "\u0301" * 399,
    "long": "x" * 3_000,
    "long and wide": "가" * 3_000,
    "half a character": "\ud83d@octocat",
    "spaces": " " * 3_000,
    "nothing": "",
    "placeholder": "{0} {code} %s {{}}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_the_findings_say_changes_nothing_but_the_blocks_it_stands_in(text: str) -> None:
    said = written(finding(text), finding(f"a {text} b"), finding(f"{text}\n{text}"))
    assert skeleton(said) == skeleton(written(finding(), finding(), finding()))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_nothing_of_it_is_invisible_and_it_is_never_too_long(text: str) -> None:
    said = written(*[finding(text)] * 60)
    assert not FORBIDDEN.search(said)
    assert not re.search("[\u0300-\u036f]{3}", said)
    assert len(said.encode()) <= COMMENT_LIMIT
    assert said.endswith(MARKER + "\n")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("field", ["code", "file"])
def test_a_code_or_file_that_is_none_becomes_a_word_of_ours(field: str, text: str) -> None:
    said = written(finding(**{field: text}))
    assert skeleton(said) == skeleton(written(finding(**{field: "no such thing"})))
    assert {"code": "**모르는 코드**", "file": "모르는 파일"}[field] in said
    assert {"code": "**unknown code**", "file": "unknown file"}[field] in said


@pytest.mark.parametrize(
    "file",
    [
        *(
            "../catalog.yaml",
            "/etc/passwd.md",
            "head/head/../x.yaml",
            "a//b.md",
            "a`b.md",
            "catalog.yaml\n",
            ".md",
        ),
        *("x.yaml`<b>", "A.YAML", "https://evil.example/x.md", "a/b/c/d/e.md", "x" * 65 + ".md", "head/"),
    ],
)
def test_a_file_name_is_plain_or_not_shown(file: str) -> None:
    assert "모르는 파일 `:3:5`" in written(finding(file=file))


@pytest.mark.parametrize("code", ["E9999", "e0201", "E0201 ", "E0201\n", "E02011", "../E0201", "Ｅ0201", ""])
def test_a_code_is_one_of_ours_or_not_shown(code: str) -> None:
    said = written(finding(code=code))
    assert not [token for token in tokens(said) if token.type == "link_open"]


def test_only_codes_are_links_and_html_is_only_ours() -> None:
    every = "\n".join(HOSTILE.values())
    said = written(finding(every), finding(every, code="E0113"))
    links = [token.attrs["href"] for token in tokens(said) if token.type == "link_open"]
    assert links == [
        f"{SITE}/{language}/codes/{code}/" for language in LANGUAGES for code in ("E0201", "E0113")
    ]
    assert not [token for token in tokens(said) if token.type == "image"]
    html = [token.content.strip() for token in tokens(said) if token.type.startswith("html")]
    assert html == ["<details>\n<summary><b>English</b></summary>", "</details>", MARKER]


def test_outside_of_code_nothing_looks_like_a_mention_or_a_reference() -> None:
    said = written(*(finding(text) for text in list(HOSTILE.values())[:40]))
    prose = " ".join(token.content for token in tokens(said) if token.type == "text")
    assert not re.search(r"@|#\d|GH-|https?:|www\.|[0-9a-f]{7}|:\w+:", prose)


def test_without_a_site_there_is_no_link_at_all() -> None:
    said = written(finding(), site=None)
    assert "**E0201** · `catalog.yaml:3:5`" in said
    assert not [token for token in tokens(said) if token.type == "link_open"]


# --- what a contributor reads ----------------------------------------------------------------------------


def of(catalog: str) -> bytes:
    """What `denoised check head/catalog.yaml --format json` writes."""
    reading = read_data("head/catalog.yaml", catalog.encode())
    return render(reading.findings, reading.source, "json", "en").encode()


def test_the_comment_says_what_is_wrong_in_both_languages() -> None:
    said = comment(of(VALID.replace("kind: video", "kind: vidio")), head=HEAD, site=SITE + "/")
    assert said.startswith("### 고칠 곳 1개 · 1 error\n\n`0123456`의 카탈로그를 검사했다.")
    korean, english = said.split("<details>")
    assert f"**[E0206]({SITE}/ko/codes/E0206/)** · `catalog.yaml:44:11`" in korean
    assert fenced(korean) == "`kind`에 쓸 수 없는 값이다: `vidio`\n도움: 혹시 `video`인가?\n"
    assert f"**[E0206]({SITE}/en/codes/E0206/)** · `catalog.yaml:44:11`" in english
    assert fenced(english) == "`vidio` is no `kind` that we know\nhelp: did you mean `video`?\n"


def test_a_line_to_paste_stays_one_line() -> None:
    said = comment(of(VALID.replace('{arxiv: "2006.11239"}', "{arxiv: 2006.11230}")), head=HEAD)
    assert 'help: arxiv: "2006.11230"\n' in fenced(said)


def test_a_clean_catalog_gets_a_short_friendly_comment() -> None:
    assert comment(of(VALID), head=HEAD) == (
        "### 고칠 곳이 없다 · Nothing to fix\n\n"
        "`0123456`의 카탈로그가 모든 검사를 통과했다. 이제 사람이 내용을 읽을 차례이다. 기여에 감사한다.\n\n"
        "The catalog at `0123456` passed every check. A person reads what it says next. "
        "Thank you for contributing.\n\n"
        "<!-- denoised-check -->\n"
    )


@pytest.mark.parametrize("code", CODES)
def test_every_finding_that_the_validator_can_make_is_told(code: str) -> None:
    texts = [CODES[code].message, CODES[code].label, CODES[code].help]
    names = {
        name for text in texts for one in text for _, name, _, _ in string.Formatter().parse(one) if name
    }
    made = Finding("catalog.yaml", Span(1, 1, 2, 1), code, dict.fromkeys(sorted(names), "`x`"))
    said = comment(render([made], Source("catalog.yaml", "x"), "json", "en").encode(), head=HEAD, site=SITE)
    assert f"**[{code}]({SITE}/ko/codes/{code}/)** · `catalog.yaml:1:1`" in said
    for language in LANGUAGES:
        assert made.message(language).split()[0] in fenced(said)


@pytest.mark.parametrize("count", [1, SHOWN, SHOWN + 1, MOST])
def test_what_is_left_out_is_counted(count: int) -> None:
    said = written(*[finding()] * count)
    shown = said.count("**[E0201]") // 2
    assert shown == min(count, SHOWN)
    assert said.startswith(f"### 고칠 곳 {count:,}개 · {count:,} error{'s' if count > 1 else ''}\n")
    assert (f"그 밖에 {count - shown:,}개가 더 있다." in said) == (count > SHOWN)
    assert (f"{count - shown:,} more are left out here" in said) == (count > SHOWN)


def test_long_findings_fill_the_comment_up_to_its_limit_and_the_rest_is_counted() -> None:
    said = written(*[finding("가" * 400)] * 200)
    shown = said.count("**[E0201]") // 2
    block = len(written(finding("가" * 400)).encode())
    assert 1 < shown < SHOWN
    assert COMMENT_LIMIT - block < len(said.encode()) <= COMMENT_LIMIT
    assert f"{200 - shown} more are left out here" in said


# --- what is refused -------------------------------------------------------------------------------------


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in finding().items() if key != name}


SHAPE = "not of the shape that `denoised check` writes "
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not JSON (line 1, column 1)"),
    "half": (as_json([finding()])[:50], "not JSON (line 1, column 51)"),
    "two documents": (b"[] []", "not JSON (line 1, column 4)"),
    "byte-order mark": (b"\xef\xbb\xbf[]", "not JSON (line 1, column 1)"),
    "not UTF-8": (b'["\xff"]', "not UTF-8"),
    "UTF-16": ("[]".encode("utf-16"), "not UTF-8"),
    "too large": (b"[" + b" " * SIZE_LIMIT + b"]", "larger than 8,388,608 bytes"),
    "too deep": (b"[" * 100_000, "nested too deeply"),
    "too deep and closed": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "NaN": (b"[NaN]", "a key stands twice, or a number is none"),
    "infinity": (b"[-Infinity]", "a key stands twice, or a number is none"),
    "digits": (b"[" + b"9" * 5_000 + b"]", "a key stands twice, or a number is none"),
    "key twice": (b'[{"file": "a", "file": "b"}]', "a key stands twice, or a number is none"),
    "an object": (b"{}", SHAPE + "(the whole: list_type)"),
    "null": (b"null", SHAPE + "(the whole: list_type)"),
    "a text": (b'"[]"', SHAPE + "(the whole: list_type)"),
    "numbers": (b"[1]", SHAPE + "(0: model_type)"),
    "too many": (as_json([finding()] * (MOST + 1)), SHAPE + "(the whole: too_long)"),
    "line as text": (as_json([finding(line="3")]), SHAPE + "(0.line: int_type)"),
    "line as float": (as_json([finding(line=3.0)]), SHAPE + "(0.line: int_type)"),
    "line as truth": (as_json([finding(line=True)]), SHAPE + "(0.line: int_type)"),
    "line overflows": (b'[{"line": 1e999}]', SHAPE + "(0.file: missing)"),
    "line zero": (as_json([finding(line=0)]), SHAPE + "(0.line: greater_than_equal)"),
    "line below zero": (as_json([finding(end_line=-1)]), SHAPE + "(0.end_line: greater_than_equal)"),
    "column too large": (as_json([finding(column=10**9)]), SHAPE + "(0.column: less_than_equal)"),
    "no code": (as_json([without("code")]), SHAPE + "(0.code: missing)"),
    "no help": (as_json([without("help")]), SHAPE + "(0.help: missing)"),
    "code as list": (as_json([finding(code=["E0201"])]), SHAPE + "(0.code: string_type)"),
    "message as text": (as_json([finding(message="x")]), SHAPE + "(0.message: model_type)"),
    "message in one language": (as_json([finding(message={"ko": "x"})]), SHAPE + "(0.message.en: missing)"),
    "label null": (as_json([finding(label={"ko": "x", "en": None})]), SHAPE + "(0.label.en: string_type)"),
    "another key": (as_json([finding(owner="x")]), SHAPE + "(0.?: extra_forbidden)"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with speaking("en"), pytest.raises(DenoisedError) as refused:
        comment(data, head=HEAD)
    assert refused.value.message == f"these findings cannot be trusted: {reason}"
    assert refused.value.help == "denoised check --format json > findings.json"
    assert refused.value.code == Exit.INTEGRITY


def test_a_refusal_in_korean() -> None:
    with speaking("ko"), pytest.raises(DenoisedError) as refused:
        comment(as_json([finding(line=0)]), head=HEAD)
    assert refused.value.message == (
        "검사 결과를 믿을 수 없다: `denoised check`가 쓰는 모양이 아니다 (0.line: greater_than_equal)"
    )


def test_a_refusal_repeats_no_word_of_the_file() -> None:
    data = as_json([{"::set-output name=x::@octocat\n##[add-mask]x": 1}, {"a": 1, "": 2}])
    with pytest.raises(DenoisedError) as refused:
        comment(data, head=HEAD)
    assert not re.search(r"octocat|::|##", refused.value.message)


@pytest.mark.parametrize("head", ["", "abc", HEAD.upper(), HEAD + "0", HEAD + "\n", "`@octocat`", "g" * 40])
def test_the_head_is_a_commit(head: str) -> None:
    with speaking("en"), pytest.raises(DenoisedError, match=r"^head must be a commit's 40 hex digits$"):
        comment(b"[]", head=head)


@pytest.mark.parametrize(
    "site", ["", "denoised.example", "javascript:alert(1)", "https://x/)](y", "https://x/ y", "https://x/\n"]
)
def test_the_site_is_an_address(site: str) -> None:
    with speaking("en"), pytest.raises(DenoisedError, match=r"^site must be an http:// or https:// address$"):
        comment(b"[]", head=HEAD, site=site)


# --- the command of the workflow -------------------------------------------------------------------------


def as_process(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "denoised.contribute.comment", *arguments],
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "DENOISED_LANG": "en"},
        capture_output=True,
        check=False,
    )


def test_the_command_prints_the_comment_in_any_locale(tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    path.write_bytes(as_json([finding("가")]))
    ran = as_process(str(path), "--head", HEAD, "--site", SITE)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.decode() == written(finding("가"))


def test_the_command_refuses_with_a_sentence_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "findings.json"
    path.write_bytes(b"{}")
    with speaking("en"):
        assert main([str(path), "--head", HEAD]) == Exit.INTEGRITY
        assert main([str(tmp_path / "absent"), "--head", HEAD]) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == (
        "error: these findings cannot be trusted: "
        "not of the shape that `denoised check` writes (the whole: list_type)"
    )
    assert "No such file or directory" in captured.err

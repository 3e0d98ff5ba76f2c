"""Catalogs as careless and hostile hands leave them, and what must be true of the reading of any of them."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from typing import cast

from denoised.catalog import CODES, FORMATS, Format, Reading, render
from denoised.catalog.load import read_data
from denoised.language import LANGUAGES

# What may be left anywhere in a file.
CHUNKS = [
    *(b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\r", b"\t", b"\n", b"\n---\n", b"\n...\n", b": ", b"- ", b"? "),
    *(b"&a ", b"*a ", b"!!python/object:os.system ", b"<<: ", b"%YAML 9.9\n", b"[", b"]", b"{", b"}", b"'", b'"'),
    *(b"|", b">", b"#", b"@", b"`", b"\\", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xae"),
    *(b"null", b"~", b"no", b".nan", b".inf", b"1e999", b"0b_", b"0x", b"1:99", b"2021-13-45", b"9" * 5000),
    *(b"[" * 5000, b"{a: " * 200, b"a: " * 50, b"\\ud800", b"\\x1b[31m", "각".encode(), "\U0001f600".encode()),
    *(b"2010.02500", b"1.10", b"../../etc/passwd", b"<script>alert(1)</script>", b"[x](javascript:alert(1))"),
    *(b"javascript:alert(1)", b"https://user:pass@localhost:99999/", b"TODO", b"DDIM", b"CON", b"-", b"x" * 70000),
]  # fmt: skip


def mutated(source: random.Random, data: bytes) -> bytes:
    """`data` after one to four random edits: a cut, a move, a byte, a chunk, a line elsewhere."""
    for _ in range(source.randint(1, 4)):
        a, b = sorted(source.randrange(len(data) + 1) for _ in range(2))
        b = min(b, a + source.choice((1, 1, 2, 10, 200)))
        match source.randrange(5):
            case 0:
                data = data[:a] + data[b:]
            case 1:
                data = data[:a] + data[b:] + data[a:b]
            case 2:
                byte = source.randbytes(1) if source.random() < 0.1 else bytes([source.randrange(32, 127)])
                data = data[:a] + byte + data[a + 1 :]
            case 3:
                data = data[:a] + source.choice(CHUNKS) + data[a:]
            case _:
                lines = data.split(b"\n")
                at = source.randrange(len(lines))
                lines[at] = source.choice((b"", b"  ", b" ")) + lines[source.randrange(len(lines))].lstrip()
                data = b"\n".join(lines)
    return data


def _bomb(_: bytes) -> bytes:
    """Nine levels of ten aliases each: a thousand million items for a parser that follows them."""
    levels = [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 10)]
    return b"\n".join(levels)


def _replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data, old
        return data.replace(old, new, 1)

    return change


# Whole files of one kind, each made from a valid catalog that has the entry ddim.
SPECIMENS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "blank": lambda data: b" \n" * 1000,
    "comment": lambda data: b"# nothing\n",
    "utf-16": lambda data: data.decode().encode("utf-16"),
    "utf-32": lambda data: data.decode().encode("utf-32"),
    "cp949": lambda data: data.decode().encode("cp949", errors="replace"),
    "latin-1": lambda data: "papers: [caf\xe9]".encode("latin-1"),
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "windows lines": lambda data: data.replace(b"\n", b"\r\n"),
    "old mac lines": lambda data: data.replace(b"\n", b"\r"),
    "tabs": lambda data: data.replace(b"    ", b"\t"),
    "decomposed": lambda data: unicodedata.normalize("NFD", data.decode()).encode(),
    "nulls": lambda data: data.replace(b" ", b"\x00"),
    "binary": lambda data: random.Random(0).randbytes(50_000),
    "alias bomb": _bomb,
    "recursive alias": lambda data: b"papers: &a [*a]",
    "deep lists": lambda data: b"papers: " + b"[" * 100_000,
    "deep mappings": lambda data: b"papers: " + b"{a: " * 50_000,
    "deep block": lambda data: b"\n".join(b" " * n + b"a:" for n in range(2000)),
    "deep dashes": lambda data: b"papers:\n  " + b"- " * 50_000,
    "many keys": lambda data: b"\n".join(b"k%d: v" % n for n in range(20_000)),
    "one key often": lambda data: b"papers: []\n" * 20_000,
    "many wrong entries": lambda data: b"papers: [" + b"[]," * 50_000 + b"]",
    "one long line": lambda data: b"papers: [" + b"x" * 1_000_000 + b"]",
    "one long key": lambda data: b"x" * 200_000 + b": []",
    "long quotes": lambda data: b'papers: "' + b"\\" * 200_000,
    "unclosed quote": lambda data: data + b'\n    venue: "',
    "many invisibles": lambda data: "\u200b".join("papers: []" * 2000).encode(),
    "second document": lambda data: data + b"---\n" + data,
    "directive": lambda data: b"%YAML 1.1\n---\n" + data,
    "tagged": lambda data: data.replace(b"papers:", b"papers: !!python/tuple", 1),
    "merge": _replaced(b"    name: DDIM", b"    <<: {name: DDIM}"),
    "number for arXiv": _replaced(b'"2010.02502"', b"2010.02500"),
    "no for a name": _replaced(b"name: DDIM", b"name: no"),
    "number for a name": _replaced(b"name: DDIM", b"name: 1.10"),
    "path for an id": _replaced(b"id: ddim", b"id: ../../etc/passwd"),
    "dots for an id": _replaced(b"id: ddim", b"id: .."),
    "slash for an id": _replaced(b"id: ddim", b"id: /"),
    "device for an id": _replaced(b"id: ddim", b'id: "nul\\0"'),
    "ids that differ in case": _replaced(b"id: ddim", b"id: DDPM"),
    "duplicate id": _replaced(b"id: ddim", b"id: ddpm"),
    "script link": _replaced(b"https://github.com/ermongroup/ddim", b"javascript:alert(1)"),
    "data link": _replaced(b"https://github.com/ermongroup/ddim", b"data:text/html,<script>"),
    "link with a newline": _replaced(b"https://github.com/ermongroup/ddim", b"https://a.b/\\n<script>"),
    "link to this machine": _replaced(b"https://github.com/ermongroup/ddim", b"http://localhost/"),
    "link that turns around": _replaced(b"https://github.com/", "https://a.b/\u202e".encode()),
    "escaped direction mark": _replaced(b"name: DDIM", b'name: "\\u202eMIDD"'),
    "escape codes": _replaced(b"name: DDIM", b'name: "\\e[31mDDIM"'),
    "surrogate": _replaced(b"name: DDIM", b'name: "\\ud83d"'),
    "lone combining marks": _replaced(b"name: DDIM", "name: D\u0301\u0327\u0301DIM".encode()),
    "infinite number": _replaced(b"value: 13.36", b"value: 1e999"),
    "long number": _replaced(b"value: 13.36", b"value: " + b"9" * 20_000),
    "long whole number": _replaced(b"nfe: 10,", b"nfe: " + b"9" * 20_000 + b","),
    "year zero": _replaced(b"2020-10-06", b"0000-00-00"),
    "builds on itself": _replaced(b"builds_on: [ddpm]", b"builds_on: [ddim]"),
}  # fmt: skip


def assert_sound(data: bytes) -> Reading:
    """The reading of `data`, of which everything is true that is promised of any file.

    It is a catalog or has findings; each finding has a known code and a place in the file; each format of each
    language can be written as UTF-8 and holds no character that could drive a terminal.
    """
    reading = read_data("catalog.yaml", data)
    assert (reading.catalog is None) == bool(reading.findings)
    lines = reading.source.lines
    for finding in reading.findings:
        assert finding.code in CODES
        assert 1 <= finding.line <= len(lines)
        assert 1 <= finding.column <= len(lines[finding.line - 1]) + 1
        assert (finding.end_line, finding.end_column) >= (finding.line, finding.column)
    for format in FORMATS:
        for language in LANGUAGES:
            said = render(reading.findings[:50], reading.source, cast(Format, format), language)
            said.encode("utf-8")
            assert all(character >= " " or character == "\n" for character in said)
            assert "\u202e" not in said
    return reading

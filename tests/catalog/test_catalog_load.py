"""Reading a catalog: the values that come out, and that nothing a file holds can do more than be refused."""

from __future__ import annotations

import os
import random
from datetime import date
from pathlib import Path

import pytest
import yaml

from denoised.catalog import CatalogError, Links, Reported, check, load, render
from denoised.catalog import yaml_nodes as nodes
from denoised.catalog.load import MOST, read_data
from denoised.catalog.render import FORMATS, Format
from denoised.errors import DenoisedError, Exit
from denoised.language import LANGUAGES

PATH = Path(__file__).parent / "fixtures" / "valid.yaml"
VALID = PATH.read_bytes()


def test_values_are_the_text_of_the_file_by_the_models_types() -> None:
    catalog = load(PATH)
    assert [category.id for category in catalog.categories] == ["foundations", "fast-sampling"]
    assert [paper.id for paper in catalog.papers] == ["ddim", "ddpm", "review"]
    ddim = catalog.papers[0]
    assert ddim.links == Links(arxiv="2010.02502", code="https://github.com/ermongroup/ddim")
    assert ddim.published == date(2020, 10, 6)
    assert ddim.reported[1] == Reported(
        metric="fid", value=4.16, dataset="CIFAR-10", nfe=100, source="Table 1", checked=False
    )
    assert (
        ddim.sentence.ko
        == "학습한 네트워크는 그대로 두고, 잡음을 다시 더하지 않는 경로로 건너뛰며 표본을 뽑는다."
    )
    assert (ddim.tags, ddim.builds_on) == (("sampler", "deterministic"), ("ddpm",))
    review = catalog.papers[2]
    assert (review.authors, review.venue, review.claim, review.reported) == ((), None, None, ())


def test_a_catalog_written_out_reads_as_itself() -> None:
    catalog = load(PATH)
    written = yaml.safe_dump(catalog.model_dump(mode="json", exclude_none=True), allow_unicode=True)
    assert read_data("again.yaml", written.encode()).catalog == catalog


def test_line_ends_of_windows_are_line_ends() -> None:
    assert read_data("catalog.yaml", VALID.replace(b"\n", b"\r\n")).catalog == load(PATH)


def test_a_long_text_may_go_on_on_the_next_line() -> None:
    folded = VALID.replace(b"en: Goes through diffusion", b"en: Goes\n        through diffusion")
    assert read_data("catalog.yaml", folded).catalog == load(PATH)


@pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="PyYAML was built without its C parser")
def test_the_parser_in_python_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [
        VALID.replace(old, new)
        for old, new in (
            (b"venue: ICLR 2021", b"venue: ICLR: 2021"),
            (b"[training]", b"[training"),
            (b"title: A", b"title: 'A"),
            (b"    venue: ICLR", b"   venue: ICLR"),
            (b"venue: ICLR", b"venue ICLR"),
            (b"venue: ICLR", b"venue: %ICLR"),
            (b"kind: video", b"kind: &a video"),
            (b"kind: video", b"kind: [[[[[[[[[[[[[[[["),
        )
    ]
    texts = [VALID, *broken]
    in_c = [read_data("catalog.yaml", text) for text in texts]
    monkeypatch.setattr(nodes, "_Loader", yaml.SafeLoader)
    assert [read_data("catalog.yaml", text) for text in texts] == in_c


def test_a_broken_catalog_raises_all_its_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("catalog.yaml")
    path.write_bytes(VALID.replace(b"name: DDIM", b"name: no").replace(b"video", b"vidio"))
    with pytest.raises(CatalogError) as caught:
        load(path)
    assert caught.value.message == "catalog.yaml has 2 errors"
    assert caught.value.help == "denoised check catalog.yaml"
    assert caught.value.code is Exit.FINDINGS
    assert caught.value.findings == check(path)
    assert [finding.code for finding in check(path)] == ["E0203", "E0206"]


def test_a_file_elsewhere_goes_by_its_whole_path(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_bytes(b"")
    assert check(path)[0].file == str(path)


def test_the_name_of_a_file_cannot_drive_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m.yaml"
    path.write_bytes(b"")
    assert check(path)[0].file == f"{tmp_path}/a<U+001B>[31m.yaml"


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(DenoisedError) as caught:
        load(tmp_path / "nowhere.yaml")
    assert caught.value.message == f"cannot read {tmp_path}/nowhere.yaml: No such file or directory"
    assert caught.value.code is Exit.USAGE


def test_a_folder_is_not_a_catalog(tmp_path: Path) -> None:
    with pytest.raises(DenoisedError, match=f"^cannot read {tmp_path}: it is no regular file$"):
        check(tmp_path)


def test_a_pipe_is_refused_before_anyone_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "catalog.yaml")
    with pytest.raises(DenoisedError, match="it is no regular file"):
        check(tmp_path / "catalog.yaml")


def test_a_link_is_refused_because_findings_quote_what_they_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("token: hunter2")
    (tmp_path / "catalog.yaml").symlink_to("secret")
    with pytest.raises(DenoisedError) as caught:
        check(tmp_path / "catalog.yaml")
    assert caught.value.message == f"cannot read {tmp_path}/catalog.yaml: it is a link"


def test_findings_without_end_are_cut_off() -> None:
    text = "papers: [" + "[]," * (2 * MOST) + "]"
    assert len(read_data("catalog.yaml", text.encode()).findings) == MOST


# What a careless or hostile hand may leave anywhere in a file.
CHUNKS = [
    *(
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\r",
        b"\t",
        b"\n",
        b"\n---\n",
        b"\n...\n",
        b": ",
        b"- ",
        b"? ",
    ),
    *(
        b"&a ",
        b"*a ",
        b"!!python/object:os.system ",
        b"<<: ",
        b"%YAML 9.9\n",
        b"[",
        b"]",
        b"{",
        b"}",
        b"'",
        b'"',
    ),
    *(b"|", b">", b"#", b"@", b"`", b"\\", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xae"),
    *(b"null", b"~", b"no", b".nan", b".inf", b"1e999", b"0b_", b"0x", b"1:99", b"2021-13-45", b"9" * 5000),
    *(
        b"[" * 5000,
        b"{a: " * 200,
        b"a: " * 50,
        b"\\ud800",
        b"\\x1b[31m",
        "각".encode(),
        "\U0001f600".encode(),
    ),
]


def mutated(source: random.Random, data: bytes) -> bytes:
    """`data` after one to four random edits: a cut, a move, a byte, a chunk."""
    for _ in range(source.randint(1, 4)):
        a, b = sorted(source.randrange(len(data) + 1) for _ in range(2))
        b = min(b, a + source.choice((1, 1, 2, 10, 200)))
        match source.randrange(5):
            case 0:
                data = data[:a] + data[b:]
            case 1:
                data = data[:a] + data[b:] + data[a:b]
            case 2:
                data = data[:a] + source.randbytes(1) + data[a + 1 :]
            case 3:
                data = data[:a] + source.choice(CHUNKS) + data[a:]
            case _:
                lines = data.split(b"\n")
                at = source.randrange(len(lines))
                lines[at] = source.choice((b"", b"  ", b" ")) + lines[source.randrange(len(lines))].lstrip()
                data = b"\n".join(lines)
    return data


@pytest.mark.parametrize("seed", range(600))
def test_no_bytes_do_more_than_be_refused(seed: int) -> None:
    reading = read_data("catalog.yaml", mutated(random.Random(seed), VALID))
    assert (reading.catalog is None) == bool(reading.findings)
    for finding in reading.findings:
        assert 1 <= finding.line <= len(reading.source.lines)
        assert 1 <= finding.column <= len(reading.source.lines[finding.line - 1]) + 1
        assert (finding.end_line, finding.end_column) >= (finding.line, finding.column)
    for format in FORMATS:
        for language in LANGUAGES:
            said = render(reading.findings, reading.source, _format(format), language)
            said.encode("utf-8")
            assert all(character >= " " or character == "\n" for character in said)


def _format(name: str) -> Format:
    match name:
        case "human" | "json" | "github":
            return name
    raise AssertionError(name)

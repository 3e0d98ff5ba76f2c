"""Reading a catalog: the values that come out, and that nothing a file holds can do more than be refused."""

from __future__ import annotations

import json
import os
import random
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings, strategies

from benchmarks.mutants import SPECIMENS, assert_sound, mutated
from denoised.catalog import CatalogError, Links, Reported, check, load
from denoised.catalog import yaml_nodes as nodes
from denoised.catalog.load import MOST, read_data
from denoised.errors import DenoisedError, Exit

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


@pytest.mark.parametrize("seed", range(300))
def test_no_bytes_do_more_than_be_refused(seed: int) -> None:
    assert_sound(mutated(random.Random(seed), VALID))


@pytest.mark.parametrize("name", SPECIMENS)
def test_no_specimen_does_more_than_be_refused(name: str) -> None:
    assert_sound(SPECIMENS[name](VALID))


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(data=strategies.binary(max_size=400))
def test_bytes_that_were_never_yaml(data: bytes) -> None:
    assert_sound(data)


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(text=strategies.text(max_size=60), field=strategies.sampled_from(("title", "venue", "sentence")))
def test_any_text_in_a_field_is_kept_or_found_at_its_line(text: str, field: str) -> None:
    """Written as JSON, so that what YAML reads is the text itself: line ends, quotes, colons and all."""
    old = {
        "title": "Denoising Diffusion Implicit Models",
        "venue": "ICLR 2021",
        "sentence": "Keeps the trained network and skips steps along a path that adds no noise.",
    }[field]
    valid = VALID.decode()
    line = valid[: valid.index(old)].count("\n") + 1
    data = valid.replace(old, json.dumps(text, ensure_ascii=True)).encode()
    reading = read_data("catalog.yaml", data)
    assert_sound(data)
    if reading.catalog is None:
        assert {finding.line for finding in reading.findings} == {line}
    else:
        paper = reading.catalog.paper("ddim")
        assert text == {"title": paper.title, "venue": paper.venue, "sentence": paper.sentence.en}[field]


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(
    value=strategies.recursive(
        strategies.none() | strategies.booleans() | strategies.floats() | strategies.text(max_size=8),
        lambda inner: (
            strategies.lists(inner, max_size=4)
            | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_any_structure_in_the_place_of_an_entry_is_found(value: object) -> None:
    assert_sound(yaml.safe_dump({"categories": [], "papers": [value]}, allow_unicode=True).encode())

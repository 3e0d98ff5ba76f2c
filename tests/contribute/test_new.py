"""A new entry from an identifier to a preview, with arXiv played by a server on this machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from denoised.catalog import load
from denoised.catalog.characters import FORBIDDEN
from denoised.catalog.load import read, read_data
from denoised.cli import main
from denoised.contribute.entries import divide
from denoised.contribute.new import Draft, add
from tests.contribute.fake_arxiv import FakeArxiv, fake_arxiv

ROOT = Path(__file__).parents[2]
VALID = ROOT / "tests" / "catalog" / "fixtures" / "valid.yaml"


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """The project's catalog without FABRIC."""
    entries = divide((ROOT / "catalog.yaml").read_text(encoding="utf-8"))
    assert entries is not None
    at = entries.ids.index("fabric")
    del entries.ids[at], entries.blocks[at], entries.gaps[at]
    path = tmp_path / "catalog.yaml"
    path.write_text(entries.text(), encoding="utf-8")
    assert len(load(path).papers) == len(entries.ids)
    return path


@pytest.fixture
def arxiv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeArxiv]:
    with fake_arxiv() as server:
        monkeypatch.setenv("DENOISED_ARXIV_URL", server.url)
        monkeypatch.setenv("DENOISED_CACHE", str(tmp_path / "cache"))
        yield server


DRAFT = """\
  - id: fabric
    name: FABRIC
    kind: method
    title: "FABRIC: Personalizing Diffusion Models with Iterative Feedback"
    authors: [Dimitri von Rütte, Elisabetta Fedele, Jonathan Thomm, Lukas Wolf]
    published: "2023-07-19"
    category: personalization
    tags: []
    links: {arxiv: "2307.10159"}
    sentence:
      ko: TODO
      en: TODO
    claim:
      ko: TODO
      en: TODO
"""


def test_from_an_identifier_to_an_entry(
    catalog: Path, arxiv: FakeArxiv, capsys: pytest.CaptureFixture[str]
) -> None:
    before = catalog.read_text(encoding="utf-8")
    words = ["new", "https://arxiv.org/abs/2307.10159v1", "--category", "personalization"]
    assert main(["--lang", "en", *words, "--catalog", str(catalog)]) == 0
    said = capsys.readouterr()
    assert said.out == DRAFT
    text = catalog.read_text(encoding="utf-8")
    line = text[: text.index("  - id: fabric\n")].count("\n") + 1
    assert f"catalog.yaml:{line} has the draft of `fabric`, with 4 TODOs" in said.err
    assert "then denoised check, denoised fix, denoised preview fabric" in said.err
    assert text.replace(DRAFT + "\n", "") == before

    reading = read(catalog)
    assert [(finding.code, finding.line - line) for finding in reading.findings] == [
        ("E0212", 10),
        ("E0212", 11),
        ("E0212", 13),
        ("E0212", 14),
    ]
    written = text.replace("ko: TODO", "ko: 사람이 쓴 문장이다.").replace(
        "en: TODO", "en: A sentence by a person."
    )
    catalog.write_text(written, encoding="utf-8")
    assert main(["--lang", "en", "fix", str(catalog)]) == 0
    assert main(["--lang", "en", "check", str(catalog)]) == 0
    assert load(catalog).paper("fabric").authors[0] == "Dimitri von Rütte"


def test_a_work_that_is_there_is_named_before_anybody_is_asked(
    arxiv: FakeArxiv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "catalog.yaml"
    shutil.copy(ROOT / "catalog.yaml", path)
    before = path.read_bytes()
    assert main(["--lang", "en", "new", "arXiv:2307.10159v2", "--catalog", str(path)]) == 1
    said = capsys.readouterr().err
    assert "it is in the catalog already: `fabric` (catalog.yaml:" in said
    assert "help: denoised show fabric" in said
    assert arxiv.calls == [] and path.read_bytes() == before


@pytest.mark.parametrize(
    "fault, code", [("403", 75), ("429 after an hour", 75), ("error feed", 2), ("another paper", 5)]
)
def test_a_fault_of_arxiv_writes_nothing(
    catalog: Path, fault: str, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DENOISED_CACHE", str(tmp_path / "cache"))
    before = catalog.read_bytes()
    with fake_arxiv(fault) as server:
        monkeypatch.setenv("DENOISED_ARXIV_URL", server.url)
        assert main(["--lang", "en", "new", "2307.10159", "--catalog", str(catalog)]) == code
    assert catalog.read_bytes() == before


def test_without_a_network_there_is_a_draft_that_says_so(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DENOISED_CACHE", str(tmp_path / "cache"))
    with fake_arxiv() as server:
        address = server.url
    monkeypatch.setenv("DENOISED_ARXIV_URL", address)  # nobody listens there any more
    assert main(["--lang", "en", "new", "2307.10159", "--catalog", str(catalog)]) == 0
    said = capsys.readouterr()
    assert "a draft without network: title, authors and date are still to be written" in said.err
    assert "    title: TODO\n    authors: [TODO]\n    published: TODO\n" in said.out
    codes = {finding.code for finding in read(catalog).findings}
    assert codes == {"E0212"}


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "give one work, or --bibtex FILE"),
        (["2307.10159", "--kind", "metod"], "--kind: there is no `metod`"),
        (["2307.10159", "--offline", "--id", "ddim"], "there already is an entry `ddim`"),
        (["https://github.com/ermongroup/ddim"], "it is in the catalog already: `ddim`"),
    ],
)
def test_bad_wishes(
    catalog: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = catalog.read_bytes()
    assert main(["--lang", "en", "new", *words, "--catalog", str(catalog)]) in (1, 2)
    assert message in capsys.readouterr().err
    assert catalog.read_bytes() == before


def test_a_dry_run_writes_nothing(catalog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = catalog.read_bytes()
    words = ["new", "10.1145/3592133", "--dry-run", "--kind", "survey", "--catalog", str(catalog)]
    assert main(["--lang", "ko", *words]) == 0
    said = capsys.readouterr()
    assert '    links: {paper: "https://doi.org/10.1145/3592133"}\n' in said.out and "claim:" not in said.out
    assert "아무것도 쓰지 않았다" in said.err
    assert catalog.read_bytes() == before


def test_what_only_contributors_need_is_named_where_it_is_missing(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "denoised.contribute.arxiv", raising=False)
    monkeypatch.setitem(sys.modules, "arxiv", None)
    assert main(["--lang", "en", "new", "2307.10159", "--catalog", str(catalog)]) == 2
    said = capsys.readouterr().err
    assert "error: this command needs the package arxiv, which is not installed" in said
    assert "help: pip install --constraint constraints.txt --editable '.[contribute]'" in said


BIBTEX = """
@inproceedings{new2023, title={{A New Sampler}}, author={Kim, Minji and Roe, Jane},
  booktitle={Advances in Neural Information Processing Systems}, year={2023},
  eprint={2312.00001}, archivePrefix={arXiv}}
@article{ddpm, title={Denoising Diffusion Probabilistic Models}, author={Ho, Jonathan}, year={2020}}
"""


def test_drafts_from_bibtex(catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.bib").write_text(BIBTEX)
    words = ["new", "--bibtex", str(tmp_path / "mine.bib"), "--catalog", str(catalog)]
    assert main(["--lang", "en", *words]) == 0
    said = capsys.readouterr()
    assert "ddpm: already there (ddpm)" in said.err
    assert "    title: A New Sampler\n    authors: [Minji Kim, Jane Roe]\n" in said.out
    assert "    venue: NeurIPS 2023\n" in said.out
    assert {finding.code for finding in read(catalog).findings} == {"E0212"}
    assert main(["--lang", "en", *words]) == 0
    assert "nothing new" in capsys.readouterr().err


@pytest.mark.parametrize(
    "title, id, name",
    [
        ("FABRIC: Personalizing Diffusion Models", "fabric", "FABRIC"),
        ("3D-Aware: A Study", "d-aware", "3D-Aware"),
        ("A Study of the Noise in Diffusion Models and More", "study-noise-diffusion-models", "TODO"),
        ("A Very Long Head: of a title", "very-long-head-title", "TODO"),
        ("확산 모델", "arxiv-2312-00001", "TODO"),
    ],
)  # fmt: skip
def test_ids_come_from_titles(title: str, id: str, name: str) -> None:
    draft = Draft(title, links={"arxiv": "2312.00001"})
    assert draft.named(set()) == id
    assert draft.named({id}) == f"{id}-2"
    assert draft.name == name


TEXTS = strategies.text(min_size=1, max_size=60).map(lambda text: " ".join(text.split())).filter(
    lambda text: text and not FORBIDDEN.search(text) and "TODO" not in text
)  # fmt: skip


@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(title=TEXTS, author=TEXTS)
def test_any_title_is_read_back_as_it_is(tmp_path: Path, title: str, author: str) -> None:
    path = tmp_path / "catalog.yaml"
    shutil.copy(VALID, path)
    (added,) = add(path, [Draft(title, (author,), date(2023, 7, 19), id="new")], write=True)
    assert "\n".join(path.read_text(encoding="utf-8").split("\n")[added.line - 1 :]).startswith(added.text)
    text = path.read_text(encoding="utf-8").replace("TODO", "가 text")
    text = text.replace("category: 가 text", "category: foundations")
    catalog = read_data("c", text.encode()).catalog
    if catalog is not None:
        paper = catalog.paper("new")
        assert (paper.title, paper.authors) == (title, (author,))
    else:  # no letter in it, not in NFC, and the like: what `check` would say of any entry
        codes = {finding.code for finding in read_data("c", text.encode()).findings}
        assert codes <= {"E0104", "E0211", "E0212"}, (title, author)

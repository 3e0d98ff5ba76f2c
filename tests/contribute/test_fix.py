"""What `denoised fix` mends, what it leaves to a person, and that it touches nothing else."""

from __future__ import annotations

import itertools
import random
import unicodedata
from pathlib import Path

import pytest

from benchmarks.mutants import mutated
from denoised.catalog.load import read_data
from denoised.cli import main
from denoised.contribute.fix import diff, fix

VALID = (Path(__file__).parents[1] / "catalog" / "fixtures" / "valid.yaml").read_text(encoding="utf-8")

# Code, how the valid catalog has it, how a contributor wrote it.
MENDED = [
    ("E0103", "# A small", "\ufeff# A small"),
    ("E0104", "기초,", unicodedata.normalize("NFD", "기초,")),
    ("E0105", "name: DDIM", "name: DD\u200bIM"),
    ("E0105", "Implicit Models", "Implicit\u00a0Models"),
    ("E0105", "id: fast-sampling, name", "id: fast-sampling,\u3000name"),
    ("E0105", "[Jiaming Song, ", "[Jiaming\tSong, "),
    ("E0203", 'arxiv: "2010.02502"', "arxiv: 2010.02502"),
    ("E0203", 'published: "2020-06-19"', "published: 2020-06-19"),
    ("E0204", "    title: A review", "    Title: A review"),
    ("E0205", "value: 13.36", 'value: "13.36"'),
    ("E0205", "nfe: 100", "nfe: '100'"),
    ("E0205", "checked: false", "checked: no"),
    ("E0206", "kind: video", "kind: Video"),
    ("E0207", "category: fast-sampling\n", "category: Fast Sampling\n"),
    ("E0207", "[sampler, deterministic]", "[sampler, Deterministic]"),
    ("E0208", '"2010.02502"', '"2010.02502v4"'),
    ("E0208", '"2010.02502"', '"https://arxiv.org/pdf/2010.02502v1.pdf"'),
    ("E0208", '"2006.11239"', "arXiv:2006.11239"),
    ("E0210", '"2020-10-06"', '"2020/10/6"'),
    ("E0210", '"2020-06-19"', "2020.06.19"),
    ("E0217", "title: A review of", "title: A review  of"),
    ("E0217", "Diffusion Implicit", "Diffusion   Implicit"),
    ("E0218", "[sampler, deterministic]", "[sampler, deterministic, sampler]"),
    ("E0219", "venue: ICLR 2021", "venue: ICLR, 2021"),
    ("E0219", "venue: ICLR 2021", "venue: ICLR2021"),
    ("E0219", "venue: NeurIPS 2020", 'venue: "NeurIPS\'20"'),
]
LEFT = [
    ("a longer number holds another identifier", '"2010.02502"', '"2010.025021"'),
    ("two identifiers", '"2010.02502"', '"2010.02502, 2010.02503"'),
    ("day or month first", '"2020-10-06"', '"06/10/2020"'),
    ("a date that is none", '"2020-10-06"', '"2020/13/45"'),
    ("something was lost", "name: DDIM", "name: DD\ufffdIM"),
    ("a control", "name: DDIM", "name: DD\x07IM"),
    ("a tab in the indentation", "    name: DDIM", "\tname: DDIM"),
    ("a placeholder", "en: Goes through diffusion in an hour.", "en: TODO"),
    ("a word that is near", "kind: video", "kind: vidio"),
    ("an entry that is near", "builds_on: [ddpm]", "builds_on: [ddpn]"),
    ("a year in two digits", "venue: ICLR 2021", "venue: ICLR-21"),
    ("words where a number belongs", "value: 13.36", "value: about 13"),
    ("an address without its beginning", '"https://github.com/ermongroup/ddim"', '"github.com/ermongroup/ddim"'),
    ("Korean in the place of English", "en: Goes through diffusion in an hour.", "en: 디퓨전을 훑는다."),
    ("an escape", "name: DDIM", 'name: "DD\\u202eIM"'),
]  # fmt: skip


def broken(old: str, new: str) -> str:
    assert VALID.count(old) >= 1, old
    return VALID.replace(old, new, 1)


@pytest.mark.parametrize("code, old, new", MENDED, ids=[f"{code}-{new!a}" for code, _, new in MENDED])
def test_what_was_meant_is_written(code: str, old: str, new: str) -> None:
    text = broken(old, new)
    assert code in {each.code for each in read_data("c", text.encode()).findings}
    fixed = fix("catalog.yaml", text.encode())
    # Quotes that are not needed may stay; everything else is the valid catalog, byte for byte.
    assert fixed.after.replace('"', "") == VALID.replace('"', "")
    assert fixed.left.findings == [] and code in fixed.mended


@pytest.mark.parametrize("reason, old, new", LEFT, ids=[reason for reason, _, _ in LEFT])
def test_what_could_mean_two_things_is_left_to_a_person(reason: str, old: str, new: str) -> None:
    text = broken(old, new)
    fixed = fix("catalog.yaml", text.encode())
    assert fixed.after == text
    assert fixed.left.findings


@pytest.mark.parametrize("seed", range(40))
def test_many_mistakes_at_once_are_mended_and_others_stay(seed: int) -> None:
    source = random.Random(seed)
    text, wrong = VALID, 0
    for _, old, new in source.sample(MENDED, 6):
        text = text.replace(old, new, 1)
    for _, old, new in source.sample(LEFT[7:11], 2):
        wrong += old in text
        text = text.replace(old, new, 1)
    fixed = fix("catalog.yaml", text.encode())
    assert len(fixed.left.findings) == wrong
    assert fix("catalog.yaml", fixed.after.encode()).after == fixed.after


def test_comments_and_layout_stay() -> None:
    text = broken("tags: [sampler, deterministic]", "tags:   [sampler,   Deterministic]  # both, I think")
    after = fix("catalog.yaml", text.encode()).after
    assert "tags:   [sampler,   deterministic]  # both, I think\n" in after


def test_ends_of_lines_stay() -> None:
    text = broken('arxiv: "2010.02502"', "arxiv: 2010.02502").replace("\n", "\r\n")
    assert fix("catalog.yaml", text.encode()).after == VALID.replace("\n", "\r\n")


def entries() -> tuple[str, list[str]]:
    """The head of the valid catalog and its entries, each with a comment above it."""
    at = VALID.index("papers:\n") + len("papers:\n")
    blocks = ("\n" + VALID[at:]).split("\n  - id: ")[1:]
    return VALID[:at], [f"  # on {block.split()[0]}\n  - id: {block.rstrip()}\n" for block in blocks]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("gap", ["", "\n"])
def test_entries_are_put_in_order_with_their_comments(order: tuple[int, ...], gap: str) -> None:
    head, blocks = entries()
    text = head + gap.join(blocks[index] for index in order)
    fixed = fix("catalog.yaml", text.encode())
    assert fixed.after == head + gap.join(blocks)


def test_entries_that_cannot_be_told_apart_stay_where_they_are() -> None:
    text = "categories: []\npapers: [{id: b}, {id: a}]\n"
    assert fix("catalog.yaml", text.encode()).after == text


@pytest.mark.parametrize("seed", range(60))
def test_no_mutant_is_mended_twice(seed: int) -> None:
    text = mutated(random.Random(seed), VALID.encode()).decode("utf-8", errors="replace")
    once = fix("catalog.yaml", text.encode()).after
    assert fix("catalog.yaml", once.encode()).after == once


def test_what_is_no_text_is_not_touched() -> None:
    fixed = fix("catalog.yaml", b"papers: \xff")
    assert fixed.after == fixed.before and fixed.mended == {}


def test_the_change_is_shown_with_invisible_characters_written_out() -> None:
    text = broken("name: DDIM", "name: DD\u200bIM")
    lines = diff(fix("catalog.yaml", text.encode()), "catalog.yaml").split("\n")
    assert "-    name: DD<U+200B>IM" in lines and "+    name: DDIM" in lines


def test_the_command_shows_writes_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(broken('arxiv: "2010.02502"', "arxiv: 2010.02502").replace("kind: video", "kind: vidio"))
    before = path.read_text()
    assert main(["--lang", "en", "fix", str(path), "--dry-run"]) == 1
    assert path.read_text() == before
    capsys.readouterr()
    assert main(["--lang", "en", "fix", str(path)]) == 1
    said = capsys.readouterr()
    assert '+    links: {arxiv: "2010.02502"' in said.out
    assert "catalog.yaml: mended: E0203 × 1\n1 left for a person: denoised check\n" in said.err
    assert main(["--lang", "ko", "fix", str(path)]) == 1
    assert "저절로 고칠 것이 없다" in capsys.readouterr().err
    path.write_text(VALID)
    assert main(["--lang", "en", "fix", str(path)]) == 0
    assert capsys.readouterr().err == "catalog.yaml: nothing to mend by itself\n"

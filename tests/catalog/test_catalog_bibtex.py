"""BibTeX: facts in the right fields, and nothing that LaTeX would trip over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from denoised.catalog import Links, Paper, load
from denoised.catalog.bibtex import bibtex, key, latex

CATALOG = load(Path(__file__).parent / "fixtures" / "valid.yaml")


def like_ddim(**changes: Any) -> Paper:
    return Paper.model_validate(dict(CATALOG.paper("ddim")) | changes)


def test_a_conference_paper() -> None:
    assert (
        bibtex(CATALOG.paper("ddim"))
        == """\
@inproceedings{song2020ddim,
  title         = {{Denoising Diffusion Implicit Models}},
  author        = {Jiaming Song and Chenlin Meng and Stefano Ermon},
  booktitle     = {ICLR},
  year          = {2021},
  eprint        = {2010.02502},
  archivePrefix = {arXiv},
  url           = {https://arxiv.org/abs/2010.02502},
}
"""
    )


@pytest.mark.parametrize(
    ("venue", "first", "place"),
    [
        ("ICML 2023 (Oral)", "@inproceedings", "booktitle     = {ICML}"),
        ("SIGGRAPH Asia 2024", "@inproceedings", "booktitle     = {SIGGRAPH Asia}"),
        (
            "NeurIPS 2022 Workshop (Score-Based Methods)",
            "@inproceedings",
            "booktitle     = {NeurIPS Workshop}",
        ),
        ("TMLR 2022", "@article", "journal       = {Transactions on Machine Learning Research}"),
        ("OpenAI 2019", "@misc", "note          = {OpenAI 2019}"),
    ],
)
def test_the_venue_decides_the_kind_of_entry(venue: str, first: str, place: str) -> None:
    text = bibtex(like_ddim(venue=venue))
    assert text.startswith(first + "{")
    assert f"  {place},\n" in text


@pytest.mark.parametrize("venue", ["arXiv 2022", None])
def test_a_preprint_has_the_year_of_its_first_version_and_no_venue(venue: str | None) -> None:
    text = bibtex(like_ddim(venue=venue))
    assert text.startswith("@misc{")
    assert "year          = {2020}" in text
    assert "note" not in text


def test_a_work_without_authors_is_cited_by_its_id_and_its_page() -> None:
    text = bibtex(CATALOG.paper("review"))
    assert text.startswith("@misc{2022review,\n")
    assert "author" not in text
    assert "url           = {http://example.org/review}" in text


@pytest.mark.parametrize(
    ("author", "expected"),
    [("Björn Ommer", "ommer2020ddim"), ("Dimitri von Rütte", "rutte2020ddim"), ("OpenAI", "openai2020ddim")],
)
def test_the_key_is_ascii(author: str, expected: str) -> None:
    assert key(like_ddim(authors=(author,))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% of R&D_x #1 for $2", r"50\% of R\&D\_x \#1 for \$2"),
        (r"a\b {c} ~d^e", r"a\textbackslash{}b \{c\} \textasciitilde{}d\textasciicircum{}e"),
        ("Björn Šubrtová Höppe Jan Čech", r"Bj{\"o}rn {\v S}ubrtov{\'a} H{\"o}ppe Jan {\v C}ech"),
        (
            "Muñoz, Ångström, Łukasz, Çelik, Groß, naïve",
            r"Mu{\~n}oz, {\r A}ngstr{\"o}m, {\L}ukasz, {\c C}elik, Gro{\ss}, na{\"\i}ve",
        ),
        ("“GAN” – better", "``GAN'' -- better"),
        ("확산 모델 ∞ 数", "확산 모델 ∞ 数"),
    ],
)
def test_latex_is_given_what_it_can_set(text: str, expected: str) -> None:
    assert latex(text) == expected


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("OpenAI", "{OpenAI}"),
        ("Downey, Jr., Robert", "{Downey, Jr., Robert}"),
        ("Black and White", "{Black and White}"),
    ],
)
def test_a_name_that_bibtex_would_take_apart_is_kept_together(author: str, expected: str) -> None:
    assert f"author        = {{{expected}}}" in bibtex(like_ddim(authors=(author,)))


def test_links_with_braces_never_get_here() -> None:
    with pytest.raises(ValueError, match="E0209"):
        Links(project="https://a.org/{}}")

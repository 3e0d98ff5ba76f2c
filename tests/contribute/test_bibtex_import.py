"""BibTeX as others write it: read, or told what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from denoised.catalog import load
from denoised.catalog.bibtex import CONFERENCES, JOURNALS, bibtex
from denoised.catalog.characters import FORBIDDEN
from denoised.catalog.model import VENUE, Arxiv, Url
from denoised.contribute.bibtex_import import SIZE_LIMIT, Draft, drafts, venue
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking

ROOT = Path(__file__).parents[2]


def read(text: str, *problems: str) -> list[Draft]:
    """The drafts; what was told must be `problems`."""
    told: list[str] = []
    with speaking("en"):
        found = drafts(text, "refs.bib", tell=told.append)
    assert told == list(problems)
    return found


def one(text: str) -> Draft:
    (found,) = read(text)
    return found


def test_the_catalog_comes_back() -> None:
    papers = load(ROOT / "catalog.yaml").papers
    found = read("\n".join(map(bibtex, papers)))
    years = [VENUE.fullmatch(paper.venue or "") for paper in papers]
    assert [(each.title, each.authors, each.arxiv) for each in found] == [
        (paper.title, paper.authors, paper.links.arxiv) for paper in papers
    ]
    # What a work was there for is in no field of BibTeX: ICLR 2021 (Oral).
    assert [each.venue for each in found] == [
        paper.venue and paper.venue.partition(" (")[0] for paper in papers
    ]
    # With a venue, the year is the venue's, and that of the first version is lost.
    assert [each.year for each in found] == [
        int(match["year"]) if match else paper.year for match, paper in zip(years, papers, strict=True)
    ]


def test_google_scholar() -> None:
    assert one(
        """@article{ho2020denoising,
  title={Denoising diffusion probabilistic models},
  author={Ho, Jonathan and Jain, Ajay and Abbeel, Pieter},
  journal={Advances in neural information processing systems},
  volume={33},
  pages={6840--6851},
  year={2020}
}"""
    ) == Draft(
        key="ho2020denoising",
        title="Denoising diffusion probabilistic models",
        authors=("Jonathan Ho", "Ajay Jain", "Pieter Abbeel"),
        year=2020,
        venue="NeurIPS 2020",
        arxiv=None,
        url=None,
        doi=None,
    )


def test_dblp() -> None:
    assert one(
        """@inproceedings{DBLP:conf/iclr/SongME21,
  author       = {Jiaming Song and
                  Chenlin Meng and
                  Stefano Ermon},
  title        = {Denoising Diffusion Implicit Models},
  booktitle    = {9th International Conference on Learning Representations, {ICLR} 2021,
                  Virtual Event, Austria, May 3-7, 2021},
  publisher    = {OpenReview.net},
  year         = {2021},
  url          = {https://openreview.net/pdf?id=St1giarCHLP},
  timestamp    = {Wed, 23 Jun 2021 17:36:39 +0200}
}"""
    ) == Draft(
        key="DBLP:conf/iclr/SongME21",
        title="Denoising Diffusion Implicit Models",
        authors=("Jiaming Song", "Chenlin Meng", "Stefano Ermon"),
        year=2021,
        venue="ICLR 2021",
        arxiv=None,
        url="https://openreview.net/forum?id=St1giarCHLP",
        doi=None,
    )
    corr = one(
        """@article{DBLP:journals/corr/abs-2307-10159,
  author = {Dimitri von R{\\"{u}}tte and Elisabetta Fedele and Jonathan Thomm and Lukas Wolf},
  title = {{FABRIC:} Personalizing Diffusion Models with Iterative Feedback},
  journal = {CoRR}, volume = {abs/2307.10159}, year = {2023},
  doi = {10.48550/ARXIV.2307.10159}, eprinttype = {arXiv}, eprint = {2307.10159}
}"""
    )
    assert corr.title == "FABRIC: Personalizing Diffusion Models with Iterative Feedback"
    assert corr.authors[0] == "Dimitri von Rütte"
    assert (corr.arxiv, corr.doi, corr.url, corr.venue) == ("2307.10159", None, None, None)


def test_arxiv_openreview_and_the_acm() -> None:
    first, second, third = read(
        r"""@misc{vonrütte2023fabric,
      title={FABRIC: Personalizing Diffusion Models with Iterative Feedback},
      author={Dimitri von Rütte},
      year={2023},
      eprint={2307.10159v2},
      archivePrefix={arXiv},
      primaryClass={cs.CV},
      url={https://arxiv.org/abs/2307.10159},
}
@inproceedings{
song2021scorebased,
title={Score-Based Generative Modeling through Stochastic Differential Equations},
author={Yang Song and Jascha Sohl-Dickstein},
booktitle={The Eleventh International Conference on Learning Representations },
year={2023},
url={https://openreview.net/forum?id=PxTIG12RRHS}
}
@inproceedings{10.1145/3528233.3530757,
author = {Saharia, Chitwan and Chan, William},
title = {Palette: Image-to-Image Diffusion Models},
year = {2022},
isbn = {9781450393379},
url = {https://doi.org/10.1145/3528233.3530757},
doi = {10.1145/3528233.3530757},
booktitle = {ACM SIGGRAPH 2022 Conference Proceedings},
series = {SIGGRAPH '22}
}"""
    )
    assert (first.key, first.arxiv, first.authors) == (
        "vonrütte2023fabric",
        "2307.10159",
        ("Dimitri von Rütte",),
    )
    assert (second.venue, second.url) == ("ICLR 2023", "https://openreview.net/forum?id=PxTIG12RRHS")
    assert (third.venue, third.doi, third.url) == ("SIGGRAPH 2022", "10.1145/3528233.3530757", None)


@pytest.mark.parametrize(
    "field",
    [
        "eprint = {2307.10159}, archivePrefix = {arXiv}",
        "EPRINT = {2307.10159}, ArchivePrefix = {ArXiv}",
        "eprint = {arXiv:2307.10159v1}",
        "journal = {arXiv preprint arXiv:2307.10159}",
        "note = {arXiv:2307.10159 [cs.CV]}",
        "url = {http://arxiv.org/abs/2307.10159v3}",
        r"howpublished = {\url{https://arxiv.org/pdf/2307.10159.pdf}}",
        "doi = {10.48550/arXiv.2307.10159}",
        "doi = {https://doi.org/10.48550/arXiv.2307.10159}",
        "arxivId = {2307.10159}",
    ],
)
def test_where_reference_managers_put_the_arxiv_identifier(field: str) -> None:
    assert one(f"@misc{{k, title = {{T}}, {field}}}").arxiv == "2307.10159"


@pytest.mark.parametrize(
    "field",
    ["eprint = {2307.10159}, eprinttype = {hal}", "eprint = {2307.1}", "note = {12 pages, 2307.10159}"],
)
def test_what_only_looks_like_an_arxiv_identifier(field: str) -> None:
    assert one(f"@misc{{k, title = {{T}}, {field}}}").arxiv is None


@pytest.mark.parametrize(
    "written, names",
    [
        ('Rombach, Robin and Ommer, Bj{\\"o}rn', ("Robin Rombach", "Björn Ommer")),
        ('von R{\\"u}tte, Dimitri', ("Dimitri von Rütte",)),
        ("Ludwig van Beethoven", ("Ludwig van Beethoven",)),
        ("King, Jr., Martin Luther", ("Martin Luther King Jr.",)),
        ("{OpenAI} and {Simon and Schuster}", ("OpenAI", "Simon and Schuster")),
        ("Jonathan~T. Barron AND others", ("Jonathan T. Barron",)),
        (
            "{\\L}ukasz Kaiser and \\'Alvaro and \\v{S}ubrtov{\\'a} and Nie{\\ss}ner, Matthias",
            ("Łukasz Kaiser", "Álvaro", "Šubrtová", "Matthias Nießner"),
        ),
        ("이상윤 and 김 철수", ("이상윤", "김 철수")),
        ("A, B, C, D, E", ("C D E A B",)),  # too many commas: nothing is lost
        ("Trailing, ", ("Trailing",)),
        ("", ()),
    ],
)
def test_names(written: str, names: tuple[str, ...]) -> None:
    assert one(f"@misc{{k, title = {{T}}, author = {{{written}}}}}").authors == names


@pytest.mark.parametrize(
    "written, title",
    [
        (r"{$\infty$-Diff}: {I}nfinite", "∞-Diff: Infinite"),
        (r"Schr{\"o}dinger \& {B}ridges -- 100% \textbf{bold}", "Schrödinger & Bridges – 100% bold"),
        ("Two\n     lines", "Two lines"),
        ("{{Kept Capitals}}", "Kept Capitals"),
        (r"A \unknown{macro}", "A macro"),
        (r"\input{/etc/passwd}Nothing is read", "Nothing is read"),
        ("A\u202eB\u200b\x07C", "ABC"),
    ],
)
def test_titles(written: str, title: str) -> None:
    assert one(f"@misc{{k, title = {{{written}}}}}").title == title


@pytest.mark.parametrize("name", sorted(CONFERENCES | JOURNALS.keys()))
def test_every_venue_that_is_exported_is_known(name: str) -> None:
    year = 2017 if name == "NIPS" else 2022
    assert venue(name, year) == venue(f"{name} {year}", None) == f"{name} {year}"
    if name in JOURNALS:
        assert venue(JOURNALS[name], year) == f"{name} {year}"
    else:
        assert (
            venue(f"{name} Workshop", year)
            == venue(f"{name} {year} Workshops", 1999)
            == f"{name} {year} Workshop"
        )


@pytest.mark.parametrize(
    "written, found",
    [
        ("Advances in Neural Information Processing Systems 34", "NeurIPS 2021"),
        ("Thirty-Fifth Conference on Neural Information Processing Systems", "NeurIPS 2021"),
        (
            "Advances in Neural Information Processing Systems 30: Annual Conference, December 4-9, 2017",
            "NIPS 2017",
        ),
        (
            "Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
            "CVPR 2021",
        ),
        ("2009 IEEE Computer Society Conference on Computer Vision and Pattern Recognition", "CVPR 2009"),
        (
            "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR) Workshops",
            "CVPR 2021 Workshop",
        ),
        ("Proceedings of the IEEE/CVF International Conference on Computer Vision", "ICCV 2021"),
        ("Computer Vision – ECCV 2020: 16th European Conference, Glasgow, UK", "ECCV 2020"),
        ("European conference on computer vision", "ECCV 2021"),
        ("Proceedings of the 38th International Conference on Machine Learning", "ICML 2021"),
        ("International conference on machine learning", "ICML 2021"),
        ("Proc. ICML", "ICML 2021"),
        (
            "NeurIPS 2021 Workshop on Deep Generative Models and Downstream Applications",
            "NeurIPS 2021 Workshop",
        ),
        ("Workshop on Score-Based Methods at NeurIPS 2022", "NeurIPS 2022 Workshop"),
        ("Proceedings of the 30th ACM International Conference on Multimedia", "ACM MM 2021"),
        ("MM '22: The 30th ACM International Conference on Multimedia", "ACM MM 2021"),
        ("SIGGRAPH Asia 2024 Conference Papers", "SIGGRAPH Asia 2024"),
        ("ACM Transactions on Graphics (TOG)", "ACM TOG 2021"),
        ("ACM Trans. Graph.", "ACM TOG 2021"),
        ("IEEE Trans. Pattern Anal. Mach. Intell.", "IEEE TPAMI 2021"),
        ("The Journal of Machine Learning Research", "JMLR 2021"),
        ("Trans. Mach. Learn. Res.", "TMLR 2021"),
        ("Proceedings of the AAAI Conference on Artificial Intelligence", "AAAI 2021"),
        (
            "Conference of the North American Chapter of the Association for Computational Linguistics: HLT",
            "NAACL 2021",
        ),
        (
            "59th Annual Meeting of the Association for Computational Linguistics (Volume 1: Long Papers)",
            "ACL 2021",
        ),
        (
            "Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing",
            "EMNLP 2021",
        ),
        ("International Conference on Learning Representations", "ICLR 2021"),
        # What is not quite one of ours:
        ("International Conference on Machine Learning and Applications", None),
        ("Asian Conference on Computer Vision", None),
        ("International Conference on Computer Vision Theory and Applications", None),
        ("Machine Learning", None),
        ("Findings of the Association for Computational Linguistics: EMNLP 2021", None),
        ("IEEE MultiMedia", None),
        ("CoRR", None),
        ("arXiv preprint arXiv:2307.10159", None),
        ("TMLR Workshop", None),
        ("Workshop", None),
        ("", None),
        ("CVPR" + " and more" * 100, None),
    ],
)
def test_venues(written: str, found: str | None) -> None:
    assert venue(written.replace("{", "").replace("}", ""), 2021) == found
    if found is None:
        assert one(f"@article{{k, title = {{T}}, year = 2021, journal = {{{written}}}}}").venue is None


def test_a_venue_without_a_year_is_none() -> None:
    assert venue("CVPR", None) is None
    assert one("@inproceedings{k, title = {T}, booktitle = {CVPR}}").venue is None
    assert one("@inproceedings{k, title = {T}, booktitle = {CVPR}, date = {2022-06-19}}").venue == "CVPR 2022"


def test_macros_and_joined_values() -> None:
    found = one(
        """@string{cvpr = "Conference on Computer Vision and Pattern Recognition"}
@STRING(Proc = {Proceedings of the })
@preamble{"\\newcommand{\\x}{y}"}
@comment{jabref-meta: databaseType:bibtex;}
Free text between the entries is a comment.
@inproceedings(k,
  title = "A {"}quoted{"} title" # { in two parts},
  author = "Ho, Jonathan" # " and " # {Jain, Ajay},
  month = jun,
  year = 2022,
  booktitle = proc # CVPR
)"""
    )
    assert found.title == 'A "quoted" title in two parts'
    assert found.authors == ("Jonathan Ho", "Ajay Jain")
    assert (found.venue, found.year) == ("CVPR 2022", 2022)
    same = "@string{a = {CV} # {PR}} @string{b = a} @inproceedings{k, title = b, year = 2022, booktitle = b # {}}"
    assert (one(same).title, one(same).venue) == ("CVPR", "CVPR 2022")
    # A name that nobody defined stands for itself.
    assert one("@inproceedings{k, title = {T}, year = 2022, booktitle = eccv}").venue == "ECCV 2022"


def test_crossref() -> None:
    (found,) = read(
        """@inproceedings{k, crossref = {Proc}, title = {T}}
@proceedings{proc, title = {European Conference on Computer Vision}, year = {2020}}"""
    )
    assert (found.title, found.venue, found.year) == ("T", "ECCV 2020", 2020)
    assert one("@inproceedings{k, title = {T}, crossref = {nobody}}").venue is None
    assert one("@inproceedings{k, title = {T}, crossref = {k}}").venue is None


BROKEN = "left out, because it is broken: check its braces and commas"
GOOD = "@misc{good, title = {Good}}"


@pytest.mark.parametrize(
    "block, told",
    [
        ("@article{open, title = {No end,\n  year = 2020,\n", f"open: {BROKEN}"),
        ('@article{quote, title = "No end,\n  year = 2020,\n}\n', f"quote: {BROKEN}"),
        ("@article{bare, title}\n", f"bare: {BROKEN}"),
        ("@article{comma title = {T}}\n", f"comma: {BROKEN}"),
        ("@article{none, year = 2020}\n", "none: left out, because it has no title"),
        ("@article{blank, title = { {} }}\n", "blank: left out, because it has no title"),
        ("@article{}\n", "left out, because it has no title"),
        ("@misc{good, title = {Again}}\n", ""),
        (
            f"@misc{{deep, title = {{{'{' * 990}x{'}' * 990}}}}}\n",
            "deep: left out, because its title cannot be read",
        ),
        (f"@misc{{long, title = {{{'x' * 2001}}}}}\n", "long: left out, because its title cannot be read"),
        ("@misc{href, title = {\\href{a}{b}}}\n", "href: left out, because its title cannot be read"),
        (
            f"@misc{{name, title = {{T}}, author = {{{'x' * 2001}}}}}\n",
            "name: left out, because its author cannot be read",
        ),
        ("@misc{k\u202e\x1b[31m, year = 2020}\n", "k[31m: left out, because it has no title"),
    ],
)
def test_a_broken_block_is_told_and_the_others_come(
    block: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = "@misc{before, title = {Before}}\n"
    if told:
        assert [each.key for each in read(f"{before}\n{block}\n{GOOD}", f"refs.bib:3: {told}")] == [
            "before",
            "good",
        ]
    else:  # the second of the two is left out
        line = 3 + block.count("\n") + 1
        same = f"refs.bib:{line}: good: left out, because the same key stands further up"
        assert [each.title for each in read(f"{before}\n{block}\n{GOOD}", same)] == ["Before", "Again"]
    assert capfd.readouterr() == ("", "")  # the libraries say nothing by themselves


def test_many_problems_are_counted() -> None:
    told: list[str] = []
    with speaking("en"):
        drafts(GOOD + "\n@misc{k}" * 1234, "a.bib", tell=told.append)
    assert len(told) == 51 and told[-1] == "a.bib: 1,184 more were left out"


def test_a_field_of_a_megabyte_is_read_as_far_as_a_field_goes() -> None:
    filled = "a" * 1_000_000
    found = one(
        f"@misc{{k, title = {{T}}, note = {{arXiv {filled}}}, url = {{{filled}}}, booktitle = {{{filled}}}}}"
    )
    assert found == Draft("k", "T", (), None, None, None, None, None)


def test_problems_are_told_in_korean() -> None:
    told: list[str] = []
    with speaking("ko"):
        drafts(
            f"{GOOD}\n@misc{{a}}\n@misc{{good, title = {{T}}}}\n@misc{{b, title = {{",
            "a.bib",
            tell=told.append,
        )
    assert told == [
        "a.bib:2: a: 제목이 없어서 빼놓았다",
        "a.bib:3: good: 같은 키가 위에 또 있어서 빼놓았다",
        "a.bib:4: b: 문법이 틀려서 빼놓았다. 괄호와 쉼표를 확인한다",
    ]


def test_of_a_field_that_stands_twice_the_first_counts() -> None:
    found = one("@misc{k, title = {First}, url = {https://a.example}, title = {Second}, Title = {Third}}")
    assert (found.title, found.url) == ("First", "https://a.example")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "https://user:password@a.example/",
        'https://a.example/"onclick="alert(1)',
        "https://a.example/\u202e",
        "file:///etc/passwd",
        "/relative",
    ],
)
def test_an_address_that_no_catalog_may_hold_is_dropped(url: str) -> None:
    assert one(f"@misc{{k, title = {{T}}, url = {{{url}}}}}").url is None


def test_an_address_is_freed_from_latex() -> None:
    found = one(r"@misc{k, title = {T}, url = {https://a.example/b\_c\%20d?e=\&f\#g\~{}h}}")
    assert found.url == "https://a.example/b_c%20d?e=&f#g~h"


@pytest.mark.parametrize(
    "text", ["", "no BibTeX at all", "@misc{k, year = 2020}", "@string{a = {b}}", "\x00\xff"]
)
def test_a_file_without_works(text: str) -> None:
    with speaking("en"), pytest.raises(DenoisedError) as caught:
        drafts(text, "refs.bib", tell=lambda _: None)
    assert caught.value.message == "refs.bib holds no entry that can be read"
    assert caught.value.code == Exit.USAGE and "@article{key" in (caught.value.help or "")


def test_a_file_that_is_too_large() -> None:
    with speaking("en"), pytest.raises(DenoisedError, match="is longer than 8,388,608 characters"):
        drafts(GOOD + " " * SIZE_LIMIT, "refs.bib", tell=lambda _: None)


def test_line_ends_and_a_byte_order_mark() -> None:
    text = "\ufeff@misc{k,\r\n  title = {One\r\n  line},\r\n}\r\n"
    assert one(text).title == "One line"


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["@", "misc", "{", "}", "(", ")", '"', "#", ",", "=", "\\", "\n", " ", "$", "%"])
        | st.sampled_from(
            ["title", "author", "url", "and", "key", "@string{", "@misc{k, title = {", "x", "é", "\x00"]
        )
        | st.text(max_size=3),
        max_size=40,
    ).map("".join)
)
def test_any_text_is_read_or_told(text: str) -> None:
    told: list[str] = []
    try:
        found = drafts(f"{GOOD}\n{text}", "a.bib", tell=told.append)
    except DenoisedError:
        found = []
    for draft in found:
        lines = [draft.key, draft.title, *draft.authors]
        assert not any(FORBIDDEN.search(line) or "\n" in line for line in lines)
        assert draft.title and all(draft.authors)
        assert draft.url is None or TypeAdapter(Url).validate_python(draft.url)
        assert draft.arxiv is None or TypeAdapter(Arxiv).validate_python(draft.arxiv)
        assert draft.venue is None or VENUE.fullmatch(draft.venue)
    assert not any(FORBIDDEN.search(line) or "\n" in line for line in told)

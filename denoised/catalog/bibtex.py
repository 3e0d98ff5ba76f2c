"""BibTeX from the catalog's facts, safe to paste into any LaTeX document."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from denoised.catalog.model import VENUE, Paper, kebab

# Names as they stand in `venue`, before the year. A venue that is neither here nor below becomes a note.
JOURNALS = {
    "ACM Computing Surveys": "ACM Computing Surveys",
    "ACM TOG": "ACM Transactions on Graphics",
    "IEEE TKDE": "IEEE Transactions on Knowledge and Data Engineering",
    "IEEE TPAMI": "IEEE Transactions on Pattern Analysis and Machine Intelligence",
    "JMLR": "Journal of Machine Learning Research",
    "TMLR": "Transactions on Machine Learning Research",
}
CONFERENCES = frozenset(
    {
        "3DV",
        "AAAI",
        "ACL",
        "ACM MM",
        "AISTATS",
        "BMVC",
        "CHIL",
        "CVPR",
        "ECCV",
        "ECML PKDD",
        "EMNLP",
        "ICASSP",
        "ICCV",
        "ICLR",
        "ICML",
        "ICRA",
        "IJCAI",
        "INTERSPEECH",
        "NAACL",
        "NIPS",  # as it was called until 2017
        "NeurIPS",
        "SIGGRAPH",
        "SIGGRAPH Asia",
        "UAI",
        "WACV",
    }
)

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "ß": r"{\ss}",
    "ø": r"{\o}",
    "Ø": r"{\O}",
    "ł": r"{\l}",
    "Ł": r"{\L}",
    "æ": r"{\ae}",
    "Æ": r"{\AE}",
    "œ": r"{\oe}",
    "Œ": r"{\OE}",
    "ı": r"{\i}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
    "\u0328": "k",
}


def bibtex(paper: Paper) -> str:
    """One entry, ending in a newline: @inproceedings, @article, or @misc where the venue is neither."""
    fields = {"title": f"{{{latex(paper.title)}}}"}  # the inner braces keep the capitals
    if paper.authors:
        fields["author"] = " and ".join(_author(name) for name in paper.authors)
    kind, venue = _venue(paper)
    fields.update(venue)
    if paper.links.arxiv:
        fields["eprint"] = paper.links.arxiv
        fields["archivePrefix"] = "arXiv"
    if url := paper.arxiv_url or paper.links.paper or paper.links.openreview or paper.links.project:
        fields["url"] = url
    body = "".join(f"  {name:<13} = {{{value}}},\n" for name, value in fields.items())
    return f"@{kind}{{{key(paper)},\n{body}}}\n"


def key(paper: Paper) -> str:
    """The citation key of an entry: song2020ddim."""
    return citation_key(paper.authors, paper.year, paper.id)


def citation_key(authors: Sequence[str], year: int | None, id: str) -> str:
    """The first author's last name, the year of the first version where known, the id without hyphens."""
    surname = kebab(authors[0]).rpartition("-")[2] if authors else ""
    return f"{surname}{year or ''}{id.replace('-', '')}"


def latex(text: str) -> str:
    """`text` with LaTeX's special characters escaped and Latin accents as commands; other scripts stay."""
    return "".join(map(_letter, text))


def _letter(character: str) -> str:
    if character.isascii() or character in _SPECIAL:
        return _SPECIAL.get(character, character)
    decomposed = unicodedata.normalize("NFD", character)
    base, marks = decomposed[0], decomposed[1:]
    if not base.isascii() or marks not in _ACCENTS:
        return character
    accent = _ACCENTS[marks]
    dotless = {"i": r"\i", "j": r"\j"}.get(base, base) if not accent.isalpha() else base
    return f"{{\\{accent} {dotless}}}" if accent.isalpha() else f"{{\\{accent}{dotless}}}"


def _author(name: str) -> str:
    """A name that BibTeX cannot take apart: one word, or with a comma or an "and" in it, is kept together."""
    written = latex(name)
    whole = " " not in name or "," in name or " and " in f" {name} "
    return f"{{{written}}}" if whole else written


def _venue(paper: Paper) -> tuple[str, dict[str, str]]:
    """The kind of entry, and where and when the work appeared."""
    match = VENUE.fullmatch(paper.venue or "")
    if match and match["name"] in JOURNALS and not match["workshop"]:
        return "article", {"journal": JOURNALS[match["name"]], "year": match["year"]}
    if match and match["name"] in CONFERENCES:
        name = match["name"] + (" Workshop" if match["workshop"] else "")
        return "inproceedings", {"booktitle": latex(name), "year": match["year"]}
    fields = {"year": str(paper.year)} if paper.year else {}
    if paper.venue and not paper.venue.startswith("arXiv"):
        fields["note"] = latex(paper.venue)
    return "misc", fields

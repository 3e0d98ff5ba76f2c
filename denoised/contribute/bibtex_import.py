"""Drafts of entries from a BibTeX file, as people export it from Google Scholar, DBLP, OpenReview, Zotero or here.

A block that is broken is told with its key and line, and the others still come. Nothing of the file is trusted: texts
become plain lines, and an address that a catalog may not hold is dropped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bibtexparser.entrypoint import parse_string
from bibtexparser.library import Library
from bibtexparser.middlewares import BlockMiddleware, default_parse_stack
from bibtexparser.middlewares.names import (
    parse_single_name_into_parts,
    split_multiple_persons_names,
)
from bibtexparser.model import (
    Block,
    DuplicateBlockKeyBlock,
    DuplicateFieldKeyBlock,
    Entry,
    Field,
    ParsingFailedBlock,
    String,
)

from denoised.catalog.bibtex import CONFERENCES, JOURNALS
from denoised.catalog.characters import visible
from denoised.catalog.model import ARXIV_INSIDE
from denoised.contribute.identify import Identified, identify
from denoised.contribute.plain import LONGEST, from_latex, plain
from denoised.errors import DenoisedError
from denoised.language import say
from denoised.terminal import cut

SIZE_LIMIT = 8 * 2**20  # characters; twenty thousand entries without abstracts take about half of it

_TOLD = 50  # broken blocks; more are counted
_LONGEST_VENUE = 500  # characters

_BLOCK_KEY = re.compile(r"@\s*\w+\s*[{(]\s*([^,\s{}()]+)")
_YEAR = re.compile(r"(?<![0-9])(19|20)[0-9]{2}(?![0-9])")
# Kinds of blocks that hold no work of their own.
_CONTAINERS = frozenset({"proceedings", "mvproceedings", "collection", "mvcollection", "set", "xdata"})

# What a venue's name says besides the venue: of which year, the how manieth, who organised it.
_DECORATION = re.compile(
    r"\b(computer society|the|of|on|in|and|for|proceedings|proc|advances|annual|ieee|cvf|acm|[0-9]+(st|nd|rd|th)?|twenty"
    r"|thirty|forty|fifty|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|\w+teenth"
    r"|\w+tieth)\b"
)
_STOP = "[,:–—]"
_WORKSHOP = re.compile(r"\bworkshops?\b", re.IGNORECASE)
_FULL_NAMES = {
    "3DV": ["International Conference on 3D Vision"],
    "AAAI": ["AAAI Conference on Artificial Intelligence", "National Conference on Artificial Intelligence"],
    "ACL": ["Meeting of the Association for Computational Linguistics"],
    "ACM Computing Surveys": ["ACM Comput. Surv.", "CSUR"],
    "ACM MM": ["ACM International Conference on Multimedia"],
    "ACM TOG": ["ACM Trans. Graph."],
    "AISTATS": [
        "International Conference on Artificial Intelligence and Statistics",
        "Artificial Intelligence and Statistics",
    ],
    "BMVC": ["British Machine Vision Conference"],
    "CHIL": ["Conference on Health, Inference, and Learning"],
    "CVPR": [
        "Conference on Computer Vision and Pattern Recognition",
        "Computer Vision and Pattern Recognition",
    ],
    "ECCV": ["European Conference on Computer Vision"],
    "ECML PKDD": [
        "Joint European Conference on Machine Learning and Knowledge Discovery in Databases",
        "European Conference on Machine Learning and Knowledge Discovery in Databases",
        "Machine Learning and Knowledge Discovery in Databases",
    ],
    "EMNLP": ["Conference on Empirical Methods in Natural Language Processing"],
    "ICASSP": ["International Conference on Acoustics, Speech and Signal Processing"],
    "ICCV": ["International Conference on Computer Vision"],
    "ICLR": ["International Conference on Learning Representations"],
    "ICML": ["International Conference on Machine Learning"],
    "ICRA": ["International Conference on Robotics and Automation"],
    "IEEE TKDE": ["IEEE Trans. Knowl. Data Eng."],
    "IEEE TPAMI": ["IEEE Trans. Pattern Anal. Mach. Intell."],
    "IJCAI": [
        "International Joint Conference on Artificial Intelligence",
        "International Joint Conferences on Artificial Intelligence",
    ],
    "INTERSPEECH": ["Conference of the International Speech Communication Association"],
    "JMLR": ["J. Mach. Learn. Res."],
    "NAACL": [
        "Conference of the North American Chapter of the Association for Computational Linguistics",
        "North American Chapter of the Association for Computational Linguistics",
    ],
    "NeurIPS": [
        "Conference on Neural Information Processing Systems",
        "Neural Information Processing Systems",
    ],
    "SIGGRAPH": [
        "ACM SIGGRAPH Conference Proceedings",
        "ACM SIGGRAPH Conference Papers",
        "Special Interest Group on Computer Graphics and Interactive Techniques Conference Proceedings",
    ],
    "SIGGRAPH Asia": ["SIGGRAPH Asia Conference Papers", "SIGGRAPH Asia Conference Proceedings"],
    "TMLR": ["Trans. Mach. Learn. Res."],
    "UAI": ["Conference on Uncertainty in Artificial Intelligence", "Uncertainty in Artificial Intelligence"],
    "WACV": ["Winter Conference on Applications of Computer Vision"],
}


@dataclass(frozen=True)
class Draft:
    """What a BibTeX file says of one work; every text is one clean line."""

    key: str
    title: str
    authors: tuple[str, ...]  # given names first
    year: int | None
    venue: str | None  # as the catalog writes it: NeurIPS 2021, ICLR 2022 Workshop
    arxiv: str | None
    url: str | None
    doi: str | None


class _Broken(Exception):
    """An entry that makes no draft, and why, in the reader's language."""


def drafts(text: str, name: str, *, tell: Callable[[str], object]) -> list[Draft]:
    """The works in a BibTeX file, in its order. `name` is the file's, for what `tell` is told of broken blocks.

    Raises DenoisedError (USAGE) where the file is too large, or where no work can be read from it.
    """
    if len(text) > SIZE_LIMIT:
        raise DenoisedError(
            say(
                ko=f"{name}: {SIZE_LIMIT:,}자보다 길다", en=f"{name} is longer than {SIZE_LIMIT:,} characters"
            ),
            help=say(ko="파일을 나눈다", en="divide the file"),
        )
    library = parse_string(text.removeprefix("\ufeff"), parse_stack=[_FirstOfEach(), *default_parse_stack()])
    macros: dict[str, str] = {}
    for string in library.strings:  # each of those above it
        macros[string.key.lower()] = _resolved(string, macros)
    entries = {entry.key.lower(): entry for entry in library.entries}
    found: list[Draft] = []
    left_out = 0
    for block in library.blocks:
        try:
            if isinstance(block, ParsingFailedBlock):
                raise _Broken(_why(block))
            if isinstance(block, Entry) and block.entry_type not in _CONTAINERS:
                found.append(_draft(block, _fields(block, entries, macros)))
        except _Broken as broken:
            left_out += 1
            if left_out <= _TOLD:
                tell(f"{name}:{(block.start_line or 0) + 1}: {_key(block)}{broken}")
    if (more := left_out - _TOLD) > 0:
        tell(say(ko=f"{name}: {more:,}개를 더 빼놓았다", en=f"{name}: {more:,} more were left out"))
    if not found:
        raise DenoisedError(
            say(ko=f"{name}: 읽을 수 있는 항목이 없다", en=f"{name} holds no entry that can be read"),
            help="@article{key, title = {…}, author = {… and …}, year = {2023}}",
        )
    return found


# --- blocks and fields --------------------------------------------------------------------------------------


class _FirstOfEach(BlockMiddleware):
    """Of a field that an entry has twice, the first: what BibTeX itself does. The library would give up the entry."""

    def transform_failed_block(self, failed_block: ParsingFailedBlock, library: Library) -> Block:
        entry = failed_block.ignore_error_block
        if not isinstance(failed_block, DuplicateFieldKeyBlock) or not isinstance(entry, Entry):
            return failed_block
        entry.fields = list({field.key: field for field in reversed(entry.fields)}.values())[::-1]
        return entry


def _fields(entry: Entry, entries: Mapping[str, Entry], macros: Mapping[str, str]) -> dict[str, str]:
    """The fields of an entry by their names in lower case, and what it inherits from the one it refers to."""
    own = _own_fields(entry, macros)
    parent = entries.get(own.get("crossref", "").strip().lower())
    if parent is None or parent is entry:
        return own
    inherited = _own_fields(parent, macros)
    inherited = {
        "booktitle": inherited.get("booktitle") or inherited.get("title", ""),
        **{name: inherited[name] for name in ("journal", "year", "date") if name in inherited},
    }
    return inherited | own


def _own_fields(entry: Entry, macros: Mapping[str, str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for field in entry.fields:
        fields.setdefault(field.key.lower(), _resolved(field, macros))
    return fields


def _resolved(written: Field | String, macros: Mapping[str, str]) -> str:
    """A value with its macros; one that is in no braces or quotes may be several, joined."""
    value = str(written.value)
    bare = written.enclosing == "no-enclosing" and len(value) <= LONGEST
    return _joined(value, macros) if bare and ("#" in value or value.lower() in macros) else value


def _joined(value: str, macros: Mapping[str, str]) -> str:
    """A value in parts, as BibTeX joins them: "Proceedings of " # cvpr # { 2022}."""
    parts = re.findall(r'"(?:[^"{}]|\{[^{}]*\})*"|\{(?:[^{}]|\{[^{}]*\})*\}|[^#"{}\s]+', value)
    return "".join(part[1:-1] if part[0] in '"{' else macros.get(part.lower(), part) for part in parts)


def _key(block: Block) -> str:
    """The key of a block, with a colon, as far as it has one."""
    key = block.key if isinstance(block, Entry) else None
    if key is None and (match := _BLOCK_KEY.match((block.raw or "").lstrip())):
        key = match[1]
    return f"{visible(cut(plain(key), 60))}: " if key else ""


def _why(block: ParsingFailedBlock) -> str:
    if isinstance(block, DuplicateBlockKeyBlock):
        return say(
            ko="같은 키가 위에 또 있어서 빼놓았다", en="left out, because the same key stands further up"
        )
    return say(
        ko="문법이 틀려서 빼놓았다. 괄호와 쉼표를 확인한다",
        en="left out, because it is broken: check its braces and commas",
    )


# --- one work -----------------------------------------------------------------------------------------------


def _draft(entry: Entry, fields: Mapping[str, str]) -> Draft:
    title = _read(fields.get("title", ""), say(ko="제목", en="title"))
    if not title:
        raise _Broken(say(ko="제목이 없어서 빼놓았다", en="left out, because it has no title"))
    year = _year(fields.get("year", "")) or _year(fields.get("date", ""))
    doi = _named(fields.get("doi", ""))
    url = _named(fields.get("url", "") or fields.get("howpublished", ""))
    return Draft(
        key=plain(entry.key),
        title=title,
        authors=_authors(fields.get("author", "")),
        year=year,
        venue=_venue(fields, year),
        arxiv=_arxiv(fields, doi, url),
        url=url.url if url and url.kind == "url" else None,
        doi=next((each.value for each in (doi, url) if each and each.kind == "doi"), None),
    )


def _read(value: str, what: str) -> str:
    """A field's text. Raises _Broken where LaTeX cannot be read, or the text is no line of a catalog."""
    if (read := from_latex(value)) is None:
        raise _Broken(
            say(
                ko=f"LaTeX을 읽을 수 없어서 빼놓았다 ({what})",
                en=f"left out, because its {what} cannot be read",
            )
        )
    return read


def _authors(value: str) -> tuple[str, ...]:
    """Names with the given name first; "and others" is nobody."""
    what = say(ko="저자", en="author")
    # The splitter loses a command that a name begins with: \'Alvaro.
    value = re.sub(r"(\band\s+)(?=\\)", r"\1{}", value, flags=re.IGNORECASE)
    written = [each for each in split_multiple_persons_names(value) if each.strip().lower() != "others"]
    parts = [parse_single_name_into_parts(each, strict=False) for each in written]
    names = [_read(each.merge_first_name_first, what) for each in parts]
    return tuple(name for name in names if name)


def _year(value: str) -> int | None:
    match = _YEAR.search(value)
    return int(match[0]) if match else None


def _unescaped(value: str) -> str:
    r"""An address without LaTeX: \url{https://a.example/b\_c} -> https://a.example/b_c."""
    if match := re.search(r"\\url\s*\{([^{}]*)\}", value):
        value = match[1]
    return re.sub(r"\\([_%&#~$])(\{\})?", r"\1", value).replace(r"\textasciitilde{}", "~").strip("{} \t\n")


def _named(value: str) -> Identified | None:
    """What an address or a DOI names; None for what names nothing, or is no address that a catalog may hold."""
    try:
        return identify(_unescaped(value))
    except DenoisedError:
        return None


def _arxiv(fields: Mapping[str, str], doi: Identified | None, url: Identified | None) -> str | None:
    """The arXiv identifier, from wherever reference managers put it."""
    prefix = fields.get("archiveprefix", "") or fields.get("eprinttype", "")
    candidates = [fields.get("arxiv", ""), fields.get("arxivid", "")]
    if prefix.lower() in ("", "arxiv"):
        candidates.append(fields.get("eprint", ""))
    for field in ("journal", "journaltitle", "volume", "note", "howpublished"):
        value = fields.get(field, "")[:LONGEST]
        if re.search(r"arxiv|corr|^abs/", value, re.IGNORECASE):
            candidates.extend(match[0] for match in ARXIV_INSIDE.finditer(value))
    named = [*map(_named, candidates), doi, url]
    return next((each.value for each in named if each and each.kind == "arxiv"), None)


# --- the venue ----------------------------------------------------------------------------------------------


def _venue(fields: Mapping[str, str], year: int | None) -> str | None:
    for field in ("booktitle", "journal", "journaltitle", "series"):
        read = from_latex(fields.get(field, ""))
        if read and (found := venue(read, year)) is not None:
            return found
    return None


def venue(text: str, year: int | None) -> str | None:
    """A venue as the catalog writes it, from its name in full or in short; None where it is none that we know.

    `year` counts where the name has none. "Thirty-fifth Conference on Neural Information Processing Systems", 2021 ->
    "NeurIPS 2021"; "ICML 2022 Workshop on New Frontiers" -> "ICML 2022 Workshop".
    """
    year = _year(text) or year
    if year is None or len(text) > _LONGEST_VENUE or re.search("findings", text, re.IGNORECASE):
        return None  # Findings of the ACL: EMNLP 2023 are not EMNLP
    workshop = _WORKSHOP.search(text)
    if workshop:  # CVPR Workshops; NeurIPS 2021 Workshop on X; Workshop on X at NeurIPS 2021
        at = re.search(r".*(?: at |@)(.*)", text)
        text = text[: workshop.start()] if _bare(text[: workshop.start()]) or not at else at[1]
    # DBLP goes on after the name: 9th International Conference on X, XC 2021, Vienna, Austria, May 3-7, 2021
    ends = [match.start() for match in re.finditer(f"{_STOP}|$", text)]
    pieces = [text[:end] for end in ends] + re.split(_STOP, text)
    name = next((_KNOWN[bare] for each in pieces if (bare := _bare(each)) in _KNOWN), None)
    if name is None or (workshop and name in JOURNALS):
        return None
    if name in ("NIPS", "NeurIPS"):
        name = "NeurIPS" if year >= 2018 else "NIPS"
    return f"{name} {year}{' Workshop' if workshop else ''}"


def _bare(text: str) -> str:
    """The words that tell one venue from another, in lower case, without accents, brackets and decoration."""
    folded = (
        unicodedata.normalize("NFKD", re.sub(r"\([^()]*\)", " ", text)).encode("ascii", "ignore").decode()
    )
    words = re.sub(r"[^a-z0-9]+", " ", folded.lower())
    return " ".join(_DECORATION.sub(" ", words).split())


_KNOWN = {
    _bare(written): name
    for name in sorted(CONFERENCES | JOURNALS.keys())
    for written in (name, JOURNALS.get(name, name), *_FULL_NAMES.get(name, ()))
}

"""What a person pasted: an arXiv identifier, a DOI or an address, in its one normal form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from denoised.catalog.characters import visible
from denoised.catalog.model import Arxiv, Url
from denoised.errors import DenoisedError
from denoised.language import say
from denoised.terminal import cut

_ARXIV = TypeAdapter(Arxiv)
_URL = TypeAdapter(Url)

_LONGEST = 2_000  # characters; no address of a paper is longer
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_DOI = re.compile(r"10\.[0-9]{4,9}/\S+")
_DOI_LABEL = re.compile(r"doi\s*:?\s*(?=10\.)", re.IGNORECASE)
_ARXIV_DOI = re.compile(r"10\.48550/arxiv\.(.+)", re.IGNORECASE)
# As arXiv's own stamp has it: arXiv:2307.10159v2 [cs.CV] 19 Jul 2023
_ARXIV_LABEL = re.compile(r"arxiv\s*:\s*(\S+)(\s+\[[A-Za-z.-]+\].*)?", re.IGNORECASE)
_VERSIONED = re.compile(r"(.+?)(v[0-9]+)?(\.pdf)?(v[0-9]+)?", re.IGNORECASE | re.DOTALL)
_OPENREVIEW_ID = re.compile(r"[A-Za-z0-9_-]+")

# Sites that show arXiv's papers under arXiv's identifiers, and the folders that those stand in.
_PAGES = frozenset({"abs", "pdf", "html", "ps", "src", "e-print", "format"})
_MIRRORS = {
    "alphaxiv.org": _PAGES | {"overview", "audio"},
    "ar5iv.org": _PAGES,
    "arxiv-vanity.com": frozenset({"papers"}),
    "hf.co": frozenset({"papers"}),
    "huggingface.co": frozenset({"papers"}),
    "papers.cool": frozenset({"arxiv"}),
    "scirate.com": frozenset({"arxiv"}),
}


@dataclass(frozen=True)
class Identified:
    """A work by its identifier: `value` as it is written, `url` where it is read."""

    kind: Literal["arxiv", "doi", "url"]
    value: str
    url: str


def identify(text: str) -> Identified:
    """What `text` names: an arXiv paper (without its version), another DOI, or an address.

    Raises DenoisedError (USAGE) where it is none of these, or an arXiv identifier that arXiv never gave.
    """
    pasted = text.strip().strip("<>\"'`").strip()
    if len(pasted) > _LONGEST:
        raise _unknown(text)
    if label := _ARXIV_LABEL.fullmatch(pasted):
        return _arxiv(label[1])
    pasted = _DOI_LABEL.sub("", pasted, count=1) if _DOI_LABEL.match(pasted) else pasted
    if _DOI.fullmatch(pasted):
        return _doi(pasted, text)
    if _SCHEME.match(pasted):
        return _address(pasted, text)
    if (identifier := _identifier(pasted)) is not None:
        return _at_arxiv(identifier)
    known = _of_a_known_site(f"https://{pasted}", text) if "/" in pasted else None
    if known is None:
        raise _unknown(text)
    return known


def _identifier(written: str) -> str | None:
    """An arXiv identifier without its version; None where `written` is none."""
    bare = match[1] if (match := _VERSIONED.fullmatch(written)) else written
    archive, slash, number = bare.partition("/")
    if slash:  # hep-th/9901001, math.GT/0309136: a name in lower case, a class in upper case
        name, dot, subject = archive.partition(".")
        bare = f"{name.lower()}{dot}{subject.upper()}/{number}"
    try:
        return _ARXIV.validate_python(bare)
    except ValidationError:
        return None


def _at_arxiv(identifier: str) -> Identified:
    return Identified("arxiv", identifier, f"https://arxiv.org/abs/{identifier}")


def _arxiv(written: str) -> Identified:
    """`written` stands where only an arXiv identifier can stand."""
    if (identifier := _identifier(written.rstrip(".,;"))) is None:
        raise DenoisedError(
            say(
                ko=f"`{_shown(written)}`: arXiv에 그런 꼴의 번호는 없다",
                en=f"`{_shown(written)}` is no identifier that arXiv gives",
            ),
            help=say(
                ko="2307.10159처럼 쓴다. 2007년 3월까지는 hep-th/9901001",
                en="write it as 2307.10159, or until March 2007 as hep-th/9901001",
            ),
        )
    return _at_arxiv(identifier)


def _doi(written: str, text: str) -> Identified:
    written = written.rstrip(".,;")
    if match := _ARXIV_DOI.fullmatch(written):
        return _arxiv(match[1])
    if not _DOI.fullmatch(written):
        raise _unknown(text)
    return Identified("doi", written, _valid(f"https://doi.org/{quote(written, safe='/:;()')}", text))


def _address(url: str, text: str) -> Identified:
    if (known := _of_a_known_site(url, text)) is not None:
        return known
    return Identified("url", url := _valid(url, text), url)


def _of_a_known_site(url: str, text: str) -> Identified | None:
    """What an address of arXiv, of a site that shows its papers, of doi.org or of OpenReview names."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return None
    path = unquote(parts.path).strip("/")
    folder, _, rest = path.partition("/")
    if host in ("doi.org", "dx.doi.org"):
        return _doi(path, text)
    if host == "arxiv.org" or host.endswith(".arxiv.org"):
        if folder not in _PAGES or not rest:
            raise _no_paper(url)
        return _arxiv(rest)
    if folder in _MIRRORS.get(host, ()) and rest:
        # A page of a mirror may be called anything (huggingface.co/papers/trending).
        identifier = _identifier(rest)
        return None if identifier is None else _at_arxiv(identifier)
    if host == "openreview.net" and folder in ("forum", "pdf") and not rest:
        ids = parse_qs(parts.query).get("id", [])
        if len(ids) == 1 and _OPENREVIEW_ID.fullmatch(ids[0]):
            forum = f"https://openreview.net/forum?id={ids[0]}"
            return Identified("url", forum, forum)
    return None


def _valid(url: str, text: str) -> str:
    try:
        return _URL.validate_python(url)
    except ValidationError:
        raise _unknown(text) from None


def _no_paper(url: str) -> DenoisedError:
    return DenoisedError(
        say(
            ko=f"`{_shown(url)}`: arXiv의 논문 주소가 아니다",
            en=f"`{_shown(url)}` is no address of a paper on arXiv",
        ),
        help="https://arxiv.org/abs/2307.10159",
    )


def _unknown(text: str) -> DenoisedError:
    return DenoisedError(
        say(
            ko=f"`{_shown(text)}`: arXiv 번호도 DOI도 주소도 아니다",
            en=f"`{_shown(text)}` is no arXiv identifier, DOI or address",
        ),
        help=say(ko="예: ", en="for example ")
        + "2307.10159, 10.1145/3528233.3530757, https://openreview.net/forum?id=St1giarCHLP",
    )


def _shown(text: str) -> str:
    return visible(cut(text.strip()[:200], 80)).replace("\n", " ")

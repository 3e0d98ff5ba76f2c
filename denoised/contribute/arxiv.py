"""One paper's facts from arXiv's API, asked politely, every way to fail told apart.

The `arxiv` package writes the query and reads the feed. By itself it waits for ever, ignores Retry-After, takes a page
of HTML for a feed without papers and an error for a paper titled "Error". So its session gets an adapter that passes
on nothing but a whole, well-formed feed, and what it returns is held against what was asked.

arXiv asks for three seconds between calls and for one call at a time. That holds for all processes on this machine
that share a cache folder: a lock there is held during each call, and a file says when the next may begin.
"""

from __future__ import annotations

import errno
import io
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import arxiv
import requests
import urllib3
from filelock import BaseFileLock, FileLock, Timeout
from lxml import etree
from requests.adapters import HTTPAdapter
from urllib3.exceptions import (
    InvalidHeader,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
)

import denoised
from denoised.catalog.characters import visible
from denoised.contribute.identify import identify
from denoised.contribute.plain import from_latex, plain
from denoised.errors import DenoisedError, Exit
from denoised.files import cannot_write, write_whole
from denoised.language import say
from denoised.terminal import cut

ADDRESS = "https://export.arxiv.org/api/query"
VARIABLE = "DENOISED_ARXIV_URL"  # another address of the API: a mirror

_ATOM = "{http://www.w3.org/2005/Atom}"
_TOTAL = "{http://a9.com/-/spec/opensearch/1.1/}totalResults"
_DAY = 86_400.0  # seconds; a time further ahead was written by a clock that has been set back since
_COMMAND = re.compile(r"\\[A-Za-z'\"`^~=.]")
_CLASS = re.compile(r"\.[A-Z]{2}/")  # math.GT/0309136, which arXiv itself writes math/0309136

logging.getLogger("arxiv").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Preprint:
    """What arXiv knows of a paper; every text is one clean line."""

    arxiv: str
    title: str
    authors: tuple[str, ...]
    published: date  # of the first version
    comment: str | None
    journal_ref: str | None
    doi: str | None
    category: str | None  # the primary one: cs.CV

    @property
    def withdrawn(self) -> bool:
        """Whether its comment says so, the only place where arXiv does."""
        return "withdrawn" in (self.comment or "").lower()


@dataclass(frozen=True)
class Limits:
    """Seconds, tries and bytes; the defaults are what arXiv asks for and what a person waits for."""

    interval: float = 3.0  # between the end of a call and the beginning of the next
    connect: float = 10.0
    read: float = 20.0  # without a byte
    total: float = 60.0  # for the body of an answer
    wait: float = 60.0  # the longest Retry-After that is waited for
    queue: float = 300.0  # for other processes
    tries: int = 3
    size: int = 4 * 2**20  # a feed with three thousand authors has a tenth of it


class Offline(DenoisedError):
    """arXiv was not reached at all: what needs no network can go on."""


class _Passing(DenoisedError):
    """A fault that may be gone at the next try, `after` so many seconds where arXiv says so."""

    def __init__(self, message: str, *, after: float | None = None, help: str | None = None) -> None:
        super().__init__(message, help=help or _again(), code=Exit.RETRY)
        self.after = after


def fetch(
    arxiv_id: str,
    *,
    cache: Path,
    tell: Callable[[str], object],
    address: str | None = None,
    limits: Limits = Limits(),
    sleep: Callable[[float], object] = time.sleep,
) -> Preprint:
    """The facts of the paper `arxiv_id`, asked of `address`, DENOISED_ARXIV_URL or arXiv itself.

    `cache` is the folder that keeps the time of the next call; `tell` is told of every wait before it.

    Raises DenoisedError: USAGE where arXiv has no such paper, RETRY where the fault may pass (`Offline` where nobody was
    reached), INTEGRITY where the answer is another paper's or hostile, RESOURCES where `cache` cannot be written.
    """
    wanted = identify(f"arXiv:{arxiv_id}").value
    address = address or os.environ.get(VARIABLE) or ADDRESS
    host = _host(address)
    attempt = 0
    while True:
        attempt += 1
        with _turn(host, cache, limits, tell, sleep) as postpone:
            try:
                return _ask(wanted, address, host, limits)
            except _Passing as fault:
                if fault.after is not None:
                    postpone(fault.after)
                    if fault.after > limits.wait:
                        raise _come_back(host, fault.after) from fault
                if attempt == limits.tries:
                    raise
                if fault.after is None:
                    postpone(limits.interval * 4 ** (attempt - 1))
                tell(
                    say(
                        ko=f"{fault.message}. 다시 묻는다 ({limits.tries}번 가운데 {attempt + 1}번째)",
                        en=f"{fault.message}; asking again (try {attempt + 1} of {limits.tries})",
                    )
                )


# --- one call at a time -------------------------------------------------------------------------------------


@contextmanager
def _turn(
    host: str, cache: Path, limits: Limits, tell: Callable[[str], object], sleep: Callable[[float], object]
) -> Iterator[Callable[[float], None]]:
    """The right to call arXiv once, waited for; yields how to put off the call after this one."""
    path = cache / "arxiv.next"
    wait = limits.interval

    def postpone(seconds: float) -> None:
        nonlocal wait
        wait = max(wait, seconds)

    lock = _taken(cache / "arxiv.lock", limits, tell)
    try:
        ahead = _next_call(path) - time.time()
        if ahead > limits.wait:
            raise _come_back(host, ahead)
        if ahead > 0:
            tell(
                say(
                    ko=f"{math.ceil(ahead)}초 기다린다: arXiv가 호출 사이를 띄워 달라고 한다",
                    en=f"waiting {math.ceil(ahead)} s: arXiv asks for time between calls",
                )
            )
            sleep(ahead)
        write_whole(path, repr(time.time() + limits.interval).encode())  # for a process that is killed
        try:
            yield postpone
        finally:
            write_whole(path, repr(time.time() + wait).encode())
    finally:
        lock.release()


def _taken(path: Path, limits: Limits, tell: Callable[[str], object]) -> BaseFileLock:
    """The lock, acquired; the system releases it where the process dies."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell(
                say(
                    ko="다른 프로세스가 arXiv에 묻고 있다. 차례를 기다린다",
                    en="another process is asking arXiv; waiting for our turn",
                )
            )
            lock.acquire(timeout=limits.queue)
    except Timeout as error:
        raise DenoisedError(
            say(
                ko=f"{limits.queue:g}초를 기다려도 차례가 오지 않았다: 다른 프로세스가 arXiv에 묻고 있다",
                en=f"our turn did not come in {limits.queue:g} s: another process is asking arXiv",
            ),
            help=_again(),
            code=Exit.RETRY,
        ) from error
    except OSError as error:
        raise cannot_write(path, 0, error) from error
    return lock


def _next_call(path: Path) -> float:
    """When the next call may begin, in seconds of the epoch; 0 where nobody has called or the file makes no sense."""
    try:
        found = float(path.read_text())
    except (OSError, ValueError):  # a file that cannot be written either is told of where it is written
        return 0.0
    return found if found < time.time() + _DAY else 0.0


# --- asking -------------------------------------------------------------------------------------------------


def _ask(wanted: str, address: str, host: str, limits: Limits) -> Preprint:
    client = arxiv.Client(page_size=1, delay_seconds=0, num_retries=0)
    client.query_url_format = address.replace("{", "{{").replace("}", "}}") + "?{}"
    with client._session as session:  # the package has no other way in
        adapter = _Adapter(wanted, host, limits)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        try:
            found = list(client.results(arxiv.Search(id_list=[wanted], max_results=1)))
        except (ValueError, OverflowError) as error:  # a date that is none
            raise _incomplete(wanted, say(ko="날짜", en="a date")) from error
    if not found:
        raise _incomplete(wanted, say(ko="날짜", en="a date"))
    return _preprint(wanted, found[0])


class _Adapter(HTTPAdapter):
    """Sends one request and returns nothing but a whole, well-formed feed with an entry that is no error."""

    def __init__(self, wanted: str, host: str, limits: Limits) -> None:
        super().__init__(max_retries=0)
        self._wanted = wanted
        self._host = host
        self._limits = limits

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        request.headers["User-Agent"] = f"denoised/{denoised.__version__}"
        times = (self._limits.connect, self._limits.read)
        try:
            response = super().send(request, True, times, verify, cert, dict(proxies or {}))
        except requests.exceptions.RequestException as error:
            raise _not_answered(self._host, error, self._limits) from error
        except LocationValueError as error:  # a name that cannot be one
            raise _unknown_name(self._host) from error
        with response:
            _check_status(self._host, response)
            body = self._body(response)
            _check_feed(self._host, self._wanted, response, body)
            headers = {"Content-Type": response.headers.get("Content-Type", "")}
        whole = urllib3.HTTPResponse(io.BytesIO(body), headers, 200, preload_content=False)
        return self.build_response(request, whole)

    def _body(self, response: requests.Response) -> bytes:
        """All of the answer, as it comes: a server that sends a byte a minute must not hold us."""
        deadline = time.monotonic() + self._limits.total
        body = b""
        try:
            while part := response.raw.read1(65_536, decode_content=True):
                body += part
                if len(body) > self._limits.size:
                    raise _hostile(
                        self._host,
                        ko=f"답이 {self._limits.size:,}바이트보다 크다",
                        en=f"the answer is larger than {self._limits.size:,} bytes",
                    )
                if time.monotonic() > deadline:
                    raise _slow(self._host, self._limits.total)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise _slow(self._host, self._limits.read) from error
        except urllib3.exceptions.HTTPError as error:
            raise _cut(self._host) from error
        return body


def _check_status(host: str, response: requests.Response) -> None:
    status = response.status_code
    if status in (200, 400):  # a 400 brings a feed that says what was wrong
        return
    if status == 429 or status >= 500:
        raise _Passing(
            say(
                ko=f"{host}: 너무 자주 물었다고 한다 (HTTP 429)",
                en=f"{host} says that it is asked too often (HTTP 429)",
            )
            if status == 429
            else say(
                ko=f"{host}: 지금은 답하지 못한다 (HTTP {status})",
                en=f"{host} cannot answer now (HTTP {status})",
            ),
            after=_retry_after(response.headers.get("Retry-After")),
        )
    if status == 403:
        message = say(ko=f"{host}: 접근을 거절한다 (HTTP 403)", en=f"{host} refuses us (HTTP 403)")
        help = say(
            ko="너무 많이 물은 네트워크를 arXiv가 한동안 막는다. 나중에, 또는 다른 네트워크에서 다시 한다",
            en="arXiv blocks a network for a while that asked too much: try later, or from another network",
        )
    elif 300 <= status < 400:
        target = visible(cut(response.headers.get("Location", "?"), 100))
        message = say(
            ko=f"{host}: 다른 주소로 보낸다 (HTTP {status}): {target}",
            en=f"{host} sends us elsewhere (HTTP {status}): {target}",
        )
        help = say(
            ko=f"로그인이 필요한 네트워크면 브라우저로 로그인한다. API가 옮겨 갔으면 {VARIABLE}에 새 주소를 쓴다",
            en=f"where the network wants a login, log in with a browser; where the API moved, set {VARIABLE}",
        )
    else:
        message = say(
            ko=f"{host}: API의 답이 아니다 (HTTP {status})",
            en=f"{host} does not answer as the API (HTTP {status})",
        )
        help = say(
            ko=f"{VARIABLE}에 쓴 주소가 API의 주소인지 확인한다", en=f"check the address in {VARIABLE}"
        )
    raise DenoisedError(message, help=help, code=Exit.RETRY)


def _retry_after(value: str | None) -> float | None:
    """The seconds that a server asks to wait, written as a number or as a date; None where it is neither."""
    if value is None:
        return None
    try:
        return float(min(urllib3.Retry().parse_retry_after(value), _DAY))
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _check_feed(host: str, wanted: str, response: requests.Response, body: bytes) -> None:
    """Refuse what the package would take for a feed without papers, or for a paper."""
    if not body.strip():
        raise _nonsense(host, ko="빈 답", en="nothing")
    media = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media == "text/html" or re.match(rb"\s*(<!doctype html|<html)", body, re.IGNORECASE):
        raise _nonsense(host, ko="웹 페이지 (HTML)", en="a web page (HTML)")
    try:
        root = etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise _nonsense(host, ko="끝이 없거나 깨진 XML", en="XML that is cut off or broken") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise _hostile(
            host, ko="답이 XML의 개체를 정의한다", en="the answer defines entities of XML, as no feed does"
        )
    if root.tag != f"{_ATOM}feed":
        raise _nonsense(host, ko="피드가 아닌 XML", en="XML that is no feed")
    entry = root.find(f"{_ATOM}entry")
    if entry is None:
        if root.findtext(_TOTAL, "").strip() != "0":
            raise _nonsense(host, ko="논문이 빠진 피드", en="a feed that lacks its paper")
        raise _no_such_paper(wanted)
    if "/api/errors" in entry.findtext(f"{_ATOM}id", ""):
        said = visible(cut(plain(entry.findtext(f"{_ATOM}summary", "")), 200))
        raise DenoisedError(
            say(
                ko=f"{host}: {wanted}에 오류로 답한다: {said}",
                en=f"{host} answers {wanted} with an error: {said}",
            ),
            help=_look(wanted),
        )
    if not any(entry.findtext(f"{_ATOM}{name}", "").strip() for name in ("title", "published", "summary")):
        raise _no_such_paper(wanted)  # the answer to a number that nobody has yet


# --- the paper ----------------------------------------------------------------------------------------------


def _preprint(wanted: str, found: arxiv.Result) -> Preprint:
    answered = _written_as_id(found.entry_id)
    if _CLASS.sub("/", answered) != _CLASS.sub("/", wanted):
        raise DenoisedError(
            say(
                ko=f"{wanted}을(를) 물었는데 다른 논문이 왔다: {answered}",
                en=f"asked for {wanted}, arXiv answered with another paper: {answered}",
            ),
            help=_look(wanted),
            code=Exit.INTEGRITY,
        )
    title = _readable(found.title)
    # A collaboration is listed as "ATLAS Collaboration", ":", and then its members.
    names = [_readable(author.name) for author in found.authors]
    authors = tuple(name for name in names if any(map(str.isalpha, name)))
    if not title:
        raise _incomplete(wanted, say(ko="제목", en="its title"))
    if not authors:
        raise _incomplete(wanted, say(ko="저자", en="its authors"))
    return Preprint(
        arxiv=wanted,
        title=title,
        authors=authors,
        published=found.published.date(),
        comment=_readable(found.comment or "") or None,
        journal_ref=_readable(found.journal_ref or "") or None,
        doi=plain(found.doi or "") or None,
        category=plain(found.primary_category) or None,
    )


def _written_as_id(url: str) -> str:
    try:
        return identify(url).value
    except DenoisedError:
        return visible(cut(plain(url), 80))


def _readable(text: str) -> str:
    """A text of arXiv's, which has LaTeX's commands in places: read where there is one, else as it stands."""
    decoded = from_latex(text) if _COMMAND.search(text) else None
    return plain(text) if decoded is None else decoded


# --- what went wrong ----------------------------------------------------------------------------------------


def _host(address: str) -> str:
    """The host that messages name; DenoisedError (USAGE) where the address is none."""
    try:
        requests.Request("GET", address).prepare()
        parts = urlsplit(address)
        if parts.hostname and parts.scheme in ("http", "https"):
            return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:  # what requests raises for an address is one, too
        pass
    shown = visible(cut(address, 80))
    raise DenoisedError(
        say(ko=f"{VARIABLE}: 주소가 아니다: `{shown}`", en=f"{VARIABLE} is no address: `{shown}`"),
        help=f"{VARIABLE}={ADDRESS}",
    )


def _not_answered(host: str, error: requests.exceptions.RequestException, limits: Limits) -> DenoisedError:
    """Why nothing came, not even the head of an answer."""
    reason = error.args[0].reason if error.args and isinstance(error.args[0], MaxRetryError) else None
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return _offline(
            host,
            ko=f"{limits.connect:g}초 안에 연결되지 않았다",
            en=f"no connection in {limits.connect:g} s",
        )
    if isinstance(error, requests.exceptions.Timeout):
        return _slow(host, limits.read)
    if isinstance(error, requests.exceptions.ProxyError):
        return _offline(host, ko="프록시에 연결할 수 없다", en="the proxy cannot be reached")
    if isinstance(error, requests.exceptions.SSLError):
        return DenoisedError(
            say(
                ko=f"{host}: 인증서를 믿을 수 없다: {visible(cut(str(reason or error), 200))}",
                en=f"{host} has a certificate that cannot be trusted: {visible(cut(str(reason or error), 200))}",
            ),
            help=say(ko="컴퓨터의 시계와 프록시를 확인한다", en="check the computer's clock and the proxy"),
            code=Exit.RETRY,
        )
    if isinstance(reason, NameResolutionError):
        return _unknown_name(host)
    if isinstance(reason, NewConnectionError):
        code = reason.__cause__.errno if isinstance(reason.__cause__, OSError) else None
        if code == errno.ECONNREFUSED:
            return _offline(host, ko="연결을 거부한다", en="the connection is refused")
        return _offline(host, ko="가는 길이 없다", en="there is no way to it")
    return _cut(host)


def _offline(host: str, *, ko: str, en: str) -> Offline:
    return Offline(
        say(ko=f"{host}에 닿을 수 없다: {ko}", en=f"{host} cannot be reached: {en}"),
        help=say(
            ko="네트워크를 확인하고 같은 명령을 다시 실행한다",
            en="check the network and run the same command again",
        ),
        code=Exit.RETRY,
    )


def _unknown_name(host: str) -> Offline:
    return _offline(host, ko="이름을 찾을 수 없다", en="the name is not known")


def _slow(host: str, seconds: float) -> _Passing:
    return _Passing(
        say(
            ko=f"{host}: {seconds:g}초 안에 답이 다 오지 않았다",
            en=f"{host} did not finish its answer in {seconds:g} s",
        )
    )


def _cut(host: str) -> _Passing:
    return _Passing(say(ko=f"{host}: 연결이 도중에 끊어졌다", en=f"{host} broke the connection off"))


def _nonsense(host: str, *, ko: str, en: str) -> _Passing:
    return _Passing(
        say(ko=f"{host}: 논문 대신 온 것: {ko}", en=f"{host} answered with {en} instead of a paper"),
        help=say(
            ko="로그인이 필요한 네트워크인지 확인하고, 잠시 뒤에 같은 명령을 다시 실행한다",
            en="check whether the network wants a login, and run the same command again in a while",
        ),
    )


def _hostile(host: str, *, ko: str, en: str) -> DenoisedError:
    return DenoisedError(
        say(ko=f"{host}: {ko}", en=f"{host}: {en}"),
        help=say(
            ko=f"arXiv는 그렇게 답하지 않는다. 네트워크와 {VARIABLE}을(를) 확인한다",
            en=f"arXiv does not answer so: check the network and {VARIABLE}",
        ),
        code=Exit.INTEGRITY,
    )


def _incomplete(wanted: str, what: str) -> DenoisedError:
    return DenoisedError(
        say(ko=f"{wanted}: arXiv의 답에 없는 것: {what}", en=f"{wanted}: arXiv's answer lacks {what}"),
        help=_look(wanted),
        code=Exit.INTEGRITY,
    )


def _no_such_paper(wanted: str) -> DenoisedError:
    return DenoisedError(
        say(ko=f"{wanted}: arXiv에 그런 논문이 없다", en=f"{wanted}: arXiv has no such paper"),
        help=_look(wanted),
    )


def _come_back(host: str, seconds: float) -> DenoisedError:
    then = datetime.fromtimestamp(time.time() + seconds).strftime("%Y-%m-%d %H:%M:%S")
    return DenoisedError(
        say(
            ko=f"{host}: {then}까지 묻지 말아 달라고 한다 ({math.ceil(seconds):,}초)",
            en=f"{host} asks not to be called before {then} ({math.ceil(seconds):,} s)",
        ),
        help=say(ko="그 뒤에 같은 명령을 다시 실행한다", en="run the same command again after that"),
        code=Exit.RETRY,
    )


def _look(wanted: str) -> str:
    return say(ko="직접 확인한다: ", en="look for yourself: ") + f"https://arxiv.org/abs/{wanted}"


def _again() -> str:
    return say(ko="잠시 뒤에 같은 명령을 다시 실행한다", en="run the same command again in a while")

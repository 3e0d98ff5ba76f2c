"""Whether addresses lead somewhere: asked politely, and from behind a fence.

Politely: one request at a time to a host, a pause after each, HEAD before GET, no body read, a host that asks for rest
left alone. A page that an entry cites is asked for about once a week, so robots.txt, written for those who crawl, is
not read.

Behind a fence: an address comes from contributors, and where it redirects to from anybody. A name is resolved once,
every address behind it must be public, the connection goes to what was resolved, and before a byte is sent the other
end of it is looked at again. A name that changes its mind between two look-ups gains nothing.
"""

from __future__ import annotations

import http.client
import ipaddress
import math
import queue
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Literal
from urllib.parse import urljoin

import certifi
import urllib3
from urllib3.exceptions import InvalidHeader, LocationParseError
from urllib3.util import Url, parse_url

import denoised
from denoised.language import Phrase

Outcome = Literal["ok", "moved", "unknown", "missing", "refused"]
Resolve = Callable[[str, int], Sequence[str]]
"""From a host's name and a port to its numeric addresses; raises socket.gaierror as `socket.getaddrinfo` does."""

USER_AGENT = f"denoised-links/{denoised.__version__} (checks the links of a catalog of papers)"

_LONGEST = 4_000  # characters; browsers and servers stop at about twice as many
_TICK = 0.1  # seconds between looks at connections that are overdue
_DAY = 86_400.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PERMANENT = frozenset({301, 308})
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
_IPV4_INSIDE = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052, how networks without IPv4 reach it


@dataclass(frozen=True)
class Limits:
    """Seconds and counts."""

    interval: float = 1.0  # between the end of a request to a host and the beginning of the next
    arxiv: float = 3.0  # the same for arXiv, which asks for that much
    connect: float = 10.0
    read: float = 20.0  # without a byte
    total: float = 30.0  # for an address with all its redirects, without the pauses
    wait: float = 60.0  # the longest Retry-After that is waited for
    redirects: int = 8
    patience: int = 3  # requests in a row without an answer, after which a host is left alone
    hosts: int = 8  # asked at the same time


@dataclass(frozen=True)
class Answer:
    """What became of one address. `missing` without a status: its host's name does not exist."""

    outcome: Outcome
    why: Phrase
    status: int | None = None
    new: str | None = None  # where the address has moved for good
    answered: bool = False  # whether any server answered on the way


@dataclass(frozen=True)
class _Reply:
    status: int
    location: str | None
    after: float | None  # seconds to wait; 0 where a server is asked too often and does not say


@dataclass
class _Host:
    """What is known of a host in this run."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    next: float = 0.0  # time.monotonic() from when it may be asked again
    silent: int = 0  # requests in a row without an answer
    closed: Phrase | None = None  # why it is asked no more


class _End(Exception):
    """The answer is known before the chain of redirects ends."""

    def __init__(self, outcome: Outcome, why: Phrase) -> None:
        super().__init__(why.en)
        self.outcome: Outcome = outcome
        self.why = why


class _Silence(Exception):
    """A request was not answered; `cut`: by a server that ended the connection."""

    def __init__(self, why: Phrase, *, cut: bool = False) -> None:
        super().__init__(why.en)
        self.why = why
        self.cut = cut


class _Stopped(Exception):
    """Everything ends."""


def system_addresses(host: str, port: int) -> list[str]:
    """The addresses of a host as this machine resolves them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def is_public(address: str) -> bool:
    """Whether a numeric address is one of the public internet, where it hides an IPv4 address also that one."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _IPV4_INSIDE:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.sixtofour is not None or ip.teredo is not None or ip.is_site_local:
            return False  # tunnels that no site lives behind, and addresses that are a site's own
    # Of multicast addresses some are global, of reserved ones those that no registry has given to anybody.
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def ask(
    addresses: Iterable[str],
    tell: Callable[[str, Answer], None],
    *,
    limits: Limits = Limits(),
    allow: frozenset[tuple[str, int]] = frozenset(),
    resolve: Resolve = system_addresses,
) -> None:
    """Ask every address once and `tell` each answer, in this thread, as it comes.

    `allow`: numeric addresses with a port that may be asked although they are not public.

    On KeyboardInterrupt open connections are cut, what has been answered is still told (the last answer perhaps
    twice), and it is raised again.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for address in dict.fromkeys(addresses):
        groups[_host_of(address)].append(address)
    work: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    for group in sorted(groups.values(), key=len, reverse=True):
        work.put(group)  # the longest first, so that the others are done meanwhile
    asker = _Asker(limits, allow, resolve, work)
    # Not a pool of the library's: that one waits for its threads even where one hangs in the system's resolver.
    threads = [
        threading.Thread(target=asker.work, daemon=True) for _ in range(min(limits.hosts, len(groups)))
    ]
    for thread in threads:
        thread.start()
    total, told = sum(map(len, groups.values())), 0
    try:
        while told < total:
            asker.wires.cut(time.monotonic())
            asker.news.wait(_TICK)
            asker.news.clear()
            while told < len(asker.results):
                result = asker.results[told]
                if isinstance(result, BaseException):
                    raise result
                tell(*result)
                told += 1
    except KeyboardInterrupt:
        asker.end(threads)
        for result in asker.results[told:]:
            if not isinstance(result, BaseException):
                tell(*result)
        raise
    finally:
        asker.end(threads)


@cache  # reading the certificates takes longer than many an answer
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certifi.where())


def _host_of(address: str) -> str:
    """By whose pace an address is asked; empty where it has no host."""
    try:
        return _pace((parse_url(address).host or "").lower())
    except LocationParseError:
        return ""


def _pace(host: str) -> str:
    return "arxiv.org" if host == "arxiv.org" or host.endswith(".arxiv.org") else host.rstrip(".")


class _Wires:
    """The open connections, to be cut from outside: a server that sends a byte a second never times out itself."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}

    @contextmanager
    def held(self, sock: socket.socket, deadline: float) -> Iterator[None]:
        """`sock` can be cut while this lasts, whatever wraps it."""
        with sock.dup() as wire:
            with self._lock:
                if self._stop.is_set():
                    raise _Stopped
                self._open[wire] = deadline
            try:
                yield
            finally:
                with self._lock:
                    del self._open[wire]

    def cut(self, now: float) -> None:
        """Cut every connection whose deadline has passed."""
        with self._lock:
            for wire, deadline in self._open.items():
                if deadline <= now:
                    try:
                        wire.shutdown(socket.SHUT_RDWR)
                    except OSError:  # the other end was faster
                        pass


@dataclass
class _Visit:
    """One address on its way through its redirects."""

    left: float  # seconds
    waited: bool = False  # as a Retry-After asked
    answered: bool = False
    hops: int = 0  # redirects that were followed


class _Asker:
    """What the threads share."""

    def __init__(
        self,
        limits: Limits,
        allow: frozenset[tuple[str, int]],
        resolve: Resolve,
        work: queue.SimpleQueue[list[str]],
    ) -> None:
        self.stop = threading.Event()
        self.wires = _Wires(self.stop)
        # Not a queue: what was taken from one is lost where an interrupt comes before it is told.
        self.results: list[tuple[str, Answer] | BaseException] = []
        self.news = threading.Event()
        self._limits = limits
        self._allow = allow
        self._resolve = resolve
        self._work = work
        self._hosts: defaultdict[str, _Host] = defaultdict(_Host)
        self._lock = threading.Lock()

    def work(self) -> None:
        """Ask one group of addresses after the other, until none is left."""
        try:
            while True:
                for address in self._work.get_nowait():
                    self._put((address, self._answer(address)))
        except (queue.Empty, _Stopped):
            pass
        except BaseException as error:  # a bug: `ask` raises it, or would wait for ever
            self._put(error)

    def _put(self, result: tuple[str, Answer] | BaseException) -> None:
        self.results.append(result)
        self.news.set()

    def end(self, threads: Sequence[threading.Thread]) -> None:
        """Cut every connection and wait for the threads, a second at most: one may hang in a look-up of a name."""
        self.stop.set()
        self.wires.cut(math.inf)
        until = time.monotonic() + 1
        for thread in threads:
            thread.join(timeout=max(0.0, until - time.monotonic()))

    def _answer(self, address: str) -> Answer:
        visit = _Visit(self._limits.total)
        try:
            return self._follow(address, visit)
        except _End as end:
            why = _redirected(end.why) if visit.hops and end.outcome in ("refused", "missing") else end.why
            return Answer(end.outcome, why, answered=visit.answered)

    def _follow(self, address: str, visit: _Visit) -> Answer:
        """Ask an address and what it redirects to."""
        new, permanent = None, True
        here = _target(address)
        seen = {here.url}
        for _ in range(self._limits.redirects + 1):
            reply = self._hop(here, visit)
            status = reply.status
            if status not in _REDIRECTS or reply.location is None:
                if 200 <= status < 300 or status == 416:  # 416: there, and empty
                    outcome: Outcome = "moved" if new else "ok"
                else:
                    outcome, new = ("missing" if status in (404, 410) else "unknown"), None
                return Answer(outcome, _http(status), status, new, answered=True)
            visit.hops += 1
            here = _target(_joined(here.url, reply.location))
            if here.url in seen:
                raise _End("unknown", _LOOP)
            seen.add(here.url)
            permanent = permanent and status in _PERMANENT
            if permanent:  # beyond a temporary redirect nothing is said about this address
                new = here.url
        raise _End("unknown", _too_many(self._limits.redirects))

    def _hop(self, target: Url, visit: _Visit) -> _Reply:
        """The reply to HEAD, or to GET where HEAD is not answered well: many servers know only GET."""
        try:
            reply = self._request(target, "HEAD", visit)
            led = reply.status in _REDIRECTS and reply.location is not None
            if 200 <= reply.status < 300 or led or reply.after is not None:
                return reply
        except _Silence as silence:
            if not silence.cut:
                raise _End("unknown", silence.why) from silence
        try:
            return self._request(target, "GET", visit)
        except _Silence as silence:
            raise _End("unknown", silence.why) from silence

    def _request(self, target: Url, method: str, visit: _Visit) -> _Reply:
        """One request in its turn; a second one where the host asks for a short wait."""
        while True:
            if visit.left <= 0:
                raise _End("unknown", _SLOW)
            with self._turn(str(target.host)) as host:
                if host.closed is not None:
                    raise _End("unknown", host.closed)
                started = time.monotonic()
                try:
                    reply = self._send(target, method, started + visit.left)
                except _Silence:
                    host.silent += 1
                    if host.silent >= self._limits.patience:
                        host.closed = _silent(host.silent)
                    raise
                finally:
                    visit.left -= time.monotonic() - started
                visit.answered = True
                host.silent = 0
                if reply.after is None:
                    return reply
                if visit.waited or not 0 < reply.after <= self._limits.wait:
                    host.closed = _BUSY  # it would say the same of its other addresses
                    return reply
                visit.waited = True
                host.next = time.monotonic() + reply.after

    @contextmanager
    def _turn(self, name: str) -> Iterator[_Host]:
        """The host, once nobody else asks it and its pause is over."""
        pace = _pace(name)
        interval = self._limits.arxiv if pace == "arxiv.org" else self._limits.interval
        with self._lock:
            host = self._hosts[pace]
        with host.turn:
            if host.closed is None and self.stop.wait(max(0.0, host.next - time.monotonic())):
                raise _Stopped
            try:
                yield host
            finally:
                host.next = max(host.next, time.monotonic() + interval)

    def _send(self, target: Url, method: str, deadline: float) -> _Reply:
        name = str(target.host).strip("[]")
        port = target.port or (443 if target.scheme == "https" else 80)
        with self._connected(self._addresses(name, port), port, deadline) as sock:
            try:
                with self.wires.held(sock, deadline):
                    reply = self._exchange(sock, target, method, name, port)
            except (OSError, http.client.HTTPException) as error:
                if self.stop.is_set():
                    raise _Stopped from error
                if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
                    raise _Silence(_SLOW) from error
                if isinstance(error, ssl.SSLError):
                    raise _Silence(_TLS) from error
                if isinstance(error, OSError):  # RemoteDisconnected is one, too
                    raise _Silence(_CUT, cut=True) from error
                raise _Silence(_NONSENSE, cut=True) from error
        if time.monotonic() >= deadline:  # headers that were cut off look whole
            raise _Silence(_SLOW)
        return reply

    def _exchange(self, sock: socket.socket, target: Url, method: str, name: str, port: int) -> _Reply:
        """Send the request and read the reply as far as its headers."""
        headers = {
            "Host": str(target.netloc),
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Connection": "close",
        }
        if method == "GET":
            headers["Range"] = "bytes=0-0"
        connection = http.client.HTTPConnection(name, port)
        connection.sock = (
            _tls().wrap_socket(sock, server_hostname=name.rstrip(".")) if target.scheme == "https" else sock
        )
        with closing(connection):
            connection.request(method, target.request_uri, headers=headers)
            with connection.getresponse() as response:
                return _Reply(
                    response.status,
                    _utf8(response.headers.get("Location")),  # the first, where there are two
                    _after(response.status, response.headers.get("Retry-After")),
                )

    def _addresses(self, name: str, port: int) -> Sequence[str]:
        """What a name resolves to, all of it public or allowed."""
        try:
            found = self._resolve(name, port)
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_NAME:
                raise _End("missing", NO_SUCH_NAME) from error
            raise _Silence(_NO_NAME_SERVER) from error
        except UnicodeError as error:  # a label of more than 63 characters
            raise _End("refused", _NO_ADDRESS) from error
        for address in found:
            self._fence(address, port)
        return found

    def _connected(self, addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
        """A connection to the first address that takes one."""
        why = _UNREACHABLE
        for address in addresses:
            if (left := deadline - time.monotonic()) <= 0:
                break  # after an address that took all the time
            try:
                sock = socket.create_connection((address, port), timeout=min(self._limits.connect, left))
            except OSError as error:
                why = _SLOW if isinstance(error, TimeoutError) else _UNREACHABLE
                continue
            try:
                self._fence(str(sock.getpeername()[0]), port)
            except OSError as error:  # the other end has gone already
                sock.close()
                raise _Silence(_CUT, cut=True) from error
            except _End:
                sock.close()
                raise
            sock.settimeout(min(self._limits.read, left))
            return sock
        raise _Silence(why)

    def _fence(self, address: str, port: int) -> None:
        if not is_public(address) and (address, port) not in self._allow:
            raise _End("refused", _PRIVATE)


def _target(address: str) -> Url:
    """An address as it is asked, in ASCII; raises _End for what is never asked."""
    if len(address) > _LONGEST:
        raise _End("refused", _TOO_LONG)
    try:
        target = parse_url(address)
    except LocationParseError as error:
        raise _End("refused", _NO_ADDRESS) from error
    if target.scheme not in ("http", "https"):
        raise _End("refused", _NOT_HTTP)
    if target.auth is not None:
        raise _End("refused", _WITH_USER)
    if not target.host:
        raise _End("refused", _NO_ADDRESS)
    return target._replace(fragment=None, path=target.path or "/")


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError as error:  # a bracket in the host that is none
        raise _End("refused", _NO_ADDRESS) from error


def _utf8(header: str | None) -> str | None:
    """A header that was read as Latin-1, as the UTF-8 that servers send."""
    try:
        return header and header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def _after(status: int, header: str | None) -> float | None:
    """The seconds that a server asks for, 0 where it asks to be left alone without naming any; None where it does not."""
    if status != 429 and (status != 503 or header is None):
        return None
    try:
        return float(min(urllib3.Retry().parse_retry_after(header or "0"), _DAY))
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


# --- what is said of an address ---------------------------------------------------------------------------


def _http(status: int) -> Phrase:
    return Phrase(ko=f"HTTP {status}", en=f"HTTP {status}")


def _redirected(why: Phrase) -> Phrase:
    return Phrase(ko=f"리디렉션된 곳: {why.ko}", en=f"where it redirects to: {why.en}")


def _too_many(count: int) -> Phrase:
    return Phrase(ko=f"리디렉션이 {count}번을 넘는다", en=f"more than {count} redirects")


def _silent(count: int) -> Phrase:
    return Phrase(
        ko=f"호스트가 {count}번 잇달아 답하지 않아 더 묻지 않았다",
        en=f"not asked: its host gave no answer {count} times in a row",
    )


NO_SUCH_NAME = Phrase(ko="그런 이름의 호스트가 없다", en="its host's name does not exist")
_BUSY = Phrase(ko="호스트가 쉬어 달라고 해서 더 묻지 않았다", en="not asked: its host wants to be left alone")
_LOOP = Phrase(ko="리디렉션이 제자리를 돈다", en="redirects in a loop")
_SLOW = Phrase(ko="제때 답하지 않는다", en="no answer in time")
_TLS = Phrase(ko="TLS 연결을 믿을 수 없다", en="its TLS connection cannot be trusted")
_CUT = Phrase(ko="답하다가 연결을 끊는다", en="cuts the connection")
_NONSENSE = Phrase(ko="HTTP가 아닌 답을 한다", en="its answer is not HTTP")
_UNREACHABLE = Phrase(ko="연결할 수 없다", en="cannot be connected to")
_NO_NAME_SERVER = Phrase(ko="이름 서버가 답하지 않는다", en="no name server knows at the moment")
_PRIVATE = Phrase(ko="공개된 인터넷의 주소가 아니다", en="not an address of the public internet")
_NOT_HTTP = Phrase(ko="http나 https 주소가 아니다", en="neither http nor https")
_WITH_USER = Phrase(ko="사용자 이름이나 암호가 들어 있다", en="holds a user name or a password")
_NO_ADDRESS = Phrase(ko="주소가 아니다", en="no address")
_TOO_LONG = Phrase(ko=f"{_LONGEST:,}자보다 길다", en=f"longer than {_LONGEST:,} characters")

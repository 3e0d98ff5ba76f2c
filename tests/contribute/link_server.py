"""A web server on loopback that plays every kind of page a link can lead to, and writes down how it was asked."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass
class Asked:
    """One request; times are of time.monotonic()."""

    method: str
    path: str
    headers: dict[str, str]
    began: float
    ended: float = float("inf")

    @property
    def host(self) -> str:
        """The host's name as it was asked for, without the port."""
        return self.headers["Host"].rpartition(":")[0]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Played:
    """A running server and what happened to it."""

    port: int
    asked: list[Asked] = field(default_factory=list)
    cut: threading.Event = field(
        default_factory=threading.Event
    )  # a client went away while it was kept waiting
    released: threading.Event = field(default_factory=threading.Event)  # nobody is kept waiting any more

    @property
    def lines(self) -> list[str]:
        """The requests as `GET /path`."""
        return [str(each) for each in self.asked]

    @property
    def allow(self) -> frozenset[tuple[str, int]]:
        """What a checker must be allowed, to ask this server."""
        return frozenset({("127.0.0.1", self.port)})

    def at(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a page."""
        return f"http://{host}:{self.port}{path}"


@contextmanager
def playing() -> Iterator[Played]:
    """A server, until the block ends."""
    played = Played(0)
    handler = type("Page", (_Page,), {"played": played, "met": Counter(), "lock": threading.Lock()})
    server = _Server(("127.0.0.1", 0), handler)
    played.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield played
    finally:
        played.released.set()
        server.shutdown()
        thread.join()
        server.server_close()  # waits for the threads of the pages, too


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # those a checker causes that hangs up
            super().handle_error(request, client_address)


class _Page(BaseHTTPRequestHandler):
    played: Played
    met: Counter[str]
    lock: threading.Lock

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        asked = Asked(self.command, self.path, dict(self.headers.items()), time.monotonic())
        with self.lock:
            self.played.asked.append(asked)
            self.met[self.path] += 1
        name, _, rest = self.path.lstrip("/").partition("/")
        page: Callable[[str], None] | None = getattr(self, "page_" + name.replace("-", "_"), None)
        try:
            if page is None:
                self._say(404)
            else:
                page(rest)
        finally:
            asked.ended = time.monotonic()

    def _say(self, status: int, body: bytes = b"page", **headers: str) -> None:
        self.send_response(status)
        for header, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    # --- the pages, each by its first folder --------------------------------------------------------------

    def page_ok(self, rest: str) -> None:
        time.sleep(0.02)  # long enough for two at the same time to meet
        self._say(200)

    def page_status(self, rest: str) -> None:
        self._say(int(rest))

    def page_status_of_head(self, rest: str) -> None:
        self._say(int(rest) if self.command == "HEAD" else 200)

    def page_back_after(self, rest: str) -> None:
        """404 to the first requests with GET, as many as that, then there."""
        with self.lock:
            self.met["GET " + self.path] += self.command == "GET"
            gone = self.met["GET " + self.path] <= int(rest)
        self._say(404 if gone else 200)

    def page_to(self, rest: str) -> None:
        """/to/301/%2Fok"""
        status, _, location = rest.partition("/")
        self._say(int(status), Location=unquote(location))

    def page_nowhere(self, rest: str) -> None:
        self._say(302)

    def page_bytes(self, rest: str) -> None:
        """A Location in UTF-8, as no header may hold it and some do."""
        self.wfile.write("HTTP/1.1 302 Found\r\nLocation: /ok/논문\r\nContent-Length: 0\r\n\r\n".encode())

    def page_twice(self, rest: str) -> None:
        self.wfile.write(
            b"HTTP/1.1 301 Moved\r\nLocation: /ok/1\r\nLocation: /ok/2\r\nContent-Length: 0\r\n\r\n"
        )

    def page_loop(self, rest: str) -> None:
        self._say(302, Location="/loop/b" if rest == "a" else "/loop/a")

    def page_down_the_hole(self, rest: str) -> None:
        self._say(301, Location=f"/down-the-hole/{int(rest) + 1}")

    def page_busy_once(self, rest: str) -> None:
        with self.lock:
            first = self.met[self.path] == 1
        self._say(429 if first else 200, Retry_After=rest)

    def page_busy(self, rest: str) -> None:
        if rest:
            self._say(429, Retry_After=unquote(rest))
        else:
            self._say(429)

    def page_resting(self, rest: str) -> None:
        self._say(503, Retry_After=rest)

    def page_hang(self, rest: str) -> None:
        self._wait_for_the_end()

    def page_slow_body(self, rest: str) -> None:
        if self.command == "HEAD":
            self._say(405)
            return
        self._head(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        self._drip()

    def page_slow_headers(self, rest: str) -> None:
        self._head(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self._drip()

    def page_wide_header(self, rest: str) -> None:
        self._head(b"HTTP/1.1 200 OK\r\nX-Wide: " + b"x" * 100_000 + b"\r\n\r\n")

    def page_many_headers(self, rest: str) -> None:
        self._head(b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 500 + b"\r\n")

    def page_cut(self, rest: str) -> None:
        self.close_connection = True

    def page_cut_head(self, rest: str) -> None:
        if self.command == "GET":
            self._say(200)

    def page_nonsense(self, rest: str) -> None:
        self._head(b"SSH-2.0-OpenSSH_9.2\r\n")

    def page_interrupt(self, rest: str) -> None:
        """What Ctrl-C sends, to the process that asks; then nothing."""
        os.kill(os.getpid(), signal.SIGINT)
        self._wait_for_the_end()

    def _head(self, data: bytes) -> None:
        self.close_connection = True
        self.wfile.write(data)

    def _drip(self) -> None:
        """A byte now and then, until the other end hangs up."""
        try:
            while not self.played.released.wait(0.02):
                self.wfile.write(b"x")
        except ConnectionError:
            self.played.cut.set()

    def _wait_for_the_end(self) -> None:
        """Say nothing until the other end hangs up."""
        self.close_connection = True
        self.connection.settimeout(0.02)
        while not self.played.released.is_set():
            try:
                if not self.connection.recv(1):
                    self.played.cut.set()
                    return
            except TimeoutError:
                continue


def closed_port() -> int:
    """A port of loopback at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port

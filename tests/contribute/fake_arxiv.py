"""arXiv's API, played by a server on this machine: faithful by default, and at fault in every way that was met or feared.

    with fake_arxiv() as server:
        fetch("2307.10159", address=server.url, …)

`fake_arxiv("503", "")` answers the first call with a 503 and all others faithfully.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

ATOM = "application/atom+xml; charset=utf-8"


def entry(
    id: str,
    title: str,
    authors: Sequence[str],
    published: str | None = "2023-07-19T17:39:39Z",
    extra: str = "",
) -> str:
    """One paper as the API writes it; `published` None leaves the date out."""
    date = f"<published>{published}</published>" if published else ""
    people = "".join(f"<author><name>{escape(name)}</name></author>" for name in authors)
    return f"""<entry>
    <id>http://arxiv.org/abs/{id}</id>
    <updated>2023-07-19T17:39:39Z</updated>
    {date}
    <title>{escape(title)}</title>
    <summary>  In an era where visual content generation is increasingly driven by machine learning.
</summary>
    {people}
    {extra}
    <link href="http://arxiv.org/abs/{id}" rel="alternate" type="text/html"/>
    <link title="pdf" href="http://arxiv.org/pdf/{id}" rel="related" type="application/pdf"/>
    <arxiv:primary_category xmlns:arxiv="http://arxiv.org/schemas/atom" term="cs.CV"
      scheme="http://arxiv.org/schemas/atom"/>
    <category term="cs.CV" scheme="http://arxiv.org/schemas/atom"/>
  </entry>"""


def feed(*entries: str, total: int | None = None) -> bytes:
    """A whole answer."""
    found = len(entries) if total is None else total
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <link href="http://arxiv.org/api/query?search_query%3D%26id_list%3D" rel="self" type="application/atom+xml"/>
  <title type="html">ArXiv Query: search_query=&amp;id_list=&amp;start=0&amp;max_results=1</title>
  <id>http://arxiv.org/api/cHxbiOdZaP56ODnBPIenZhzg5f8</id>
  <updated>2024-01-01T00:00:00-05:00</updated>
  <opensearch:totalResults xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">{found}</opensearch:totalResults>
  <opensearch:startIndex xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">0</opensearch:startIndex>
  <opensearch:itemsPerPage xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">1</opensearch:itemsPerPage>
  {"".join(entries)}
</feed>
""".encode()


_NAMES = ("Dimitri von Rütte", "Elisabetta Fedele", "Jonathan Thomm", "Lukas Wolf")
FABRIC = entry(
    "2307.10159v1",
    "FABRIC: Personalizing Diffusion Models with Iterative\n  Feedback",
    _NAMES,
    extra='<arxiv:comment xmlns:arxiv="http://arxiv.org/schemas/atom">14 pages, 5 figures</arxiv:comment>',
)
_ERROR = """<entry>
    <id>http://arxiv.org/api/errors#incorrect_id_format_for_2307.10159</id>
    <title>Error</title>
    <summary>incorrect id format for 2307.10159</summary>
    <updated>2024-01-01T00:00:00-05:00</updated>
    <published>2024-01-01T00:00:00-05:00</published>
    <author><name>arXiv api core</name></author>
  </entry>"""
_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE feed [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><feed xmlns="http://www.w3.org/2005/Atom"><title>&c;</title></feed>'
)
_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>Log in to the network</title></head><body>Welcome!</body></html>"
)


@dataclass(frozen=True)
class Call:
    """One request: what was asked, when it arrived (monotonic seconds), who asked."""

    query: dict[str, list[str]]
    at: float
    agent: str


@dataclass
class FakeArxiv:
    """The server as a test sees it: its address, and the calls that arrived."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    faults: Sequence[str]
    entries: Mapping[str, str]
    seen: FakeArxiv
    closing: threading.Event

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        number = len(self.seen.calls)
        self.seen.calls.append(Call(query, time.monotonic(), self.headers["User-Agent"]))
        fault = self.faults[min(number, len(self.faults) - 1)] if self.faults else ""
        try:
            if fault:
                FAULTS[fault](self)
            else:
                id = query.get("id_list", [""])[0]
                self.answer(feed(self.entries[id]) if id in self.entries else feed())
        except (BrokenPipeError, ConnectionResetError):
            pass  # who asked has gone: that is how a time-out ends

    def answer(
        self, body: bytes, status: int = 200, media: str = ATOM, *, length: int | None = None, **headers: str
    ) -> None:
        """An answer; `length` is what it claims to be long."""
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, head: bytes) -> None:
        """`head`, and then a space every hundredth of a second, for ever."""
        self.wfile.write(head)
        while not self.closing.wait(0.01):
            self.wfile.write(b" ")

    def half(self) -> None:
        """Half an answer."""
        whole = feed(FABRIC)
        self.answer(whole[: len(whole) // 2], length=len(whole))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def _cut_head(handler: _Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Ty")


def _stall(handler: _Handler) -> None:
    handler.closing.wait(60)


def _stall_body(handler: _Handler) -> None:
    handler.half()
    handler.closing.wait(60)


def _drip(handler: _Handler) -> None:
    handler.drip(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/atom+xml\r\nContent-Length: 900000\r\n\r\n<feed>"
    )


def _giant(handler: _Handler) -> None:
    handler.answer(feed(FABRIC) + b" " * 9_000_000)


def _giant_gzip(handler: _Handler) -> None:
    handler.answer(gzip.compress(feed(FABRIC) + b" " * 90_000_000, 1), Content_Encoding="gzip")


def _paper(**changes: object) -> Callable[[_Handler], None]:
    facts = {"id": "2307.10159v1", "title": "FABRIC", "authors": _NAMES} | changes
    return lambda handler: handler.answer(feed(entry(**facts)))  # type: ignore[arg-type]


def _answers(body: bytes, status: int = 200, media: str = ATOM, **headers: str) -> Callable[[_Handler], None]:
    return lambda handler: handler.answer(body, status, media, length=None, **headers)


FAULTS: dict[str, Callable[[_Handler], None]] = {
    "429": _answers(b"Rate exceeded.", 429, "text/plain"),
    "429 after 50 s": _answers(b"Rate exceeded.", 429, "text/plain", Retry_After="50"),
    "429 after an hour": _answers(b"Rate exceeded.", 429, "text/plain", Retry_After="3600"),
    "429 after nonsense": _answers(b"Rate exceeded.", 429, "text/plain", Retry_After="soon"),
    "503": _answers(b"", 503, "text/html"),
    "503 until a date": lambda handler: handler.answer(
        b"", 503, "text/html", Retry_After=formatdate(time.time() + 55, usegmt=True)
    ),
    "500": _answers(b"Internal error", 500, "text/plain"),
    "403": _answers(_HTML, 403, "text/html"),
    "404": _answers(_HTML, 404, "text/html"),
    "redirect": _answers(b"", 302, Location="http://login.example/?next=arxiv"),
    "html": _answers(_HTML, 200, "text/html; charset=utf-8"),
    "html as a feed": _answers(_HTML, 200),
    "empty": _answers(b""),
    "blank": _answers(b" \n "),
    "truncated": _answers(feed(FABRIC)[:900]),
    "latin-1 bytes": _answers(feed(FABRIC).decode().encode("latin-1")),
    "other xml": _answers(b"<?xml version='1.0'?><rss><channel/></rss>", 200, "application/xml"),
    "json": _answers(b'{"feed": []}', 200, "application/json"),
    "error feed": _answers(feed(_ERROR)),
    "error feed with 400": _answers(feed(_ERROR), 400),
    "no paper": _answers(feed()),
    "hollow paper": _answers(
        feed("<entry><id>http://arxiv.org/abs/2307.10159</id><title/><published/></entry>")
    ),
    "lost paper": _answers(feed(total=1)),
    "another paper": _paper(id="2010.02502v4", title="Denoising Diffusion Implicit Models"),
    "a page for an id": _paper(id="list/cs.CV"),
    "no authors": _paper(authors=()),
    "no title": _paper(title=" "),
    "no date": _paper(published=None),
    "wrong date": _paper(published="yesterday"),
    "impossible date": _paper(published="0001-01-01T00:00:00+14:00"),
    "bomb": _answers(_BOMB),
    "hang up": lambda handler: None,
    "cut in the head": _cut_head,
    "cut in the body": _Handler.half,
    "stall": _stall,
    "stall in the body": _stall_body,
    "drip": _drip,
    "giant": _giant,
    "giant when unpacked": _giant_gzip,
}


@contextmanager
def fake_arxiv(*faults: str, entries: Mapping[str, str] | None = None) -> Iterator[FakeArxiv]:
    """The server, while the block runs. `faults`: one for each call (see FAULTS, "" for none), the last for all others.

    `entries`: what it knows, by identifier, in place of FABRIC (2307.10159) alone.
    """
    seen, closing = FakeArxiv(), threading.Event()
    known = {"2307.10159": FABRIC} if entries is None else entries
    handler = type(
        "Handler", (_Handler,), {"faults": faults, "entries": known, "seen": seen, "closing": closing}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False  # so that closing waits for what is still being answered
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/api/query"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield seen
    finally:
        closing.set()
        server.shutdown()
        thread.join()
        server.server_close()

"""The checker of links, against a server that plays what links lead to. Nothing here leaves loopback."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from denoised.catalog import load
from denoised.contribute.link_check import (
    USER_AGENT,
    Answer,
    Limits,
    Resolve,
    ask,
    is_public,
    system_addresses,
)
from denoised.contribute.links import (
    DEAD_AFTER,
    FORMATS,
    ISSUE_LIMIT,
    ROWS,
    Link,
    State,
    Use,
    as_markdown,
    as_text,
    collect,
    links_command,
)
from denoised.errors import DenoisedError, Exit
from denoised.language import Phrase, speaking
from tests.contribute.link_server import Played, closed_port, playing

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK = Limits(interval=0.0, arxiv=0.0)  # patient with answers, without the pauses between them
DAYS = [date(2026, 3, day) for day in (2, 9, 16, 23, 30)]


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that a socket was told to connect to. None is outside of loopback, and no name is looked up."""
    told: list[str] = []
    really = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        told.append(str(address[0]))
        assert address[0] in ("127.0.0.1", "127.0.0.2", "0.0.0.0"), f"a test may not connect to {address}"
        really(self, address)

    looked_up = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        assert "." not in host or re.fullmatch(r"[0-9a-fx.:]+", host), f"a test may not look up {host}"
        return looked_up(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return told


@pytest.fixture
def server() -> Iterator[Played]:
    with playing() as played, speaking("en"):
        yield played


def names(known: Mapping[str, str | int]) -> Resolve:
    """A resolver of these names, to an address or to the error of getaddrinfo; numbers are what they are."""

    def resolve(host: str, port: int) -> list[str]:
        found = known.get(host, host)
        if isinstance(found, int):
            raise socket.gaierror(found, "played")
        return [str(ipaddress.ip_address(found))]

    return resolve


def asked(
    *addresses: str,
    server: Played | None = None,
    limits: Limits = QUICK,
    resolve: Resolve = system_addresses,
    allow: frozenset[tuple[str, int]] = frozenset(),
) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    allow |= server.allow if server else frozenset()
    ask(addresses, answers.__setitem__, limits=limits, allow=allow, resolve=resolve)
    assert set(answers) == set(addresses)
    return answers


def answer(server: Played, path: str, limits: Limits = QUICK) -> Answer:
    return asked(server.at(path), server=server, limits=limits)[server.at(path)]


# --- what a server says -----------------------------------------------------------------------------------


def test_a_page_that_is_there_is_asked_once_without_its_body(server: Played) -> None:
    assert answer(server, "/ok") == Answer("ok", Phrase("HTTP 200", "HTTP 200"), 200, answered=True)
    assert server.lines == ["HEAD /ok"]
    assert server.asked[0].headers["User-Agent"] == USER_AGENT
    assert USER_AGENT.startswith("denoised-links/") and "papers" in USER_AGENT


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 500, 501, 503])
def test_a_server_that_knows_only_get_is_asked_again_with_it(server: Played, status: int) -> None:
    path = f"/status-of-head/{status}"
    assert answer(server, path).outcome == "ok"
    assert server.lines == [f"HEAD {path}", f"GET {path}"]
    assert server.asked[1].headers["Range"] == "bytes=0-0" and "Range" not in server.asked[0].headers


def test_a_server_that_hangs_up_on_head_is_asked_with_get(server: Played) -> None:
    assert answer(server, "/cut-head").outcome == "ok"
    assert server.lines == ["HEAD /cut-head", "GET /cut-head"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((200, "ok"), (204, "ok"), (206, "ok"), (416, "ok")),
        *((404, "missing"), (410, "missing")),
        *((400, "unknown"), (401, "unknown"), (403, "unknown"), (451, "unknown"), (300, "unknown")),
        *((304, "unknown"), (418, "unknown"), (500, "unknown"), (502, "unknown"), (503, "unknown")),
    ],
)
def test_a_status_says_that_a_page_is_there_or_gone_or_nothing(
    server: Played, status: int, outcome: str
) -> None:
    found = answer(server, f"/status/{status}")
    assert (found.outcome, found.status, found.why.en) == (outcome, status, f"HTTP {status}")


def test_no_body_is_waited_for(server: Played) -> None:
    assert answer(server, "/slow-body").outcome == "ok"
    assert server.cut.wait(30)


def test_what_is_asked_is_ascii_and_has_no_fragment(server: Played) -> None:
    assert answer(server, "/ok/논문 1?q=가#부분").outcome == "ok"
    assert server.lines == ["HEAD /ok/%EB%85%BC%EB%AC%B8%201?q=%EA%B0%80"]


def test_an_address_is_asked_once_however_often_it_is_named(server: Played) -> None:
    told: list[str] = []
    ask([server.at("/ok")] * 3, lambda each, _: told.append(each), limits=QUICK, allow=server.allow)
    assert told == [server.at("/ok")] and server.lines == ["HEAD /ok"]


def test_a_bug_in_a_thread_ends_the_command(server: Played) -> None:
    def broken(host: str, port: int) -> list[str]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asked("http://site.example/", "http://other.example/", resolve=broken)


def test_nothing_to_ask_is_no_error() -> None:
    assert asked() == {}


# --- redirects --------------------------------------------------------------------------------------------


def to(status: int, location: str) -> str:
    return f"/to/{status}/" + location.replace("%", "%25").replace("/", "%2F")


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (to(301, "/ok"), "/ok"),
        (to(308, "/ok"), "/ok"),
        (to(301, "../../ok"), "/ok"),
        (to(308, to(301, "/ok/end")), "/ok/end"),
        # what a temporary redirect leads to says nothing of this address
        (to(301, to(302, "/ok")), to(302, "/ok")),
    ],
)
def test_a_permanent_redirect_is_told_with_the_new_address(server: Played, path: str, new: str) -> None:
    found = answer(server, path)
    assert (found.outcome, found.new, found.status) == ("moved", server.at(new), 200)


@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_temporary_redirect_is_none_of_our_business(server: Played, status: int) -> None:
    found = answer(server, to(status, to(301, "/ok")))
    assert (found.outcome, found.new) == ("ok", None)


@pytest.mark.parametrize(
    ("end", "outcome"), [(404, "missing"), (410, "missing"), (403, "unknown"), (500, "unknown")]
)
def test_where_it_ends_decides_whatever_moved_on_the_way(server: Played, end: int, outcome: str) -> None:
    found = answer(server, to(301, f"/status/{end}"))
    assert (found.outcome, found.new, found.status) == (outcome, None, end)


def test_a_loop_is_told(server: Played) -> None:
    found = answer(server, "/loop/a")
    assert (found.outcome, found.why.en) == ("unknown", "redirects in a loop")
    assert server.lines == ["HEAD /loop/a", "HEAD /loop/b"]


def test_eight_redirects_are_followed_and_not_nine(server: Played) -> None:
    found = answer(server, "/down-the-hole/0")
    assert (found.outcome, found.why.en) == ("unknown", "more than 8 redirects")
    assert server.lines == [f"HEAD /down-the-hole/{n}" for n in range(9)]


def test_a_redirect_to_nowhere_is_unknown(server: Played) -> None:
    found = answer(server, "/nowhere")
    assert (found.outcome, found.why.en) == ("unknown", "HTTP 302")
    assert server.lines == ["HEAD /nowhere", "GET /nowhere"]


def test_a_location_in_utf8_is_followed_and_of_two_the_first(server: Played) -> None:
    assert answer(server, "/bytes").outcome == "ok"
    assert server.lines[-1] == "HEAD /ok/%EB%85%BC%EB%AC%B8"
    assert answer(server, "/twice").new == server.at("/ok/1")


# --- the fence --------------------------------------------------------------------------------------------

PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
    *(
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
    ),
    *("::1", "::", "fe80::1", "fe80::1%1", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "ff0e::1"),
    *("2001:db8::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2002:808:808::1"),
    *("2001:0:808:808::1", "100::1", "4000::1", "", "example.org", "127.1", "2130706433"),
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::6810:84e5", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_only_public_addresses_are_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


NOT_PUBLIC = "not an address of the public internet"
NEVER = {
    "http://127.0.0.1/": NOT_PUBLIC,
    "https://127.0.0.1:8443/x": NOT_PUBLIC,
    "http://localhost/": NOT_PUBLIC,
    "http://127.1/": NOT_PUBLIC,
    "http://2130706433/": NOT_PUBLIC,
    "http://0x7f000001/": NOT_PUBLIC,
    "http://0177.0.0.1/": NOT_PUBLIC,
    "http://0/": NOT_PUBLIC,
    "http://[::1]/": NOT_PUBLIC,
    "http://[::ffff:127.0.0.1]/": NOT_PUBLIC,
    "http://[::ffff:a9fe:a9fe]/latest/meta-data/": NOT_PUBLIC,
    "http://[fe80::1%25lo]/": NOT_PUBLIC,
    "http://169.254.169.254/latest/meta-data/": NOT_PUBLIC,
    "http://10.0.0.1/": NOT_PUBLIC,
    "http://224.0.0.1/": NOT_PUBLIC,
    "http://someone@example.org/": "holds a user name or a password",
    "http://someone:secret@example.org/": "holds a user name or a password",
    "http://example.org@127.0.0.1/": "holds a user name or a password",
    "ftp://example.org/": "neither http nor https",
    "file:///etc/passwd": "neither http nor https",
    "javascript:alert(1)": "neither http nor https",
    "//example.org/": "neither http nor https",
    "": "neither http nor https",
    "http://": "no address",
    "http:///etc/passwd": "no address",
    "http://[::1/": "no address",
    "http://example.org:99999/": "no address",
    "http://" + "a" * 64 + "/": "no address",
    "http://example.org/" + "x" * 4_000: "longer than 4,000 characters",
}


@pytest.mark.parametrize(("address", "why"), NEVER.items())
def test_what_is_refused_is_never_connected_to(address: str, why: str, connections: list[str]) -> None:
    found = asked(address)[address]
    assert (found.outcome, found.why.en) == ("refused", why)
    assert connections == []


def test_who_is_looked_up_is_who_is_asked_however_an_address_is_written(server: Played) -> None:
    address = f"http://good.example\\@127.0.0.1:{server.port}/ok"
    found = asked(address, server=server, resolve=names({"good.example": socket.EAI_NONAME}))[address]
    assert found.outcome == "missing" and server.asked == []


@pytest.mark.parametrize(
    "where",
    [
        *("http://127.0.0.1:{closed}/", "http://169.254.169.254/latest/meta-data/", "//[::1]:{closed}/"),
        *(
            "http://inside.example/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "http://someone@127.0.0.1:{port}/",
        ),
        *("http://[", "https://127.0.0.1:{closed}/", "http://localhost:{closed}/"),
    ],
)
@pytest.mark.parametrize("status", [301, 302])
def test_a_redirect_leads_out_of_the_fence_as_little(
    server: Played, connections: list[str], where: str, status: int
) -> None:
    address = server.at(to(status, where.format(closed=closed_port(), port=server.port)))
    found = asked(
        address, server=server, resolve=names({"inside.example": "10.0.0.1", "localhost": "127.0.0.1"})
    )[address]
    assert found.outcome == "refused" and found.why.en.startswith("where it redirects to: ")
    assert found.new is None and len(server.asked) == len(connections) == 1


def test_one_private_address_among_those_of_a_name_is_enough(connections: list[str]) -> None:
    address = "http://two.example/"
    found = asked(address, resolve=lambda host, port: ["8.8.8.8", "::ffff:10.0.0.1"])[address]
    assert (found.outcome, found.why.en, connections) == ("refused", NOT_PUBLIC, [])


def test_a_name_is_resolved_once_and_what_it_said_then_is_connected_to(server: Played) -> None:
    said: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        said.append(host)
        return ["127.0.0.1"] if len(said) == 1 else ["10.0.0.1"]

    address = server.at("/ok", "twice.example")
    assert asked(address, server=server, resolve=rebinding)[address].outcome == "ok"
    assert said == ["twice.example"] and server.asked[0].headers["Host"] == f"twice.example:{server.port}"
    # and the next request looks again
    again = server.at(to(302, server.at("/ok", "twice.example")), "twice.example")
    said.clear()
    assert asked(again, server=server, resolve=rebinding)[again].outcome == "refused"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_who_really_answers_the_connection_is_looked_at_before_a_byte_is_sent(scheme: str) -> None:
    # 0.0.0.0 is how a connection comes to lie elsewhere than asked: the system makes 127.0.0.1 of it.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        address = f"{scheme}://any.example:{port}/"
        allow = frozenset({("0.0.0.0", port)})
        found = asked(address, allow=allow, resolve=names({"any.example": "0.0.0.0"}))[address]
        assert (found.outcome, found.why.en) == ("refused", NOT_PUBLIC)
        with listener.accept()[0] as connection:
            assert connection.recv(1000) == b""


def test_only_the_allowed_port_is_allowed(server: Played) -> None:
    with playing() as other:
        found = asked(server.at("/ok"), other.at("/ok"), server=server)
        assert found[server.at("/ok")].outcome == "ok"
        assert found[other.at("/ok")].outcome == "refused" and other.asked == []


# --- servers that do not answer ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/wide-header", "its answer is not HTTP"),
        ("/many-headers", "its answer is not HTTP"),
        ("/nonsense", "its answer is not HTTP"),
        ("/cut", "cuts the connection"),
    ],
)
def test_an_answer_that_is_none_is_unknown(server: Played, path: str, why: str) -> None:
    found = answer(server, path)
    assert (found.outcome, found.why.en, found.answered) == ("unknown", why, False)


def test_a_server_that_hangs_is_left(server: Played) -> None:
    found = answer(server, "/hang", Limits(interval=0.0, read=0.2))
    assert (found.outcome, found.why.en) == ("unknown", "no answer in time")
    assert server.lines == ["HEAD /hang"] and server.cut.wait(30)


def test_a_server_that_drips_is_cut_off_although_it_never_falls_silent(server: Played) -> None:
    found = answer(server, "/slow-headers", Limits(interval=0.0, total=0.5))
    # the 200 that had come by then is no answer: nobody knows what its headers would have said
    assert (found.outcome, found.why.en) == ("unknown", "no answer in time")
    assert server.cut.wait(30)


def test_tls_with_a_server_that_has_none_is_unknown(server: Played) -> None:
    address = server.at("/ok").replace("http:", "https:")
    found = asked(address, server=server)[address]
    assert (found.outcome, found.why.en) == ("unknown", "its TLS connection cannot be trusted")
    assert server.asked == []


def test_tls_that_hangs_in_the_middle_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        address = f"https://127.0.0.1:{port}/"
        found = asked(
            address, allow=frozenset({("127.0.0.1", port)}), limits=Limits(interval=0.0, read=30, total=0.3)
        )[address]
        assert (found.outcome, found.why.en) == ("unknown", "no answer in time")


def test_nobody_at_the_port_is_unknown() -> None:
    port = closed_port()
    address = f"http://127.0.0.1:{port}/"
    found = asked(address, allow=frozenset({("127.0.0.1", port)}))[address]
    assert (found.outcome, found.why.en) == ("unknown", "cannot be connected to")


def test_the_second_address_of_a_name_is_tried_where_the_first_does_not_answer(
    server: Played, connections: list[str]
) -> None:
    address = server.at("/ok", "two.example")
    found = asked(
        address,
        allow=server.allow | {("127.0.0.2", server.port)},
        resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"],
    )[address]
    assert found.outcome == "ok" and connections == ["127.0.0.2", "127.0.0.1"]


@pytest.mark.parametrize("error", [socket.EAI_NONAME, socket.EAI_NODATA])
def test_a_name_that_does_not_exist_is_missing(error: int) -> None:
    address = "https://gone.invalid/"
    found = asked(address, resolve=names({"gone.invalid": error}))[address]
    assert (found.outcome, found.status, found.why.en) == ("missing", None, "its host's name does not exist")


@pytest.mark.parametrize("error", [socket.EAI_AGAIN, socket.EAI_FAIL])
def test_a_name_server_that_fails_says_nothing(error: int) -> None:
    address = "https://gone.invalid/"
    found = asked(address, resolve=names({"gone.invalid": error}))[address]
    assert (found.outcome, found.why.en) == ("unknown", "no name server knows at the moment")


def test_a_redirect_to_a_name_that_does_not_exist_is_missing(server: Played) -> None:
    address = server.at(to(301, "https://gone.invalid/"))
    found = asked(address, server=server, resolve=names({"gone.invalid": socket.EAI_NONAME}))[address]
    assert (found.outcome, found.answered) == ("missing", True)
    assert found.why.en == "where it redirects to: its host's name does not exist"


# --- politeness -------------------------------------------------------------------------------------------


def spans(server: Played, host: str) -> list[tuple[float, float]]:
    return sorted((each.began, each.ended) for each in server.asked if each.host == host)


def test_one_host_is_never_asked_twice_at_the_same_time_nor_without_a_pause(server: Played) -> None:
    limits = Limits(interval=0.05, arxiv=0.15, hosts=6)
    hosts = ["one.example", "two.example", "arxiv.org"]
    pages = [server.at(f"/ok/{n}", host) for host in hosts for n in range(4)]
    # and through redirects as well, from one host to the other, and with a second request after HEAD
    pages += [server.at(to(302, server.at("/ok/end", hosts[1 - n])), hosts[n]) for n in (0, 1)]
    pages += [server.at("/status-of-head/403", host) for host in hosts]
    pages += [server.at("/ok/5", "export.arxiv.org")]
    found = asked(
        *pages,
        server=server,
        limits=limits,
        resolve=names(dict.fromkeys([*hosts, "export.arxiv.org"], "127.0.0.1")),
    )
    assert {each.outcome for each in found.values()} == {"ok"}
    for host in hosts:
        met = spans(server, host) + (spans(server, "export.arxiv.org") if host == "arxiv.org" else [])
        pause = limits.arxiv if host == "arxiv.org" else limits.interval
        assert len(met) >= 6
        # a server notices the end of a request a little later than who made it, never earlier
        assert all(later[0] - earlier[0] >= pause for earlier, later in pairwise(sorted(met)))
        assert all(later[0] > earlier[1] for earlier, later in pairwise(sorted(met)))


def test_several_hosts_are_asked_at_the_same_time(server: Played) -> None:
    hosts = ["one.example", "two.example"]
    found = asked(
        *(server.at("/hang", host) for host in hosts),
        server=server,
        limits=Limits(interval=0.0, read=1.0),
        resolve=names(dict.fromkeys(hosts, "127.0.0.1")),
    )
    assert len(found) == 2
    (_, first_ended), (second_began, _) = spans(server, hosts[0])[0], spans(server, hosts[1])[0]
    assert second_began < first_ended


def test_a_short_wait_is_waited_for_once(server: Played) -> None:
    assert answer(server, "/busy-once/1").outcome == "ok"
    first, second = server.asked
    assert second.began - first.ended >= 1.0
    server.asked.clear()
    found = answer(server, "/busy/1")
    assert (found.outcome, found.why.en) == ("unknown", "HTTP 429")
    assert server.lines == ["HEAD /busy/1", "HEAD /busy/1"]


@pytest.mark.parametrize("path", ["/busy/3600", "/busy/0", "/busy/soon", "/busy", "/resting/3600"])
def test_a_host_that_wants_to_be_left_alone_is(server: Played, path: str) -> None:
    found = asked(server.at(path), server.at("/ok"), server.at("/ok/2"), server=server)
    assert [each.outcome for each in found.values()] == ["unknown"] * 3
    assert [each.why.en for each in found.values()][1:] == ["not asked: its host wants to be left alone"] * 2
    assert server.lines == [f"HEAD {path}"]


def test_a_date_to_come_back_at_is_understood(server: Played) -> None:
    path = "/busy/Fri,%2031%20Dec%202199%2023:59:59%20GMT"
    assert answer(server, path).outcome == "unknown" and len(server.asked) == 1


def test_a_host_that_never_answers_is_given_up(server: Played) -> None:
    pages = [server.at(f"/hang/{n}") for n in range(5)]
    found = asked(*pages, server=server, limits=Limits(interval=0.0, read=0.1, patience=3))
    assert [each.why.en for each in found.values()] == [
        *["no answer in time"] * 3,
        *["not asked: its host gave no answer 3 times in a row"] * 2,
    ]
    assert len(server.asked) == 3


# --- what to check ----------------------------------------------------------------------------------------

ENTRY = """
  - id: {id}
    name: Name of {id}
    kind: post
    title: Title of {id}
    category: foundations
    links: {{{links}}}
    sentence:
      ko: 한 문장으로 말한다.
      en: One sentence.
"""


def project(root: Path, **links: str) -> Path:
    """A project whose catalog holds these entries; the values are their links, as YAML."""
    head = "categories:\n  - {id: foundations, name: {ko: 기초, en: Foundations}}\npapers:"
    entries = "".join(ENTRY.format(id=id.replace("_", "-"), links=text) for id, text in sorted(links.items()))
    (root / "catalog.yaml").write_text(head + entries, encoding="utf-8")
    return root


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


NOTE = """# 노트

[코드](https://code.example/x) 그리고 <https://auto.example/>
다음 줄의 [링크][1], [다른 노트](../b/index.md), <mail@example.org>, `https://in-code.example/`

```
curl http://localhost:8000/
```

| 표 |
| --- |
| [괄호](https://wiki.example/A_(b)) |

[1]: https://by-reference.example/ "title"
"""


def test_every_address_is_collected_once_with_all_its_places(tmp_path: Path) -> None:
    project(
        tmp_path,
        a='arxiv: "2010.02502", code: "https://code.example/x"',
        b='code: "https://code.example/x#readme", demo: "https://demo.example/"',
    )
    put(tmp_path / "papers" / "a" / "ko.md", NOTE)
    put(
        tmp_path / "site" / "pages" / "method.en.md",
        "\n\n[x](ftp://old.example/) [y](//relative.example/)\n[z](http://[#a)\n",
    )
    put(tmp_path / "site" / "worlds" / "toys.ko.md", "[x](https://demo.example/)")
    catalog = load(tmp_path / "catalog.yaml")
    found = {address: [str(use) for use in uses] for address, uses in collect(tmp_path, catalog).items()}
    assert found == {
        "https://arxiv.org/abs/2010.02502": ["a: links.arxiv"],
        "https://code.example/x": ["a: links.code", "b: links.code", "papers/a/ko.md:3"],
        "https://demo.example/": ["b: links.demo", "site/worlds/toys.ko.md:1"],
        "https://auto.example/": ["papers/a/ko.md:3"],
        "https://by-reference.example/": ["papers/a/ko.md:4"],
        "https://wiki.example/A_(b)": ["papers/a/ko.md:12"],
        "ftp://old.example/": ["site/pages/method.en.md:3"],
        "//relative.example/": ["site/pages/method.en.md:3"],
        "http://%5B": ["site/pages/method.en.md:4"],
    }
    assert set(collect(tmp_path, catalog, ["b"])) == {"https://code.example/x", "https://demo.example/"}
    with pytest.raises(DenoisedError, match="`c`"):
        collect(tmp_path, catalog, ["c"])


def test_sources_of_numbers_and_links_in_sentences_count(tmp_path: Path) -> None:
    project(tmp_path, a="")
    text = (tmp_path / "catalog.yaml").read_text(encoding="utf-8")
    text = text.replace("en: One sentence.", "en: One [sentence](https://said.example/).") + (
        "    reported:\n"
        "      - {metric: fid, value: 1.5, source: 'https://source.example/table'}\n"
        "      - {metric: fid, value: 2.5, source: Table 1}\n"
    )
    (tmp_path / "catalog.yaml").write_text(text, encoding="utf-8")
    assert collect(tmp_path, load(tmp_path / "catalog.yaml")) == {
        "https://source.example/table": [Use("a", "reported[0].source")],
        "https://said.example/": [Use("a", "sentence.en")],
    }


def test_the_projects_own_addresses_are_all_collected() -> None:
    catalog = load(ROOT / "catalog.yaml")
    uses = collect(ROOT, catalog)
    for paper in catalog.papers:
        if paper.arxiv_url:
            assert Use(paper.id, "links.arxiv") in uses[paper.arxiv_url]
    linked = {
        str(address)
        for paper in catalog.papers
        for name, address in paper.links
        if address and name != "arxiv"
    }
    assert {address.partition("#")[0] for address in linked} <= set(uses)
    assert not [address for address in uses if not re.match("https?://", address)]


# --- from run to run --------------------------------------------------------------------------------------


class World:
    """A project of one entry a page, its server, and the command run on a day."""

    def __init__(self, root: Path, server: Played, **paths: str) -> None:
        self.root = root
        self.server = server
        self.state = root / "state.json"
        self.resolve = names({"site.example": "127.0.0.1", "gone.invalid": socket.EAI_NONAME})
        self.link(**paths)

    def link(self, **paths: str) -> None:
        """Another catalog: each entry's link, as a path on the server or an address."""
        whole = {id: path if "://" in path else self.at(path) for id, path in paths.items()}
        project(self.root, **{id: f'project: "{address}"' for id, address in whole.items()})

    def at(self, path: str) -> str:
        return self.server.at(path, "site.example")

    def run(self, day: date, *ids: str, **changes: Any) -> Exit:
        options: dict[str, Any] = {"state": self.state, "format": "json", "limits": QUICK, "today": day}
        return links_command(
            self.root, ids, allow=self.server.allow, resolve=self.resolve, **options | changes
        )

    def remembered(self) -> dict[str, list[str]]:
        missing: dict[str, list[str]] = json.loads(self.state.read_bytes())["missing"]
        return missing


def standings(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {link["address"]: link["standing"] for link in json.loads(capsys.readouterr().out)["links"]}


def test_dead_is_what_was_missing_on_three_days(
    tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, server, gone="/status/404", here="/ok")
    gone, here = world.at("/status/404"), world.at("/ok")
    for day, code, standing in [
        (DAYS[0], Exit.OK, "missing"),
        (DAYS[0], Exit.OK, "missing"),  # the same day does not count twice
        (DAYS[0], Exit.OK, "missing"),
        (DAYS[1], Exit.OK, "missing"),
        (DAYS[2], Exit.FINDINGS, "dead"),
        (DAYS[3], Exit.FINDINGS, "dead"),
    ]:
        assert world.run(day) == code
        assert standings(capsys) == {gone: standing, here: "ok"}
    assert world.remembered() == {gone: [day.isoformat() for day in DAYS[:3]]}
    assert not (tmp_path / "state.json.damaged").exists()


def test_an_address_that_works_again_is_forgotten(
    tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, server, a="/back-after/2")
    page = world.at("/back-after/2")
    for day, standing, seen in [
        (DAYS[0], "missing", {page: ["2026-03-02"]}),
        (DAYS[1], "missing", {page: ["2026-03-02", "2026-03-09"]}),
        (DAYS[2], "ok", {}),
    ]:
        assert world.run(day) == Exit.OK
        assert standings(capsys) == {page: standing} and world.remembered() == seen


def test_a_day_on_which_nobody_can_say_changes_nothing(tmp_path: Path, server: Played) -> None:
    seen = State(missing={server.at("/status/403", "site.example"): tuple(DAYS[:2])})
    world = World(tmp_path, server, a="/status/403")
    world.state.write_bytes(seen.written())
    assert world.run(DAYS[2]) == Exit.OK
    assert world.state.read_bytes() == seen.written()


def test_what_is_in_the_catalog_no_more_is_forgotten_by_a_whole_run_only(
    tmp_path: Path, server: Played
) -> None:
    world = World(tmp_path, server, a="/status/404", b="/status/410")
    world.run(DAYS[0])
    world.link(b="/status/410")
    world.run(DAYS[1], "b")
    assert world.remembered() == {
        world.at("/status/404"): ["2026-03-02"],
        world.at("/status/410"): ["2026-03-02", "2026-03-09"],
    }
    world.run(DAYS[1])
    assert set(world.remembered()) == {world.at("/status/410")}


def test_without_a_state_nothing_is_dead_and_nothing_is_written(
    tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, server, a="/status/404")
    for day in DAYS:
        assert world.run(day, state=None) == Exit.OK
        assert set(standings(capsys).values()) == {"missing"}
    assert not world.state.exists()


def test_a_machine_that_is_offline_calls_no_name_missing(
    tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, server, a="https://gone.invalid/")
    assert world.run(DAYS[0]) == Exit.OK
    (link,) = json.loads(capsys.readouterr().out)["links"]
    assert (
        link["standing"] == "unknown" and link["why"]["en"] == "no host answered: this machine may be offline"
    )
    assert world.remembered() == {}
    # one server that answers, be it with a refusal, shows that we are not
    world.link(a="https://gone.invalid/", b="/status/403")
    world.run(DAYS[0])
    assert world.remembered() == {"https://gone.invalid/": ["2026-03-02"]}


def test_the_state_is_canonical_json_and_the_same_again(tmp_path: Path, server: Played) -> None:
    world = World(tmp_path, server, b="/status/404", a="/status/410")
    world.run(DAYS[0])
    first = world.state.read_bytes()
    assert first == (json.dumps(json.loads(first), indent=1, sort_keys=True) + "\n").encode()
    world.run(DAYS[0])
    assert world.state.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if "state" in path.name] == ["state.json"]


A = "https://site.example/"
GOOD = State(missing={A: (DAYS[0],)}).written()
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "half": GOOD[:40],
    "not UTF-8": b"\xff\xfe",
    "null": b"null",
    "list": b"[]",
    "an integer of many digits": b'{"schema_version": ' + b"9" * 10_000 + b"}",
    "deep": b"[" * 100_000,
    "another spelling": GOOD.replace(b"\n", b""),
    "no line end": GOOD.rstrip(),
    "another version": GOOD.replace(b'"schema_version": 1', b'"schema_version": 2'),
    "another field": GOOD.replace(b'"missing"', b'"extra": 1,\n "missing"'),
    "a key twice": GOOD.replace(b'"missing": {', b'"missing": {},\n "missing": {'),
    "days that are none": GOOD.replace(b"2026-03-02", b"2026-03-32"),
    "a time": GOOD.replace(b"2026-03-02", b"2026-03-02T00:00:00"),
    "no day": GOOD.replace(b'\n   "2026-03-02"\n  ', b""),
    "a day to come": GOOD.replace(b"2026-03-02", b"2036-03-02"),
    "four days": State.model_construct(missing={A: tuple(DAYS[:4])}).written(),
    "the same day thrice": State.model_construct(missing={A: (DAYS[0],) * 3}).written(),
    "backwards": State.model_construct(missing={A: (DAYS[1], DAYS[0])}).written(),
    "too large": State(missing={A + "x" * 5_000_000: (DAYS[0],)}).written(),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_state_that_is_not_ours_is_set_aside_and_not_trusted(
    tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    world = World(tmp_path, server, a="/status/404")
    world.state.write_bytes(data)
    assert world.run(DAYS[2]) == Exit.OK
    told = capsys.readouterr().err
    assert "is not as denoised links wrote it: it is not trusted, and now lies in state.json.damaged" in told
    assert (tmp_path / "state.json.damaged").read_bytes() == data
    assert world.remembered() == {world.at("/status/404"): ["2026-03-16"]}


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_state_that_is_no_file_is_set_aside(
    tmp_path: Path, server: Played, make: Callable[[Path], object]
) -> None:
    world = World(tmp_path, server, a="/status/404")
    make(world.state)
    assert world.run(DAYS[0]) == Exit.OK
    assert world.remembered() and not world.state.is_symlink()
    assert os.path.lexists(tmp_path / "state.json.damaged")


def test_a_state_that_cannot_be_written_is_told_before_anything_is_asked(
    tmp_path: Path, server: Played
) -> None:
    world = World(tmp_path, server, a="/ok")
    put(tmp_path / "file", "")
    with pytest.raises(DenoisedError) as caught:
        world.run(DAYS[0], state=tmp_path / "file" / "state.json")
    assert caught.value.code == Exit.RESOURCES and server.asked == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, as in a terminal: a job in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_cuts_what_hangs_and_keeps_what_is_known(tmp_path: Path, server: Played) -> None:
    world = World(tmp_path, server, a="/status/404", b="/interrupt", c="/ok")
    with pytest.raises(KeyboardInterrupt):
        world.run(DAYS[0])
    assert world.remembered() == {world.at("/status/404"): ["2026-03-02"]}
    assert server.cut.wait(30)  # the connection, long before its time was up
    assert not [line for line in server.lines if line.endswith("/ok")]


# --- what is reported -------------------------------------------------------------------------------------


def link(
    address: str = A, standing: Any = "missing", *, new: str | None = None, place: str = "links.code"
) -> Link:
    reply = Answer(
        "missing" if standing == "dead" else standing, Phrase("HTTP 404", "HTTP 404"), 404, new, answered=True
    )
    days = tuple(DAYS[: {"dead": DEAD_AFTER, "missing": 1}.get(standing, 0)])
    return Link(address, (Use("ddim", place),), standing, reply, days)


def test_a_person_reads_what_to_do(
    tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(
        tmp_path,
        server,
        a="/status/404",
        b=to(301, "/ok/new"),
        c="/status/403",
        d="/ok",
        e="http://inside.example/",
    )
    world.resolve = names({"site.example": "127.0.0.1", "inside.example": "10.0.0.1"})
    world.run(DAYS[0], format="human")
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "5 addresses: 0 dead, 1 missing, 1 moved, 1 never asked, 1 unknown, 1 ok",
        "",
        "Missing; dead once missing on three days:",
        f"  {world.at('/status/404')}",
        "    HTTP 404 (day 1/3) · a: links.project",
        "",
        "Moved for good; write the new address:",
        f"  {world.at(to(301, '/ok/new'))}",
        f"    → {world.at('/ok/new')}",
        "    HTTP 200 · b: links.project",
        "",
        "Never asked:",
        "  http://inside.example/",
        "    not an address of the public internet · e: links.project",
        "",
        "Unknown:",
        f"  {world.at('/status/403')}",
        "    HTTP 403 · c: links.project",
    ]
    assert said.err == "5/5\n"
    with speaking("ko"):
        assert as_text([link(standing="dead")]).splitlines() == [
            "주소 1개: 끊어짐 1, 없음 0, 옮겨 감 0, 묻지 않음 0, 알 수 없음 0, 정상 0",
            "",
            "끊어졌다:",
            f"  {A}",
            "    HTTP 404, 2026-03-02부터 · ddim: links.code",
        ]


def test_nothing_of_an_address_moves_the_terminal() -> None:
    with speaking("en"):
        said = as_text([link("https://x.example/\x1b[2J\u202e", new="https://y.example/\x07", place="a\nb")])
    assert "<U+001B>[2J<U+202E>" in said and "<U+0007>" in said and "a<U+000A>b" in said


def test_json_holds_every_address(tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path, server, a="/status/404", d="/ok")
    world.run(DAYS[0])
    document = json.loads(capsys.readouterr().out)
    assert document["date"] == "2026-03-02"
    assert document["counts"] == {"dead": 0, "missing": 1, "moved": 0, "refused": 0, "unknown": 0, "ok": 1}
    assert document["links"][0] == {
        "address": world.at("/status/404"),
        "standing": "missing",
        "status": 404,
        "why": {"ko": "HTTP 404", "en": "HTTP 404"},
        "new": None,
        "missing_on": ["2026-03-02"],
        "uses": [{"entry": "a", "place": "links.project"}],
    }


@pytest.mark.parametrize("limits", [Limits(total=0), Limits(total=601), Limits(hosts=0), Limits(hosts=33)])
def test_senseless_limits_are_refused(tmp_path: Path, server: Played, limits: Limits) -> None:
    with pytest.raises(DenoisedError, match=r"the time-out is more than 0 and at most 600 seconds") as caught:
        World(tmp_path, server, a="/ok").run(DAYS[0], limits=limits)
    assert caught.value.code == Exit.USAGE and server.asked == []


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_something_where_nothing_is_wrong(
    tmp_path: Path, server: Played, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    assert World(tmp_path, server, a="/ok").run(DAYS[0], format=format) == Exit.OK
    assert capsys.readouterr().out.strip()


MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = [
    *("https://x.example/@octocat", "https://x.example/`@octocat`", "https://x.example/``` @octocat"),
    *("https://x.example/|@octocat|", "https://x.example/\\`@octocat", "https://x.example/\\"),
    *("https://x.example/</code><img src=https://evil.example>", "https://x.example/\n\n@octocat\n"),
    *(
        "https://x.example/[a](https://evil.example)",
        "https://x.example/<https://evil.example>",
        "`",
        "|",
        "@a",
    ),
    *("https://x.example/</details>", "https://x.example/#1 owner/repo#1", "https://x.example/$`x`$"),
    *("https://x.example/\r`@octocat`", "https://x.example/\u2028@octocat", "\u202ehttps://x.example/\ud800"),
    *("https://x.example/" + "`" * 400, "https://x.example/" + "%" * 4_000, " ", "https://x.example/<!--"),
]


def tokens(markdown: str) -> list[Token]:
    return [each for token in MARKDOWN.parse(markdown) for each in (token, *(token.children or ()))]


def skeleton(markdown: str) -> list[tuple[str, str, str]]:
    """What the Markdown becomes, without what stands in code spans."""
    return [
        (token.type, str(token.attrs), "" if token.type in ("code_inline", "inline") else token.content)
        for token in tokens(markdown)
    ]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("standing", ["dead", "missing", "moved", "refused", "unknown"])
def test_hostile_text_stays_in_its_code_span(text: str, standing: str) -> None:
    quiet = as_markdown([link(new=A, standing=standing)] * 2, DAYS[0])
    said = as_markdown([link(text, new=text, place=text, standing=standing)] * 2, DAYS[0])
    assert skeleton(said) == skeleton(quiet)
    outside = " ".join(token.content for token in tokens(said) if token.type == "text")
    assert "@" not in outside and "https:" not in outside
    assert not re.findall(r"[^ -~가-힣·…→\n]", said)
    assert not [token for token in tokens(said) if token.type in ("link_open", "image")]


def test_an_issue_tells_the_worst_first_in_both_languages() -> None:
    links = [link(A + standing, standing) for standing in ("dead", "missing", "moved", "unknown", "ok")]
    said = as_markdown(links, DAYS[3])
    assert said.startswith(
        "2026-03-23 · 주소 5개: 끊어짐 1, 없음 1, 옮겨 감 1, 묻지 않음 0, 알 수 없음 1, 정상 1\n\n"
        "2026-03-23 · 5 addresses: 1 dead, 1 missing, 1 moved, 0 never asked, 1 unknown, 1 ok\n"
    )
    headings = re.findall(r"^(?:### |<summary>)(.*?)(?:</summary>)?$", said, re.MULTILINE)
    assert headings == [
        "끊어졌다 · Dead",
        "없다. 세 날에 걸쳐 없으면 끊어진 것으로 본다 · Missing; dead once missing on three days",
        "옮겨 갔다. 새 주소로 고친다 · Moved for good; write the new address",
        "알 수 없다 · Unknown",
    ]
    row = f"| `{A}dead` | HTTP 404, 2026-03-02부터 · HTTP 404, since 2026-03-02 | `ddim: links.code` |"
    assert row in said and f"{A}ok" not in said


@pytest.mark.parametrize("length", [10, 4_000])
def test_an_issue_is_never_too_long_and_says_what_it_leaves_out(length: int) -> None:
    links = [link(f"{A}{n}/" + "x" * length, "dead") for n in range(150)]
    links += [link(f"{A}{n}/" + "가" * length, "unknown") for n in range(150)]
    said = as_markdown(links, DAYS[3])
    assert len(said.encode()) <= ISSUE_LIMIT
    rows = said.count("\n| `")
    assert 20 < rows <= ROWS
    assert (
        f"그 밖에 {300 - rows:,}개가 더 있다." in said and f"{300 - rows:,} more are left out here;" in said
    )
    assert said.count("<details>") == said.count("</details>")

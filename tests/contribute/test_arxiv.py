"""arXiv as it answers, fails, limits and lies: told apart, told politely, asked one call at a time."""

from __future__ import annotations

import math
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoised.catalog.characters import FORBIDDEN
from denoised.contribute.arxiv import VARIABLE, Limits, Offline, Preprint, fetch
from denoised.contribute.plain import from_latex, plain
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking
from tests.contribute.fake_arxiv import FAULTS, entry, fake_arxiv, feed

QUICK = Limits(interval=0.0)
IMPATIENT = replace(QUICK, connect=0.3, read=0.3, total=0.3)  # where the server will not answer in time, ever
FABRIC = Preprint(
    arxiv="2307.10159",
    title="FABRIC: Personalizing Diffusion Models with Iterative Feedback",
    authors=("Dimitri von Rütte", "Elisabetta Fedele", "Jonathan Thomm", "Lukas Wolf"),
    published=date(2023, 7, 19),
    comment="14 pages, 5 figures",
    journal_ref=None,
    doi=None,
    category="cs.CV",
)


@pytest.fixture(autouse=True)
def english_and_direct(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(VARIABLE, raising=False)
    with speaking("en"):
        yield


class Clock:
    """What was slept, and what was told."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.told: list[str] = []

    def ask(self, id: str, address: str | None, cache: Path, limits: Limits = QUICK) -> Preprint:
        return fetch(
            id, cache=cache, tell=self.told.append, address=address, limits=limits, sleep=self.slept.append
        )


def test_a_paper(tmp_path: Path) -> None:
    clock = Clock()
    with fake_arxiv() as server:
        assert clock.ask("2307.10159", server.url, tmp_path) == FABRIC
    (call,) = server.calls
    assert call.query["id_list"] == ["2307.10159"] and call.query["max_results"] == ["1"]
    assert call.agent.startswith("denoised/")
    assert clock.slept == [] and clock.told == [] and not FABRIC.withdrawn


def test_the_variable_names_another_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_arxiv() as server:
        monkeypatch.setenv(VARIABLE, server.url)
        assert Clock().ask("2307.10159", None, tmp_path) == FABRIC
    for wrong in (
        "export.arxiv.org",
        "ftp://a.example/x",
        "http://",
        "http://a.example:x",
    ):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(DenoisedError) as caught:
            Clock().ask("2307.10159", None, tmp_path)
        assert caught.value.message == f"DENOISED_ARXIV_URL is no address: `{wrong}`"
        assert caught.value.help == "DENOISED_ARXIV_URL=https://export.arxiv.org/api/query"


def test_what_is_no_identifier_is_not_asked(tmp_path: Path) -> None:
    for wrong in ("2307.1", "2307.10159,2307.10160", "DDIM"):
        with fake_arxiv() as server, pytest.raises(DenoisedError, match="is no identifier that arXiv gives"):
            Clock().ask(wrong, server.url, tmp_path)
        assert server.calls == []


# What passes is asked three times; the rest once.
TIMES = {
    "429": "HOST says that it is asked too often (HTTP 429)",
    "429 after nonsense": "HOST says that it is asked too often (HTTP 429)",
    "429 after 50 s": "HOST says that it is asked too often (HTTP 429)",
    "503": "HOST cannot answer now (HTTP 503)",
    "503 until a date": "HOST cannot answer now (HTTP 503)",
    "500": "HOST cannot answer now (HTTP 500)",
    "html": "HOST answered with a web page (HTML) instead of a paper",
    "html as a feed": "HOST answered with a web page (HTML) instead of a paper",
    "empty": "HOST answered with nothing instead of a paper",
    "blank": "HOST answered with nothing instead of a paper",
    "truncated": "HOST answered with XML that is cut off or broken instead of a paper",
    "latin-1 bytes": "HOST answered with XML that is cut off or broken instead of a paper",
    "json": "HOST answered with XML that is cut off or broken instead of a paper",
    "other xml": "HOST answered with XML that is no feed instead of a paper",
    "lost paper": "HOST answered with a feed that lacks its paper instead of a paper",
    "hang up": "HOST broke the connection off",
    "cut in the head": "HOST answered with nothing instead of a paper",
    "cut in the body": "HOST broke the connection off",
    "stall": "HOST did not finish its answer in 0.3 s",
    "stall in the body": "HOST did not finish its answer in 0.3 s",
    "drip": "HOST did not finish its answer in 0.3 s",
}
ONCE = {
    "429 after an hour": (Exit.RETRY, r"HOST asks not to be called before \d{4}-.* \(3,600 s\)"),
    "403": (Exit.RETRY, r"HOST refuses us \(HTTP 403\)"),
    "404": (Exit.RETRY, r"HOST does not answer as the API \(HTTP 404\)"),
    "redirect": (Exit.RETRY, r"HOST sends us elsewhere \(HTTP 302\): http://login\.example/\?next=arxiv"),
    "error feed": (Exit.USAGE, "HOST answers 2307.10159 with an error: incorrect id format for 2307.10159"),
    "error feed with 400": (Exit.USAGE, "HOST answers 2307.10159 with an error: incorrect id format .*"),
    "no paper": (Exit.USAGE, "2307.10159: arXiv has no such paper"),
    "hollow paper": (Exit.USAGE, "2307.10159: arXiv has no such paper"),
    "another paper": (
        Exit.INTEGRITY,
        "asked for 2307.10159, arXiv answered with another paper: 2010.02502",
    ),
    "a page for an id": (
        Exit.INTEGRITY,
        "asked for 2307.10159, arXiv answered with another paper: http://arxiv.org/abs/list/cs.CV",
    ),
    "no authors": (Exit.INTEGRITY, "2307.10159: arXiv's answer lacks its authors"),
    "no title": (Exit.INTEGRITY, "2307.10159: arXiv's answer lacks its title"),
    "no date": (Exit.INTEGRITY, "2307.10159: arXiv's answer lacks a date"),
    "wrong date": (Exit.INTEGRITY, "2307.10159: arXiv's answer lacks a date"),
    "impossible date": (Exit.INTEGRITY, "2307.10159: arXiv's answer lacks a date"),
    "bomb": (Exit.INTEGRITY, "HOST: the answer defines entities of XML, as no feed does"),
    "giant": (Exit.INTEGRITY, "HOST: the answer is larger than 4,194,304 bytes"),
    "giant when unpacked": (Exit.INTEGRITY, "HOST: the answer is larger than 4,194,304 bytes"),
}


def host(url: str) -> str:
    return url.removeprefix("http://").partition("/")[0]


def limits_for(fault: str) -> Limits:
    return IMPATIENT if fault.startswith(("stall", "drip")) else QUICK


def test_every_fault_is_tested() -> None:
    assert sorted(FAULTS) == sorted([*TIMES, *ONCE])


@pytest.mark.parametrize("fault", TIMES)
def test_a_fault_that_may_pass_is_asked_again_and_then_told(fault: str, tmp_path: Path) -> None:
    clock = Clock()
    with fake_arxiv(fault) as server, pytest.raises(DenoisedError) as caught:
        clock.ask("2307.10159", server.url, tmp_path, limits_for(fault))
    message = TIMES[fault].replace("HOST", host(server.url))
    assert caught.value.message == message
    assert caught.value.code == Exit.RETRY and caught.value.help and not isinstance(caught.value, Offline)
    assert len(server.calls) == 3
    assert [line for line in clock.told if not line.startswith("waiting")] == [
        f"{message}; asking again (try 2 of 3)",
        f"{message}; asking again (try 3 of 3)",
    ]
    assert {path.name for path in tmp_path.iterdir()} <= {"arxiv.next", "arxiv.lock"}


@pytest.mark.parametrize("fault", ["429", "500", "truncated", "cut in the body", "empty"])
def test_a_fault_that_passes_leaves_no_trace(fault: str, tmp_path: Path) -> None:
    with fake_arxiv(fault, fault, "") as server:
        assert Clock().ask("2307.10159", server.url, tmp_path) == FABRIC
    assert len(server.calls) == 3


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_that_stays_is_told_at_once(fault: str, tmp_path: Path) -> None:
    code, message = ONCE[fault]
    with fake_arxiv(fault) as server, pytest.raises(DenoisedError) as caught:
        Clock().ask("2307.10159", server.url, tmp_path)
    assert re.fullmatch(message.replace("HOST", host(server.url)), caught.value.message)
    assert caught.value.code == code and caught.value.help
    assert len(server.calls) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_told_in_korean_too(fault: str, tmp_path: Path) -> None:
    once = replace(limits_for(fault), tries=1)
    with fake_arxiv(fault) as server, speaking("ko"), pytest.raises(DenoisedError) as caught:
        Clock().ask("2307.10159", server.url, tmp_path, once)
    assert re.search("[가-힣]", caught.value.message) and re.search("[가-힣]", caught.value.help or "")


# --- nobody is there ----------------------------------------------------------------------------------------


def offline(address: str, tmp_path: Path) -> str:
    clock = Clock()
    with pytest.raises(Offline) as caught:
        clock.ask("2307.10159", address, tmp_path, IMPATIENT)
    assert caught.value.code == Exit.RETRY and clock.told == []
    assert caught.value.help == "check the network and run the same command again"
    return caught.value.message


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_refused_connection(tmp_path: Path) -> None:
    port = closed_port()
    told = offline(f"http://127.0.0.1:{port}/", tmp_path)
    assert told == f"127.0.0.1:{port} cannot be reached: the connection is refused"


def test_no_route(tmp_path: Path) -> None:
    # To a broadcast address no stream leads, on any network: the system says so itself.
    told = offline("http://255.255.255.255/", tmp_path)
    assert told == "255.255.255.255 cannot be reached: there is no way to it"


def test_an_unknown_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)  # asking would leave this machine
    for name in ("export.arxiv.example", f"{'a' * 64}.example"):
        assert offline(f"http://{name}/", tmp_path) == f"{name} cannot be reached: the name is not known"


def test_a_proxy_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    told = offline("http://export.arxiv.example/", tmp_path)
    assert told == "export.arxiv.example cannot be reached: the proxy cannot be reached"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems accept more than the backlog")
def test_a_connection_that_nobody_accepts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))):  # fills the queue
            told = offline(f"http://127.0.0.1:{port}/", tmp_path)
    assert told == f"127.0.0.1:{port} cannot be reached: no connection in 0.3 s"


def test_a_port_that_speaks_no_tls(tmp_path: Path) -> None:
    with fake_arxiv() as server, pytest.raises(DenoisedError) as caught:
        Clock().ask("2307.10159", server.url.replace("http:", "https:"), tmp_path)
    assert "has a certificate that cannot be trusted" in caught.value.message or (
        "broke the connection off" in caught.value.message
    )
    assert caught.value.code == Exit.RETRY and not isinstance(caught.value, Offline)


# --- what a paper may look like -----------------------------------------------------------------------------


def asked(tmp_path: Path, wanted: str = "2307.10159", **facts: Any) -> Preprint:
    written = {"id": f"{wanted}v3", "title": "A Title", "authors": ["A. Author"]} | facts
    with fake_arxiv(entries={wanted: entry(**written)}) as server:
        return Clock().ask(wanted, server.url, tmp_path)


@pytest.mark.parametrize(
    "title, read",
    [
        ("Two\n  lines\tand   spaces ", "Two lines and spaces"),
        (r"$\infty$-Diff: Infinite Resolution", "∞-Diff: Infinite Resolution"),
        (r"Diffusion Schr\"odinger Bridge", "Diffusion Schrödinger Bridge"),
        (r"Poincar\'e and {\L}ukasz", "Poincaré and Łukasz"),
        (r"\textbf{Bold} and 100% faster", "Bold and 100% faster"),
        ("From $100 to $5: 50% less_or^more", "From $100 to $5: 50% less_or^more"),
        (r"A command cut off: \verb", r"A command cut off: \verb"),
        ("e\u0301t\u00e9 \u200bzero\u202e-width\u00a0blank", "été zero-width blank"),
        ("a letter \ufffd is lost", "a letter ? is lost"),
        ("A & B < C > D", "A & B < C > D"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # inert where the site escapes it
    ],
)
def test_titles(title: str, read: str, tmp_path: Path) -> None:
    assert asked(tmp_path, title=title).title == read


def test_authors(tmp_path: Path) -> None:
    written = [r"Dimitri von R\"utte", "  Elisabetta\n Fedele", "ATLAS Collaboration", ":", "", "이상윤"]
    assert asked(tmp_path, authors=written).authors == (
        "Dimitri von Rütte",
        "Elisabetta Fedele",
        "ATLAS Collaboration",
        "이상윤",
    )


def test_everything_else(tmp_path: Path) -> None:
    namespace = 'xmlns:arxiv="http://arxiv.org/schemas/atom"'
    extra = (
        f"<arxiv:comment {namespace}>This paper has been withdrawn\n by the authors</arxiv:comment>"
        f"<arxiv:journal_ref {namespace}>ICML 2023</arxiv:journal_ref><arxiv:doi {namespace}>10.1145/1.2</arxiv:doi>"
    )
    found = asked(tmp_path, published="2023-07-01T23:30:00-05:00", extra=extra)
    assert found.published == date(2023, 7, 2)  # in UTC, as arXiv dates
    assert (found.journal_ref, found.doi) == ("ICML 2023", "10.1145/1.2")
    assert found.comment == "This paper has been withdrawn by the authors" and found.withdrawn


def test_identifiers_of_two_forms(tmp_path: Path) -> None:
    assert asked(tmp_path, "hep-th/9901001").arxiv == "hep-th/9901001"
    # arXiv leaves the class out where it answers.
    found = asked(tmp_path, "math.GT/0309136", id="math/0309136v1")
    assert found.arxiv == "math.GT/0309136"


def test_an_answer_in_another_encoding_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utf_16 = feed(entry("2307.10159v1", "Größe", ["Ä"])).decode().replace("UTF-8", "UTF-16").encode("utf-16")
    monkeypatch.setitem(FAULTS, "utf-16", lambda handler: handler.answer(utf_16))
    with fake_arxiv("utf-16") as server:
        assert Clock().ask("2307.10159", server.url, tmp_path).title == "Größe"


@settings(deadline=None)
@given(st.text())
def test_plain_text_is_what_a_catalog_may_hold(text: str) -> None:
    once = plain(text)
    assert not FORBIDDEN.search(once) and "\n" not in once and "  " not in once and once == once.strip()
    assert plain(once) == once
    decoded = from_latex(text)
    assert decoded is None or plain(decoded) == decoded


# --- one call at a time -------------------------------------------------------------------------------------


def test_the_next_call_waits_for_the_interval(tmp_path: Path) -> None:
    clock = Clock()
    with fake_arxiv() as server:
        for _ in range(2):
            clock.ask("2307.10159", server.url, tmp_path, Limits(interval=50))
    (slept,) = clock.slept
    assert 20 < slept <= 50  # less what passed since, on a machine that is busy
    assert clock.told == [f"waiting {math.ceil(slept)} s: arXiv asks for time between calls"]


def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    clock = Clock()
    with fake_arxiv("429 after 50 s", "503 until a date", "") as server:
        assert clock.ask("2307.10159", server.url, tmp_path) == FABRIC
    first, second = clock.slept
    assert 20 < first <= 50 and 20 < second <= 55


def test_without_retry_after_the_pause_grows(tmp_path: Path) -> None:
    clock = Clock()
    with fake_arxiv("429") as server, pytest.raises(DenoisedError):
        clock.ask("2307.10159", server.url, tmp_path, Limits(interval=14))
    first, second = clock.slept
    assert 0 < first <= 14 and 20 < second <= 4 * 14


def test_a_long_retry_after_holds_for_the_next_command_too(tmp_path: Path) -> None:
    with fake_arxiv("429 after an hour", "") as server:
        for _ in range(2):
            clock = Clock()
            with pytest.raises(DenoisedError, match="asks not to be called before") as caught:
                clock.ask("2307.10159", server.url, tmp_path)
            assert caught.value.code == Exit.RETRY and clock.slept == []
    assert len(server.calls) == 1


@pytest.mark.parametrize("left", ["", "soon", "nan", "inf", "1e400", "9999999999"])
def test_a_time_that_makes_no_sense_blocks_nobody(left: str, tmp_path: Path) -> None:
    (tmp_path / "arxiv.next").write_text(left)
    clock = Clock()
    with fake_arxiv() as server:
        assert clock.ask("2307.10159", server.url, tmp_path) == FABRIC
    assert clock.slept == []


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with fake_arxiv() as server, pytest.raises(DenoisedError, match="cannot write") as caught:
        Clock().ask("2307.10159", server.url, tmp_path / "file")
    assert caught.value.code == Exit.RESOURCES and server.calls == []


ASK = """
import sys
from pathlib import Path
from denoised.contribute.arxiv import Limits, fetch
for _ in range(3):
    fetch("2307.10159", cache=Path(sys.argv[1]), tell=print, address=sys.argv[2], limits=Limits(interval=0.3))
"""


def test_processes_ask_one_after_the_other(tmp_path: Path) -> None:
    with fake_arxiv() as server:
        command = [sys.executable, "-c", ASK, str(tmp_path), server.url]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
        for process in processes:
            process.communicate()
        assert [process.returncode for process in processes] == [0, 0, 0]
    arrivals = [call.at for call in server.calls]
    assert len(arrivals) == 9
    assert min(later - earlier for earlier, later in pairwise(arrivals)) >= 0.3


def test_a_process_that_was_killed_blocks_nobody(tmp_path: Path) -> None:
    with fake_arxiv("stall", "") as server:
        command = [sys.executable, "-c", ASK, str(tmp_path), server.url]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while not server.calls:
                time.sleep(0.01)
            waiting = replace(QUICK, queue=0.1)
            clock = Clock()
            with pytest.raises(DenoisedError, match="our turn did not come") as caught:
                clock.ask("2307.10159", server.url, tmp_path, waiting)
            assert caught.value.code == Exit.RETRY
            assert clock.told == ["another process is asking arXiv; waiting for our turn"]
            process.kill()
        assert Clock().ask("2307.10159", server.url, tmp_path) == FABRIC

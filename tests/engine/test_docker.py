"""An engine that is missing, down, forbidden, silent or something else: each is told apart, soon, with what to type."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from denoised.engine.docker import engine
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking

# The SDK leaves the socket of a connection that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    with speaking("en"):
        yield


def refused(monkeypatch: pytest.MonkeyPatch, address: str, patience: float = 5) -> DenoisedError:
    """What is told of the engine at `address`."""
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(DenoisedError) as caught, engine(patience):
        pass
    gc.collect()  # see `pytestmark`
    assert caught.value.code == Exit.ENGINE and caught.value.help
    return caught.value


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket with a name that nobody listens on yet."""
    with socket.socket(socket.AF_UNIX) as each:
        each.bind(str(tmp_path / "docker.sock"))
        yield each, f"unix://{tmp_path}/docker.sock"


def test_no_engine_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = refused(monkeypatch, f"unix://{tmp_path}/none.sock")
    assert f"there is no container engine at unix://{tmp_path}/none.sock" == error.message
    assert "apt-get install docker.io" in (error.help or "")


def test_the_engine_is_not_running(monkeypatch: pytest.MonkeyPatch, bound: tuple[socket.socket, str]) -> None:
    error = refused(monkeypatch, bound[1])
    assert error.message.endswith("is not running") and "systemctl start docker" in (error.help or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user to be refused")
def test_the_engine_denies_access(tmp_path: Path) -> None:
    """In a process of its own, which gives up being root: nobody else's test must."""
    code = (
        "import os, sys\n"
        "from denoised.engine.docker import engine\n"
        "from denoised.errors import DenoisedError\n"
        "os.environ['DENOISED_LANG'] = 'en'\n"
        "os.setuid(65534)\n"
        "try:\n"
        "    with engine(5): pass\n"
        "except DenoisedError as error: print(error.message, error.help)\n"
    )
    with socket.socket(socket.AF_UNIX) as each:
        path = f"/tmp/denoised-test-{os.getpid()}.sock"  # pytest's own folders are closed to others
        each.bind(path)
        try:
            os.chmod(path, 0o600)
            each.listen(1)
            environment = {**os.environ, "DOCKER_HOST": f"unix://{path}"}
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True
            )
        finally:
            os.unlink(path)
    assert f"you may not use the container engine at unix://{path}" in done.stdout, done.stderr
    assert "usermod -aG docker" in done.stdout


def test_the_engine_hangs(monkeypatch: pytest.MonkeyPatch, bound: tuple[socket.socket, str]) -> None:
    bound[0].listen(1)  # it takes the call and says nothing
    started = time.monotonic()
    error = refused(monkeypatch, bound[1], patience=1)
    assert "has not answered for 1 seconds" in error.message and "restart" in (error.help or "")
    assert time.monotonic() - started < 30


class _Website(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<html>" + b"x" * 100_000 + b"</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_something_else_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Website)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        error = refused(monkeypatch, f"tcp://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
    assert "is no container engine" in error.message and len(error.message) < 300
    assert "DOCKER_HOST" in (error.help or "")


@pytest.mark.parametrize("address", ["nonsense://here", "unix:///etc/passwd", "tcp://127.0.0.1:99999"])
def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    refused(monkeypatch, address)

"""The built site on this machine, at 127.0.0.1 only."""

from __future__ import annotations

import errno
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from denoised.errors import DenoisedError
from denoised.language import say

HOST = "127.0.0.1"


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder; the site's own page where there is none; silent."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        page = Path(self.directory) / "404.html"
        if code != HTTPStatus.NOT_FOUND or not page.is_file():
            super().send_error(code, message, explain)
            return
        body = page.read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the reader's browser says what matters."""


def make_server(root: Path, port: int = 8000) -> ThreadingHTTPServer:
    """A server of root/build/site, bound and not yet running; port 0 takes a free one.

    Raises DenoisedError (USAGE) if the site is not built or the port is taken.
    """
    site = root / "build" / "site"
    if not (site / "index.html").is_file():
        raise DenoisedError(
            say(ko=f"{site}에 사이트가 없다", en=f"there is no site in {site}"),
            help="denoised site build",
        )
    return server_of(site, port, "denoised site serve")


def server_of(folder: Path, port: int, command: str) -> ThreadingHTTPServer:
    """A server of one folder, bound and not yet running; port 0 takes a free one.

    Raises DenoisedError (USAGE), with `command` for another port, if the port is taken.
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise DenoisedError(
            say(ko=f"포트 {port}을 쓸 수 없다: ", en=f"port {port} cannot be used: ") + str(error.strerror),
            help=f"{command} --port {port + 1 if port > 1023 else 8000}",
        ) from error


def serve(root: Path, port: int = 8000) -> None:
    """Serve root/build/site until Ctrl-C, and say where. Raises DenoisedError as `make_server` does."""
    with make_server(root, port) as server:
        address = f"http://{HOST}:{server.server_address[1]}/"
        print(
            say(ko=f"{address} 에서 보여 준다. 끝내려면 Ctrl-C.", en=f"Serving at {address} until Ctrl-C."),
            flush=True,
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return

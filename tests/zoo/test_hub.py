"""Fetching weights from a hub that a thread plays: pins, damage, absence, silence."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from denoised.cli import main
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking
from denoised.zoo import fetch_command, hub
from denoised.zoo.fetch_command import fetched_overrides, needed
from denoised.zoo.hub import PIN, PinnedFile, Weights, as_yaml, check, fetch, fetched, known_weights

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"sample_size": 32}', "unet/model.safetensors": bytes(range(256)) * 40}


class _Hub(BaseHTTPRequestHandler):
    """The few addresses of the hub that a download asks for."""

    files: dict[str, bytes] = FILES
    asked: list[str] = []  # noqa: RUF012 - one list for all requests
    status = 200

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        type(self).asked.append(f"{self.command} {self.path}")
        if self.status != 200:
            self._send(self.status, b"{}", body, {"X-Error-Code": "GatedRepo"} if self.status == 403 else {})
        elif self.path.split("?")[0] == "/api/models/someone/weights":
            self._send(200, json.dumps({"id": "someone/weights", "sha": REVISION}).encode(), body, {})
        elif (name := self.path.removeprefix(f"/someone/weights/resolve/{REVISION}/")) in self.files:
            data = self.files[name]
            etag = hashlib.sha1(data).hexdigest()
            self._send(200, data, body, {"ETag": f'"{etag}"', "X-Repo-Commit": REVISION})
        else:
            self._send(404, b"{}", body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})

    def _send(self, status: int, data: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(data)),
            "Content-Type": "application/json",
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    handler = type("Hub", (_Hub,), {"asked": [], "files": dict(FILES)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    with speaking("en"):
        yield handler
    server.shutdown()
    server.server_close()


def pinned(**changes: Any) -> Weights:
    files = tuple(
        PinnedFile(path=path, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        for path, data in FILES.items()
    )
    return Weights(**({"repository": "someone/weights", "revision": REVISION, "files": files} | changes))


def unpinned() -> Weights:
    return pinned(revision=None, files=tuple(PinnedFile(path=path) for path in FILES))


def quiet(path: str, size: int | None) -> None:
    """Nobody is told."""


def test_what_is_pinned_is_downloaded_checked_and_kept(tmp_path: Path, server: type[_Hub]) -> None:
    told: list[tuple[str, int | None]] = []
    folder, held = fetch(tmp_path, "w", pinned(), pin=False, report=lambda *each: told.append(each))
    assert held == pinned() and told == [(path, len(data)) for path, data in FILES.items()]
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert fetched(tmp_path, "w") == folder and fetched(tmp_path, "other") is None
    asked = len(server.asked)
    assert fetch(tmp_path, "w", pinned(), pin=False, report=quiet) == (folder, held)
    assert len(server.asked) == asked  # nothing is downloaded twice


def test_a_file_that_is_not_what_was_pinned_is_thrown_away(tmp_path: Path, server: type[_Hub]) -> None:
    server.files["unet/model.safetensors"] = b"another" * 30
    with pytest.raises(
        DenoisedError, match=r"should have 10,240 bytes and sha256 .*, and has 210 bytes"
    ) as caught:
        fetch(tmp_path, "w", pinned(), pin=False, report=quiet)
    assert caught.value.code == Exit.INTEGRITY and "do not use it" in (caught.value.help or "")
    assert fetched(tmp_path, "w") is None and not list(tmp_path.rglob("*.safetensors"))
    server.files.update(FILES)
    fetch(tmp_path, "w", pinned(), pin=False, report=quiet)


def test_what_was_changed_on_disk_is_found(tmp_path: Path, server: type[_Hub]) -> None:
    folder, _ = fetch(tmp_path, "w", pinned(), pin=False, report=quiet)
    data = bytearray(FILES["unet/model.safetensors"])
    data[100] ^= 1
    (folder / "unet/model.safetensors").write_bytes(bytes(data))
    with pytest.raises(DenoisedError, match=r"unet/model\.safetensors should have") as caught:
        fetch(tmp_path, "w", pinned(), pin=False, report=quiet)
    assert caught.value.code == Exit.INTEGRITY
    (folder / "config.json").unlink()
    with pytest.raises(DenoisedError, match="is missing"):
        check(folder, pinned())


def test_without_a_pin_nothing_is_taken_unless_asked(tmp_path: Path, server: type[_Hub]) -> None:
    with pytest.raises(DenoisedError, match="has no pinned revision") as caught:
        fetch(tmp_path, "w", unpinned(), pin=False, report=quiet)
    assert "--pin" in (caught.value.help or "") and server.asked == []
    folder, held = fetch(tmp_path, "w", unpinned(), pin=True, report=quiet)
    assert held == pinned() and json.loads((folder / PIN).read_text())["revision"] == REVISION
    assert f"revision: {REVISION}" in as_yaml("w", held) and f"bytes: {len(FILES['config.json'])}" in as_yaml(
        "w", held
    )
    # and from then on it is held to that
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(DenoisedError, match="should have 19 bytes"):
        fetch(tmp_path, "w", unpinned(), pin=True, report=quiet)


def test_the_hub_is_away_lacks_the_file_or_wants_terms_accepted(
    tmp_path: Path, server: type[_Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DenoisedError, match="has no such revision or file") as caught:
        fetch(tmp_path, "w", pinned(files=(PinnedFile(path="none.bin"),)), pin=True, report=quiet)
    assert caught.value.code == Exit.INTEGRITY
    server.status = 403
    with pytest.raises(DenoisedError, match="for those who accepted its terms"):
        fetch(tmp_path, "w", pinned(), pin=False, report=quiet)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DenoisedError, match="cannot be had from the hub") as caught:
        fetch(tmp_path, "w", pinned(), pin=False, report=quiet)
    assert caught.value.code == Exit.RETRY and fetched(tmp_path, "w") is None


def test_what_every_paper_needs_is_known() -> None:
    known = known_weights()
    assert set(known) == {"ddpm-cifar10", "sd15", "clip-vit-b32"}
    for weights in known.values():
        assert all(
            each.path.endswith((".json", ".txt", ".safetensors")) for each in weights.files
        )  # no pickle
    assert needed({"model": "sd15", "clip": "clip-vit-b32", "data": "prompts"}) == ["sd15", "clip-vit-b32"]
    assert needed({"model": "emoji-pixel"}) == []


def test_what_was_fetched_is_used_where_nothing_else_is_named(tmp_path: Path) -> None:
    defaults: dict[str, object] = {"model": "sd15", "clip": "clip-vit-b32"}
    assert fetched_overrides(tmp_path, defaults, []) == []
    folder = tmp_path / hub.WEIGHTS / "sd15"
    folder.mkdir(parents=True)
    assert fetched_overrides(tmp_path, defaults, ["scale=paper"]) == [f"model={folder}"]
    assert fetched_overrides(tmp_path, defaults, ["model=elsewhere"]) == []


def test_the_command(
    tmp_path: Path, server: type[_Hub], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.site.samples import copy_project

    monkeypatch.chdir(copy_project(tmp_path / "project"))
    monkeypatch.setattr(fetch_command, "known_weights", lambda: {"ddpm-cifar10": unpinned()})
    assert main(["--lang", "en", "fetch", "ddim", "scale=mini"]) == Exit.USAGE
    assert "fetch knows scale=paper only" in capsys.readouterr().err
    assert main(["--lang", "en", "fetch", "ddim", "scale=paper"]) == Exit.USAGE
    assert main(["--lang", "en", "fetch", "ddim", "scale=paper", "--pin"]) == Exit.OK
    told = capsys.readouterr()
    assert f"revision: {REVISION}" in told.out and "next: denoised run ddim scale=paper" in told.err
    shutil.rmtree(tmp_path / "project" / hub.WEIGHTS)

"""Headless Chromium on a pipe, for tests that look at a page as a reader does."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class PageLeftError(Exception):
    """The page was replaced by another before it could answer."""


@dataclass
class Browser:
    """One page at a time. What the page did wrong is collected as it happens."""

    process: subprocess.Popen[bytes]
    commands: int
    answers: int
    errors: list[str] = field(default_factory=list)  # console errors, exceptions, dialogs
    requests: list[str] = field(default_factory=list)
    _buffer: bytes = b""
    _count: int = 0
    _session: str | None = None

    @classmethod
    def start(cls, chromium: str, profile: Path) -> Browser:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # Chromium reads commands on descriptor 3 and answers on 4; a shell puts them there.
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        # fmt: off
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--remote-debugging-pipe",
        ]
        # fmt: on
        command = ["bash", "-c", script, chromium, *flags, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        browser = cls(process, ours_out, ours_in)
        target = browser.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        browser._session = browser.call("Target.attachToTarget", {"targetId": target, "flatten": True})[
            "sessionId"
        ]
        for domain in ("Runtime", "Log", "Network", "Page"):
            browser.call(f"{domain}.enable")
        return browser

    def call(
        self, method: str, params: Mapping[str, Any] | None = None, wait: float = 30.0
    ) -> dict[str, Any]:
        """Send a command and return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": dict(params or {})}
        if self._session:
            message["sessionId"] = self._session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        wanted = self._count
        answer = self._until(lambda each: each.get("id") == wanted, wait)
        assert answer is not None, f"Chromium did not answer {method}"
        if "navigated" in answer.get("error", {}).get("message", ""):
            raise PageLeftError(method)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str, width: int = 1280, dark: bool = False) -> None:
        """Load a page and wait until its scripts have run."""
        self.errors.clear()
        self.requests.clear()
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", {"features": scheme})
        self.call("Page.navigate", {"url": url})
        self._until(lambda each: each.get("method") == "Page.loadEventFired", 30)
        self._until(lambda each: False, 0.3)

    def run(self, script: str) -> Any:
        """The value of an expression on the page; a promise is awaited."""
        params = {"expression": script, "returnByValue": True, "awaitPromise": True}
        return self.call("Runtime.evaluate", params)["result"].get("value")

    def wait_for(self, script: str, seconds: float = 20.0) -> Any:
        """The value of an expression once it is true, on this page or one that replaces it."""
        end = time.monotonic() + seconds
        while True:
            try:
                if value := self.run(script):
                    return value
            except PageLeftError:
                pass  # a link is being followed: ask the page it leads to
            assert time.monotonic() < end, f"never became true: {script}"
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self.commands)
        os.close(self.answers)

    def _until(self, fits: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any] | None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            while b"\0" in self._buffer:
                raw, _, self._buffer = self._buffer.partition(b"\0")
                message = json.loads(raw)
                self._note(message.get("method"), message.get("params", {}))
                if fits(message):
                    found: dict[str, Any] = message
                    return found
            if select.select([self.answers], [], [], left)[0]:
                self._buffer += os.read(self.answers, 1 << 20)
        return None

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(json.dumps(params["args"]))
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(f"dialog: {params['message']}")

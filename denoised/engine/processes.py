"""The engine of one machine: each job in a process of its own, so many at a time.

Processes are forked from a server that has imported the slow libraries once and has done nothing else, so a job
starts in milliseconds, and one that crashes takes nothing with it. A job is its own process group: Ctrl-C in the
terminal reaches the sweep alone, which decides what becomes of its jobs. A job whose sweep was killed ends at
its next report.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from typing import Any

from denoised.engine import Event, Failure, Job, Outcome, Progress, State
from denoised.errors import DenoisedError, Exit

GRACE = 5.0  # seconds between asking a process to end and ending it


@dataclass
class _Child:
    """A job that runs."""

    job: Job
    process: BaseProcess
    messages: Connection
    started: float
    returned: bool = False
    result: Any = None
    failure: Failure | None = None
    stopped: State | None = None  # why it was asked to end
    kill_at: float | None = None  # when it ends unasked

    @property
    def deadline(self) -> float | None:
        """When something has to be done about it, if at all."""
        if self.kill_at is not None:
            return self.kill_at
        return None if self.job.limit is None else self.started + self.job.limit

    def stop(self, why: State) -> None:
        """Ask it to end, once."""
        if self.stopped is None:
            self.stopped, self.kill_at = why, time.monotonic() + GRACE
            self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its processes: to the group, or to the one where it has not made its group yet."""
        assert self.process.pid is not None
        for send in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                send(self.process.pid, number)
                return

    def read(self) -> list[Event]:
        """What it has said since the last time."""
        said: list[Event] = []
        with suppress(EOFError, OSError):  # it ended, perhaps in the middle of a message
            while not self.messages.closed and self.messages.poll():
                match self.messages.recv():
                    case ("progress", text):
                        said.append(Progress(self.job.id, text))
                    case ("returned", result):
                        self.returned, self.result = True, result
                    case ("failed", message, help, code):
                        self.failure = Failure(message, help, code)
            return said
        self.messages.close()
        return said

    def outcome(self) -> Outcome:
        """What became of it, once it is over."""
        state: State = "finished" if self.returned else self.stopped or "failed"
        seconds = time.monotonic() - self.started
        return Outcome(self.job.id, state, seconds, self.result, self.failure, self.process.exitcode)


class Processes:
    """At most `at_once` jobs at a time, in processes of this machine; see `denoised.engine.Engine`.

    `preload`: modules that the server imports before any job. Servers are one to a program: the first engine
    starts it, and later ones find it as it is.
    """

    def __init__(self, at_once: int = 1, preload: Sequence[str] = ()) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._at_once = at_once
        self._waiting: deque[Job] = deque()
        self._running: dict[str, _Child] = {}
        self._happened: list[Event] = []  # and not told yet
        _start_server()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def poll(self, seconds: float) -> list[Event]:
        while self._waiting and len(self._running) < self._at_once:
            self._start(self._waiting.popleft())
        if self._running and not self._happened:
            self._wait(seconds)
        happened, self._happened = self._happened, []
        for id, child in list(self._running.items()):
            alive = child.process.is_alive()  # asked first: what it said before it ended is there to be read
            happened += child.read()
            if not alive:
                if not child.messages.closed:
                    child.messages.close()
                happened.append(child.outcome())
                del self._running[id]
            elif child.deadline is not None and time.monotonic() >= child.deadline:
                if child.kill_at is None:
                    child.stop("overdue")
                else:
                    child.signal(signal.SIGKILL)
                    child.kill_at = time.monotonic() + GRACE  # the system may need a moment
        return happened

    def cancel(self, job: str) -> None:
        for each in [waiting for waiting in self._waiting if waiting.id == job]:
            self._waiting.remove(each)
            self._happened.append(Outcome(job, "cancelled", 0.0))
        if job in self._running:
            self._running[job].stop("cancelled")

    def close(self) -> None:
        self._waiting.clear()
        try:
            for child in self._running.values():
                child.stop("cancelled")
            while self._running:
                self.poll(GRACE)
        finally:  # also where Ctrl-C came a second time
            for child in self._running.values():
                child.signal(signal.SIGKILL)

    def _start(self, job: Job) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_run, args=(job, theirs), name=job.id)
        process.start()
        theirs.close()
        self._running[job.id] = _Child(job, process, ours, time.monotonic())
        self._happened.append(Progress(job.id, ""))

    def _wait(self, seconds: float) -> None:
        """Until a job says something or is over, a deadline has come, or so many seconds have passed."""
        now = time.monotonic()
        deadlines = [each.deadline - now for each in self._running.values() if each.deadline is not None]
        ends: list[int | Connection] = [child.process.sentinel for child in self._running.values()]
        pipes = [child.messages for child in self._running.values() if not child.messages.closed]
        connection.wait([*ends, *pipes], max(0.0, min([seconds, *deadlines])))


def _start_server() -> None:
    """Start the server of processes where there is none, deaf to Ctrl-C, also while it imports."""
    if threading.current_thread() is not threading.main_thread():
        ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _run(job: Job, messages: Connection) -> None:
    """The life of a job's process. What it raises, beside a DenoisedError, ends as a traceback in its log."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    _print_into(job)
    faulthandler.enable()

    def report(text: str) -> None:
        messages.send(("progress", text))

    try:
        result = job.work(job.argument, report)
    except DenoisedError as error:
        print(error.message, error.help or "", sep="\n", file=sys.stderr)
        messages.send(("failed", error.message, error.help, int(error.code)))
        sys.exit(error.code)
    messages.send(("returned", result))


def _end(*_: object) -> None:
    raise SystemExit(Exit.RETRY)


def _print_into(job: Job) -> None:
    """Send all that the process prints, Python's and the libraries', to the job's log."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)

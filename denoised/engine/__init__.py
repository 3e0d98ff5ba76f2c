"""Where the runs of a sweep happen. An engine has three calls: submit, poll and cancel.

    engine.submit(Job("ddim", work, argument))
    for event in engine.poll(seconds=1.0):
        ...                        # Progress while a job runs, one Outcome when it is over
    engine.cancel("ddim")          # its Outcome follows

A job is a function of a module's top level and an argument that can be pickled, so that an engine on other
machines can carry both there by name and value. `denoised.engine.processes` runs them on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

# (the job's argument, what to tell the sweep along the way) -> a small result that can be pickled
Work = Callable[[Any, Callable[[str], None]], Any]
State = Literal["finished", "failed", "cancelled", "overdue"]


@dataclass(frozen=True)
class Job:
    """Something to do in a process of its own."""

    id: str  # different for each job of an engine
    work: Work
    argument: Any
    log: Path  # the file that takes what the process prints
    limit: float | None = None  # seconds it may take


@dataclass(frozen=True)
class Progress:
    """What a running job says of itself; nothing when it begins."""

    job: str
    text: str


@dataclass(frozen=True)
class Failure:
    """The DenoisedError that a job ended with."""

    message: str
    help: str | None
    code: int


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    finished: `result` is what its work returned. failed: the work raised, exited or was killed; `failure` is
    there where it raised a DenoisedError. cancelled: by `cancel`. overdue: stopped after its limit.
    """

    job: str
    state: State
    seconds: float
    result: Any = None
    failure: Failure | None = None
    exit_code: int | None = None  # of the process, -9 where signal 9 killed it; None where none was started


Event = Progress | Outcome


class Engine(Protocol):
    """What a sweep needs of the machines it runs on."""

    def submit(self, job: Job) -> None:
        """Take a job; it begins when there is room for it, first come, first served."""

    def poll(self, seconds: float) -> list[Event]:
        """What happened since the last call, waiting up to so many seconds for the first of it."""

    def cancel(self, job: str) -> None:
        """End a job that is not over. Its Outcome comes with a later `poll`."""

    def close(self) -> None:
        """End every job that is not over, and give back what the engine holds."""

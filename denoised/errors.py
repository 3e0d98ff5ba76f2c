"""What a person is told when something goes wrong, and the exit code that goes with it.

Every error a user can cause is a `DenoisedError`: one message that says what is wrong, an optional
line that says what to type, and an exit code. The command line prints it without a traceback.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every `denoised` command."""

    OK = 0
    FINDINGS = 1  # the catalog has errors
    USAGE = 2  # an unknown id, key or option
    ENGINE = 3  # the container engine cannot be reached
    NO_GPU = 4  # a GPU was asked for and none is visible
    INTEGRITY = 5  # a hash or a schema does not match
    FAILED = 6  # the run itself failed
    RESOURCES = 7  # out of memory or disk, or a folder cannot be written
    RETRY = 75  # stopped with everything saved: run the same command again
    INTERRUPTED = 130  # Ctrl-C


class DenoisedError(Exception):
    """An error with a message for the person, a line of help and an exit code."""

    def __init__(self, message: str, *, help: str | None = None, code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.code = code

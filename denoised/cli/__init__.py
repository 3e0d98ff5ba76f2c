"""The command `denoised`.

Commands are thin: each reads its options, calls the part that does the work, prints. Whatever is heavy is
imported inside the command that needs it, so that `--help`, `list` and `check` start at once.

To add a command, decorate a function with `@app.command()` in the file it belongs to. Write help texts with
`both`, which keeps Korean and English side by side; raise `DenoisedError` for everything a person can cause:
`main` prints it. A group of commands is another `typer.Typer(cls=Commands, context_settings=SETTINGS)`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

# In the order in which help lists the commands; each module adds its own.
from denoised.cli import catalog as _catalog  # noqa: F401
from denoised.cli import contribute as _contribute  # noqa: F401
from denoised.cli import lab as _lab  # noqa: F401
from denoised.cli import site as _site  # noqa: F401
from denoised.cli.app import app
from denoised.command_line import run as run_app

__all__ = ["app", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    return run_app(app, sys.argv[1:] if arguments is None else arguments)

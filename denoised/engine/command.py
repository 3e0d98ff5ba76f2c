"""`denoised image`: building the container image, with its progress on the terminal."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from denoised.command_line import note
from denoised.engine.image import Target, build
from denoised.language import say
from denoised.terminal import cut

LOG = "outputs/image-build.log"


def build_command(root: Path, *, target: Target, base: str | None) -> None:
    """Build the image, say what it is called, how large it is and where its log lies."""
    started = time.monotonic()
    with _Display(Console(stderr=True)) as display:
        built = build(root, target, base=base, log=root / LOG, report=display.tell)
    print(f"{built.tag}  {built.id}")
    note(
        say(
            ko=f"{built.size / 1e9:.2f} GB, {time.monotonic() - started:.0f}초. 모든 출력: {root / LOG}",
            en=f"{built.size / 1e9:.2f} GB in {time.monotonic() - started:.0f} s; all output: {root / LOG}",
        )
    )


class _Display:
    """The step that is under way and the last line it said; in a file, a line for each step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        if console.is_terminal:
            self._status = Status(say(ko="준비", en="starting"), console=console)
        self._step = ""
        self._started = time.monotonic()

    def __enter__(self) -> _Display:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def tell(self, step: str, line: str) -> None:
        """A step began, or said something."""
        width = self._console.width - 12
        if self._status is None:
            if step != self._step and not line:
                note(f"[{time.monotonic() - self._started:6.1f} s] {cut(step, width)}")
        else:
            text = escape(cut(step, width)) + (f"\n[dim]{escape(cut(line, width))}[/dim]" if line else "")
            self._status.update(text)
        self._step = step

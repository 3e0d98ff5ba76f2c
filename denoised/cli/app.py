"""The application that every command belongs to, and its own options."""

from __future__ import annotations

from typing import Annotated

import typer

from denoised import __version__
from denoised.command_line import SETTINGS, Commands, both, show_help

app = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"denoised {__version__}")
        raise typer.Exit()


@app.callback(
    invoke_without_command=True,
    help=both(
        ko="디퓨전 논문을 한 문장, 한 숫자, 한 명령으로.",
        en="Diffusion papers in one sentence, one number and one command.",
    ),
)
def _root(
    context: typer.Context,
    lang: Annotated[  # shown here, taken by `main`: it may stand anywhere, and help speaks it already
        str | None,
        typer.Option("--lang", metavar="ko|en", help=both(ko="글의 언어.", en="The language of the texts.")),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help=both(ko="버전.", en="The version.")
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        show_help(context)

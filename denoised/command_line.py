"""What every command shares: help in the reader's language, errors told in one way, readers that go away.

Typer parses; this says the rest, because typer's own words are English only, and because neither its help nor
rich's tables (where they wrap) know that Hangul is twice as wide.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup

from denoised.errors import DenoisedError, Exit
from denoised.language import Language, locale_language, reader_language, say, speaking
from denoised.terminal import pad, width, wrap

_BETWEEN = "\x1f"  # unit separator: between the two languages of a help text until the reader is known
_HELP_NAMES = ["-h", "--help"]

SETTINGS: dict[str, Any] = {"help_option_names": _HELP_NAMES}


def both(*, ko: str, en: str) -> str:
    """A help text in both languages; the reader's is picked when help is printed."""
    return ko + _BETWEEN + en


class Commands(TyperGroup):
    """A group of commands that tells an unknown command our way."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args[0] not in self.commands:
            raise DenoisedError(
                say(ko=f"없는 명령이다: `{args[0]}`", en=f"there is no command `{args[0]}`"),
                help=did_you_mean(args[0], self.commands) or f"{ctx.command_path} --help",
            )
        return super().resolve_command(ctx, args)


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; the exit code. Only a bug of ours raises."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show Hangul shows escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        language, rest = _take_language(arguments)
    except DenoisedError as error:
        with speaking(locale_language()):
            return tell(error)
    with speaking(language):
        try:
            code = _dispatch(app, rest)
            sys.stdout.flush()
            return code
        except DenoisedError as error:
            return tell(error)
        except KeyboardInterrupt:
            note(say(ko="중단했다", en="interrupted"))
            return Exit.INTERRUPTED
        except BrokenPipeError:
            if not _nobody_reads():
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer
            return Exit.OK


def known(option: str, value: str | None, names: Iterable[str]) -> None:
    """Refuse a value that is none of `names`: DenoisedError (USAGE) with the nearest or all of them."""
    names = sorted(names)
    if value is not None and value not in names:
        listed = ", ".join(names)
        raise DenoisedError(
            say(ko=f"{option}: 없는 값이다: `{value}`", en=f"{option}: there is no `{value}`"),
            help=did_you_mean(value, names) or say(ko=f"있는 값: {listed}", en=f"one of {listed}"),
        )


def did_you_mean(word: str, names: Iterable[str]) -> str | None:
    """The nearest of `names` as a question, if one is near."""
    near = get_close_matches(word, list(names), n=1)
    return say(ko=f"혹시 `{near[0]}`인가?", en=f"did you mean `{near[0]}`?") if near else None


def note(text: str) -> None:
    """Print to standard error: for people, not part of the result."""
    typer.echo(text, err=True)


def bold(text: str) -> str:
    """`text` set off; `typer.echo` leaves the codes out where nobody sees them."""
    return typer.style(text, bold=True)


def show_help(context: typer.Context) -> None:
    """Print the help of the context's command."""
    typer.echo(_help(context))


# --- parsing ---------------------------------------------------------------------------------------------


def _take_language(arguments: Sequence[str]) -> tuple[Language, list[str]]:
    """The language to speak and the arguments without --lang, which may stand anywhere before `--`."""
    rest, chosen = list(arguments), None
    end = rest.index("--") if "--" in rest else len(rest)
    for index, argument in enumerate(rest[:end]):
        if argument == "--lang":
            chosen = rest[index + 1] if index + 1 < end else ""
            del rest[index : index + 2]
            break
        if argument.startswith("--lang="):
            chosen = rest.pop(index).partition("=")[2]
            break
    return reader_language(chosen), rest


def _dispatch(app: typer.Typer, arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    _translate(command)
    try:
        with command.make_context("denoised", arguments) as context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.TyperException as error:
        raise _usage_error(error) from error
    return Exit.OK


def _usage_error(error: typer.TyperException) -> DenoisedError:
    """What typer refuses, told our way. Its error classes are private: they are known by what they hold."""
    context = getattr(error, "ctx", None)
    usage = f"{context.command_path} --help" if context else "denoised --help"
    if hasattr(error, "possibilities"):
        option = error.option_name  # type: ignore[attr-defined]
        names = [name for param in context.command.params for name in param.opts] if context else []
        return DenoisedError(
            say(ko=f"없는 옵션이다: `{option}`", en=f"there is no option `{option}`"),
            help=did_you_mean(option, names) or usage,
        )
    if hasattr(error, "param_type"):
        name = error.param.display_name_raw  # type: ignore[attr-defined]
        return DenoisedError(say(ko=f"{name} 값이 빠졌다", en=f"{name} is missing"), help=usage)
    return DenoisedError(error.format_message(), help=usage)


# --- errors and output -----------------------------------------------------------------------------------


def tell(error: DenoisedError) -> int:
    """Print an error for a person; its exit code."""
    from denoised.catalog import CatalogError, render
    from denoised.catalog.characters import visible

    if isinstance(error, CatalogError):
        note(render(error.findings[:3], error.source, "human", reader_language()) + "\n")
    for label, text in ((say(ko="오류", en="error"), error.message), (say(ko="도움", en="help"), error.help)):
        if text:
            note(f"{bold(label)}: " + "\n".join(map(visible, text.split("\n"))))
    return error.code


def _nobody_reads() -> bool:
    """Whether the reader of our output has gone, as in `denoised list | head -1`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors only: a pipe without a reader is one
    return bool(poll.poll(0))


# --- help ------------------------------------------------------------------------------------------------


def _translate(command: Any) -> None:
    """Leave of every help text under `command` the reader's language, and print help our way."""
    help_option = command.get_help_option(typer.Context(command, help_option_names=_HELP_NAMES))
    help_option.help = both(ko="이 도움말을 보인다.", en="Show this help.")
    help_option.callback = _help_wanted
    for described in (command, help_option, *command.params):
        ko, _, en = (described.help or "").partition(_BETWEEN)
        described.help = say(ko=ko, en=en or ko)
    for child in getattr(command, "commands", {}).values():
        _translate(child)


def _help_wanted(context: Any, param: Any, wanted: bool) -> None:
    if wanted:
        show_help(context)
        raise typer.Exit


def _help(context: Any) -> str:
    command = context.command
    columns = min(shutil.get_terminal_size().columns, 100)
    pieces = command.collect_usage_pieces(context)
    parameters = [param for param in command.get_params(context) if not param.hidden]
    arguments = [
        (param.display_name_raw, param.help) for param in parameters if param.param_type_name == "argument"
    ]
    options = [(_option(param), param.help) for param in parameters if param.param_type_name == "option"]
    children = [
        (name, child.help) for name, child in getattr(command, "commands", {}).items() if not child.hidden
    ]
    lines = [f"{bold(say(ko='사용법', en='Usage'))}: {' '.join([context.command_path, *pieces])}"]
    lines += ["", *wrap(command.help, columns)]
    for title, rows in (
        (say(ko="명령", en="Commands"), children),
        (say(ko="인자", en="Arguments"), arguments),
        (say(ko="옵션", en="Options"), options),
    ):
        if rows:
            lines += ["", f"{bold(title)}:"]
            first = max(width(name) for name, _ in rows)
            for name, text in rows:
                wrapped = wrap(text, columns - first - 4) or [""]
                lines.append(f"  {pad(name, first)}  {wrapped[0]}".rstrip())
                lines += [" " * (first + 4) + line for line in wrapped[1:]]
    return "\n".join(lines)


def _option(param: Any) -> str:
    """-q, --query TEXT"""
    names = ", ".join(sorted(param.opts, key=len) + param.secondary_opts)
    return names if param.is_flag else f"{names} {param.metavar or param.name.upper()}"

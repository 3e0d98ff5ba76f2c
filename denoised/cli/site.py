"""Commands that build and show the site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from denoised.cli.app import app
from denoised.command_line import SETTINGS, Commands, both, note
from denoised.language import say
from denoised.project import find_root

site = typer.Typer(cls=Commands, context_settings=SETTINGS, help=both(ko="사이트.", en="The site."))
app.add_typer(site, name="site")


@site.command("build", help=both(ko="사이트를 build/site에 만든다.", en="Build the site in build/site."))
def site_build(
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help=both(
                ko="이 기계에서 잰 기록이 있는 폴더. 기본: outputs.",
                en="Where this machine's own records are. Default: outputs.",
            ),
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option("--published", help=both(ko="공개된 기록만 쓴다.", en="Use published records only.")),
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help=both(ko="사이트가 놓일 주소.", en="Where the site will live.")),
    ] = None,
) -> None:
    from denoised.site import build

    root = find_root()
    pages = build(root, records=None if published else records or root / "outputs", url=url)
    for problem in pages.problems:
        note(problem)
    note(
        say(
            ko=f"사이트: {root / 'build' / 'site' / 'index.html'}",
            en=f"site: {root / 'build' / 'site' / 'index.html'}",
        )
    )
    note(say(ko="다음: denoised site serve", en="next: denoised site serve"))


@site.command(
    "serve", help=both(ko="만든 사이트를 127.0.0.1에서 보여 준다.", en="Serve the built site on 127.0.0.1.")
)
def site_serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help=both(ko="포트.", en="The port."))] = 8000,
) -> None:
    from denoised.site import serve

    serve(find_root(), port)

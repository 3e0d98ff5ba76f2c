"""Commands of a contributor: a new entry's draft, what can be mended safely, a preview, what a code means, the links."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast

import typer

from denoised.cli.app import app
from denoised.cli.catalog import CatalogOption, catalog_path
from denoised.command_line import both, known
from denoised.errors import DenoisedError
from denoised.language import reader_language, say
from denoised.project import find_root

DryOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help=both(ko="보여 주기만 하고 쓰지 않는다.", en="Show what would be written; write nothing."),
    ),
]


@contextmanager
def _extra() -> Iterator[None]:
    """Say how to install what only contributors need, where it is missing: an image for runs is without it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("", "denoised"):
            raise
        raise DenoisedError(
            say(
                ko=f"이 명령에 필요한 {error.name} 패키지가 없다",
                en=f"this command needs the package {error.name}, which is not installed",
            ),
            help="pip install --constraint constraints.txt --editable '.[contribute]'",
        ) from error


@app.command(
    help=both(
        ko="논문 하나의 초안을 카탈로그의 제자리에 넣는다. 제목, 저자, 날짜는 arXiv에서 가져온다. "
        "예: denoised new 2307.10159",
        en="Put the draft of a paper into its place in the catalog, with title, authors and date from arXiv, "
        "as in: denoised new 2307.10159",
    )
)
def new(
    work: Annotated[
        str | None,
        typer.Argument(
            metavar="WORK",
            help=both(ko="arXiv 식별자, 주소 또는 DOI.", en="An arXiv identifier, an address or a DOI."),
        ),
    ] = None,
    id: Annotated[
        str,
        typer.Option(
            metavar="ID", help=both(ko="항목의 id. 기본: 제목에서.", en="Its id. Default: from the title.")
        ),
    ] = "",
    category: Annotated[str, typer.Option(help=both(ko="범주.", en="Its category."))] = "",
    kind: Annotated[str, typer.Option(help=both(ko="종류. 기본: method.", en="Default: method."))] = "method",
    bibtex: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=both(
                ko="BibTeX 파일의 논문들을 초안으로 넣는다.", en="Drafts of all works of a BibTeX file."
            ),
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help=both(ko="arXiv에 묻지 않는다.", en="Do not ask arXiv."))
    ] = False,
    dry: DryOption = False,
    catalog: CatalogOption = None,
) -> None:
    from denoised.catalog import KINDS
    from denoised.contribute.command import import_command, new_command

    known("--kind", kind, KINDS)
    path = catalog_path(catalog)
    if (work is None) == (bibtex is None):
        raise DenoisedError(
            say(ko="논문 하나 또는 --bibtex FILE을 준다", en="give one work, or --bibtex FILE"),
            help="denoised new 2307.10159",
        )
    with _extra():
        if bibtex is not None:
            import_command(path, bibtex, category=category, dry=dry)
        elif work is not None:
            new_command(
                find_root(), path, work, id=id, category=category, kind=kind, offline=offline, dry=dry
            )


@app.command(
    help=both(
        ko="뜻을 바꾸지 않고 고칠 수 있는 것을 고치고, 바뀐 곳을 보여 준다. 주석은 그대로 둔다.",
        en="Mend what can be mended without changing its meaning, and show the change. Comments stay.",
    )
)
def fix(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help=both(ko="이 프로젝트의 카탈로그 대신.", en="Instead of this project's.")
        ),
    ] = None,
    dry: DryOption = False,
) -> None:
    from denoised.contribute.command import fix_command

    raise typer.Exit(fix_command(catalog_path(file), dry=dry))


@app.command(
    help=both(
        ko="항목 하나의 한국어, 영어 쪽을 만들어 127.0.0.1에서 보여 준다. 파일을 고치면 다시 만든다.",
        en="Build one entry's two pages and serve them on 127.0.0.1; edits are built again.",
    )
)
def preview(
    id: Annotated[str, typer.Argument(metavar="ID", help=both(ko="논문의 id.", en="The paper's id."))],
    port: Annotated[int, typer.Option(min=0, max=65535, help=both(ko="포트.", en="The port."))] = 8001,
) -> None:
    from denoised.site.preview import preview_command

    preview_command(find_root(), id, port)


@app.command(
    help=both(
        ko="카탈로그와 해설의 링크가 살아 있는지 묻는다. 호스트마다 천천히, 사흘에 걸쳐 없을 때만 끊겼다고 본다.",
        en="Ask whether the links of the catalog and the notes are alive, slowly for each host; dead is only what was "
        "missing on three days.",
    )
)
def links(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help=both(ko="항목들. 기본: 모두.", en="Entries. Default: all.")),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=both(
                ko="어느 날 무엇이 없었는지 적어 두는 파일. 없으면 끊겼다고 판단하지 않는다.",
                en="Where it is kept what was missing on which day; without it nothing is called dead.",
            ),
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="human|json|markdown",
            help=both(ko="사람, 프로그램, 이슈.", en="For people, programs, an issue."),
        ),
    ] = "human",
) -> None:
    with _extra():
        from denoised.contribute.links import FORMATS, Format, links_command

    known("--format", format, FORMATS)
    raise typer.Exit(links_command(find_root(), ids or [], state=state, format=cast(Format, format)))


@app.command(
    help=both(
        ko="오류 코드 하나의 뜻, 틀린 예와 맞는 예. 예: denoised explain E0203",
        en="What a code of `denoised check` means, with a wrong and a right example: denoised explain E0203",
    )
)
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help=both(ko="오류 코드.", en="The code."))],
) -> None:
    from denoised.catalog.explain import explain as explained

    print(explained(find_root(), code, reader_language()))

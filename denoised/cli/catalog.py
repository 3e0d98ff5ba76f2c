"""Commands that read the catalog: list, show, export, check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from denoised.cli.app import app
from denoised.command_line import bold, both, known, note
from denoised.errors import Exit
from denoised.language import reader_language, say
from denoised.project import CATALOG, find_root

CatalogOption = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        metavar="FILE",
        help=both(ko="이 프로젝트의 것이 아닌 다른 카탈로그.", en="Another catalog than this project's."),
    ),
]


@app.command("list", help=both(ko="카탈로그의 논문들.", en="The papers of the catalog."))
def list_papers(
    category: Annotated[
        str | None, typer.Option(help=both(ko="이 범주만.", en="Only this category."))
    ] = None,
    tag: Annotated[str | None, typer.Option(help=both(ko="이 태그만.", en="Only this tag."))] = None,
    kind: Annotated[
        str | None, typer.Option(help=both(ko="이 종류만. 예: method.", en="Only this kind, such as method."))
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            "--query",
            "-q",
            metavar="TEXT",
            help=both(
                ko="이 낱말이 모두 든 것만. 한국어와 영어, 낱말 속도 찾는다.",
                en="Only with all these words, in Korean or English, inside words too.",
            ),
        ),
    ] = None,
    catalog: CatalogOption = None,
) -> None:
    from denoised.catalog import KINDS, load
    from denoised.catalog.listing import entries_of, lines_of, matches

    path = catalog_path(catalog)
    loaded = load(path)
    tags = {each for paper in loaded.papers for each in paper.tags}
    known("--category", category, [each.id for each in loaded.categories])
    known("--tag", tag, tags)
    known("--kind", kind, KINDS)
    papers = [
        paper
        for paper in loaded.papers
        if category in (None, paper.category)
        and (tag is None or tag in paper.tags)
        and kind in (None, paper.kind)
        and (query is None or matches(paper, query))
    ]
    if not papers:
        note(say(ko="맞는 논문이 없다", en="no paper matches"))
    elif sys.stdout.isatty():
        typer.echo(entries_of(papers, path.parent, reader_language(), _styled))
    else:
        print(lines_of(papers, path.parent, reader_language()))


@app.command(help=both(ko="논문 하나의 모든 것.", en="Everything about one paper."))
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help=both(ko="논문의 id.", en="The paper's id."))],
    catalog: CatalogOption = None,
) -> None:
    from denoised.catalog import load
    from denoised.catalog.listing import full

    path = catalog_path(catalog)
    loaded = load(path)
    typer.echo(full(loaded.paper(id), loaded, path.parent, reader_language(), title=bold))


@app.command(
    help=both(
        ko="항목을 BibTeX, CSL-JSON, JSON과 그 스키마, CSV로 낸다. 예: denoised export --category guidance > guidance.bib",
        en="Entries as BibTeX, CSL-JSON, JSON with its schema, or CSV, as in: denoised export --category guidance > g.bib",
    )
)
def export(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help=both(ko="항목들. 기본: 모두.", en="Entries. Default: all.")),
    ] = None,
    category: Annotated[
        str | None, typer.Option(help=both(ko="이 범주만.", en="Only this category."))
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="bibtex|csl|json|schema|csv", help=both(ko="형식. 기본: bibtex.", en="Default: bibtex.")
        ),
    ] = "bibtex",
    catalog: CatalogOption = None,
) -> None:
    from denoised.catalog import load
    from denoised.catalog.export import EXPORT_FORMATS, ExportFormat
    from denoised.catalog.export import export as written

    known("--format", format, EXPORT_FORMATS)
    loaded = load(catalog_path(catalog))
    known("--category", category, [each.id for each in loaded.categories])
    papers = [loaded.paper(id) for id in ids] if ids else list(loaded.papers)
    chosen = [paper for paper in papers if category in (None, paper.category)]
    print(written(chosen, cast(ExportFormat, format)), end="")


@app.command(
    help=both(
        ko="카탈로그의 오류를 모두, 자리와 고칠 말과 함께 보여 준다.",
        en="Every error of the catalog, with its place and what to write.",
    )
)
def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help=both(ko="이 프로젝트의 카탈로그 대신.", en="Instead of this project's.")
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="human|json|github",
            help=both(ko="사람, 프로그램, 풀 리퀘스트.", en="For people, programs, pull requests."),
        ),
    ] = "human",
) -> None:
    from denoised.catalog import FORMATS, Format, read, render

    known("--format", format, FORMATS)
    path = catalog_path(file)
    runners = path.parent / "runners"
    reading = read(path, runners=runners if runners.is_dir() else None)
    name, count = reading.source.name, len(reading.findings)
    if count or format == "json":
        print(render(reading.findings, reading.source, cast(Format, format), reader_language()))
    if count:
        note(say(ko=f"\n{name}: 고칠 곳 {count}개", en=f"\n{name}: {count} error{'s' if count > 1 else ''}"))
        raise typer.Exit(Exit.FINDINGS)
    if reading.catalog is not None and format == "human":
        papers, categories = len(reading.catalog.papers), len(reading.catalog.categories)
        print(
            say(
                ko=f"{name}: 오류 없음 (논문 {papers}편, 범주 {categories}개)",
                en=f"{name}: no errors ({papers} papers, {categories} categories)",
            )
        )


def catalog_path(chosen: Path | None) -> Path:
    """The catalog that was asked for, or this project's."""
    return find_root() / CATALOG if chosen is None else chosen


_COLORS = {"holds": "green", "fails": "red", "inconclusive": "yellow", "unverified": "magenta"}


def _styled(text: str, role: str) -> str:
    """A cell of the list: the id stands out, verdicts are coloured, the rest steps back."""
    if role == "id":
        return bold(text)
    return typer.style(text, fg=_COLORS[role]) if role in _COLORS else typer.style(text, dim=True)

"""The command `denoised`.

Commands are thin: each reads its options, calls the part that does the work, prints. Whatever is heavy is
imported inside the command that needs it, so that `--help`, `list` and `check` start at once.

To add a command, decorate a function with `@app.command()`. Write help texts with `both`, which keeps Korean
and English side by side; raise `DenoisedError` for everything a person can cause: `main` prints it. A group
of commands is another `typer.Typer(cls=Commands, context_settings=SETTINGS)`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from denoised import __version__
from denoised.command_line import SETTINGS, Commands, bold, both, known, note, show_help
from denoised.command_line import run as run_app
from denoised.errors import DenoisedError, Exit
from denoised.language import reader_language, say
from denoised.project import CATALOG, find_root

app = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)

CatalogOption = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        metavar="FILE",
        help=both(ko="이 프로젝트의 것이 아닌 다른 카탈로그.", en="Another catalog than this project's."),
    ),
]


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

    path = _catalog_path(catalog)
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

    path = _catalog_path(catalog)
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
    loaded = load(_catalog_path(catalog))
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
    reading = read(_catalog_path(file))
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


@app.command(
    help=both(
        ko="논문 하나의 주장을 다시 잰다. 예: denoised run ddim steps='[10,20]' scale=smoke",
        en="Re-measure one paper's claim, as in: denoised run ddim steps='[10,20]' scale=smoke",
    )
)
def run(
    id: Annotated[str, typer.Argument(metavar="ID", help=both(ko="논문의 id.", en="The paper's id."))],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help=both(
                ko="러너의 설정과 scale, seeds, images, batch, threads, device, model, data.",
                en="The runner's settings, and scale, seeds, images, batch, threads, device, model, data.",
            ),
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="docker",
            help=both(
                ko="격리된 컨테이너에서 돌린다. 먼저 denoised image build.",
                en="In a confined container. First: denoised image build.",
            ),
        ),
    ] = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help=both(ko="device=cuda와 같다.", en="The same as device=cuda."))
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help=both(
                ko="컨테이너의 메모리. 기본: 4g, scale=paper는 기계의 9할.",
                en="The container's memory. Default: 4g, at scale=paper nine tenths of the machine's.",
            ),
        ),
    ] = None,
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse",
            help=both(
                ko="무작위 가중치와 데이터로 경로만 끝까지 시험한다.",
                en="Walk the whole path with random weights and data.",
            ),
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help=both(ko="기록을 둘 폴더. 기본: outputs.", en="Where records go. Default: outputs."),
        ),
    ] = None,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish", help=both(ko="기록을 papers/에 쓴다.", en="Write the record into papers/.")
        ),
    ] = False,
) -> None:
    known("--in", where, ["docker"])
    if where is None:
        from denoised.lab.command import run_command

        if memory is not None:
            raise DenoisedError(
                say(ko="--memory는 --in docker와 함께 쓴다", en="--memory goes with --in docker")
            )
        run_command(find_root(), id, overrides or [], rehearse=rehearse, gpu=gpu, out=out, publish=publish)
    else:
        from denoised.engine.contained import contained_run_command

        contained_run_command(
            find_root(),
            id,
            overrides or [],
            rehearse=rehearse,
            gpu=gpu,
            memory=memory,
            out=out,
            publish=publish,
        )


@app.command(
    help=both(
        ko="여러 논문을 차례로 다시 잰다. 끝난 것은 건너뛰고, 하나가 실패해도 나머지를 끝낸다. "
        "예: denoised sweep --all scale=smoke",
        en="Re-measure many papers, each in a process of its own; what is finished is skipped, a failure stops no "
        "other. As in: denoised sweep --all scale=smoke",
    )
)
def sweep(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID|KEY=VALUE",
            help=both(
                ko="논문의 id들, 그리고 denoised run과 같은 설정. 예: ddim ddpm seeds='[0,1]'",
                en="Ids of papers, and settings as in denoised run, such as: ddim ddpm seeds='[0,1]'",
            ),
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=both(ko="러너가 있는 논문 모두.", en="Every paper with a runner."))
    ] = False,
    changed: Annotated[
        bool,
        typer.Option(
            "--changed",
            help=both(
                ko="공개된 기록과 러너, 항목, 설정, 체크포인트가 달라진 논문만.",
                en="Only papers whose runner, entry, settings or checkpoint is not that of the published record.",
            ),
        ),
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            metavar="N",
            min=1,
            help=both(
                ko="한 번에 돌릴 수. 기본: 1 (실행 하나가 스레드를 두 개씩 쓴다).",
                en="How many at a time. Default: 1 (each uses two threads).",
            ),
        ),
    ] = 1,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help=both(ko="이보다 오래 걸리는 실행은 멈춘다.", en="Stop a run that takes longer."),
        ),
    ] = None,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help=both(ko="denoised run과 같다.", en="As in denoised run.")),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help=both(ko="끝난 것도 다시 잰다.", en="Also what is finished."))
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help=both(ko="기록을 둘 폴더. 기본: outputs.", en="Where records go. Default: outputs."),
        ),
    ] = None,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish", help=both(ko="기록을 papers/에 쓴다.", en="Write the records into papers/.")
        ),
    ] = False,
) -> None:
    from denoised.lab.sweep import sweep_command

    code = sweep_command(
        find_root(),
        words or [],
        everything=everything,
        changed=changed,
        jobs=jobs,
        limit=timeout,
        rehearse=rehearse,
        again=again,
        out=out,
        publish=publish,
    )
    raise typer.Exit(code)


@app.command(
    help=both(
        ko="논문 규모에 필요한 공개된 가중치를 받는다. 네트워크를 쓰는 유일한 명령이다. "
        "예: denoised fetch ddim scale=paper",
        en="Download the published weights of the paper's scale, the only step with a network, as in: "
        "denoised fetch ddim scale=paper",
    )
)
def fetch(
    id: Annotated[str, typer.Argument(metavar="ID", help=both(ko="논문의 id.", en="The paper's id."))],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="scale=paper", help=both(ko="규모.", en="The scale."))
    ] = None,
    pin: Annotated[
        bool,
        typer.Option(
            "--pin",
            help=both(
                ko="고정되지 않은 것은 지금 리비전을 받아 해시를 계산한다.",
                en="Of what is not pinned, take the current revision and compute its hashes.",
            ),
        ),
    ] = False,
) -> None:
    from denoised.zoo.fetch_command import fetch_command

    fetch_command(find_root(), id, words or [], pin=pin)


@app.command(
    help=both(
        ko="zoo의 체크포인트를 학습한다. 멈추면 같은 명령으로 이어 간다. 예: denoised train emoji-pixel",
        en="Train a checkpoint of the zoo; the same command goes on where it stopped.",
    )
)
def train(
    name: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help=both(ko="체크포인트의 이름.", en="Its name."))
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help=both(ko="레시피의 설정. 예: steps=1000", en="The recipe's settings, such as steps=1000"),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help=both(
                ko="상태를 둘 폴더. 기본: outputs/train.", en="Where its state goes. Default: outputs/train."
            ),
        ),
    ] = None,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish",
            help=both(ko="끝난 체크포인트를 zoo/에 쓴다.", en="Write the finished checkpoint into zoo/."),
        ),
    ] = False,
) -> None:
    from denoised.zoo.command import train_command

    train_command(find_root(), name, overrides or [], out=out, publish=publish)


@app.command(
    help=both(
        ko="내장 세계를 그림 한 장으로 그린다. 이름을 주지 않으면 세계의 목록을 보여 준다.",
        en="Draw an embedded world into one picture; without a name, list the worlds.",
    )
)
def world(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="WORLD",
            help=both(
                ko="emoji: 이모지 장면. clips: 움직이는 이모지. toys: 2차원 밀도와 그 스코어. "
                "fashion-mnist: 옷 사진(설치되어 있으면).",
                en="emoji: scenes of emoji. clips: moving emoji. toys: 2-D densities and their scores. "
                "fashion-mnist: pictures of clothes, where installed.",
            ),
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help=both(ko="시드.", en="The seed."))] = 0,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help=both(
                ko="장면, 프레임, 패널 하나의 픽셀. 기본: 64, toys는 240. emoji는 64보다 작으면 사물 하나만 그린다.",
                en="Of a scene, a frame or a panel. Default: 64, toys 240. Below 64, emoji draws single objects.",
            ),
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help=both(
                ko="fashion-mnist의 gzip idx 파일이 있는 폴더.",
                en="Where fashion-mnist's gzip idx files are.",
            ),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=both(ko="PNG 파일. 기본: outputs/worlds.", en="The PNG file. Default: outputs/worlds."),
        ),
    ] = None,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish",
            help=both(
                ko="사이트에 싣는 그림과 설명을 site/assets/worlds에 쓴다.",
                en="Write the site's pictures and captions into site/assets/worlds.",
            ),
        ),
    ] = False,
) -> None:
    from denoised.worlds.command import draw_world, list_worlds, publish_world

    if publish:
        publish_world(find_root(), name, seed=seed, size=size, folder=folder, out=out)
    elif name is None:
        list_worlds()
    else:
        draw_world(find_root(), name, seed=seed, size=size, folder=folder, out=out)


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


image = typer.Typer(
    cls=Commands, context_settings=SETTINGS, help=both(ko="컨테이너 이미지.", en="The container image.")
)
app.add_typer(image, name="image")


@image.command(
    "build",
    help=both(
        ko="이 체크아웃으로 이미지 denoised:cpu를 만든다. --cuda면 denoised:cuda를 만든다.",
        en="Build the image denoised:cpu from this checkout; with --cuda, denoised:cuda.",
    ),
)
def image_build(
    cuda: Annotated[
        bool,
        typer.Option(
            "--cuda", help=both(ko="GPU용: torch를 CUDA와 함께 넣는다.", en="For GPUs: torch with CUDA.")
        ),
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help=both(
                ko="바탕 이미지: Python 3.11 이상과 venv가 있는 데비안.",
                en="The base image: a Debian with Python 3.11 or newer and venv.",
            ),
        ),
    ] = None,
) -> None:
    from denoised.engine.command import build_command

    build_command(find_root(), target="cuda" if cuda else "cpu", base=base)


@app.command(
    help=both(
        ko="이 기계에 무엇이 있고, 없는 것이 무엇을 막으며, 무엇을 치면 되는지.",
        en="What this machine has, what each missing thing prevents, and what to type.",
    )
)
def doctor() -> None:
    from denoised.doctor import doctor_command

    doctor_command(find_root())


def _catalog_path(chosen: Path | None) -> Path:
    return find_root() / CATALOG if chosen is None else chosen


_COLORS = {"holds": "green", "fails": "red", "inconclusive": "yellow", "unverified": "magenta"}


def _styled(text: str, role: str) -> str:
    """A cell of the list: the id stands out, verdicts are coloured, the rest steps back."""
    if role == "id":
        return bold(text)
    return typer.style(text, fg=_COLORS[role]) if role in _COLORS else typer.style(text, dim=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    return run_app(app, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())

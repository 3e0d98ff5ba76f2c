"""Commands that measure: run and sweep, and what they need: weights, checkpoints, worlds, images, a look at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from denoised.cli.app import app
from denoised.command_line import SETTINGS, Commands, both, known
from denoised.errors import DenoisedError
from denoised.language import say
from denoised.project import find_root

RecordsFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help=both(ko="기록을 둘 폴더. 기본: outputs.", en="Where records go. Default: outputs."),
    ),
]


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
    out: RecordsFolder = None,
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
    out: RecordsFolder = None,
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

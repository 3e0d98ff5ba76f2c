"""`denoised run ID --in docker`: the same run, in a container, with the same record at its end.

The container gets a folder of its own to write to. What it left there is taken over only when it is the record that
was asked for: of this paper and scale, made in this image, whole, with nothing beside plain files.
"""

from __future__ import annotations

import re
import secrets
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn, cast

from docker.models.images import Image

from denoised.catalog import load
from denoised.command_line import note
from denoised.engine.confinement import Limits
from denoised.engine.container import (
    Ended,
    check_output,
    driver_name,
    image_of,
    is_gone,
    make_output,
    reap,
    run,
)
from denoised.engine.docker import engine
from denoised.engine.image import Target, commit_arguments, tag_of
from denoised.errors import DenoisedError, Exit
from denoised.lab.command import check_publishable, check_writable, tell_result
from denoised.lab.record import adopt_record, read_record
from denoised.lab.schema import Record, Scale
from denoised.language import reader_language, say
from denoised.project import CATALOG
from denoised.registry import check_runner, load_runner
from denoised.zoo.fetch_command import fetched_overrides

STAGING = "outputs/.containers"
REVISION = "org.opencontainers.image.revision"

# Settings whose value may be a folder or a file of the user's, which is then mounted read-only.
_PATHS = ("model", "data", "clip", "extractor")
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[kmg]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def contained_run_command(
    root: Path,
    paper_id: str,
    overrides: Sequence[str],
    *,
    rehearse: bool,
    gpu: bool,
    memory: str | None,
    out: Path | None,
    publish: bool,
) -> None:
    """Reproduce one paper in a container, take its record over, print the table and the verdict."""
    catalog = load(root / CATALOG)
    paper = catalog.paper(paper_id)
    check_runner(root, catalog, paper)
    asked = dict(each.split("=", 1) for each in overrides if "=" in each)  # the run inside checks them all
    scale = cast(Scale, "rehearsal" if rehearse else asked.get("scale", "mini"))
    if publish:
        check_publishable(scale)
    folder = root / "papers" / paper.id / "results" if publish else (out or root / "outputs") / paper.id
    check_writable(folder)
    target: Target = "cuda" if gpu else "cpu"
    with engine() as client, _ending_is_an_error(), _staging(root) as staging:
        for name in reap(client):
            note(
                say(
                    ko=f"끝난 실행이 남긴 컨테이너를 치웠다: {name}",
                    en=f"removed a container that an ended run left: {name}",
                )
            )
        image = image_of(
            client, tag_of(target), build="denoised image build" + (" --cuda" if target == "cuda" else "")
        )
        _compare_code(root, image)
        machine = client.info()
        limits = limits_for(scale, asked, memory, cpus=machine["NCPU"], total=machine["MemTotal"])
        if scale == "paper":
            defaults = load_runner(root, catalog, paper).SCALES.get("paper", {})
            overrides = [*overrides, *fetched_overrides(root, defaults, overrides)]
        words, inputs = _mounted(overrides)
        ended = run(
            client,
            str(image.id),
            [
                "run",
                paper.id,
                *words,
                *(["--gpu"] if gpu else []),
                *(["--rehearse"] if rehearse else []),
                "--out",
                "/out",
            ],
            output=staging,
            limits=limits,
            say_line=note,
            gpu=gpu,
            environment={
                "DENOISED_IMAGE": str(image.id),
                "DENOISED_DRIVEN": "1",
                "DENOISED_LANG": reader_language(),
                "COLUMNS": str(shutil.get_terminal_size().columns),
            },
            inputs=inputs,
        )
        if ended.exit_code:
            raise failure(ended, limits)
        check_output(staging, limits)
        made = staging / paper.id / f"{scale}.json"
        _check_is_ours(read_record(made, paper=paper.id), made, str(image.id), gpu)
        path = adopt_record(made, folder, paper=paper.id)
    tell_result(path, paper.id, publish=publish)
    note(say(ko=f"이미지: {image.id}", en=f"image: {image.id}"))


def limits_for(scale: str, asked: dict[str, str], memory: str | None, *, cpus: int, total: int) -> Limits:
    """What a run may use of an engine's machine with `cpus` cores and `total` bytes of memory.

    Raises DenoisedError (USAGE) for a size that is none or more than there is.
    """
    limits = Limits()
    if scale == "paper":  # published networks need what there is
        limits = replace(limits, memory=total * 9 // 10, cpus=float(cpus), pids=4096, scratch=4 * 2**30)
    threads = asked.get("threads", "")
    wanted = max(limits.cpus, float(threads)) if threads.isdigit() else limits.cpus
    limits = replace(limits, cpus=min(float(cpus), wanted), memory=min(limits.memory, total))
    if memory is None:
        return limits
    match = _SIZE.fullmatch(memory.strip())
    size = int(float(match["number"]) * _UNITS[match["unit"].lower()]) if match else 0
    if not 2**28 <= size <= total:
        raise DenoisedError(
            say(
                ko=f"--memory {memory}: 256m부터 이 기계의 {total / 2**30:.1f}g까지 줄 수 있다",
                en=f"--memory {memory}: it may be from 256m to this machine's {total / 2**30:.1f}g",
            ),
            help=say(ko="예: --memory 8g", en="for example: --memory 8g"),
        )
    return replace(limits, memory=size)


def failure(ended: Ended, limits: Limits) -> DenoisedError:
    """What to tell of a run that ended with something else than a record; what it said has been seen already."""
    code, last = ended.exit_code, "\n".join(f"  {line}" for line in ended.last[-5:])
    if ended.out_of_memory:
        size = f"{limits.memory / 2**30:.1f}g"
        return DenoisedError(
            say(
                ko=f"컨테이너에 준 메모리 {size}가 모자랐다",
                en=f"the container's {size} of memory were not enough",
            ),
            help=say(
                ko="더 주거나(--memory 8g) 한 번에 처리하는 장수를 줄인다(batch=16)",
                en="give it more (--memory 8g), or put fewer pictures into one network call (batch=16)",
            ),
            code=Exit.RESOURCES,
        )
    if code == 128 + signal.SIGKILL:
        return DenoisedError(
            say(
                ko="컨테이너가 신호 9로 끝났다: 기계의 메모리가 모자랐거나 누가 끝냈다",
                en="the container was ended by signal 9: the machine ran out of memory, or somebody ended it",
            ),
            help=say(ko="메모리를 비우고 다시 실행한다", en="free some memory and run it again"),
            code=Exit.RESOURCES,
        )
    if code == Exit.NO_GPU:
        return DenoisedError(
            say(
                ko="GPU를 달라고 했지만 컨테이너 안에서는 GPU가 보이지 않는다",
                en="a GPU was asked for, and inside the container none is to be seen",
            ),
            help=say(
                ko="확인: docker run --rm --gpus all --entrypoint nvidia-smi denoised:cuda",
                en="look for yourself: docker run --rm --gpus all --entrypoint nvidia-smi denoised:cuda",
            ),
            code=Exit.NO_GPU,
        )
    known = {each.value for each in Exit} - {Exit.OK, Exit.FINDINGS}  # 1 is also how Python ends after a bug
    return DenoisedError(
        say(
            ko=f"컨테이너 안의 실행이 실패했다 (종료 코드 {code}):\n{last}",
            en=f"the run in the container failed (exit code {code}):\n{last}",
        ),
        code=Exit(code) if code in known else Exit.FAILED,
    )


def _check_is_ours(record: Record, path: Path, image: str, gpu: bool) -> None:
    """DenoisedError (INTEGRITY) where a record was not made where it should have been, NO_GPU where without one."""
    if record.environment.container != image:
        raise DenoisedError(
            say(
                ko=f"{path.name}: 이 이미지({image})에서 만든 기록이 아니다",
                en=f"{path.name} is no record of a run in this image ({image})",
            ),
            code=Exit.INTEGRITY,
        )
    if gpu and record.environment.gpu is None:
        raise failure(Ended(Exit.NO_GPU, False, 0.0, ()), Limits())


def _compare_code(root: Path, image: Image) -> None:
    """Say so where the image was built from other code than the checkout's."""
    built, here = image.labels.get(REVISION, ""), commit_arguments(root)["COMMIT"]
    if here and built != here:
        note(
            say(
                ko=f"이미지의 코드는 {built or '알 수 없는 커밋'}의 것이고 체크아웃은 {here}이다. "
                "새로 만들려면: denoised image build",
                en=f"the image holds the code of {built or 'an unknown commit'}, the checkout is {here}: "
                "to build it anew, denoised image build",
            )
        )


def _mounted(overrides: Sequence[str]) -> tuple[list[str], dict[str, Path]]:
    """The settings with paths as the container sees them, and what is mounted for that, by its place inside."""
    words, inputs = [], {}
    for each in overrides:
        key, _, value = each.partition("=")
        path = Path(value).expanduser()
        if key in _PATHS and value and path.exists():
            inputs[inside := f"/in/{key}"] = path.resolve()
            each = f"{key}={inside}"
        words.append(each)
    return words, inputs


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder for one container to write to, gone afterwards; those that dead drivers left go first."""
    parent = root / STAGING
    if parent.is_dir():
        for each in parent.iterdir():
            if is_gone(each.name.rpartition("+")[0]):
                shutil.rmtree(each, ignore_errors=True)
    folder = make_output(parent / f"{driver_name()}+{secrets.token_hex(4)}")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ending_is_an_error() -> Iterator[None]:
    """SIGTERM and SIGHUP raise, so that the container is stopped on the way out."""

    def ended(number: int, frame: FrameType | None) -> NoReturn:
        raise DenoisedError(
            say(ko="멈추라는 신호를 받아 컨테이너를 멈췄다", en="told to stop, the container was stopped"),
            help=say(ko="같은 명령으로 다시 실행한다", en="run the same command again"),
            code=Exit.RETRY,
        )

    before = {each: signal.signal(each, ended) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

"""Building the container image from `docker/Dockerfile`, told as it goes, and its log kept.

The build is done by the `docker` command, whose BuildKit the Python SDK does not speak. An image gets its tag when
its last step is done, so a build that fails leaves the tag on the image it was on, or on none.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import denoised
from denoised.engine.docker import engine
from denoised.errors import DenoisedError, Exit
from denoised.language import say

Target = Literal["cpu", "cuda"]
REPOSITORY = "denoised"
DOCKERFILE = "docker/Dockerfile"
LAST_LINES = 15  # of a failed step, that are shown

# `#11 [libraries 5/5] RUN pip install …`, `#11 12.3 Collecting torch`, `#11 DONE 12.3s`
_STEP = re.compile(r"#(?P<number>\d+) \[(?P<place>[^\]]+)\] (?P<what>.+)")
_SAID = re.compile(r"#(?P<number>\d+) (?:\d+\.\d+ )?(?P<text>.*)")


@dataclass(frozen=True)
class Built:
    """An image that was built."""

    tag: str
    id: str  # sha256:…
    size: int  # bytes


def tag_of(target: Target) -> str:
    """The image's name: `denoised:cpu`."""
    return f"{REPOSITORY}:{target}"


def build(
    root: Path,
    target: Target,
    *,
    base: str | None = None,
    log: Path,
    report: Callable[[str, str], None],
) -> Built:
    """Build the image of a checkout at `root`.

    `base`: an image instead of the Dockerfile's own base. `log`: the file that keeps all of the output.
    `report(step, line)`: told each step that begins, and each line it says.

    Raises DenoisedError: ENGINE where none can be reached, USAGE where this is no checkout, FAILED with the step and
    its last lines where one fails.
    """
    dockerfile = root / DOCKERFILE
    if not dockerfile.is_file():
        raise DenoisedError(
            say(
                ko=f"{root}에는 {DOCKERFILE}이 없다: 이미지는 체크아웃에서만 만든다",
                en=f"{root} has no {DOCKERFILE}: an image is built from a checkout",
            ),
            help=say(
                ko="저장소를 복제한 폴더에서 다시 실행한다", en="run it again in a clone of the repository"
            ),
        )
    command = client_command()
    with engine() as client:
        arguments = {**commit_arguments(root), "VERSION": denoised.__version__}
        if base is not None:
            arguments["BASE_IMAGE"] = base
        _run(
            [
                *(command, "build", "--progress=plain", "--file", str(dockerfile), "--target", target),
                *("--tag", tag_of(target)),
                *(word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")),
                str(root),
            ],
            log,
            report,
        )
        image = client.images.get(tag_of(target))
        return Built(tag_of(target), str(image.id), int(image.attrs["Size"]))


def client_command() -> str:
    """Where the `docker` command is; DenoisedError (ENGINE) where it is not installed."""
    if (found := shutil.which("docker")) is None:
        raise DenoisedError(
            say(ko="docker 명령이 없다", en="there is no docker command"),
            help=say(
                ko="설치: sudo apt-get install docker.io", en="install it: sudo apt-get install docker.io"
            ),
            code=Exit.ENGINE,
        )
    return found


def commit_arguments(root: Path) -> dict[str, str]:
    """What the image says of its source: the commit, its date and where it is published; empty where there is none.

    A checkout that differs from its commit says so: `-dirty`.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=30)
        return done.stdout.strip() if done.returncode == 0 else ""

    if shutil.which("git") is None or not (commit := git("rev-parse", "HEAD")):
        return {"COMMIT": "", "CREATED": "", "SOURCE": "", "SOURCE_DATE_EPOCH": "0"}
    dirty = "-dirty" if git("status", "--porcelain") else ""
    origin = re.sub("//[^/@]*@", "//", git("remote", "get-url", "origin"))  # it may hold a password
    return {
        "SOURCE": origin if origin.startswith("https://") else "",  # a path of one's own says nothing
        "COMMIT": commit + dirty,
        "CREATED": git("show", "--no-patch", "--format=%cI", "HEAD"),
        "SOURCE_DATE_EPOCH": git("show", "--no-patch", "--format=%ct", "HEAD"),
    }


def _run(command: Sequence[str], log: Path, report: Callable[[str, str], None]) -> None:
    """Run a build, telling its steps; DenoisedError (FAILED) with the step that failed and its last lines."""
    log.parent.mkdir(parents=True, exist_ok=True)
    steps: dict[str, str] = {}
    said: dict[str, deque[str]] = {}
    failed = ""
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            line = line.rstrip()
            if step := _STEP.match(line):
                steps[step["number"]] = f"[{step['place']}] {step['what']}"
                report(steps[step["number"]], "")
            elif (words := _SAID.match(line)) and (name := steps.get(words["number"])):
                said.setdefault(name, deque(maxlen=LAST_LINES)).append(words["text"])
                report(name, words["text"])
                if words["text"].startswith("ERROR"):
                    failed = name
            elif line:
                said.setdefault("", deque(maxlen=LAST_LINES)).append(line)
    if process.returncode == 0:
        return
    last = "\n".join(f"  {line}" for line in said.get(failed, ()))
    raise DenoisedError(
        say(
            ko=f"이미지를 만들다 실패했다: {failed or '시작하기 전에'}\n{last}",
            en=f"building the image failed: {failed or 'before its first step'}\n{last}",
        ),
        help=say(
            ko="설치: sudo apt-get install docker-buildx-plugin (데비안의 패키지라면 docker-buildx)",
            en="install it: sudo apt-get install docker-buildx-plugin (in Debian's own packages docker-buildx)",
        )
        if "buildx component is missing" in last
        else say(ko=f"모든 출력: {log}", en=f"all of its output: {log}"),
        code=Exit.FAILED,
    )

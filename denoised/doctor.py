"""`denoised doctor`: what this machine has, what each missing thing prevents, and what to type.

Nothing heavy is imported and nothing is changed; an engine gets a few seconds to answer.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from denoised.errors import DenoisedError
from denoised.language import say

ENOUGH_MEMORY = 4 * 2**30  # of a run at mini scale
ENOUGH_DISK = 8 * 2**30  # of an image, its layers and the site


@dataclass(frozen=True)
class Finding:
    """One thing of this machine. `prevents` and `type` are empty where all is well."""

    name: str
    found: str
    prevents: str = ""
    type: str = ""


def findings(root: Path) -> Iterator[Finding]:
    """Everything that is looked at, in order."""
    yield _python()
    yield _torch()
    yield _memory()
    yield _disk(root)
    yield _checkpoints(root)
    yield _git(root)
    yield _browser()
    yield _gpu()
    yield from _engine()


def _python() -> Finding:
    return Finding("Python", f"{platform.python_version()} ({platform.system()} {platform.machine()})")


def _torch() -> Finding:
    try:
        return Finding("torch", f"{version('torch')}, diffusers {version('diffusers')}")
    except PackageNotFoundError as error:
        return Finding(
            "torch",
            say(ko=f"{error.name} 없음", en=f"no {error.name}"),
            say(ko="어떤 재현도 돌릴 수 없다", en="no reproduction can run"),
            "make demo",
        )


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    name = say(ko="코어와 메모리", en="cores and memory")
    found = say(ko=f"코어 {cores}개, {total / 2**30:.1f} GiB", en=f"{cores} cores, {total / 2**30:.1f} GiB")
    if total >= ENOUGH_MEMORY:
        return Finding(name, found)
    return Finding(
        name,
        found,
        say(
            ko="mini 규모의 실행 일부가 메모리 부족으로 멈출 수 있다",
            en="some runs at mini scale may run out of memory",
        ),
        "denoised run ddim batch=16",
    )


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    name = say(ko="디스크", en="disk")
    found = say(ko=f"{free / 2**30:.1f} GiB 남음", en=f"{free / 2**30:.1f} GiB free")
    if free >= ENOUGH_DISK:
        return Finding(name, found)
    return Finding(
        name,
        found,
        say(ko="이미지를 만들 자리가 모자란다 (8 GiB)", en="there is no room to build an image (8 GiB)"),
        f"du -sh {root}/outputs {root}/build; docker system df",
    )


def _checkpoints(root: Path) -> Finding:
    names = sorted(each.parent.name for each in (root / "zoo").glob("*/manifest.json"))
    name = say(ko="체크포인트", en="checkpoints")
    if names:
        return Finding(name, ", ".join(names))
    return Finding(
        name,
        say(ko="없음", en="none"),
        say(ko="mini 규모의 재현을 돌릴 수 없다", en="no reproduction at mini scale can run"),
        say(ko="저장소를 다시 복제한다: git clone", en="clone the repository again: git clone"),
    )


def _git(root: Path) -> Finding:
    found = shutil.which("git")
    if (
        found
        and subprocess.run([found, "-C", str(root), "rev-parse"], capture_output=True, timeout=10).returncode
        == 0
    ):
        commit = subprocess.run(
            [found, "-C", str(root), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
        return Finding("git", say(ko=f"커밋 {commit}", en=f"commit {commit}"))
    return Finding(
        "git",
        say(ko="체크아웃이 아님", en="not a checkout") if found else say(ko="없음", en="none"),
        say(ko="기록에 커밋이 남지 않는다", en="records do not name the commit"),
        "sudo apt-get install git" if not found else "git clone",
    )


def _browser() -> Finding:
    name = say(ko="브라우저", en="browser")
    for command in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(command):
            return Finding(name, found)
    return Finding(
        name,
        say(ko="Chromium 없음", en="no Chromium"),
        say(ko="사이트의 브라우저 시험을 건너뛴다", en="the site's tests in a browser are skipped"),
        "sudo apt-get install chromium fonts-noto-cjk fonts-noto-color-emoji",
    )


def _gpu() -> Finding:
    if (command := shutil.which("nvidia-smi")) is not None:
        query = [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
        if done.returncode == 0 and done.stdout.strip():
            return Finding("GPU", "; ".join(done.stdout.strip().splitlines()))
    return Finding(
        "GPU",
        say(ko="없음", en="none"),
        say(
            ko="scale=paper를 실제로 돌릴 수 없다. 경로는 연습으로 시험한다",
            en="scale=paper cannot run for real; its path can be rehearsed",
        ),
        "denoised run ddim scale=paper --rehearse",
    )


def _engine() -> Iterator[Finding]:
    from denoised.engine.docker import engine
    from denoised.engine.image import tag_of

    name = say(ko="컨테이너 엔진", en="container engine")
    try:
        with engine(5) as client:
            information = client.info()
            yield Finding(name, f"{information.get('ServerVersion')} ({information.get('OperatingSystem')})")
            tags = {tag for image in client.images.list() for tag in image.tags}
            hooks = set(information.get("Runtimes") or {})
    except DenoisedError as error:
        yield Finding(
            name,
            error.message,
            say(
                ko="--in docker와 denoised image build를 쓸 수 없다",
                en="no --in docker, no denoised image build",
            ),
            error.help or "",
        )
        return
    for target in ("cpu", "cuda"):
        tag = tag_of(target)
        option = "" if target == "cpu" else " --cuda"
        yield (
            Finding(f"{say(ko='이미지', en='image')} {tag}", say(ko="있음", en="there"))
            if tag in tags
            else Finding(
                f"{say(ko='이미지', en='image')} {tag}",
                say(ko="없음", en="none"),
                f"denoised run ID --in docker{' --gpu' if option else ''}",
                f"denoised image build{option}",
            )
        )
    name = say(ko="컨테이너의 GPU", en="GPUs in containers")
    if "nvidia" in hooks or shutil.which("nvidia-container-runtime-hook"):
        yield Finding(name, say(ko="NVIDIA 런타임 있음", en="NVIDIA's runtime is there"))
    else:
        yield Finding(
            name,
            say(ko="NVIDIA 런타임 없음", en="no NVIDIA runtime"),
            "denoised run ID --in docker --gpu",
            "sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker",
        )


def doctor_command(root: Path) -> None:
    """Print every finding: what there is, and for what is missing what it prevents and what to type."""
    missing = 0
    for each in findings(root):
        print(f"{'✗' if each.prevents else '✓'} {each.name}: {each.found}")
        if each.prevents:
            missing += 1
            print(f"    {say(ko='못 하는 것', en='prevents')}: {each.prevents}")
            print(f"    {say(ko='할 일', en='type')}: {each.type}")
    print()
    print(
        say(ko=f"빠진 것 {missing}가지", en=f"{missing} missing")
        if missing
        else say(ko="모두 있다", en="everything is there")
    )

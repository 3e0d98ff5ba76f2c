"""A command in a container: confined, watched, ended, and its output folder looked through afterwards.

What runs inside is not trusted. It has no network, a root that it cannot write, no capabilities and no way to gain
any, the number of an ordinary user, limits, and one folder to write to. From outside it is polled under our own clock
(the SDK's `wait` mistakes its time-out for the end), its words are followed and reconnected to (a stream breaks when
a container is silent), and what it left is walked without following anything before anybody reads it.

A driver that is killed leaves its container running. Each carries its driver's name as a label, and `reap` removes
those whose driver is gone.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, ImageNotFound
from docker.models.containers import Container
from docker.models.images import Image
from docker.types import DeviceRequest, LogConfig, Mount

from denoised.catalog.characters import visible
from denoised.engine.confinement import OUTPUT, Limits, size
from denoised.errors import DenoisedError, Exit
from denoised.language import say
from denoised.terminal import cut

LABEL = "denoised.driver"
NOBODY = 10001  # the image's own user, for drivers that are root
GRACE = 10  # seconds between asking a container to stop and ending it
_LINE = 400  # columns of a line that are shown


@dataclass(frozen=True)
class Ended:
    """How a container ended."""

    exit_code: int
    out_of_memory: bool  # its own limit was the cause
    seconds: float
    last: tuple[str, ...]  # lines that it said


# --- what it may do --------------------------------------------------------------------------------------


def confinement(
    limits: Limits, output: Path, *, user: str, gpu: bool = False, inputs: Mapping[str, Path] | None = None
) -> dict[str, Any]:
    """The arguments that confine a container, for the SDK. `docker_line` says the same for a shell.

    `output` is mounted at /out. `user`: "uid:gid". `inputs`: folders that may be read, by their place inside.
    """
    mounts = [Mount(OUTPUT, str(output), type="bind")]
    mounts += [
        Mount(inside, str(folder), type="bind", read_only=True) for inside, folder in (inputs or {}).items()
    ]
    return {
        "init": True,  # so that a signal reaches the command, and what it leaves behind is collected
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "user": user,
        "pids_limit": limits.pids,
        "mem_limit": limits.memory,
        "memswap_limit": limits.memory,  # together with memory: no swap
        "nano_cpus": round(limits.cpus * 1e9),
        "tmpfs": {"/tmp": f"size={size(limits.scratch)}"},
        "mounts": mounts,
        "device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])] if gpu else None,
    }


def own_user() -> str:
    """The number to run as: one's own, so that what is written belongs to oneself; nobody's where one is root."""
    uid, gid = os.getuid(), os.getgid()
    return f"{uid}:{gid}" if uid else f"{NOBODY}:{NOBODY}"


def make_output(folder: Path) -> Path:
    """Make the folder that a container may write to, for the user it runs as."""
    folder.mkdir(parents=True)
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    return folder


# --- running ---------------------------------------------------------------------------------------------


def image_of(client: docker.DockerClient, tag: str, *, build: str) -> Image:
    """The image with that tag. DenoisedError (ENGINE) where there is none: an engine would try to download it."""
    try:
        return client.images.get(tag)
    except ImageNotFound as error:
        raise DenoisedError(
            say(ko=f"이미지 {tag}가 없다", en=f"there is no image {tag}"),
            help=say(ko=f"먼저 만든다: {build}", en=f"build it first: {build}"),
            code=Exit.ENGINE,
        ) from error


def run(
    client: docker.DockerClient,
    image: str,
    arguments: Sequence[str],
    *,
    output: Path,
    limits: Limits,
    say_line: Callable[[str], None],
    gpu: bool = False,
    environment: Mapping[str, str] | None = None,
    inputs: Mapping[str, Path] | None = None,
) -> Ended:
    """Run an image's entrypoint with `arguments` to its end; `output` is the one folder it may write to.

    `say_line` is told what the container says on its standard error, line by line, made safe to print, and of long
    silence. Whatever happens here, Ctrl-C included, the container is stopped and removed.

    Raises DenoisedError: NO_GPU where the engine cannot give one, RESOURCES for more output than is allowed, FAILED
    for more words than are allowed or a container that does not start, ENGINE where the engine goes away.
    """
    with _told():
        container = client.containers.create(
            image,
            list(arguments),
            environment=dict(environment or {}),
            labels={LABEL: driver_name()},
            log_config=LogConfig(type="json-file", config={"max-size": "16m", "max-file": "1"}),
            **confinement(limits, output, user=own_user(), gpu=gpu, inputs=inputs),
        )
        try:
            started = time.monotonic()
            _start(container)
            words = _Words(container, say_line, limits)
            with words:
                state = _watch(container, output, limits, words)
            return Ended(
                int(state["ExitCode"]),
                bool(state["OOMKilled"]),
                time.monotonic() - started,
                tuple(words.last),
            )
        finally:
            end(container)


def end(container: Container) -> None:
    """Stop a container, gently first, and remove it. What an engine that went away keeps, `reap` removes later."""
    with suppress(APIError, requests.RequestException):
        container.stop(timeout=GRACE)
    with suppress(APIError, requests.RequestException):
        container.remove(force=True, v=True)


@contextmanager
def _told() -> Iterator[None]:
    """Turn an engine that fails or goes away in the middle into an error for a person."""
    try:
        yield
    except APIError as error:
        raise DenoisedError(
            say(
                ko=f"컨테이너 엔진이 거절했다: {_reason(error)}",
                en=f"the container engine refused: {_reason(error)}",
            ),
            code=Exit.FAILED,
        ) from error
    except requests.RequestException as error:
        raise DenoisedError(
            say(
                ko="실행하는 동안 컨테이너 엔진이 사라졌다",
                en="the container engine went away during the run",
            ),
            help=say(
                ko="엔진을 다시 시작한 뒤 같은 명령을 실행한다",
                en="start the engine again, then run the same command",
            ),
            code=Exit.ENGINE,
        ) from error


def _reason(error: APIError) -> str:
    return cut(" ".join(str(error.explanation or error).split()), 300)


def _start(container: Container) -> None:
    try:
        container.start()
    except APIError as error:
        reason = _reason(error)
        if "could not select device driver" in reason or "nvidia" in reason.lower() or "CDI device" in reason:
            raise DenoisedError(
                say(
                    ko=f"컨테이너 엔진이 GPU를 줄 수 없다: {reason}",
                    en=f"the container engine cannot give a GPU: {reason}",
                ),
                help=say(
                    ko="NVIDIA 드라이버와 nvidia-container-toolkit을 설치하고 엔진을 다시 시작한다: "
                    "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
                    en="install NVIDIA's driver and nvidia-container-toolkit, then restart the engine: "
                    "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
                ),
                code=Exit.NO_GPU,
            ) from error
        raise


def _watch(container: Container, output: Path, limits: Limits, words: _Words) -> dict[str, Any]:
    """Wait for the container's end; its last state."""
    looked = time.monotonic()
    pause = 0.02
    while True:
        container.reload()
        state: dict[str, Any] = container.attrs["State"]
        if state["Status"] in ("exited", "dead"):
            return state
        if words.too_many:
            raise DenoisedError(
                say(
                    ko=f"컨테이너가 {limits.words / 2**20:.0f} MiB 넘게 출력해서 멈췄다",
                    en=f"the container was stopped: it printed more than {limits.words / 2**20:.0f} MiB",
                ),
                code=Exit.FAILED,
            )
        if (now := time.monotonic()) - looked > 1:
            looked = now
            check_size(output, limits)
        if now - words.heard > limits.quiet:
            words.heard = now
            words.tell(
                say(
                    ko=f"컨테이너가 {limits.quiet:.0f}초째 말이 없다. 아직 돌고 있다 (멈추려면 Ctrl-C)",
                    en=f"the container has said nothing for {limits.quiet:.0f} seconds; it is running (Ctrl-C stops it)",
                )
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


class _Words:
    """Follows what a container says, in a thread: whole lines, safe to print, each once."""

    def __init__(self, container: Container, tell: Callable[[str], None], limits: Limits) -> None:
        self.tell = tell
        self.heard = time.monotonic()
        self.last: list[str] = []
        self.too_many = False
        self._container = container
        self._limit = limits.words
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> _Words:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=GRACE)

    def _follow(self) -> None:
        since, seen, size = "", 0, 0  # the time of the newest line, how many of that time were told
        while not self.too_many:
            over = self._ended.is_set()
            told_at, told = "", 0
            try:
                for line in self._lines(since):
                    size += len(line)
                    if size > self._limit:
                        self.too_many = True
                        return
                    moment, _, text = line.partition(b" ")
                    at = moment.decode(errors="replace")
                    told = told + 1 if at == told_at else 1
                    told_at = at
                    if at < since or (at == since and told <= seen):
                        continue
                    since, seen = at, told
                    self._say(text)
            except (requests.RequestException, OSError, APIError):
                pass  # silence breaks the stream: it is taken up again where it stopped
            if over:
                return
            self._ended.wait(0.05)

    def _lines(self, since: str) -> Iterator[bytes]:
        """Lines of the log with their times, from about `since` on, until the container ends or is silent."""
        rest = b""
        stream = self._container.logs(
            stdout=False,
            stderr=True,
            stream=True,
            follow=not self._ended.is_set(),
            timestamps=True,
            **({"since": _seconds(since)} if since else {}),
        )
        try:
            for piece in stream:
                *whole, rest = (rest + piece).split(b"\n")
                if len(rest) > 2**20:  # a line without an end is cut
                    whole, rest = [*whole, rest], b""
                yield from whole
            if rest:
                yield rest
        finally:
            stream.close()

    def _say(self, text: bytes) -> None:
        self.heard = time.monotonic()
        line = cut(visible(text.decode(errors="replace").rstrip("\r")), _LINE)
        self.last = [*self.last[-19:], line]
        self.tell(line)


def _seconds(moment: str) -> int:
    """The whole seconds of a time such as 2026-01-02T03:04:05.678901234Z: what is told twice is left out again."""
    return int(datetime.fromisoformat(moment[:19] + "+00:00").timestamp())


# --- what it left ----------------------------------------------------------------------------------------


def check_size(folder: Path, limits: Limits) -> None:
    """DenoisedError (RESOURCES) where a folder holds more than is allowed."""
    size = 0
    for files, entry in enumerate(_walk(folder), 1):
        with suppress(FileNotFoundError):
            size += entry.stat(follow_symlinks=False).st_blocks * 512
        if size > limits.output or files > limits.files:
            raise DenoisedError(
                say(
                    ko=f"컨테이너가 {OUTPUT}에 너무 많이 썼다: "
                    f"한도는 {limits.output / 2**20:.0f} MiB, 파일 {limits.files:,}개",
                    en=f"the container wrote too much to {OUTPUT}: "
                    f"{limits.output / 2**20:.0f} MiB and {limits.files:,} files are allowed",
                ),
                code=Exit.RESOURCES,
            )


def check_output(folder: Path, limits: Limits) -> None:
    """Refuse anything but plain files and folders: DenoisedError (INTEGRITY) names what it is."""
    check_size(folder, limits)
    for entry in _walk(folder):
        status = entry.stat(follow_symlinks=False)
        plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if not (plain or stat.S_ISDIR(status.st_mode)):
            name = visible(os.path.relpath(entry.path, folder))
            raise DenoisedError(
                say(
                    ko=f"컨테이너가 보통 파일이 아닌 것을 남겼다: {name}",
                    en=f"the container left something that is no plain file: {name}",
                ),
                help=say(ko="아무것도 옮기지 않았다", en="nothing of it was taken"),
                code=Exit.INTEGRITY,
            )


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder that is being written to, following no link."""
    waiting = [str(folder)]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except (FileNotFoundError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


# --- drivers that are gone -------------------------------------------------------------------------------


def driver_name() -> str:
    """This process, so that another can tell whether it still runs: machine, boot, number and start."""
    return f"{socket.gethostname()}:{_boot()}:{os.getpid()}:{_start_of(os.getpid())}"


def is_gone(driver: str) -> bool:
    """Whether a driver's process has ended; False for one on another machine, which cannot be known here."""
    host, _, rest = driver.rpartition(":")[0].rpartition(":")[0].partition(":")
    pid, start = driver.split(":")[-2:]
    if host != socket.gethostname():
        return False
    return rest != _boot() or not pid.isdigit() or _start_of(int(pid)) != start


def reap(client: docker.DockerClient) -> list[str]:
    """Remove the containers whose driver is gone; their names."""
    removed = []
    for container in client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
        if is_gone(container.labels[LABEL]):
            end(container)
            removed.append(str(container.name))
    return removed


def _boot() -> str:
    """Changes when the machine starts anew, with which process numbers begin again."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the boot; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # a zombie has ended

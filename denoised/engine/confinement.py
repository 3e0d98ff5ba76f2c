"""What a run in a container may use, and the line for a shell that says so. `container.py` says it to the engine.

The site prints the line on every paper's page, so nothing here loads the engine's SDK.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OUTPUT = "/out"


@dataclass(frozen=True)
class Limits:
    """What a container may use. Sizes in bytes."""

    memory: int = 4 * 2**30
    cpus: float = 2.0
    pids: int = 256
    scratch: int = 512 * 2**20  # /tmp, which is memory
    output: int = 256 * 2**20
    files: int = 1000
    words: int = 64 * 2**20  # that it may print
    quiet: float = 120.0  # seconds of silence after which that is said


def docker_line(image: str, arguments: Sequence[str], *, gpu: bool = False) -> list[str]:
    """The `docker run` that confines as `container.confinement` does, as words and options to join for a shell.

    Some words are for the shell to fill in: the user's number, the image's digest, the current folder.
    """
    limits = Limits()
    memory = size(limits.memory)
    return [
        "docker run --rm --init --network none --read-only",
        "--cap-drop ALL --security-opt no-new-privileges",
        '--user "$(id -u):$(id -g)"',
        f"--pids-limit {limits.pids} --memory {memory} --memory-swap {memory} --cpus {limits.cpus:g}",
        f"--tmpfs /tmp:size={size(limits.scratch)}",
        f'--mount type=bind,source="$PWD/outputs/container",target={OUTPUT}',
        f"--env DENOISED_IMAGE=\"$(docker image inspect --format '{{{{.Id}}}}' {image})\"",
        *(["--gpus all"] if gpu else []),
        " ".join([image, *arguments, "--out", OUTPUT]),
    ]


def size(bytes: int) -> str:
    """A number of bytes as engines read it: 4g, 512m."""
    for unit, letter in ((2**30, "g"), (2**20, "m")):
        if bytes % unit == 0:
            return f"{bytes // unit}{letter}"
    return str(bytes)

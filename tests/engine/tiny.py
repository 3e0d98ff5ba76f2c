"""Images made in a moment: a static busybox, and a program that is set to run as root."""

from __future__ import annotations

import io
import platform
import shutil
import struct
import tarfile
from pathlib import Path

import docker

APPLETS = (
    "cat",
    "cp",
    "dd",
    "id",
    "ls",
    "mkdir",
    "mkfifo",
    "nc",
    "sed",
    "sh",
    "sleep",
    "tail",
    "touch",
    "yes",
)
SHELL = "denoised-test-shell:latest"  # runs its argument as a script
PLAY = "denoised-test-play:cpu"  # takes `denoised run`'s arguments and runs /in/model/script

# exit(geteuid()), for x86-64: mov eax,107; syscall; mov edi,eax; mov eax,60; syscall
_WHO = bytes.fromhex("b86b0000000f0589c7b83c0000000f05")


def has_busybox() -> bool:
    return shutil.which("busybox") is not None and platform.machine() == "x86_64"


def import_images(client: docker.DockerClient) -> None:
    """Give the engine both images."""
    data = _root()
    for name, entrypoint in ((SHELL, '["/bin/sh", "-c"]'), (PLAY, '["/bin/sh", "/in/model/script"]')):
        repository, tag = name.split(":")
        changes = [f"ENTRYPOINT {entrypoint}", "ENV PATH=/bin", "ENV DENOISED_IMAGE=unknown"]
        client.api.import_image_from_data(data, repository=repository, tag=tag, changes=changes)


def remove_images(client: docker.DockerClient) -> None:
    for name in (SHELL, PLAY):
        client.images.remove(name, force=True)


def _root() -> bytes:
    busybox = shutil.which("busybox")
    assert busybox is not None
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in (
            ("bin", 0o755),
            ("tmp", 0o1777),
            ("out", 0o755),
            ("in", 0o755),
            ("var/run", 0o755),
        ):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        _add(tar, "bin/busybox", Path(busybox).read_bytes(), 0o755)
        for applet in APPLETS:
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
        _add(tar, "bin/who-am-i", _elf(_WHO), 0o4755)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def _elf(code: bytes) -> bytes:
    """The smallest program that Linux starts: an ELF header, one segment, the code."""
    address, header, segment = 0x400000, 64, 56
    start = address + header + segment
    total = header + segment + len(code)
    return (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, start, header, 0, 0, header, segment, 1, 0, 0, 0)
        + struct.pack("<IIQQQQQQ", 1, 5, 0, address, address, total, total, 4096)
        + code
    )

"""Writing files so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from denoised.errors import DenoisedError, Exit
from denoised.language import say


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all: a temporary file beside it, fsync, then a rename.

    Raises DenoisedError (RESOURCES) with path and size where the folder or the disk does not allow it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary.exists():
            temporary.unlink()
        raise cannot_write(path, len(data), error) from error


def cannot_write(path: Path, size: int, error: OSError) -> DenoisedError:
    """The message for a write that the system refused."""
    elsewhere = say(ko="다른 폴더를 고른다: --out", en="choose another folder with --out")
    cause = {
        errno.ENOSPC: say(ko="디스크를 비우거나 ", en="free some disk space, or "),
        errno.EROFS: say(ko="읽기 전용 파일 시스템이다. ", en="the file system is read-only: "),
        errno.EACCES: say(ko="쓸 권한이 없다. ", en="you may not write there: "),
    }.get(error.errno or 0, "")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return DenoisedError(
        say(
            ko=f"{path}에 쓸 수 없다 ({size:,}바이트): {reason}",
            en=f"cannot write {path} ({size:,} bytes): {reason}",
        ),
        help=cause + elsewhere,
        code=Exit.RESOURCES,
    )

"""Published weights: the one step that needs a network. They are pinned, checked, and then only read.

`denoised/conf/weights.yaml` says which repository, revision and files, and of each file size and SHA-256. A file that
is not exactly that is thrown away before anything parses it. What has no pin yet is downloaded only when that is asked
for, hashed here, and held to those hashes from then on.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import denoised.conf
from denoised.errors import DenoisedError, Exit
from denoised.files import cannot_write, sha256_of, write_whole
from denoised.language import say

_OF_THE_DISK = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)
WEIGHTS = "outputs/weights"
PIN = "pin.json"  # beside the files, for those that were pinned here


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PinnedFile(_Model):
    """A file of a repository; without size and hash where nobody has pinned it."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    bytes: Annotated[int, Field(ge=0)] | None = None


class Weights(_Model):
    """What to download; `revision` is a commit of the repository, None where nobody has pinned one."""

    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    files: Annotated[tuple[PinnedFile, ...], Field(min_length=1)]

    @property
    def pinned(self) -> bool:
        return self.revision is not None and all(
            each.sha256 and each.bytes is not None for each in self.files
        )


def known_weights() -> dict[str, Weights]:
    """All of weights.yaml, by name."""
    text = (Path(str(denoised.conf.__file__)).parent / "weights.yaml").read_text(encoding="utf-8")
    return {
        name: Weights.model_validate_json(json.dumps(value)) for name, value in yaml.safe_load(text).items()
    }


def fetched(root: Path, name: str) -> Path | None:
    """The folder of weights that were fetched, None where they were not."""
    folder = root / WEIGHTS / name
    return folder if folder.is_dir() else None


def fetch(
    root: Path, name: str, weights: Weights, *, pin: bool, report: Callable[[str, int | None], None]
) -> tuple[Path, Weights]:
    """Download weights and check them; their folder, and the pin that they were held to.

    What is there already is checked again and not downloaded. `pin`: take what the repository holds now, where nobody
    has pinned it, and compute the pin. `report(path, bytes)` is told each file before it is downloaded.

    Raises DenoisedError: USAGE without a pin, INTEGRITY for a file that is not what was pinned, RETRY where the hub
    cannot be reached, RESOURCES where the disk is full.
    """
    folder = root / WEIGHTS / name
    if folder.is_dir():
        held = weights if weights.pinned else _own_pin(folder)
        check(folder, held)
        return folder, held
    if not weights.pinned and not pin:
        raise DenoisedError(
            say(
                ko=f"{name}({weights.repository})에는 아직 고정된 리비전과 해시가 없다",
                en=f"{name} ({weights.repository}) has no pinned revision and hashes yet",
            ),
            help=say(
                ko="지금 있는 것을 받아 여기서 해시를 계산하려면 --pin을 붙인다",
                en="add --pin to take what is there now and to compute the hashes here",
            ),
        )
    partial = root / WEIGHTS / f".{name}.partial"
    revision = weights.revision or _current_revision(weights.repository)
    files = []
    for each in weights.files:
        report(each.path, each.bytes)
        path = _download(weights.repository, revision, each.path, partial)
        found = PinnedFile(path=each.path, sha256=sha256_of(path), bytes=path.stat().st_size)
        if each.sha256 is not None and found != each:
            path.unlink()
            raise _differs(path, each, found)
        files.append(found)
    held = Weights(repository=weights.repository, revision=revision, files=tuple(files))
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the library's own notes on what it downloaded
    write_whole(partial / PIN, (held.model_dump_json(indent=1) + "\n").encode())
    os.rename(partial, folder)
    return folder, held


def check(folder: Path, weights: Weights) -> None:
    """DenoisedError (INTEGRITY) for the first file that is not what was pinned."""
    for each in weights.files:
        path = folder / each.path
        if not path.is_file():
            raise _differs(path, each, None)
        found = PinnedFile(path=each.path, sha256=sha256_of(path), bytes=path.stat().st_size)
        if found != each:
            raise _differs(path, each, found)


def as_yaml(name: str, weights: Weights) -> str:
    """The pin as it stands in weights.yaml, to paste."""
    lines = [f"{name}:", f"  repository: {weights.repository}", f"  revision: {weights.revision}", "  files:"]
    lines += [
        f"    - {{path: {each.path}, sha256: {each.sha256}, bytes: {each.bytes}}}" for each in weights.files
    ]
    return "\n".join(lines)


def _own_pin(folder: Path) -> Weights:
    path = folder / PIN
    try:
        return Weights.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DenoisedError(
            say(ko=f"{path}를 읽을 수 없다: {error}", en=f"{path} cannot be read: {error}"),
            help=say(ko=f"{folder}를 지우고 다시 받는다", en=f"delete {folder} and fetch again"),
            code=Exit.INTEGRITY,
        ) from error


def _differs(path: Path, wanted: PinnedFile, found: PinnedFile | None) -> DenoisedError:
    is_now = (
        say(ko="없다", en="is missing")
        if found is None
        else say(
            ko=f"{found.bytes:,}바이트, sha256 {found.sha256[:12] if found.sha256 else ''}…이다",
            en=f"has {found.bytes:,} bytes and sha256 {found.sha256[:12] if found.sha256 else ''}…",
        )
    )
    return DenoisedError(
        say(
            ko=f"{path}: {wanted.bytes or 0:,}바이트, sha256 {(wanted.sha256 or '')[:12]}…이어야 하는데 {is_now}",
            en=f"{path} should have {wanted.bytes or 0:,} bytes and sha256 {(wanted.sha256 or '')[:12]}…, and {is_now}",
        ),
        help=say(
            ko="그 폴더를 지우고 다시 받는다. 또 다르면 허브의 파일이 바뀐 것이니 쓰지 않는다",
            en="delete that folder and fetch again; if it differs again, what the hub serves was changed: do not use it",
        ),
        code=Exit.INTEGRITY,
    )


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _current_revision(repository: str) -> str:
    from huggingface_hub import HfApi

    with _told(repository):
        revision = HfApi(endpoint=_endpoint()).model_info(repository, timeout=30).sha
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise DenoisedError(
            say(ko=f"{repository}의 리비전을 알 수 없다", en=f"the hub tells no revision of {repository}"),
            code=Exit.INTEGRITY,
        )
    return revision


def _download(repository: str, revision: str, path: str, to: Path) -> Path:
    from huggingface_hub import hf_hub_download

    with _told(repository):
        return Path(
            hf_hub_download(
                repository, path, revision=revision, local_dir=to, endpoint=_endpoint(), etag_timeout=30
            )
        )


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """Turn what the hub's library raises into an error for a person. Its errors, and its client's, are OSErrors."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise DenoisedError(
            say(
                ko=f"{repository}: 사용 조건에 동의한 사람만 받을 수 있다",
                en=f"{repository} is for those who accepted its terms",
            ),
            help=say(ko="허브에서 동의한 뒤 HF_TOKEN을 준다", en="accept them on the hub and give HF_TOKEN"),
        ) from error
    except (OSError, EntryNotFoundError) as error:
        if getattr(error, "errno", None) in _OF_THE_DISK:
            raise cannot_write(Path(WEIGHTS), 0, cast(OSError, error)) from error
        absent = isinstance(error, RepositoryNotFoundError | EntryNotFoundError)
        if absent and not isinstance(
            error, LocalEntryNotFoundError
        ):  # which is said of a hub that does not answer
            raise DenoisedError(
                say(
                    ko=f"허브의 {repository}에 그 리비전이나 파일이 없다",
                    en=f"the hub's {repository} has no such revision or file",
                ),
                code=Exit.INTEGRITY,
            ) from error
        raise DenoisedError(
            say(
                ko=f"허브에서 {repository}의 파일을 받을 수 없다: {type(error).__name__}",
                en=f"{repository} cannot be had from the hub: {type(error).__name__}",
            ),
            help=say(
                ko="네트워크를 확인하고 같은 명령을 다시 실행한다. 받은 데까지는 남아 있다",
                en="check the network and run the same command again; what has come is kept",
            ),
            code=Exit.RETRY,
        ) from error

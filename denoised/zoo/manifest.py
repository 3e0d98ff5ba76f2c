"""A checkpoint's manifest: what files it has, with size and SHA-256, checked before any is parsed.

`manifest.json` lies in each folder of `zoo/`. Files that fail the check are set aside (renamed), so that
the next run does not trip over them again, and named in the error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from denoised.errors import DenoisedError, Exit
from denoised.files import sha256_of, write_whole
from denoised.language import say


def write_manifest(folder: Path, files: list[str], facts: dict[str, Any]) -> None:
    """Write `manifest.json` for `files` (paths relative to `folder`), together with `facts` about them."""
    listed = {
        name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
        for name in sorted(files)
    }
    text = json.dumps({**facts, "files": listed}, ensure_ascii=False, indent=2, sort_keys=True)
    write_whole(folder / "manifest.json", (text + "\n").encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint folder. DenoisedError (INTEGRITY) where it is missing or not JSON."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DenoisedError(
            say(
                ko=f"{folder}에 manifest.json이 없어 파일을 확인할 수 없다",
                en=f"{folder} has no manifest.json, so its files cannot be checked",
            ),
            help=_restore(folder),
            code=Exit.INTEGRITY,
        ) from error
    except ValueError as error:
        raise DenoisedError(
            say(ko=f"{path}는 올바른 JSON이 아니다: {error}", en=f"{path} is not valid JSON: {error}"),
            help=_restore(path),
            code=Exit.INTEGRITY,
        ) from error
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Check every listed file's size and SHA-256 before anything parses it, and return the manifest.

    Raises DenoisedError (INTEGRITY) that names the file; a damaged one is renamed to `<name>.damaged`.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise DenoisedError(
                say(ko=f"{path}가 없다", en=f"{path} is missing"), help=_restore(path), code=Exit.INTEGRITY
            )
        if path.stat().st_size == expected["bytes"] and sha256_of(path) == expected["sha256"]:
            continue
        aside = path.with_name(path.name + ".damaged")
        path.rename(aside)
        raise DenoisedError(
            say(
                ko=f"{path}가 손상되었다. sha256이 manifest.json의 {expected['sha256'][:16]}…와 다르다. "
                f"읽지 않고 {aside.name}으로 옮겨 두었다",
                en=f"{path} is damaged: its sha256 is not the manifest's {expected['sha256'][:16]}…; "
                f"it was not loaded and now lies in {aside.name}",
            ),
            help=_restore(path),
            code=Exit.INTEGRITY,
        )
    return manifest


def _restore(path: Path) -> str:
    return say(ko=f"되살린다: git checkout -- {path}", en=f"restore it: git checkout -- {path}")

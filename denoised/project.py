"""Where the project is: the folder that holds catalog.yaml, papers/, runners/ and zoo/."""

from __future__ import annotations

import os
from pathlib import Path

from denoised.errors import DenoisedError
from denoised.language import say

CATALOG = "catalog.yaml"


def find_root() -> Path:
    """The project's folder.

    DENOISED_ROOT where it is set; else the current folder or the nearest above it that holds catalog.yaml;
    else the checkout that this package was installed from.

    Raises DenoisedError (USAGE) where there is none, or where DENOISED_ROOT names a folder without a catalog.
    """
    if chosen := os.environ.get("DENOISED_ROOT"):
        root = Path(chosen).resolve()
        if (root / CATALOG).is_file():
            return root
        raise DenoisedError(
            say(
                ko=f"DENOISED_ROOT={chosen}: {CATALOG} 파일이 없다",
                en=f"DENOISED_ROOT={chosen} holds no {CATALOG}",
            ),
            help=say(
                ko="프로젝트 폴더로 바꾸거나 변수를 지운다", en="set it to the project's folder, or unset it"
            ),
        )
    here = Path.cwd()
    for folder in (here, *here.parents, _installed_from()):
        if (folder / CATALOG).is_file():
            return folder
    raise DenoisedError(
        say(ko=f"여기는 Denoised 프로젝트 안이 아니다: {here}", en=f"not inside a Denoised project: {here}"),
        help=say(
            ko=f"{CATALOG} 파일이 있는 폴더로 가거나 DENOISED_ROOT로 지정한다",
            en=f"go to the folder that holds {CATALOG}, or name it in DENOISED_ROOT",
        ),
    )


def cache_folder(root: Path) -> Path:
    """Where what can be computed again is kept: DENOISED_CACHE, or outputs/cache of the project."""
    chosen = os.environ.get("DENOISED_CACHE")
    return Path(chosen).resolve() if chosen else root / "outputs" / "cache"


def _installed_from() -> Path:
    return Path(__file__).resolve().parent.parent

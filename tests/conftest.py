"""Tests that need something a machine may lack are skipped with the command that installs it.

DENOISED_REQUIRE=browser,docker turns such a skip into a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from denoised.project import find_root


def has_browser() -> bool:
    return shutil.which("chromium") is not None


def has_docker() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode == 0


def has_image() -> bool:
    if not has_docker():
        return False
    command = ["docker", "image", "inspect", "denoised:cpu"]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def has_text_to_image() -> bool:
    return (find_root() / "zoo" / "emoji-t2i").is_dir()


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "browser": (has_browser, "no Chromium: apt-get install chromium fonts-noto-cjk"),
    "text_to_image": (has_text_to_image, "zoo/emoji-t2i is not trained yet: denoised train emoji-t2i"),
    "image": (has_image, "no image denoised:cpu: denoised image build"),
    "docker": (has_docker, "no container engine: apt-get install docker.io, then start dockerd"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    required = {name for name in os.environ.get("DENOISED_REQUIRE", "").split(",") if name}
    if unknown := required - NEEDS.keys():
        raise pytest.UsageError(
            f"DENOISED_REQUIRE names {', '.join(sorted(unknown))}; known: {', '.join(NEEDS)}"
        )
    for name, (present, remedy) in NEEDS.items():
        marked = [item for item in items if name in item.keywords]
        if not marked or present():
            continue
        if name in required:
            raise pytest.UsageError(f"DENOISED_REQUIRE={name}, but {remedy}")
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=remedy))

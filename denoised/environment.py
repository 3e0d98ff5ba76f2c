"""The machine, the libraries and the code of a run, as its record states them."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import denoised
from denoised.files import sha256_of


def describe_environment(threads: int) -> dict[str, Any]:
    """The record's `environment`.

    `container` is the image's digest, which whoever starts a container tells in DENOISED_IMAGE; an image that was
    started without is "unknown", no container is None.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": threads,
        "gpu": gpu,
        "driver": _driver() if gpu else None,
        "container": os.environ.get("DENOISED_IMAGE"),
    }


def cpu_name() -> str:
    """The processor's model name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe_code(root: Path, runner: Path) -> dict[str, Any]:
    """The record's `code`: package version, commit and whether the checkout differs from it in what a run reads.

    Notes and records are not read by one: a sweep that publishes must not make its own later records look changed.

    An image is no checkout: it knows its commit from DENOISED_COMMIT, which ends in -dirty where it differed.
    """
    commit = _git(root, "rev-parse", "HEAD")
    dirty = (
        None if commit is None else bool(_git(root, "status", "--porcelain", "--", ".", ":(exclude)papers"))
    )
    if commit is None and (built_from := os.environ.get("DENOISED_COMMIT")):
        commit, dirty = built_from.removesuffix("-dirty"), built_from.endswith("-dirty")
    return {
        "version": denoised.__version__,
        "commit": commit,
        "dirty": dirty,
        "runner_sha256": sha256_of(runner),
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _git(root: Path, *arguments: str) -> str | None:
    """The output of a git command; None outside a checkout or without git (a copied folder, an image)."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None

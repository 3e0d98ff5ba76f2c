"""Which papers have a runner, and the module of one: `runners/<category>/<id>.py`, with - as _.

The only place that imports `runners`, and it does so by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from denoised.catalog.model import Catalog, Paper
from denoised.errors import DenoisedError
from denoised.language import say

if TYPE_CHECKING:  # this module must not be what loads torch
    from torch import Tensor


def runner_path(root: Path, paper: Paper) -> Path:
    """Where the runner of a paper is, or would be."""
    return root / (paper.runner_module.replace(".", "/") + ".py")


def check_runner(root: Path, catalog: Catalog, paper: Paper) -> None:
    """DenoisedError (USAGE) where a paper has no runner, with the papers that have one."""
    if not runner_path(root, paper).is_file():
        others = [p.id for p in catalog.papers if runner_path(root, p).is_file()]
        raise DenoisedError(
            say(ko=f"{paper.id}에는 아직 러너가 없다", en=f"{paper.id} has no runner yet"),
            help=say(ko=f"러너가 있는 논문: {', '.join(others)}", en=f"papers with one: {', '.join(others)}"),
        )


def load_runner(root: Path, catalog: Catalog, paper: Paper) -> ModuleType:
    """Import the runner of a paper; DenoisedError (USAGE) lists the papers that have one."""
    check_runner(root, catalog, paper)
    return importlib.import_module(paper.runner_module)


def sampler(name: str) -> Callable[..., Tensor]:
    """The function `sample` of a runner, by its module's name: `runners.foundations.ddim`."""
    function: Callable[..., Tensor] = importlib.import_module(name).sample
    return function

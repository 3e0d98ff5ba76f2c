"""A built site, where it is served, and a browser to look at it with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from denoised.lab.record import write_record
from denoised.site import build
from tests.site.chromium import Browser
from tests.site.exhibits import furnish
from tests.site.samples import Built, arm, claim, copy_project, ddim_arms, png, record_of, serving


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The whole site, with a published record that holds, a local one that is inconclusive, and a checkpoint."""
    root = copy_project(tmp_path_factory.mktemp("site") / "project")
    arms = ddim_arms()
    pictures = {"sample.png": png(256, 64, 128)}
    published = record_of(root, "ddim", arms, [claim(arms, 2, 3, {"steps": 10})])
    write_record(root / "papers" / "ddim" / "results", "mini", published, pictures)
    arms = [arm("l_simple", {}, [55.0, 61.0, 58.0], 50), arm("l_vlb", {}, [60.0, 59.0, 63.0], 50)]
    local = record_of(root, "ddpm", arms, [claim(arms, 0, 1, {})])
    write_record(root / "outputs" / "ddpm", "mini", local, pictures)
    furnish(root)
    return Built(root, build(root, records=root / "outputs"))


@pytest.fixture(scope="session")
def address(built: Built) -> Iterator[str]:
    """Where the built site is served while the tests run."""
    with serving(built.root) as url:
        yield url


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium is not None, "tests that need a browser carry the mark `browser`"
    started = Browser.start(chromium, tmp_path_factory.mktemp("chromium"))
    yield started
    started.stop()

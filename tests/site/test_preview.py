"""The preview of one entry: the site's own page, alone, and built again when its files change."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from denoised.errors import DenoisedError, Exit
from denoised.site.preview import build_preview
from tests.site.samples import Built, copy_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("preview") / "project")


def body(html: str) -> str:
    """The article of a page, without what the rest of the site gives it."""
    found = re.search(r"<article.*?</article>", html, re.DOTALL)
    assert found
    return found[0]


def test_its_pages_are_those_of_the_site(project: Path, built: Built) -> None:
    site, problems = build_preview(project, "cfg")
    assert problems == ()
    pages = {path.relative_to(site).as_posix() for path in site.rglob("index.html")}
    assert pages == {"index.html", "ko/papers/cfg/index.html", "en/papers/cfg/index.html"}
    for language in ("ko", "en"):
        page = f"{language}/papers/cfg/index.html"
        mine, whole = ((folder / page).read_text(encoding="utf-8") for folder in (site, built.site))
        assert body(mine) == body(whole)


def test_an_entry_that_is_not_there_is_named(project: Path) -> None:
    with pytest.raises(DenoisedError) as caught:
        build_preview(project, "cfgg")
    assert caught.value.code is Exit.USAGE and "cfg" in (caught.value.help or "")


@pytest.fixture
def catalog(project: Path) -> Iterator[Path]:
    """The project's catalog, put right again after the test."""
    path = project / "catalog.yaml"
    text = path.read_text(encoding="utf-8")
    yield path
    path.write_text(text, encoding="utf-8")


def test_a_catalog_with_errors_is_not_shown(catalog: Path, project: Path) -> None:
    text = catalog.read_text(encoding="utf-8")
    catalog.write_text(text.replace("kind: method", "kind: metod", 1), encoding="utf-8")
    with pytest.raises(DenoisedError) as caught:
        build_preview(project, "cfg")
    assert caught.value.code is Exit.FINDINGS


@pytest.fixture
def previewing(project: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`denoised preview cfg` on a free port, and the address of its English page."""
    process = subprocess.Popen(
        [sys.executable, "-m", "denoised.cli", "--lang", "en", "preview", "cfg", "--port", "0"],
        env=os.environ | {"DENOISED_ROOT": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        process.stdout.readline()
        yield process, process.stdout.readline().strip()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def test_an_edit_is_built_again(catalog: Path, previewing: tuple[subprocess.Popen[str], str]) -> None:
    text = catalog.read_text(encoding="utf-8")
    process, address = previewing
    assert address.startswith("http://127.0.0.1:") and address.endswith("/en/papers/cfg/")
    assert "A sentence that was not there" not in fetched(address)
    start = text.index("      en: ", text.index("  - id: cfg\n"))
    catalog.write_text(text[:start] + "      en: [half of an edit\n" + text[start:], encoding="utf-8")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Edits are built again")
    assert process.stderr.readline().startswith("error[E0106]: this is not YAML")
    while process.stderr.readline() != "help: denoised check " + str(catalog) + "\n":
        assert process.poll() is None
    edited = text[:start] + "      en: A sentence that was not there.\n" + text[text.index("\n", start) + 1 :]
    catalog.write_text(edited, encoding="utf-8")
    assert process.stderr.readline() == "built again: reload the page\n"
    assert "A sentence that was not there" in fetched(address)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0


def test_where_a_link_leaves_the_preview_the_page_says_so(
    previewing: tuple[subprocess.Popen[str], str],
) -> None:
    _, address = previewing
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetched(address.replace("/cfg/", "/ddpm/"))
    with caught.value as answer:
        assert answer.code == 404
        assert "The preview holds the two pages of cfg only" in answer.read().decode()

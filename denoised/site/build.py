"""From a project to its site: Markdown on disk, then one plain MkDocs build for each language."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from denoised.errors import DenoisedError, Exit
from denoised.language import LANGUAGES, say
from denoised.site.api import api_files
from denoised.site.library import Library, gather
from denoised.site.pages import Writer
from denoised.site.search import extend_index
from denoised.site.text import Problems
from denoised.site.words import Words, load_words

_MARK = ".denoised-pages"  # says that a folder is ours to tidy


@dataclass(frozen=True)
class Pages:
    """What `generate` wrote: Markdown in `out`/ko and `out`/en, what both share in `out`/root."""

    out: Path
    library: Library
    count: int  # pages of each language
    problems: tuple[str, ...]  # in contributed texts; the pages were written all the same


def generate(root: Path, out: Path, *, records: Path | None = None) -> Pages:
    """Write the site's Markdown, data and assets to `out`; a second run writes the same bytes.

    `root` is the project, `records` a folder of fresh results laid out as <id>/<scale>.json, which are shown
    instead of the published ones and marked as this machine's. Files in `out` that no longer belong are removed.

    Raises DenoisedError where the catalog or a text of the site cannot be read, and (RESOURCES) where `out` is
    a folder of something else.
    """
    library = gather(root, records)
    words = load_words(root / "site" / "strings.yaml")
    problems = Problems()
    files: dict[str, bytes] = {}
    count = 0
    assets = assets_of(library)
    for language in LANGUAGES:
        pages = Writer(library, words, language, problems).pages()
        count = len(pages)
        files |= {f"{language}/{path}": text.encode() for path, text in pages.items()}
        files |= {f"{language}/{path}": data for path, data in assets.items()}
        for item in library.items:
            for result in item.results.values():
                for path in result.pictures:
                    files[f"{language}/papers/{item.paper.id}/{path.name}"] = path.read_bytes()
    files |= {f"root/{path}": data for path, data in (_doors(root, words) | api_files(library)).items()}
    tidy(out, files)
    return Pages(out, library, count, tuple(problems.found))


def build(root: Path, *, records: Path | None = None, url: str | None = None) -> Pages:
    """Generate the pages in root/build/pages and build the site in root/build/site, without a warning.

    `url` is where the site will be published; without it the pages name no canonical address.

    Raises DenoisedError as `generate` does, and (FAILED) with MkDocs' own words where it has any.
    """
    pages = generate(root, root / "build" / "pages", records=records)
    site = root / "build" / "site"
    site.mkdir(parents=True, exist_ok=True)
    builders = [_start_mkdocs(root, pages.out, site, language, url) for language in LANGUAGES]
    said = [builder.communicate()[0] for builder in builders]
    for builder, text in zip(builders, said, strict=True):
        complaints = "\n".join(line for line in text.splitlines() if line and not line.startswith("INFO "))
        if builder.returncode or complaints:
            raise DenoisedError(
                say(ko="MkDocs가 사이트를 만들지 못했다:\n", en="MkDocs could not build the site:\n")
                + complaints,
                code=Exit.FAILED,
            )
    for language in LANGUAGES:
        extend_index(site / language / "search" / "search_index.json", pages.library.glossary)
        (site / language / "404.html").unlink()  # the one at the root speaks both languages
    for path in site.iterdir():
        if path.name not in LANGUAGES:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(pages.out / "root", site, dirs_exist_ok=True)
    return pages


def _start_mkdocs(
    root: Path, pages: Path, site: Path, language: str, url: str | None
) -> subprocess.Popen[str]:
    environment = os.environ | {
        "NO_MKDOCS_2_WARNING": "1",  # the theme's advertisement for its successor
        "DENOISED_PAGES": str((pages / language).resolve()),
        "DENOISED_URL": f"{url.rstrip('/')}/{language}/" if url else "",
    }
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    command += [
        "--config-file",
        str(root / "site" / f"{language}.yml"),
        "--site-dir",
        str((site / language).resolve()),
    ]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=root
    )


def assets_of(library: Library) -> dict[str, bytes]:
    """What both languages' pages load, by its path: styles, scripts, and pictures that no record holds."""
    folder = library.root / "site" / "assets"
    files = {
        f"assets/{path.relative_to(folder).as_posix()}": path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".json"  # which describe pictures to us
    }
    for part, sheet in library.vocabulary.sheets.items():
        files[f"assets/worlds/emoji-{part.replace('_', '-')}.png"] = sheet.path
    for checkpoint in library.checkpoints:
        for path in checkpoint.pictures:
            files[f"zoo/{checkpoint.name}/{path.name}"] = path
    return {name: path.read_bytes() for name, path in files.items()}


def _doors(root: Path, words: Words) -> dict[str, bytes]:
    """The page at the root, which picks the reader's language, and the one for addresses that do not exist."""
    environment = Environment(
        loader=FileSystemLoader(root / "site" / "root"), autoescape=True, undefined=StrictUndefined
    )
    return {
        name: environment.get_template(name).render(t=words).encode() for name in ("index.html", "404.html")
    }


def tidy(out: Path, files: Mapping[str, bytes]) -> None:
    """Make `out` hold exactly `files`, touching only what differs."""
    if out.is_dir() and any(out.iterdir()) and not (out / _MARK).is_file():
        raise DenoisedError(
            say(ko=f"{out}은 사이트가 만든 폴더가 아니다", en=f"{out} is not a folder that the site made"),
            help=say(ko="빈 폴더를 고른다", en="choose an empty folder"),
            code=Exit.RESOURCES,
        )
    out.mkdir(parents=True, exist_ok=True)
    if not (out / _MARK).exists():
        (out / _MARK).touch()
    for path in sorted(out.rglob("*"), reverse=True):
        name = path.relative_to(out).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif name not in files and name != _MARK:
            path.unlink()
    for name, data in files.items():
        path = out / name
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

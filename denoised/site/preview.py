"""One entry's two pages on this machine, built in seconds and built again when its files change.

The pages are those of the whole site, made by the same code; only what they link to is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from html import escape
from pathlib import Path

from denoised.command_line import note, tell
from denoised.errors import DenoisedError, Exit
from denoised.language import LANGUAGES, Language, reader_language, say
from denoised.site.build import assets_of, tidy
from denoised.site.library import gather
from denoised.site.pages import Writer
from denoised.site.serve import HOST, server_of
from denoised.site.text import Problems
from denoised.site.words import load_words

POLL = 0.5  # seconds between looks at the files


def build_preview(root: Path, id: str, *, records: Path | None = None) -> tuple[Path, tuple[str, ...]]:
    """Build an entry's pages in root/build/preview; the folder to serve, and what is wrong with its texts.

    Raises DenoisedError where the catalog has errors or no such entry, and (FAILED) with MkDocs' own words.
    """
    library = gather(root, records)
    item = library.item(library.catalog.paper(id).id)
    assert item is not None
    words, problems = load_words(root / "site" / "strings.yaml"), Problems()
    folder = root / "build" / "preview"
    files: dict[str, bytes] = {}
    for language in LANGUAGES:
        page = Writer(library, words, language, problems).paper(item)
        files[f"{language}/papers/{id}/index.md"] = page.encode()
        files |= {f"{language}/{path}": data for path, data in assets_of(library).items()}
        for result in item.results.values():
            for picture in result.pictures:
                files[f"{language}/papers/{id}/{picture.name}"] = picture.read_bytes()
    tidy(folder / "pages", files)
    builders = [_start_mkdocs(root, folder, language, id) for language in LANGUAGES]
    said = [builder.communicate()[0] for builder in builders]
    for builder, text in zip(builders, said, strict=True):
        if builder.returncode:
            raise DenoisedError(
                say(ko="MkDocs가 쪽을 만들지 못했다:\n", en="MkDocs could not build the page:\n") + text,
                code=Exit.FAILED,
            )
    site = folder / "site"
    (site / "index.html").write_text(_door(id, reader_language()), encoding="utf-8")
    (site / "404.html").write_text(_absent(id), encoding="utf-8")
    return site, tuple(problems.found)


def preview_command(root: Path, id: str, port: int) -> None:
    """Serve an entry's pages until Ctrl-C; build them again whenever the catalog, its notes or its runner change."""
    records = root / "outputs"
    site, problems = build_preview(root, id, records=records)
    with server_of(site, port, f"denoised preview {id}") as server:
        address = f"http://{HOST}:{server.server_address[1]}"
        for language in LANGUAGES:
            print(f"{address}/{language}/papers/{id}/", flush=True)
        _note_all(problems)
        note(
            say(
                ko="파일을 고치면 다시 만든다. 끝내려면 Ctrl-C.",
                en="Edits are built again. Stop with Ctrl-C.",
            )
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            _watch(root, id, records)
        except KeyboardInterrupt:
            server.shutdown()


def _watch(root: Path, id: str, records: Path) -> None:
    seen = _state(root, id)
    while True:
        time.sleep(POLL)
        if (now := _state(root, id)) == seen:
            continue
        seen = now
        try:
            _, problems = build_preview(root, id, records=records)
        except DenoisedError as error:  # half of an edit: the page stays until the next one
            tell(error)
        else:
            _note_all(problems)
            note(say(ko="다시 만들었다: 새로 고친다", en="built again: reload the page"))


def _state(root: Path, id: str) -> dict[str, tuple[int, int]]:
    """Size and time of every file that the pages are made of."""
    watched = [root / "catalog.yaml", *(root / "papers" / id).rglob("*")]
    watched += [*(root / "runners").glob(f"*/{id.replace('-', '_')}.py"), *(root / "site").rglob("*")]
    found = {}
    for path in watched:
        try:
            status = path.stat()
        except FileNotFoundError:  # an editor that writes a new file and renames it
            continue
        found[str(path)] = (status.st_mtime_ns, status.st_size)
    return found


def _start_mkdocs(root: Path, folder: Path, language: Language, id: str) -> subprocess.Popen[str]:
    """MkDocs for one language: the site's own settings, with one page and nothing that needs the others."""
    config = {
        "INHERIT": str(root.resolve() / "site" / f"{language}.yml"),
        "strict": False,
        "theme": {"custom_dir": str(root.resolve() / "site" / "overrides")},
        "nav": [{id: f"papers/{id}/index.md"}],
        "plugins": ["meta"],
        "validation": {"links": dict.fromkeys(("not_found", "absolute_links", "anchors"), "ignore")},
    }
    path = folder / f"{language}.yml"
    path.write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")  # JSON is YAML
    environment = os.environ | {
        "NO_MKDOCS_2_WARNING": "1",
        "DENOISED_PAGES": str((folder / "pages" / language).resolve()),
        "DENOISED_URL": "",
    }
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file", str(path)]
    command += ["--site-dir", str((folder / "site" / language).resolve())]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=root
    )


def _door(id: str, language: Language) -> str:
    """The root: on to the entry's page in the reader's language."""
    return f'<!doctype html><meta http-equiv="refresh" content="0; url={language}/papers/{escape(id)}/">\n'


def _absent(id: str) -> str:
    """What stands where a link leaves the preview, in both languages: links come from both pages."""
    return (
        '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<style>body{font:1rem/1.6 system-ui;margin:4rem auto;max-width:32rem;padding:0 1rem;"
        "color-scheme:light dark}</style>"
        f"<p>미리보기에는 {escape(id)}의 두 쪽만 있다. 사이트 전체: <code>denoised site build</code></p>"
        f'<p lang="en">The preview holds the two pages of {escape(id)} only. The whole site: '
        "<code>denoised site build</code></p>\n"
    )


def _note_all(problems: tuple[str, ...]) -> None:
    for problem in problems:
        note(problem)

"""Generating and building: the same bytes twice, bad records shown as such, clear errors, doors and server."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from denoised.errors import DenoisedError, Exit
from denoised.lab.record import write_record
from denoised.language import speaking
from denoised.site import generate, make_server
from denoised.site.words import load_words
from tests.site.samples import FID, Built, arm, claim, copy_project, ddim_arms, png, record_of, serving

PICTURES = {"sample.png": png(8, 8, 1)}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_generating_twice_writes_the_same_bytes_and_touches_nothing(project: Path, tmp_path: Path) -> None:
    record = record_of(project, "ddim", ddim_arms(), [])
    write_record(project / "outputs" / "ddim", "mini", record, PICTURES)
    one, two = tmp_path / "one", tmp_path / "two"
    generate(project, one, records=project / "outputs")
    written = {path: path.stat().st_mtime_ns for path in one.rglob("*") if path.is_file()}
    first = tree(one)
    generate(project, one, records=project / "outputs")
    generate(project, two, records=project / "outputs")
    assert tree(one) == first == tree(two)
    assert {path: path.stat().st_mtime_ns for path in one.rglob("*") if path.is_file()} == written


def test_generated_pages_do_not_depend_on_the_hash_seed(project: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from denoised.site import generate; generate(*map(Path, sys.argv[1:]))"
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(project), str(tmp_path / seed)]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path.cwd())})
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


def test_what_no_longer_belongs_is_removed(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    generate(project, out)
    (out / "ko" / "papers" / "gone").mkdir()
    (out / "ko" / "papers" / "gone" / "index.md").write_text("old")
    generate(project, out)
    assert not (out / "ko" / "papers" / "gone").exists()


def test_a_folder_of_something_else_is_left_alone(project: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DenoisedError) as caught, speaking("en"):
        generate(project, tmp_path)
    assert caught.value.message == f"{tmp_path} is not a folder that the site made"
    assert caught.value.code is Exit.RESOURCES
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_the_site_imports_no_torch() -> None:
    code = "import sys, denoised.site; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- records ---------------------------------------------------------------------------------------------


def page(out: Path, language: str, id: str) -> str:
    return (out / language / "papers" / id / "index.md").read_text()


@pytest.mark.parametrize(
    ("damage", "ko", "en"),
    [
        (
            lambda data: data.replace(b'"threads": 2', b'"threads": 3'),
            "내용이 기록 자신의 sha256과 맞지 않는다",
            "its content does not match its own sha256",
        ),
        (lambda data: data[:100], "JSON이 아니다", "it is not JSON"),
        (lambda data: b"", "JSON이 아니다", "it is not JSON"),
        (lambda data: b"\xff\xfe", "UTF-8이 아니다", "it is not UTF-8"),
    ],
)
def test_a_bad_record_is_shown_as_unverified(
    project: Path, tmp_path: Path, damage: Callable[[bytes], bytes], ko: str, en: str
) -> None:
    path = write_record(
        project / "papers" / "ddim" / "results", "mini", record_of(project, "ddim", ddim_arms(), []), PICTURES
    )
    path.write_bytes(damage(path.read_bytes()))
    generate(project, tmp_path / "pages")
    for language, word, reason in (("ko", "확인되지 않음", ko), ("en", "Unverified", en)):
        text = page(tmp_path / "pages", language, "ddim")
        assert "dn-badge--unverified" in text and word in text and reason in text
        assert FID not in text, "no number of a bad record is shown"


def test_a_missing_picture_makes_a_record_unverified(project: Path, tmp_path: Path) -> None:
    path = write_record(
        project / "outputs" / "ddim", "mini", record_of(project, "ddim", ddim_arms(), []), PICTURES
    )
    next(path.parent.glob("*.png")).unlink()
    generate(project, tmp_path / "pages", records=project / "outputs")
    assert "cannot be read: No such file or directory" in page(tmp_path / "pages", "en", "ddim")


def test_a_bad_local_record_falls_back_on_the_published_one(project: Path, tmp_path: Path) -> None:
    record = record_of(project, "ddim", ddim_arms(), [claim(ddim_arms(), 2, 3, {"steps": 10})])
    write_record(project / "papers" / "ddim" / "results", "mini", record, PICTURES)
    (project / "outputs" / "ddim").mkdir(parents=True)
    (project / "outputs" / "ddim" / "mini.json").write_text("{}")
    generate(project, tmp_path / "pages", records=project / "outputs")
    text = page(tmp_path / "pages", "en", "ddim")
    assert "dn-badge--holds" in text and "it has no `sha256`" in text.replace("&#96;", "`")
    assert "this machine, not published" not in text


def test_smoke_is_not_shown_and_an_unfinished_run_is_not_published(project: Path, tmp_path: Path) -> None:
    record = record_of(project, "ddim", ddim_arms(), [])
    write_record(project / "papers" / "ddim" / "results", "smoke", record, PICTURES)
    record["seeds"]["asked"] = [0, 1, 2, 3]
    write_record(project / "papers" / "ddim" / "results", "mini", record, PICTURES)
    generate(project, tmp_path / "pages")
    text = page(tmp_path / "pages", "en", "ddim")
    assert FID not in text
    assert "seeds [3] did not finish" in text


@pytest.mark.parametrize(
    ("fid", "status"),
    [([60.0, 61.0, 60.5], "fails"), ([40.0, 61.0, 50.0], "inconclusive"), ([20.0, 21.0, 20.5], "holds")],
)
def test_a_verdict_is_shown_whatever_it_is(
    project: Path, tmp_path: Path, fid: list[float], status: str
) -> None:
    arms = [arm("ddim", {}, fid, 10), arm("ddpm", {}, [50.0, 50.5, 51.0], 10)]
    record = record_of(project, "ddim", arms, [claim(arms, 0, 1, {})])
    write_record(project / "papers" / "ddim" / "results", "mini", record, PICTURES)
    generate(project, tmp_path / "pages")
    assert f"dn-badge--{status}" in page(tmp_path / "pages", "ko", "ddim")
    verdicts = (tmp_path / "pages" / "en" / "verdicts" / "index.md").read_text()
    section = verdicts[verdicts.index(f"{{#{status}}}") :]
    assert "papers/ddim/" in section.split("\n## ")[0]
    assert (
        json.loads((tmp_path / "pages" / "root" / "api" / "papers" / "ddim.json").read_text())["status"]
        == status
    )


def test_a_changed_runner_or_entry_is_told(project: Path, tmp_path: Path) -> None:
    record = record_of(project, "ddim", ddim_arms(), [])
    record["code"] |= {"commit": None, "dirty": None}
    write_record(project / "papers" / "ddim" / "results", "mini", record, PICTURES)
    runner = project / "runners" / "foundations" / "ddim.py"
    runner.write_text(runner.read_text() + "# changed\n")
    catalog = project / "catalog.yaml"
    catalog.write_text(
        catalog.read_text().replace("title: Denoising Diffusion Implicit Models", "title: Other")
    )
    generate(project, tmp_path / "pages")
    text = page(tmp_path / "pages", "en", "ddim")
    assert "The runner has changed since this record" in text
    assert "The catalog entry has changed since this record" in text
    assert "Run from code of unknown commit" in text
    assert "The sha256 of the record and of its pictures is right" in text


# --- our own texts ---------------------------------------------------------------------------------------


def test_every_word_is_there_in_both_languages_and_used(project: Path) -> None:
    words = load_words(project / "site" / "strings.yaml")
    used = {f"{prefix}.{name}" for prefix, name in re.findall(r'"(\w+)\.([\w.-]+)"', _sources())}
    prefixes = {f"{prefix}." for prefix in re.findall(r'"([\w.-]+)\." ~', _sources())}
    prefixes |= set(re.findall(r'f"([\w.-]+\.)\{', _sources()))
    prefixes |= {"years.", "tags.", "verdicts."}  # Writer._groups
    for key in words.keys:
        assert key in used or any(key.startswith(prefix) for prefix in prefixes), f"{key} is not used"


def _sources() -> str:
    root = Path(__file__).parents[2]
    files = [*(root / "denoised" / "site").glob("*.py"), *(root / "site" / "templates").iterdir()]
    files += (root / "site" / "root").iterdir()
    return "\n".join(path.read_text() for path in files).replace("'", '"')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table["run.title"].pop("ko"), "`run.title` has no text in ko"),
        (lambda table: table["run.title"].update(en=""), "`run.title` has no text in en"),
        (
            lambda table: table["count.papers"].update(ko="논문"),
            "`count.papers` names other places in ko than in en",
        ),
    ],
)
def test_an_incomplete_word_stops_the_build(
    project: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = project / "site" / "strings.yaml"
    table = yaml.safe_load(path.read_text())
    change(table)
    path.write_text(yaml.safe_dump(table, allow_unicode=True))
    with pytest.raises(DenoisedError) as caught:
        generate(project, tmp_path / "pages")
    assert caught.value.message == f"{path}: {message}"
    assert caught.value.code is Exit.FINDINGS


def test_a_runner_that_is_not_python_is_named(project: Path, tmp_path: Path) -> None:
    (project / "runners" / "foundations" / "ddim.py").write_text("x = 1\ndef (")
    with pytest.raises(DenoisedError) as caught:
        generate(project, tmp_path / "pages")
    assert caught.value.message == "runners/foundations/ddim.py:2: invalid syntax"


def test_a_project_without_notes_glossary_or_papers_builds(project: Path, tmp_path: Path) -> None:
    shutil.rmtree(project / "papers")
    (project / "site" / "glossary.yaml").unlink()
    (project / "site" / "paths.yaml").unlink()
    catalog = yaml.safe_load((project / "catalog.yaml").read_text())
    (project / "catalog.yaml").write_text(yaml.safe_dump(catalog | {"papers": []}, allow_unicode=True))
    pages = generate(project, tmp_path / "pages")
    english = pages.out / "en"
    assert "There is no record to show yet." in (english / "compare" / "index.md").read_text()
    empty = pages.library.catalog.categories[0].id
    assert "0 papers in this category." in (english / "categories" / empty / "index.md").read_text()
    assert f'href="{empty}/"' in (english / "categories" / "index.md").read_text()


def test_mkdocs_own_words_are_passed_on(tmp_path: Path) -> None:
    from denoised.site import build

    root = copy_project(tmp_path / "project")
    method = root / "site" / "pages" / "method.en.md"
    method.write_text(method.read_text() + "\n[nowhere](nowhere.md)\n")
    with pytest.raises(DenoisedError) as caught, speaking("en"):
        build(root)
    assert caught.value.code is Exit.FAILED
    assert caught.value.message.startswith("MkDocs could not build the site:\n")
    assert "nowhere.md" in caught.value.message


# --- data, doors, server ---------------------------------------------------------------------------------


def test_the_data_for_machines(built: Built) -> None:
    everything = json.loads((built.site / "api" / "papers.json").read_text())
    ids = [paper["id"] for paper in everything["papers"]]
    assert ids == [item.paper.id for item in built.pages.library.items]
    for id in ids:
        one = json.loads((built.site / "api" / "papers" / f"{id}.json").read_text())
        assert one["pages"] == {"ko": f"ko/papers/{id}/", "en": f"en/papers/{id}/"}
        assert one["bibtex"] in (built.site / "bibliography.bib").read_text()
    published = built.root / "papers" / "ddim" / "results" / "mini.json"
    assert (built.site / "api" / "records" / "ddim" / "mini.json").read_bytes() == published.read_bytes()


def test_the_doors_speak_both_languages_and_need_no_script(built: Built) -> None:
    html = (built.site / "index.html").read_text()
    assert 'href="ko/" hreflang="ko"' in html and 'href="en/" hreflang="en"' in html
    assert "디퓨전" in html and "diffusion" in html
    assert not (built.site / "ko" / "404.html").exists()


def test_the_server_gives_pages_and_our_own_404(address: str, built: Built) -> None:
    with urllib.request.urlopen(f"{address}/ko/papers/ddim/") as answer:
        assert answer.read() == (built.site / "ko" / "papers" / "ddim" / "index.html").read_bytes()
    for path in ("/ko/nothing/", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address + path)
        assert caught.value.code == 404
        assert caught.value.read() == (built.site / "404.html").read_bytes()


def test_the_server_says_what_is_in_its_way(built: Built, tmp_path: Path) -> None:
    with pytest.raises(DenoisedError) as caught, speaking("en"):
        make_server(tmp_path)
    assert caught.value.message == f"there is no site in {tmp_path}/build/site"
    assert caught.value.help == "denoised site build"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DenoisedError) as caught, speaking("en"):
            make_server(built.root, port)
        assert caught.value.message == f"port {port} cannot be used: Address already in use"
        assert caught.value.help == f"denoised site serve --port {port + 1}"


def test_the_server_listens_on_this_machine_only(built: Built) -> None:
    with serving(built.root) as url:
        assert url.startswith("http://127.0.0.1:")

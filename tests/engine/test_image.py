"""`denoised image build`: what it tells of a build that goes well, of one that fails, and of one that cannot begin."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from denoised import __version__
from denoised.engine import image
from denoised.engine.docker import engine
from denoised.environment import describe_code
from denoised.errors import DenoisedError, Exit
from denoised.language import speaking

GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    with speaking("en"):
        yield


def project(folder: Path, dockerfile: str) -> Path:
    (folder / "docker").mkdir()
    (folder / "docker" / "Dockerfile").write_text(dockerfile)
    (folder / "hello.txt").write_text("hello")
    return folder


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        [*GIT, "-C", str(folder), *words], check=True, capture_output=True, text=True
    ).stdout


def test_an_image_is_built_from_a_checkout_only(tmp_path: Path) -> None:
    with pytest.raises(DenoisedError, match="has no docker/Dockerfile") as caught:
        image.build(tmp_path, "cpu", log=tmp_path / "log", report=lambda step, line: None)
    assert caught.value.code == Exit.USAGE


def test_without_the_docker_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DenoisedError, match="there is no docker command") as caught:
        image.build(project(tmp_path, ""), "cpu", log=tmp_path / "log", report=lambda step, line: None)
    assert caught.value.code == Exit.ENGINE and "apt-get install" in (caught.value.help or "")


def test_the_image_knows_the_commit_it_was_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert image.commit_arguments(tmp_path)["COMMIT"] == ""
    git(tmp_path, "init", "-q")
    (tmp_path / "runner.py").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first", "--date", "2026-01-02T03:04:05Z")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    clean = image.commit_arguments(tmp_path)
    assert clean["COMMIT"] == commit and clean["SOURCE_DATE_EPOCH"].isdigit() and clean["SOURCE"] == ""
    git(tmp_path, "remote", "add", "origin", "https://someone:secret@example.org/denoised.git")
    assert image.commit_arguments(tmp_path)["SOURCE"] == "https://example.org/denoised.git"
    (tmp_path / "new.py").write_text("")
    dirty = image.commit_arguments(tmp_path)
    assert dirty["COMMIT"] == f"{commit}-dirty"

    # and a record made inside says so, where there is no git
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "runner.py").write_text("")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for arguments, differs in ((clean, False), (dirty, True)):
        monkeypatch.setenv("DENOISED_COMMIT", arguments["COMMIT"])
        code = describe_code(inside, inside / "runner.py")
        assert (code["commit"], code["dirty"]) == (commit, differs)


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A name for images that no person has, gone afterwards."""
    name = "denoised-test-image"
    monkeypatch.setattr(image, "REPOSITORY", name)
    yield name
    with engine() as client:
        for each in client.images.list(name):
            client.images.remove(each.id, force=True)


@pytest.mark.docker
def test_a_build_tells_its_steps_and_keeps_its_log(tmp_path: Path, repository: str) -> None:
    told: list[str] = []
    root = project(tmp_path, "FROM scratch AS cpu\nARG VERSION\nLABEL version=${VERSION}\nCOPY hello.txt /\n")
    built = image.build(
        root, "cpu", log=tmp_path / "logs" / "build.log", report=lambda step, _: told.append(step)
    )
    assert built.tag == f"{repository}:cpu" and built.id.startswith("sha256:") and built.size == 5
    assert any("COPY hello.txt /" in step for step in told)
    assert "COPY hello.txt /" in (tmp_path / "logs" / "build.log").read_text()
    with engine() as client:
        assert client.images.get(built.tag).labels == {"version": __version__}


@pytest.mark.docker
def test_a_step_that_fails_is_named_and_no_tag_is_left(tmp_path: Path, repository: str) -> None:
    root = project(tmp_path, 'FROM scratch AS cpu\nCOPY hello.txt /\nRUN ["/none", "at all"]\n')
    with pytest.raises(DenoisedError) as caught:
        image.build(root, "cpu", log=tmp_path / "build.log", report=lambda step, line: None)
    assert caught.value.code == Exit.FAILED
    assert 'RUN ["/none", "at all"]' in caught.value.message and "no such file" in caught.value.message
    assert str(tmp_path / "build.log") in (caught.value.help or "")
    with engine() as client:
        assert client.images.list(repository) == []

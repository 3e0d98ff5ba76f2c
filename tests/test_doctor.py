"""`denoised doctor`: what is missing is told with what it prevents and what to type, in the reader's language."""

from __future__ import annotations

from pathlib import Path

import pytest

from denoised import doctor
from denoised.cli import main
from denoised.language import speaking
from denoised.project import find_root

# The SDK leaves the socket of a connection that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with no engine and no command to be found."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_bare_machine(language: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lang", language, "doctor"]) == 0
    told = capsys.readouterr().out
    for command in (
        "apt-get install git",
        "apt-get install chromium",
        "apt-get install docker.io",
        "--rehearse",
    ):
        assert command in told
    assert ("못 하는 것" in told, "prevents" in told) == (
        (True, False) if language == "ko" else (False, True)
    )
    assert told.count("✗") == 4 and told.count("✓") == 5


@pytest.mark.usefixtures("bare")
def test_what_is_missing_says_what_to_do() -> None:
    with speaking("en"):
        found = list(doctor.findings(find_root()))
    assert [each.name for each in found if each.prevents] == ["git", "browser", "GPU", "container engine"]
    assert all(each.type for each in found if each.prevents)


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    with speaking("en"):
        found = {each.name: each for each in doctor.findings(tmp_path)}
    assert found["checkpoints"].found == "none" and found["checkpoints"].prevents
    assert found["git"].prevents == "records do not name the commit"


def test_too_little_memory_and_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENOUGH_MEMORY", 2**60)
    monkeypatch.setattr(doctor, "ENOUGH_DISK", 2**60)
    with speaking("en"):
        found = {each.name: each for each in doctor.findings(find_root())}
    assert "out of memory" in found["cores and memory"].prevents and "no room" in found["disk"].prevents


@pytest.mark.docker
def test_an_engine_is_asked_what_it_has() -> None:
    with speaking("en"):
        found = {each.name: each for each in doctor.findings(find_root())}
    assert not found["container engine"].prevents
    assert {"image denoised:cpu", "image denoised:cuda", "GPUs in containers"} <= found.keys()

"""`denoised run ID --in docker`: what is taken from a container, and what is told of every way it can go wrong.

The image stands in for the real one: it writes what each test wants written. The real one is run by test_full_image.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from denoised.cli import main
from denoised.engine import contained
from denoised.engine.confinement import Limits
from denoised.engine.contained import STAGING, failure, limits_for
from denoised.engine.container import LABEL, Ended, driver_name
from denoised.engine.docker import engine
from denoised.errors import DenoisedError, Exit
from denoised.lab.record import read_record, write_record
from denoised.language import speaking
from tests.engine.tiny import PLAY, import_images, remove_images
from tests.site.samples import claim, copy_project, ddim_arms, png, record_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)

GIB = 2**30


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    with engine() as client:
        import_images(client)
        yield client
        remove_images(client)


class Play:
    """A project, and a container that does what it is told."""

    def __init__(self, root: Path, given: Path, image: str) -> None:
        self.root, self.given, self.image = root, given, image

    def record(self, **environment: Any) -> Path:
        """Lay a record of this image where the container can copy it from."""
        arms = ddim_arms()
        record = record_of(self.root, "ddim", arms, [claim(arms, 2, 3, {"steps": 10})])
        record["environment"] |= {"container": self.image, **environment}
        return write_record(self.given / "ddim", "mini", record, {"sample.png": png(8, 4, 7)})

    def run(self, script: str, *more: str) -> int:
        (self.given / "script").write_text(script)
        return main(["--lang", "en", "run", "ddim", f"model={self.given}", "--in", "docker", *more])


@pytest.fixture
def play(client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    root = copy_project(tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.setattr(contained, "tag_of", lambda target: PLAY)
    given = tmp_path / "given"
    given.mkdir()
    yield Play(root, given, str(client.images.get(PLAY).id))
    assert client.containers.list(all=True, filters={"label": LABEL}) == []
    assert list((root / STAGING).iterdir()) == []


COPY = "cp -r /in/model/ddim /out/"


@pytest.mark.docker
def test_the_record_of_a_container_is_taken_over_and_told(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    made = play.record()
    assert play.run(f"echo seed 1/3 >&2; {COPY}") == Exit.OK
    path = play.root / "outputs" / "ddim" / "mini.json"
    assert path.read_bytes() == made.read_bytes()
    assert read_record(path, pictures=True).environment.container == play.image
    told = capsys.readouterr()
    assert "seed 1/3" in told.err and "holds" in told.out and f"image: {play.image}" in told.err


@pytest.mark.docker
def test_what_the_container_is_asked_to_run(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    play.record()
    play.run(f'echo "$@" "$DENOISED_LANG" >&2; {COPY}', "steps=[5,10]", "seeds=[0,1,2]")
    # the entrypoint of the stand-in is a shell, which takes the first word for its name
    assert "ddim model=/in/model steps=[5,10] seeds=[0,1,2] --out /out en" in capsys.readouterr().err


@pytest.mark.docker
@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ("true", Exit.INTEGRITY, "mini.json cannot be read"),
        ("mkdir /out/ddim; echo '{}' > /out/ddim/mini.json", Exit.INTEGRITY, "it has no `sha256`"),
        (f"{COPY}; sed -i s/12/13/ /out/ddim/mini.json", Exit.INTEGRITY, "does not match its own sha256"),
        (
            f"{COPY}; for f in /out/ddim/*.png; do echo x >> $f; done",
            Exit.INTEGRITY,
            "does not have the sha256",
        ),
        ("ln -s /in/model/ddim /out/ddim", Exit.INTEGRITY, "no plain file: ddim"),
        (f"{COPY}; mkfifo /out/ddim/pipe", Exit.INTEGRITY, "no plain file: ddim/pipe"),
        ("echo broken >&2; exit 1", Exit.FAILED, "failed (exit code 1):\n  broken"),
        ("exit 2", Exit.USAGE, "failed (exit code 2)"),
        ("echo cannot write /out: No space left >&2; exit 7", Exit.RESOURCES, "No space left"),
        ("exit 99", Exit.FAILED, "failed (exit code 99)"),
        ("exit 4", Exit.NO_GPU, "inside the container none is to be seen"),
        ("tail /dev/zero", Exit.RESOURCES, "the container's 0.2g of memory were not enough"),
        ("kill -9 $$", Exit.RESOURCES, "ended by signal 9"),
    ],
)
def test_what_else_a_container_may_do(
    play: Play, script: str, code: Exit, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    play.record()
    older = play.root / "outputs" / "ddim" / "mini.json"
    older.parent.mkdir(parents=True)
    older.write_text("the older record")
    assert play.run(script, "--memory", "256m") == code
    assert message in capsys.readouterr().err
    assert older.read_text() == "the older record"


@pytest.mark.docker
def test_a_record_from_elsewhere_is_refused(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    play.record(container=None)
    assert play.run(COPY) == Exit.INTEGRITY
    assert "is no record of a run in this image" in capsys.readouterr().err


@pytest.mark.docker
def test_a_gpu_that_is_not_there_is_never_replaced(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    play.record()
    assert play.run(COPY, "--gpu") == Exit.NO_GPU
    assert "cannot give a GPU" in capsys.readouterr().err


@pytest.mark.docker
def test_a_stopped_driver_stops_its_container(play: Play, client: docker.DockerClient) -> None:
    play.record()
    (play.given / "script").write_text("echo up >&2; sleep 1000")
    code = (
        "import sys; from denoised.engine import contained; from denoised.cli import main\n"
        f"contained.tag_of = lambda target: {PLAY!r}\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for number, expected in ((signal.SIGTERM, Exit.RETRY), (signal.SIGINT, Exit.INTERRUPTED)):
        driver = subprocess.Popen(
            [sys.executable, "-c", code, "--lang", "en", "run", "ddim", f"model={play.given}", "--in", "docker"],
            cwd=play.root, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert driver.stderr is not None
        while driver.stderr.readline() != "up\n":
            pass
        started = time.monotonic()
        driver.send_signal(number)
        driver.communicate(timeout=30)
        assert driver.returncode == expected and time.monotonic() - started < 15
        assert client.containers.list(all=True, filters={"label": LABEL}) == []


@pytest.mark.docker
def test_what_a_killed_driver_left_is_cleared_away(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    host, boot, pid, start = driver_name().rsplit(":", 3)
    left = play.root / STAGING / f"{host}:{boot}:{pid}:{int(start) - 1}+12345678"
    (left / "ddim").mkdir(parents=True)
    play.record()
    assert play.run(COPY) == Exit.OK
    assert not left.exists()


@pytest.mark.docker
def test_without_the_image(
    play: Play, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contained, "tag_of", lambda target: f"denoised-test-none:{target}")
    assert play.run(COPY) == Exit.ENGINE
    error = capsys.readouterr().err
    assert "there is no image denoised-test-none:cpu" in error and "denoised image build" in error
    assert play.run(COPY, "--gpu") == Exit.ENGINE
    assert "denoised image build --cuda" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
@pytest.mark.docker
def test_a_full_disk_leaves_the_older_record(
    play: Play, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play.record()
    disk = tmp_path / "disk"
    (disk / "ddim").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk / "ddim")], check=True)
    try:
        older = disk / "ddim" / "mini.json"
        older.write_text("the older record")
        (disk / "ddim" / "other").write_bytes(b"x" * 56 * 1024)
        assert play.run(COPY, "--out", str(disk)) == Exit.RESOURCES
        assert "No space left on device" in capsys.readouterr().err
        assert older.read_text() == "the older record"
        assert sorted(os.listdir(disk / "ddim")) == ["mini.json", "other"]
    finally:
        subprocess.run(["umount", str(disk / "ddim")], check=True)


# --- without an engine ------------------------------------------------------------------------------------


def test_what_cannot_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_project(tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    for arguments, code, message in (
        (["ddim", "--in", "dokcer"], Exit.USAGE, "did you mean `docker`?"),
        (["ddim", "--memory", "4g"], Exit.USAGE, "--memory goes with --in docker"),
        (["ddmi", "--in", "docker"], Exit.USAGE, "no paper has the id `ddmi`"),
        (["ddim", "scale=smoke", "--publish", "--in", "docker"], Exit.USAGE, "is never published"),
        (["ddim", "--in", "docker"], Exit.ENGINE, "there is no container engine"),
    ):
        assert main(["--lang", "en", "run", *arguments]) == code
        assert message in capsys.readouterr().err


def test_limits() -> None:
    assert limits_for("mini", {}, None, cpus=8, total=16 * GIB) == Limits()
    assert limits_for("mini", {}, None, cpus=1, total=2 * GIB) == Limits(cpus=1.0, memory=2 * GIB)
    assert limits_for("mini", {"threads": "6"}, None, cpus=8, total=16 * GIB).cpus == 6
    paper = limits_for("paper", {}, None, cpus=16, total=100 * GIB)
    assert (paper.cpus, paper.memory) == (16, 90 * GIB)
    for size, bytes in (
        ("8g", 8 * GIB),
        ("512m", GIB // 2),
        ("1.5GiB", GIB * 3 // 2),
        ("1000000k", 1_024_000_000),
    ):
        assert limits_for("mini", {}, size, cpus=8, total=16 * GIB).memory == bytes
    for wrong in ("", "much", "-1g", "100m", "17g", "4 gb ram"):
        with (
            speaking("en"),
            pytest.raises(DenoisedError, match=r"it may be from 256m to this machine's 16\.0g"),
        ):
            limits_for("mini", {}, wrong, cpus=8, total=16 * GIB)


def test_a_failure_is_told_in_both_languages() -> None:
    ended = Ended(6, False, 1.0, ("one", "two"))
    for language, said in (
        ("ko", "컨테이너 안의 실행이 실패했다"),
        ("en", "the run in the container failed"),
    ):
        with speaking(language):  # type: ignore[arg-type]
            error = failure(ended, Limits())
        assert (
            said in error.message and error.message.endswith("\n  one\n  two") and error.code == Exit.FAILED
        )
    assert json.dumps(error.message)

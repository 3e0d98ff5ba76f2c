"""The image that users build: what is in it, and that a run in it is the run outside, picture for picture."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from denoised import __version__
from denoised.engine.docker import engine
from denoised.lab.record import read_record
from denoised.lab.schema import Record
from denoised.project import find_root

pytestmark = [
    pytest.mark.image,
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    with engine(60) as client:  # `containers.run` waits no longer than that
        yield client


def run(out: Path, *words: str) -> Record:
    """The record of `denoised run ddim` in a process of its own, with no cache to begin with."""
    environment = {**os.environ, "DENOISED_CACHE": str(out / "cache"), "DENOISED_LANG": "en"}
    code = "import sys; from denoised.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "ddim", *words, "--out", str(out)],
        cwd=find_root(), env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = (out / "ddim").glob("*.json")
    return read_record(path, paper="ddim", pictures=True)


def same(one: Record, other: Record) -> None:
    """Both measured the same, to the last digit and pixel."""
    assert [picture.sha256 for picture in one.pictures] == [picture.sha256 for picture in other.pictures]
    assert [arm.metrics for arm in one.arms] == [arm.metrics for arm in other.arms]
    assert one.claims == other.claims and one.key == other.key


def test_a_run_in_the_image_is_the_run_outside(tmp_path: Path, client: docker.DockerClient) -> None:
    inside = run(tmp_path / "inside", "scale=smoke", "--in", "docker")
    outside = run(tmp_path / "outside", "scale=smoke")
    same(inside, outside)
    assert inside.environment.container == client.images.get("denoised:cpu").id
    assert outside.environment.container is None
    assert inside.environment.gpu is None and inside.config["settings"]["device"] == "cpu"  # type: ignore[call-overload,index]


def test_at_mini_scale_too(tmp_path: Path) -> None:
    words = (
        "seeds=[0,1]",
        "steps=[10]",
    )  # two: the interval of a single seed is a bootstrap, which takes minutes
    same(run(tmp_path / "inside", *words, "--in", "docker"), run(tmp_path / "outside", *words))


def test_the_image_says_what_it_is(client: docker.DockerClient) -> None:
    image = client.images.get("denoised:cpu")
    prefix = "org.opencontainers.image."
    assert (
        image.labels[f"{prefix}version"] == __version__ and image.labels[f"{prefix}licenses"] == "Apache-2.0"
    )
    assert image.attrs["Config"]["User"] == "10001:10001"
    assert image.attrs["Config"]["Entrypoint"] == ["denoised"]
    assert image.attrs["Size"] < 1.6e9


def test_the_image_lists_what_it_holds(client: docker.DockerClient) -> None:
    container = client.containers.create("denoised:cpu", network_mode="none")

    def read(name: str) -> str:
        pieces, _ = container.get_archive(f"/opt/denoised/inventory/{name}")
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            file = tar.extractfile(name)
            assert file is not None
            return file.read().decode()

    try:
        check_inventory(read)
    finally:
        container.remove(force=True)


def check_inventory(read: Callable[[str], str]) -> None:
    bom = json.loads(read("sbom.cdx.json"))
    assert bom["bomFormat"] == "CycloneDX"
    versions = {each["name"]: each["version"] for each in bom["components"]}
    assert versions["torch"].startswith("2.13.0") and {"diffusers", "numpy", "pydantic"} <= versions.keys()
    licences = read("licenses.txt")
    assert all(name in licences for name in ("torch", "diffusers", "Apache", "BSD"))
    assert "python3 " in read("debian-packages.txt")


def test_nothing_of_the_build_is_left_inside(client: docker.DockerClient) -> None:
    script = "ls -A /tmp /root /opt; id -u; ls /opt/denoised; which git gcc curl || true"
    found = client.containers.run(
        "denoised:cpu", ["-c", script],
        entrypoint="sh", network_mode="none", read_only=True, remove=True, user="10001:10001", stderr=True,
    )  # fmt: skip
    words = bytes(found).decode().split()
    assert "10001" in words and not {"git", ".git", "tests", "benchmarks", "wheels"} & set(words)
    assert not any(word.endswith(("/git", "/gcc", "/curl")) for word in words)

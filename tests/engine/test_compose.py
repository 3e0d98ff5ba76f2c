"""docker/compose.yaml confines as `docker_line` does, and the documents print that very line."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from denoised.engine.confinement import docker_line

ROOT = Path(__file__).parents[2]


def words(gpu: bool = False) -> dict[str, str]:
    """The options of the line that take a value."""
    line = shlex.split(" ".join(docker_line("denoised:cpu", ["run", "ddim"], gpu=gpu)))
    return {a.removeprefix("--"): b for a, b in pairwise(line) if a.startswith("--")}


@pytest.mark.parametrize("service", ["cpu", "gpu"])
def test_a_service_is_confined_as_the_line(service: str) -> None:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"][
        service
    ]
    line = words()
    assert found["network_mode"] == line["network"] == "none" and found["read_only"] and found["init"]
    assert found["cap_drop"] == [line["cap-drop"]] and found["security_opt"] == [line["security-opt"]]
    assert str(found["pids_limit"]) == line["pids-limit"] and str(found["cpus"]) == line["cpus"]
    assert found["mem_limit"] == line["memory"] and found["memswap_limit"] == line["memory-swap"]
    assert found["tmpfs"] == [line["tmpfs"]]
    assert found["volumes"] == [{"type": "bind", "source": "../outputs/container", "target": "/out"}]
    assert "privileged" not in found and "cap_add" not in found and "ports" not in found


def test_the_site_is_served_on_this_machine_only() -> None:
    site = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["site"]
    assert site["ports"] == ["127.0.0.1:8000:8000"]
    assert all(volume["read_only"] for volume in site["volumes"])


def test_the_readme_prints_the_line() -> None:
    line = " \\\n  ".join(docker_line("denoised:cpu", ["run", "ddim"]))
    assert (ROOT / "docker" / "README.md").read_text().count(line) == 2  # in both languages

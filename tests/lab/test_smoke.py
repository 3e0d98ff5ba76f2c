"""Every runner at smoke scale, by the command that runs them all: each finishes, and nothing is published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from denoised.catalog import load
from denoised.cli import main
from denoised.errors import Exit
from denoised.lab.record import read_record
from denoised.registry import runner_path

ROOT = Path(__file__).resolve().parents[2]


def published() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in ROOT.glob("papers/*/results/*")}


def test_every_runner_finishes_at_smoke_scale_and_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DENOISED_LANG", "en")
    monkeypatch.chdir(ROOT)
    before = published()
    ids = [paper.id for paper in load(ROOT / "catalog.yaml").papers if runner_path(ROOT, paper).is_file()]
    written = {path for path in ROOT.glob("runners/*/*.py") if path.name != "__init__.py"}
    assert len(ids) == len(written), "a runner that no entry of the catalog names"

    # One thread each: at this scale more would wait for each other.
    jobs = ["--jobs", str(min(4, os.cpu_count() or 1)), "threads=1"]
    code = main(["sweep", "--all", "scale=smoke", *jobs, "--out", str(tmp_path)])
    said = capsys.readouterr()
    assert code == Exit.OK, f"{said.out}\n{said.err}"
    for id in ids:
        record = read_record(tmp_path / id / "smoke.json", paper=id, pictures=True)
        assert record.seeds.finished == record.seeds.asked
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ids)
    assert published() == before

"""What a record says of the code that ran."""

from __future__ import annotations

import subprocess
from pathlib import Path

from denoised.environment import describe_code

GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def test_a_checkout_is_dirty_when_something_that_a_run_reads_differs(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run([*GIT, "-C", str(tmp_path), *words], check=True, capture_output=True)

    runner = tmp_path / "runners" / "ddim.py"
    record = tmp_path / "papers" / "ddim" / "results" / "mini.json"
    for path in (runner, record):
        path.parent.mkdir(parents=True)
        path.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert describe_code(tmp_path, runner)["dirty"] is False
    record.write_text("2")  # published by a sweep: no run reads it
    (record.parent / "mini-new.png").write_bytes(b"")
    assert describe_code(tmp_path, runner)["dirty"] is False
    runner.write_text("2")
    assert describe_code(tmp_path, runner)["dirty"] is True
    git("checkout", "-q", "runners")
    (tmp_path / "denoised").mkdir()
    (tmp_path / "denoised" / "new.py").write_text("")
    assert describe_code(tmp_path, runner)["dirty"] is True

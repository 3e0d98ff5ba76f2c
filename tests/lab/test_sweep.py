"""`denoised sweep` and its engine: one bad run harms no other, finished runs are not repeated, a stop keeps what is done."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from denoised.cli import main
from denoised.engine import Event, Job, Outcome, Progress, processes
from denoised.engine.processes import Processes
from denoised.errors import DenoisedError, Exit
from denoised.lab.record import read_record
from denoised.lab.reproduce import run_key
from denoised.lab.sweep import PRELOAD

ROOT = Path(__file__).resolve().parents[2]
Report = Callable[[str], None]


# --- the engine ------------------------------------------------------------------------------------------


def succeeds(argument: Any, report: Report) -> Any:
    print("printed")
    report("half way")
    return argument


def raises(argument: Any, report: Report) -> None:
    raise ZeroDivisionError("a runner's own mistake")


def refuses(argument: Any, report: Report) -> None:
    raise DenoisedError("no GPU", help="use another machine", code=Exit.NO_GPU)


def exits(argument: Any, report: Report) -> None:
    sys.exit(3)


def exits_at_once(argument: Any, report: Report) -> None:
    os._exit(0)


def is_killed(argument: Any, report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(argument: Any, report: Report) -> None:
    report("hangs now")
    signal.pause()


def hangs_and_will_not_end(argument: Any, report: Report) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report("hangs now")
    while True:
        signal.pause()


def carry_out(
    engine: Processes, count: int, on: Callable[[Event], None] = lambda _: None
) -> dict[str, Outcome]:
    """Poll until so many jobs are over."""
    outcomes: dict[str, Outcome] = {}
    while len(outcomes) < count:
        for event in engine.poll(10.0):
            on(event)
            if isinstance(event, Outcome):
                outcomes[event.job] = event
    return outcomes


def job(work: Callable[..., Any], folder: Path, argument: Any = None, limit: float | None = None) -> Job:
    return Job(work.__name__, work, argument, folder / f"{work.__name__}.log", limit)


def test_every_way_to_fail_is_told_apart_and_harms_no_other_job(tmp_path: Path) -> None:
    works = [raises, refuses, exits, exits_at_once, is_killed, succeeds]
    said: list[Event] = []
    with Processes(2, PRELOAD) as engine:
        for work in works:
            engine.submit(job(work, tmp_path, {"of": "a dict"}))
        outcomes = carry_out(engine, len(works), said.append)
    assert {id: (each.state, each.exit_code) for id, each in outcomes.items()} == {
        "raises": ("failed", 1),
        "refuses": ("failed", Exit.NO_GPU),
        "exits": ("failed", 3),
        "exits_at_once": ("failed", 0),
        "is_killed": ("failed", -signal.SIGKILL),
        "succeeds": ("finished", 0),
    }
    assert outcomes["succeeds"].result == {"of": "a dict"}
    failure = outcomes["refuses"].failure
    assert failure is not None and (failure.message, failure.help) == ("no GPU", "use another machine")
    assert [each.text for each in said if isinstance(each, Progress) and each.job == "succeeds"] == [
        "",
        "half way",
    ]
    assert (tmp_path / "succeeds.log").read_text() == "printed\n"
    last = (tmp_path / "raises.log").read_text().splitlines()[-1]
    assert last == "ZeroDivisionError: a runner's own mistake"


def test_a_job_that_hangs_is_ended_at_its_limit(tmp_path: Path) -> None:
    with Processes(2, PRELOAD) as engine:
        engine.submit(job(hangs, tmp_path, limit=0.5))
        engine.submit(job(succeeds, tmp_path))
        outcomes = carry_out(engine, 2)
    assert {id: each.state for id, each in outcomes.items()} == {"hangs": "overdue", "succeeds": "finished"}


def test_a_job_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)

    def cancel(event: Event) -> None:
        if event == Progress("hangs_and_will_not_end", "hangs now"):
            engine.cancel("hangs_and_will_not_end")

    with Processes(1, PRELOAD) as engine:
        engine.submit(job(hangs_and_will_not_end, tmp_path))
        (outcome,) = carry_out(engine, 1, cancel).values()
    assert (outcome.state, outcome.exit_code) == ("cancelled", -signal.SIGKILL)


def test_jobs_are_cancelled_while_they_wait_and_while_they_run(tmp_path: Path) -> None:
    def cancel(event: Event) -> None:
        if event == Progress("hangs", "hangs now"):
            engine.cancel("hangs")

    with Processes(1, PRELOAD) as engine:
        for work in (hangs, raises, succeeds):
            engine.submit(job(work, tmp_path))
        engine.cancel("raises")
        engine.cancel("a job that is not there")
        outcomes = carry_out(engine, 3, cancel)
    assert {id: each.state for id, each in outcomes.items()} == {
        "hangs": "cancelled",
        "raises": "cancelled",
        "succeeds": "finished",
    }
    assert (outcomes["hangs"].exit_code, outcomes["raises"].exit_code) == (Exit.RETRY, None)
    assert not (tmp_path / "raises.log").exists()


def test_closing_an_engine_leaves_no_process_behind(tmp_path: Path) -> None:
    with Processes(1, PRELOAD) as engine:
        engine.submit(job(hangs, tmp_path))
        while Progress("hangs", "hangs now") not in engine.poll(10.0):
            pass
        (child,) = engine._running.values()
    assert not child.process.is_alive()


def test_jobs_begin_in_the_order_they_came_so_many_at_a_time(tmp_path: Path) -> None:
    begun: list[str] = []
    alive: list[int] = []

    def look(event: Event) -> None:
        alive.append(len(engine._running))
        if isinstance(event, Progress) and not event.text:
            begun.append(event.job)

    with Processes(2, PRELOAD) as engine:
        for number in range(5):
            engine.submit(Job(str(number), succeeds, None, tmp_path / f"{number}.log"))
        carry_out(engine, 5, look)
    assert begun == ["0", "1", "2", "3", "4"]
    assert max(alive) == 2


# --- the sweep -------------------------------------------------------------------------------------------

RUNNER = """
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path

import torch

from denoised.metrics.edits import layout_iou

SCALES = {"smoke": {}, "mini": {}}
REHEARSAL = {}


@dataclass
class Config:
    steps: int = 1


def reproduce(lab, config):
    BEHAVIOUR
    weights = lab.inputs.root / "zoo" / "weights.bin"
    if weights not in lab.inputs.files:
        lab.inputs.files.append(weights)
    for name in ("a", "b"):
        with lab.arm(name):
            pass
        lab.arms[-1].record("right", torch.tensor([1.0, float(name == "a")]), by=layout_iou)
    lab.claim("right", "a", ">", "b")
"""

BEHAVIOURS = {
    "good": "pass",
    "raises": "raise ZeroDivisionError('of the runner')",
    "exits": "sys.exit(3)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "hangs": "signal.pause()",
    # Stops the sweep that it is part of, once.
    "stops": """
    asked = lab.inputs.root / "stop"
    if asked.exists():
        pid, number = map(int, asked.read_text().split())
        asked.unlink()
        os.kill(pid, number)
        signal.pause()""",
    "last": "pass",
}

ENTRY = """
  - id: {id}
    name: {id}
    kind: method
    title: The paper {id}
    authors: [A. Author]
    published: "2020-06-19"
    venue: NeurIPS 2020
    category: foundations
    tags: [training]
    links: {{arxiv: "2006.{number:05}"}}
    sentence: {{ko: 한 문장., en: One sentence.}}
    claim: {{ko: 이것이 저것보다 낫다., en: This is better than that.}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose runners measure nothing and misbehave, as the current folder."""
    monkeypatch.setenv("DENOISED_LANG", "en")
    monkeypatch.delenv("DENOISED_ROOT", raising=False)
    root = tmp_path / "project"
    folder = root / "runners" / "foundations"
    folder.mkdir(parents=True)
    (root / "zoo").mkdir()
    (root / "zoo" / "weights.bin").write_bytes(b"weights")
    for package in (root / "runners", folder):
        (package / "__init__.py").touch()
    for id, behaviour in BEHAVIOURS.items():
        (folder / f"{id}.py").write_text(RUNNER.replace("BEHAVIOUR", behaviour))
    (folder / "broken.py").write_text("import a_library_that_nobody_has\n")
    ids = sorted([*BEHAVIOURS, "broken", "unwritten"])
    entries = "".join(ENTRY.format(id=id, number=number) for number, id in enumerate(ids))
    head = "categories:\n  - {id: foundations, name: {ko: 기초, en: Foundations}}\npapers:"
    (root / "catalog.yaml").write_text(head + entries)
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root))

    def ours() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "runners"]

    before = {name: sys.modules.pop(name) for name in ours()}
    yield root
    for name in ours():
        del sys.modules[name]
    sys.modules.update(before)


def sweep(*words: str) -> int:
    return main(["sweep", *words, "scale=smoke", "seeds=[0]"])


def rows(out: str) -> dict[str, list[str]]:
    """The table's rows by the paper's id."""
    lines = [line.split() for line in out.splitlines() if line.strip()]
    return {line[0]: line[1:] for line in lines[1:]}


def test_bad_runs_are_reported_and_the_others_finish(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = ["raises", "exits", "killed", "broken", "good", "last"]
    assert sweep(*ids, "--jobs", "2") == Exit.FAILED
    said = capsys.readouterr()
    assert "Papers to run: 6; finished already and skipped: 0. How long they take is not known." in said.err
    table = rows(said.out)
    assert {id: row[0] for id, row in table.items()} == {
        **dict.fromkeys(["raises", "exits", "killed", "broken"], "failed"),
        **dict.fromkeys(["good", "last"], "finished"),
    }
    assert table["good"][1:3] == ["inconclusive", "1"]
    assert table["good"][4] == "outputs/good/smoke.json"
    assert table["raises"][2] == "outputs/raises/sweep.log"
    assert "raises: ended without a record (exit code 1): ZeroDivisionError: of the runner" in said.err
    assert "exits: ended without a record (exit code 3)" in said.err
    assert "killed: killed by SIGKILL, as the system does when memory runs out" in said.err
    assert "broken: ended without a record (exit code 1): ModuleNotFoundError: No module named" in said.err
    assert "Traceback" in (project / "outputs" / "raises" / "sweep.log").read_text()
    for id in ("good", "last"):
        read_record(project / "outputs" / id / "smoke.json", paper=id, pictures=True)
        assert not (project / "outputs" / id / "sweep.log").exists()


def test_a_run_that_hangs_is_stopped_after_the_timeout(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("hangs", "--timeout", "0.5") == Exit.FAILED
    said = capsys.readouterr()
    assert rows(said.out)["hangs"][0] == "overdue"
    assert "hangs: stopped after 0.5 s" in said.err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.RETRY)]
)
def test_a_stopped_sweep_keeps_what_is_finished_and_goes_on_with_the_rest(
    number: signal.Signals, code: Exit, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "stop").write_text(f"{os.getpid()} {number}")
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert sweep("good", "stops", "last") == code
    said = capsys.readouterr()
    assert {id: row[0] for id, row in rows(said.out).items()} == {
        "good": "finished",
        "stops": "stopped",
        "last": "stopped",
    }
    assert "stopped. What is finished is kept; the same command goes on with the rest." in said.err
    assert handlers == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    finished = (project / "outputs" / "good" / "smoke.json").read_bytes()

    assert sweep("good", "stops", "last") == Exit.OK
    said = capsys.readouterr()
    assert "Papers to run: 2; finished already and skipped: 1." in said.err
    assert " ".join(rows(said.out)["good"]).startswith("already there inconclusive 1")
    assert {id: row[0] for id, row in rows(said.out).items() if id != "good"} == {
        "stops": "finished",
        "last": "finished",
    }
    assert (project / "outputs" / "good" / "smoke.json").read_bytes() == finished


def test_changed_papers_are_those_whose_record_is_of_something_else(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(*words: str) -> list[str]:
        assert main(["sweep", "--changed", *words]) == Exit.OK
        return [line.strip() for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]

    assert main(["sweep", "good", "last", "--publish"]) == Exit.OK
    capsys.readouterr()
    assert sorted(path.parent.parent.name for path in project.glob("papers/*/results/mini.json")) == [
        "good",
        "last",
    ]
    assert not (project / "outputs" / "good").exists()
    record = read_record(project / "papers" / "good" / "results" / "mini.json", paper="good")
    assert [each.path for each in record.inputs] == ["zoo/weights.bin"]

    assert changed() == []
    assert changed("steps=2") == ["good  about 0 s  (settings)", "last  about 0 s  (settings)"]
    runner = project / "runners" / "foundations" / "last.py"
    runner.write_text(runner.read_text() + "# changed\n")
    assert changed() == ["last  about 0 s  (runner)"]
    catalog = project / "catalog.yaml"
    catalog.write_text(catalog.read_text().replace("The paper good", "The good paper"))
    assert changed("--publish") == ["good  about 0 s  (catalog entry)", "last  about 0 s  (runner)"]
    assert changed() == []
    (project / "zoo" / "weights.bin").write_bytes(b"other weights")
    assert changed() == ["good  about 0 s  (zoo/weights.bin)", "last  about 0 s  (zoo/weights.bin)"]
    assert main(["sweep", "good"]) == Exit.OK  # made above, and in outputs
    assert "finished already and skipped: 1." in capsys.readouterr().err
    assert main(["sweep", "good", "--again"]) == Exit.OK
    assert "Papers to run: 1; finished already and skipped: 0." in capsys.readouterr().err


def test_a_published_record_that_cannot_be_read_has_changed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "papers" / "good" / "results" / "mini.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert main(["sweep", "--changed"]) == Exit.OK
    assert "mini.json: it is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give ids of papers, or --all, or --changed"),
        (["good", "--all"], "give ids of papers, or --all, or --changed"),
        (["--all", "--changed"], "give ids of papers, or --all, or --changed"),
        (["godo"], "no paper has the id `godo`"),
        (["unwritten"], "unwritten has no runner yet"),
        (["good", "step=2"], "good: there is no key 'step'\nhelp: did you mean 'steps'?"),
        (["broken", "good", "scale=large"], "good: there is no scale 'large'"),
        (["good", "scale=smoke", "--publish"], "a smoke run is never published"),
        (["good", "--jobs", "0"], "--jobs"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    words: list[str], says: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *words]) == Exit.USAGE
    said = capsys.readouterr()
    assert says in said.err and "begins" not in said.err
    assert not list(project.rglob("*.json"))


def test_more_threads_than_cores_are_pointed_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("good", "last", "--jobs", "2", "threads=1000") == Exit.OK
    assert "so that none waits for another, threads=1" in capsys.readouterr().err


def test_it_is_told_in_korean_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "good", "raises", "scale=smoke", "seeds=[0]", "--lang", "ko"]) == Exit.FAILED
    said = capsys.readouterr()
    assert "실행할 논문 2편, 이미 끝나 건너뛰는 논문 0편." in said.err
    assert {id: row[0] for id, row in rows(said.out).items()} == {"good": "끝남", "raises": "실패"}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("papers/*/results/mini.json")), ids=lambda path: path.parts[-3]
)
def test_the_published_records_carry_the_key_of_what_they_say(path: Path) -> None:
    record = read_record(path)
    inputs = [each.sha256 for each in record.inputs]
    assert record.key == run_key(record.paper.entry_sha256, record.code.runner_sha256, record.config, inputs)

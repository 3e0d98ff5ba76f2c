"""`denoised sweep`: the runs of many papers, each in a process of its own, and one table of what came out.

What is finished already, in a record with the key that the run would have, is not run again. A run that fails,
hangs or is killed harms no other. Stopped, a sweep ends its runs and keeps what is finished, so that the same
command goes on with the rest.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from denoised.catalog import Catalog, Paper, load
from denoised.command_line import note
from denoised.engine import Event, Job, Outcome, Work
from denoised.engine.processes import Processes
from denoised.errors import DenoisedError, Exit
from denoised.files import sha256_of
from denoised.lab.command import COLOURS, check_publishable, check_writable, verdict_words
from denoised.lab.record import RecordError, entry_sha256, obstacles, read_record, write_record
from denoised.lab.schema import Input, Record, Scale
from denoised.language import Language, reader_language, say, speaking
from denoised.project import CATALOG
from denoised.registry import load_runner, runner_path

# What a run needs before its first step, imported once for all of them.
PRELOAD = (
    "denoised.lab.reproduce",
    "denoised.metrics.clip",
    "denoised.metrics.judge",
    "denoised.worlds.emoji",
    "denoised.zoo.text_to_image",
)
WIDE = 160  # columns of the table where no terminal cuts it
POLL = 0.5  # seconds after which a stopped sweep is noticed


@dataclass(frozen=True)
class Options:
    """What the runs of one sweep have in common."""

    root: Path
    overrides: tuple[str, ...]
    rehearse: bool
    out: Path
    publish: bool
    again: bool

    def folder(self, paper: Paper) -> Path:
        """Where the record of a paper goes."""
        return self.published(paper) if self.publish else self.out / paper.id

    def published(self, paper: Paper) -> Path:
        return self.root / "papers" / paper.id / "results"


@dataclass(frozen=True)
class Plan:
    """One paper of a sweep, before anything runs."""

    paper: Paper
    scale: Scale
    threads: int
    finished: tuple[Path, Record] | None  # with the key that the run would have
    changed: tuple[str, ...]  # in what the published record is of something else
    seconds: float | None  # that the run takes, by the published one


@dataclass(frozen=True)
class Task:
    """What a process is told: one run, and the language to speak."""

    root: Path
    paper: str
    overrides: tuple[str, ...]
    rehearse: bool
    folder: Path
    language: Language


def sweep_command(
    root: Path,
    words: Sequence[str],
    *,
    everything: bool,
    changed: bool,
    jobs: int,
    limit: float | None,
    rehearse: bool,
    again: bool,
    out: Path | None,
    publish: bool,
) -> int:
    """Run the papers that `words` or the options name; the exit code of the sweep."""
    ids = [word for word in words if "=" not in word]
    overrides = tuple(word for word in words if "=" in word)
    catalog = load(root / CATALOG)
    papers = _chosen(root, catalog, ids, everything=everything, changed=changed)
    options = Options(root, overrides, rehearse, (out or root / "outputs").resolve(), publish, again)
    with Processes(jobs, PRELOAD) as engine:  # imports while this plans
        plans = _plans(catalog, papers, options)
        if changed:
            plans = [plan for plan in plans if plan.changed]
        todo = [plan for plan in plans if again or plan.finished is None]
        for plan in todo:
            if publish:
                check_publishable(plan.scale)
            check_writable(options.folder(plan.paper))
        _say_what_runs(plans, todo, jobs, with_reasons=changed)
        outcomes, stopped = _carry_out(engine, [_job(plan, options, limit) for plan in todo])
    _print_table(plans, outcomes, options)
    for id, outcome in outcomes.items():
        if outcome.state in ("failed", "overdue"):
            note(f"{id}: {_reason(outcome, limit, _log(options, id))}")
    if stopped is not None:
        note(
            say(
                ko="멈추었다. 끝난 것은 남아 있고, 같은 명령이 나머지를 이어 간다.",
                en="stopped. What is finished is kept; the same command goes on with the rest.",
            )
        )
        return Exit.INTERRUPTED if stopped == signal.SIGINT else Exit.RETRY
    return Exit.OK if all(each.state == "finished" for each in outcomes.values()) else Exit.FAILED


# --- what to run -----------------------------------------------------------------------------------------


def _chosen(
    root: Path, catalog: Catalog, ids: Sequence[str], *, everything: bool, changed: bool
) -> list[Paper]:
    if bool(ids) + everything + changed != 1:
        raise DenoisedError(
            say(
                ko="논문의 id, --all, --changed 가운데 하나를 준다",
                en="give ids of papers, or --all, or --changed",
            ),
            help="denoised sweep ddim ddpm scale=smoke",
        )
    if not ids:
        return [paper for paper in catalog.papers if runner_path(root, paper).is_file()]
    papers = [catalog.paper(id) for id in dict.fromkeys(ids)]
    for paper in papers:
        if not runner_path(root, paper).is_file():
            load_runner(root, catalog, paper)  # which says so
    return papers


def _plans(catalog: Catalog, papers: Sequence[Paper], options: Options) -> list[Plan]:
    hashes: dict[Path, str] = {}
    return [_plan(catalog, paper, options, hashes) for paper in papers]


def _plan(catalog: Catalog, paper: Paper, options: Options, hashes: dict[Path, str]) -> Plan:
    from denoised.lab.reproduce import plain_config

    composed = _compose(catalog, paper, options)
    if composed is None:
        return Plan(paper, "mini", 1, None, (), None)
    settings, config = composed
    scale = cast(Scale, "rehearsal" if options.rehearse else settings.scale)
    plain = plain_config(settings, config)
    folders = [
        Path(part.folder)
        for part in (settings.model, settings.data, settings.clip)
        if part is not None and part.folder is not None
    ]
    now = _Now(
        entry_sha256(paper),
        sha256_of(runner_path(options.root, paper)),
        plain,
        [options.root, *folders, *(folder.parent for folder in folders)],
        hashes,
    )
    published = options.published(paper) / f"{scale}.json"
    record: Record | None = None
    changed: tuple[str, ...] = ()
    seconds = None
    if published.exists():
        try:
            record = read_record(published, paper=paper.id, pictures=True)
        except RecordError as error:
            changed = (error.message,)
    if record is not None:
        changed = tuple(now.differences(record))
        seconds = record.time.seconds * len(settings.seed_list) / len(record.seeds.finished)
    own = options.folder(paper) / f"{scale}.json"
    finished = (published, record) if record is not None and not changed and not obstacles(record) else None
    if finished is None and own != published and own.exists():
        with suppress(RecordError):  # then it is made anew
            local = read_record(own, paper=paper.id, pictures=True)
            if not now.differences(local) and local.seeds.asked == local.seeds.finished:
                finished = (own, local)
    return Plan(paper, scale, settings.threads, finished, changed, seconds)


def _compose(catalog: Catalog, paper: Paper, options: Options) -> tuple[Any, Any] | None:
    """The settings and the Config of a run; None where the runner itself is at fault, which its run will tell.

    Raises DenoisedError (USAGE) where what was typed does not fit the runner.
    """
    from denoised.lab.settings import SCALES, compose_run

    runner = None
    try:
        runner = load_runner(options.root, catalog, paper)
        return compose_run(runner, options.overrides, rehearse=options.rehearse)
    except DenoisedError as error:
        alone = [each for each in options.overrides if each in {f"scale={scale}" for scale in SCALES}]
        try:
            compose_run(cast(Any, runner), alone)
        except DenoisedError:
            return None
        raise DenoisedError(f"{paper.id}: {error.message}", help=error.help) from error
    except (Exception, SystemExit):  # whatever a runner does while it is imported
        return None


@dataclass(frozen=True)
class _Now:
    """What a run of today would read, to compare a record with."""

    entry: str
    runner: str
    config: dict[str, Any]
    places: Sequence[Path]  # where the files that a record names may lie
    hashes: dict[Path, str]  # of files, computed once for all papers

    def differences(self, record: Record) -> list[str]:
        """In what a run of today would differ from the record: nothing where both have one key."""
        from denoised.lab.reproduce import run_key

        inputs = [self._sha256(each) for each in record.inputs]
        if None not in inputs and record.key == run_key(
            self.entry, self.runner, self.config, cast(Any, inputs)
        ):
            return []
        found = [
            text
            for same, text in (
                (record.code.runner_sha256 == self.runner, say(ko="러너", en="runner")),
                (record.paper.entry_sha256 == self.entry, say(ko="카탈로그 항목", en="catalog entry")),
                (record.config == self.config, say(ko="설정", en="settings")),
            )
            if not same
        ]
        found += [each.path for each, now in zip(record.inputs, inputs, strict=True) if now != each.sha256]
        return found or [say(ko="키", en="key")]

    def _sha256(self, file: Input) -> str | None:
        """The hash of the file that a record names, as it is now; None where it is not found."""
        for place in self.places:
            path = place / file.path
            if path in self.hashes:
                return self.hashes[path]
            if path.is_file():
                return self.hashes.setdefault(path, sha256_of(path))
        return None


def _say_what_runs(plans: Sequence[Plan], todo: Sequence[Plan], jobs: int, *, with_reasons: bool) -> None:
    """How many runs there are, and about how long they take by the published ones."""
    known = [plan.seconds for plan in todo if plan.seconds is not None]
    unknown = len(todo) - len(known)
    line = say(
        ko=f"실행할 논문 {len(todo)}편, 이미 끝나 건너뛰는 논문 {len(plans) - len(todo)}편.",
        en=f"Papers to run: {len(todo)}; finished already and skipped: {len(plans) - len(todo)}.",
    )
    if known:
        line += say(
            ko=f" 공개된 기록으로 보아 {_duration(sum(known) / jobs)}",
            en=f" By the published records this takes {_duration(sum(known) / jobs)}",
        )
        line += say(
            ko=f", 그 밖에 얼마나 걸릴지 모르는 논문 {unknown}편." if unknown else ".",
            en=f", without the {unknown} that have none." if unknown else ".",
        )
    elif todo:
        line += say(ko=" 얼마나 걸릴지는 모른다.", en=" How long they take is not known.")
    note(line)
    for plan in todo:
        about = "?" if plan.seconds is None else _duration(plan.seconds)
        reasons = f"  ({', '.join(plan.changed)})" if with_reasons else ""
        note(f"  {plan.paper.id}  {about}{reasons}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max((plan.threads for plan in todo), default=1)
    if min(jobs, len(todo)) > 1 and jobs * threads > cores:
        note(
            say(
                ko=f"코어 {cores}개에 실행 {jobs}개가 스레드 {threads}개씩 쓴다. 서로 기다리지 않게 하려면 threads=1",
                en=f"{jobs} runs of {threads} threads on {cores} cores: so that none waits for another, threads=1",
            )
        )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return say(ko=f"약 {seconds:.0f}초", en=f"about {seconds:.0f} s")
    if seconds < 100 * 60:
        return say(ko=f"약 {seconds / 60:.0f}분", en=f"about {seconds / 60:.0f} min")
    return say(ko=f"약 {seconds / 3600:.1f}시간", en=f"about {seconds / 3600:.1f} h")


# --- running ---------------------------------------------------------------------------------------------


def reproduce_paper(task: Task, report: Callable[[str], None]) -> Path:
    """The work of one process: reproduce a paper and write its record, whose path is returned."""
    from denoised.lab.reproduce import run
    from denoised.lab.settings import compose_run

    with speaking(task.language):
        catalog = load(task.root / CATALOG)
        paper = catalog.paper(task.paper)
        runner = load_runner(task.root, catalog, paper)
        settings, config = compose_run(runner, task.overrides, rehearse=task.rehearse)
        seeds = settings.seed_list

        def begin(seed: int, what: str) -> None:
            report(f"{seeds.index(seed) + 1}/{len(seeds)} · {what}")

        result = run(
            task.root,
            paper,
            runner,
            settings,
            config,
            rehearse=task.rehearse,
            report=begin,
            advance=lambda: None,
        )
        scale = cast(Scale, "rehearsal" if task.rehearse else settings.scale)
        return write_record(task.folder, scale, result.content, result.pictures)


def _job(plan: Plan, options: Options, limit: float | None, work: Work = reproduce_paper) -> Job:
    task = Task(
        options.root,
        plan.paper.id,
        options.overrides,
        options.rehearse,
        options.folder(plan.paper),
        reader_language(),
    )
    return Job(plan.paper.id, work, task, _log(options, plan.paper.id), limit)


def _log(options: Options, id: str) -> Path:
    """Where the process of a paper prints; what it leaves of a good run is removed."""
    return options.out / id / "sweep.log"


def _carry_out(engine: Processes, jobs: Sequence[Job]) -> tuple[dict[str, Outcome], int | None]:
    """Every job to its end: what became of each, and the signal that stopped them, if one did."""
    outcomes: dict[str, Outcome] = {}
    with _Display(len(jobs)) as display, _signals() as received:
        for job in jobs:
            engine.submit(job)
        told = False
        while len(outcomes) < len(jobs):
            for event in engine.poll(POLL):
                display.show(event)
                if isinstance(event, Outcome):
                    outcomes[event.job] = event
            if received and not told:
                told = True
                for job in jobs:
                    engine.cancel(job.id)
    for job in jobs:
        if outcomes[job.id].state == "finished":
            job.log.unlink(missing_ok=True)
            with suppress(OSError):  # of a published run, nothing else is there
                job.log.parent.rmdir()
    cancelled = any(each.state == "cancelled" for each in outcomes.values())
    return outcomes, received[0] if cancelled else None


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to stop that have come. The first asks; a second one ends the sweep at once."""
    received: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {each: signal.signal(each, take) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@dataclass
class _Display:
    """A bar of finished runs and a line for each that is running; in a log file, one line for what begins or ends."""

    total: int
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def __post_init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=self.console,
        )
        self._over = 0
        runs = say(ko="실행", en="runs")
        self._all = self._progress.add_task(runs, total=self.total, count=f"0/{self.total}")
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Display:
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._progress.stop()

    def show(self, event: Event) -> None:
        """Tell what happened."""
        if isinstance(event, Outcome):
            self._over += 1
            self._progress.update(self._all, completed=self._over, count=f"{self._over}/{self.total}")
            if event.job in self._tasks:
                self._progress.remove_task(self._tasks.pop(event.job))
            if not self.console.is_terminal:
                note(f"{event.job}: {_state_words()[event.state]} ({event.seconds:.1f} s)")
            return
        text = f"{event.job}  {event.text}"
        if event.job not in self._tasks:
            self._tasks[event.job] = self._progress.add_task(text, total=None, count="")
            if not self.console.is_terminal:
                note(say(ko=f"{event.job}: 시작", en=f"{event.job}: begins"))
        self._progress.update(self._tasks[event.job], description=text)


# --- what came out ---------------------------------------------------------------------------------------


def _state_words() -> dict[str, str]:
    return {
        "finished": say(ko="끝남", en="finished"),
        "failed": say(ko="실패", en="failed"),
        "cancelled": say(ko="멈춤", en="stopped"),
        "overdue": say(ko="시간 초과", en="overdue"),
        "skipped": say(ko="이미 있음", en="already there"),
    }


def _print_table(plans: Sequence[Plan], outcomes: dict[str, Outcome], options: Options) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in (
        say(ko="논문", en="paper"),
        say(ko="상태", en="state"),
        say(ko="판정", en="verdicts"),
        say(ko="초", en="seconds"),
        say(ko="어디에", en="where"),
    ):  # fold: rich drops a syllable where wide text just fits a cell
        table.add_column(header, overflow="fold")
    for plan in plans:
        outcome = outcomes.get(plan.paper.id)
        where: Path | None
        if outcome is None:
            assert plan.finished is not None  # what is not finished was run
            where, record = plan.finished
            state, verdicts, seconds = "skipped", _verdicts(record), f"({record.time.seconds:.1f})"
        elif outcome.state == "finished":
            record = read_record(outcome.result, paper=plan.paper.id, pictures=True)
            state, verdicts, where = "finished", _verdicts(record), outcome.result
            seconds = f"{record.time.seconds:.1f}"
        else:
            log = _log(options, plan.paper.id)
            state, verdicts, seconds = outcome.state, Text(), f"{outcome.seconds:.1f}"
            where = log if log.exists() else None
        style = "red" if state in ("failed", "overdue") else ""
        shown = "" if where is None else _short(where, options.root)
        table.add_row(plan.paper.id, Text(_state_words()[state], style), verdicts, seconds, shown)
    if plans:
        console = Console() if sys.stdout.isatty() else Console(width=WIDE)
        console.print()
        console.print(table)


def _verdicts(record: Record) -> Text:
    """`holds 2, inconclusive 1`."""
    text = Text()
    for verdict, word in verdict_words().items():
        count = sum(claim.verdict == verdict for claim in record.claims)
        if count:
            text.append(", " if text else "").append(f"{word} {count}", COLOURS[verdict])
    return text


def _short(path: Path, root: Path) -> str:
    """A path as one types it in the project's folder."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _reason(outcome: Outcome, limit: float | None, log: Path) -> str:
    """Why a run did not finish, in a line or two."""
    if outcome.state == "overdue":
        return say(ko=f"{limit:g}초를 넘겨 멈췄다", en=f"stopped after {limit:g} s")
    if outcome.failure is not None:
        return outcome.failure.message + (f"\n  {outcome.failure.help}" if outcome.failure.help else "")
    code = outcome.exit_code
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        said = say(ko=f"{name}로 죽었다", en=f"killed by {name}")
        if -code == signal.SIGKILL:
            said += say(
                ko=". 메모리가 모자라면 시스템이 그렇게 한다", en=", as the system does when memory runs out"
            )
        return said
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    last = f": {lines[-1]}" if lines else ""
    return say(
        ko=f"기록 없이 끝났다 (종료 코드 {code}){last}", en=f"ended without a record (exit code {code}){last}"
    )

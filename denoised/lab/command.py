"""`denoised run`: from the words on the command line to a record on disk, with progress and a verdict."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from denoised.catalog import load
from denoised.command_line import note
from denoised.errors import DenoisedError
from denoised.files import cannot_write
from denoised.lab.record import read_record, write_record
from denoised.lab.schema import Arm, Metric, Record, Scale
from denoised.language import say
from denoised.project import CATALOG
from denoised.registry import load_runner
from denoised.zoo.fetch_command import fetched_overrides

COLOURS = {"holds": "green", "fails": "red", "inconclusive": "yellow"}


def run_command(
    root: Path,
    paper_id: str,
    overrides: Sequence[str],
    *,
    rehearse: bool,
    gpu: bool,
    out: Path | None,
    publish: bool,
) -> None:
    """Reproduce one paper, write its record, print the table and the verdict."""
    catalog = load(root / CATALOG)
    paper = catalog.paper(paper_id)
    runner = load_runner(root, catalog, paper)
    from denoised.lab.estimate import describe, estimate, visible_gpu
    from denoised.lab.reproduce import run  # torch and diffusers load here: seconds
    from denoised.lab.settings import compose_run

    if gpu:
        overrides = [*overrides, "device=cuda"]
    if "scale=paper" in overrides and not rehearse:
        overrides = [*overrides, *fetched_overrides(root, runner.SCALES.get("paper", {}), overrides)]
    settings, config = compose_run(runner, overrides, rehearse=rehearse)
    scale = cast(Scale, "rehearsal" if rehearse else settings.scale)
    if publish:
        check_publishable(scale)
    published = root / "papers" / paper.id / "results"
    folder = published if publish else (out or root / "outputs") / paper.id
    check_writable(folder)

    console = Console(stderr=True)
    seeds = settings.seed_list
    console.print(
        Text(f"{paper.name}: {paper.title}", style="bold"),
        Text(
            say(
                ko=f"규모 {scale}, 시드 {len(seeds)}개, 비교군마다 시드당 {settings.images:,}장, "
                f"{settings.device}, 스레드 {settings.threads}개",
                en=f"scale {scale}, {len(seeds)} seeds, {settings.images:,} pictures per arm and seed, "
                f"{settings.device}, {settings.threads} threads",
            )
        ),
        sep="\n",
    )
    _say_how_long(console, published / f"{scale}.json")
    if scale == "paper" and (found := estimate(root, runner, settings, config)):
        console.print(Text(describe(found, visible_gpu(settings.device)), style="dim"))
    with _Display(console, seeds) as display:
        result = run(
            root,
            paper,
            runner,
            settings,
            config,
            rehearse=rehearse,
            report=display.begin,
            advance=display.advance,
        )
    path = write_record(folder, scale, result.content, result.pictures)
    if os.environ.get("DENOISED_DRIVEN"):  # in a container: whoever drives it reads the record and tells it
        return
    tell_result(path, paper.id, publish=publish)


def tell_result(path: Path, paper_id: str, *, publish: bool) -> None:
    """Print a record's table and verdicts, where it lies, and what to do next."""
    record = read_record(path, paper=paper_id, pictures=True)
    _print_result(Console(), record)
    note("")
    note(say(ko=f"기록: {path}", en=f"record: {path}"))
    if record.scale == "rehearsal":
        note(
            say(
                ko="연습이다. 가중치와 데이터가 무작위라 숫자에는 뜻이 없고, 경로가 끝까지 돈다는 것만 보인다.",
                en="A rehearsal: weights and data are random, so the numbers mean nothing; the path works.",
            )
        )
    elif not publish:
        note(
            say(
                ko="다음: denoised site build && denoised site serve",
                en="next: denoised site build && denoised site serve",
            )
        )


def check_publishable(scale: Scale) -> None:
    """Refuse to publish what is never published, before the work."""
    if scale not in ("mini", "paper"):
        raise DenoisedError(
            say(
                ko=f"{scale} 실행은 공개하지 않는다. --publish는 mini와 paper에만 쓴다",
                en=f"a {scale} run is never published: --publish is for mini and paper",
            )
        )


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written before the minutes of work, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, 0, error) from error


def _say_how_long(console: Console, published: Path) -> None:
    """What the published run took, as the best guess of what this one will take."""
    if not published.exists():
        return
    try:
        record = read_record(published)
    except DenoisedError as error:
        note(error.message)  # the old record is broken, which is no reason not to make a new one
        return
    minutes, machine = record.time.seconds / 60, record.environment
    console.print(
        say(
            ko=f"공개된 실행은 {minutes:.1f}분 걸렸다 ({machine.cpu}, 스레드 {machine.threads}개)",
            en=f"the published run took {minutes:.1f} minutes ({machine.cpu}, {machine.threads} threads)",
        ),
        style="dim",
    )


class _Display:
    """A bar of network calls. The first seed shows how many there are; later ones know."""

    def __init__(self, console: Console, seeds: Sequence[int]) -> None:
        self._seeds = list(seeds)
        self._calls_of_first = 0
        self._seed = seeds[0]
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task(say(ko="준비", en="loading"), total=None)
        self._plain = not console.is_terminal
        self._started = time.monotonic()

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, seed: int, what: str) -> None:
        """The run begins an arm of a seed."""
        if seed != self._seed and self._seed == self._seeds[0]:
            self._progress.update(self._task, total=self._calls_of_first * len(self._seeds))
        self._seed = seed
        place = f"{self._seeds.index(seed) + 1}/{len(self._seeds)}"
        text = say(ko=f"시드 {place} · {what}", en=f"seed {place} · {what}")
        self._progress.update(self._task, description=text)
        if self._plain:  # no bar in a log file: one line an arm
            note(f"[{time.monotonic() - self._started:6.1f} s] {text}")

    def advance(self) -> None:
        """A network was called."""
        if self._seed == self._seeds[0]:
            self._calls_of_first += 1
        self._progress.advance(self._task)


def _print_result(console: Console, record: Record) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    metrics = {metric.name: metric for arm in record.arms for metric in arm.metrics}
    names = list(metrics)
    # fold: rich drops a syllable where wide text just fits a cell
    table.add_column(say(ko="비교군", en="arm"), overflow="fold")
    table.add_column(say(ko="설정", en="settings"), overflow="fold")
    # An extractor that all metrics look through is said once, below, so that four of them fit a terminal.
    extractors = {name.partition("[")[2] for name in names}
    shared = extractors.pop().rstrip("]") if len(extractors) == 1 else ""
    for name in names:
        # Text, not markup: it has brackets.
        header = name.partition("[")[0] if shared else name.replace("[", "\n[")
        table.add_column(Text(header), justify="right", overflow="fold")
    table.add_column("NFE", justify="right")
    table.add_column(say(ko="초/시드", en="s/seed"), justify="right", overflow="fold")
    for arm in record.arms:
        values = [_value(arm.metric(name)) for name in names]
        table.add_row(arm.name, _settings(arm), *values, _nfe(arm), f"{arm.cost.seconds:.1f}")
    seeds = len(record.seeds.finished)
    n = ", ".join(f"{each:,}" for each in sorted({metric.n for metric in metrics.values()}))
    if seeds > 1:
        said = say(
            ko=f"시드 {seeds}개의 평균 ± 95 % 신뢰구간의 절반, 시드당 n = {n}.",
            en=f"mean over {seeds} seeds ± half of the 95 % interval, n = {n} a seed.",
        )
    else:
        said = say(
            ko=f"시드 하나, ± 표본 n = {n}에 대한 95 % 부트스트랩 구간의 절반.",
            en=f"one seed, ± half of the 95 % bootstrap interval over its samples, n = {n}.",
        )
    if shared:
        said += say(ko=f" {shared}로 본 값.", en=f" Seen through {shared}.")
    if any(name.startswith("fid[") for name in names):
        said += say(ko=" 논문의 FID와 비교할 수 없다.", en=" Not comparable to a paper's FID.")
    console.print()
    console.print(table)
    console.print(said, style="dim")
    console.print()
    words = verdict_words()
    for claim in record.claims:
        at = ", ".join(f"{k} = {v}" for k, v in claim.at.items())
        bounds = f" [{claim.interval[0]:.3g}, {claim.interval[1]:.3g}]" if claim.interval else ""
        line = Text(f"{claim.metric}: {claim.arm} {claim.relation} {claim.than}" + (f" ({at})" if at else ""))
        line.append(f"   Δ {claim.effect:.3g}{bounds}   ")
        if claim.margin:
            line.append(say(ko=f"여유 {claim.margin:.3g}   ", en=f"margin {claim.margin:.3g}   "))
        line.append(words[claim.verdict], style=f"bold {COLOURS[claim.verdict]}")
        console.print(line)


def verdict_words() -> dict[str, str]:
    """The verdicts as the reader calls them."""
    return {
        "holds": say(ko="성립", en="holds"),
        "fails": say(ko="불성립", en="fails"),
        "inconclusive": say(ko="판정 보류", en="inconclusive"),
    }


def _value(metric: Metric | None) -> str:
    if metric is None:
        return ""
    if metric.interval is None:
        return f"{metric.value:.4g}"
    half = (metric.interval[1] - metric.interval[0]) / 2
    return f"{metric.value:.4g} ±{half:.0f}" if half >= 100 else f"{metric.value:.4g} ±{half:.2g}"


def _settings(arm: Arm) -> str:
    return " ".join(f"{k}={v}" for k, v in arm.settings.items())


def _nfe(arm: Arm) -> str:
    """Network evaluations for one picture."""
    return f"{arm.cost.network_samples / arm.metrics[0].n:g}"

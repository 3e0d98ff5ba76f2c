"""`denoised train`: a recipe from its first step to a checkpoint folder with a model card."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from denoised.command_line import known, note
from denoised.files import write_whole
from denoised.lab.settings import compose_config
from denoised.language import say
from denoised.pictures import grid, png
from denoised.zoo.recipes import NAMES, load_recipe
from denoised.zoo.train import Progress as Report
from denoised.zoo.train import Recipe, Training, train

THREADS = 2  # or fewer, where the process may not use so many: more would wait for each other
LOOKS = 16  # times during a training that samples are drawn and the quality is measured


def train_command(
    root: Path, name: str, overrides: Sequence[str], *, out: Path | None, publish: bool
) -> None:
    """Train to the end, measure the result, write the checkpoint folder; say where everything is."""
    known("CHECKPOINT", name, list(NAMES))
    recipe = load_recipe(name)
    config = compose_config(recipe.Config, overrides)
    folder = (out or root / "outputs" / "train") / name
    torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    note(
        say(
            ko=f"{config.steps:,}스텝, 배치 {config.batch}. CPU 두 개로 몇십 분에서 몇 시간이 걸린다. 상태: {folder}",
            en=f"{config.steps:,} steps of {config.batch}: minutes to hours on two CPU cores. State: {folder}",
        )
    )
    training = _train(recipe, config, folder)
    target = root / "zoo" / name if publish else folder / "checkpoint"
    note(say(ko="품질을 잰다 (몇 분)", en="measuring its quality (minutes)"))
    recipe.publish(training, target, note)
    note(say(ko=f"체크포인트: {target}", en=f"checkpoint: {target}"))


def _train(recipe: Recipe, config: Any, folder: Path) -> Training:
    console = Console(stderr=True)
    bar = Progress(
        TextColumn(recipe.NAME),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
        console=console,
    )
    every = max(1, config.steps // LOOKS)
    with bar:
        task = bar.add_task(recipe.NAME, total=config.steps, loss=0.0)
        last_line = time.monotonic()

        def report(progress: Report, training: Training) -> None:
            nonlocal last_line
            bar.update(task, completed=progress.step, loss=progress.loss)
            if progress.step % every == 0:
                row = training.measure()
                note("  ".join(f"{key} {value:g}" for key, value in row.items()))
                pictures, columns = recipe.preview(training.average.eval(), config)
                picture = png(grid(pictures, columns))
                write_whole(folder / "samples" / f"{progress.step:06d}.png", picture)
            if not console.is_terminal and time.monotonic() - last_line > 60:
                last_line = time.monotonic()
                note(
                    f"{progress.step:,}/{progress.steps:,}  loss {progress.loss:.4f}  {progress.seconds:,.0f} s"
                )

        return train(recipe, config, folder, report)

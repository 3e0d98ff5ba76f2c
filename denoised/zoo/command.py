"""`denoised train`: a recipe from its first step to a checkpoint folder with a model card."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from denoised.command_line import known, note
from denoised.files import write_whole
from denoised.lab.reproduce import EXTRACTOR_FOLDER
from denoised.lab.settings import compose_config
from denoised.language import say
from denoised.metrics.features import EfficientNetLite0
from denoised.pictures import grid, png
from denoised.registry import sampler
from denoised.zoo.manifest import verify
from denoised.zoo.publish import preview, write_checkpoint
from denoised.zoo.recipes import emoji_pixel
from denoised.zoo.train import Progress as Report
from denoised.zoo.train import Training, train

NAME, THREADS = "emoji-pixel", 2
SAMPLER = "runners.foundations.ddim"  # draws the samples that are looked at and measured
PREVIEW_EVERY = 500  # steps


def train_command(
    root: Path, name: str, overrides: Sequence[str], *, out: Path | None, publish: bool
) -> None:
    """Train to the end, measure the result, write the checkpoint folder; say where everything is."""
    known("CHECKPOINT", name, [NAME])
    config = compose_config(emoji_pixel.Config, overrides)
    folder = (out or root / "outputs" / "train") / name
    torch.set_num_threads(THREADS)
    note(
        say(
            ko=f"{config.steps:,}스텝, 배치 {config.batch}. CPU 두 개로 만 스텝에 한 시간 남짓 걸린다. 상태: {folder}",
            en=f"{config.steps:,} steps of {config.batch}; two CPU cores take a good hour for ten thousand. "
            f"State: {folder}",
        )
    )
    training = _train(config, folder)
    verify(root / EXTRACTOR_FOLDER)
    extractor = EfficientNetLite0(root / EXTRACTOR_FOLDER / "model.safetensors")
    target = root / "zoo" / name if publish else folder / "checkpoint"
    note(say(ko="품질을 잰다 (몇 분)", en="measuring its quality (minutes)"))
    write_checkpoint(training, target, extractor, sampler(SAMPLER), note)
    note(say(ko=f"체크포인트: {target}", en=f"checkpoint: {target}"))
    note(say(ko=f"써 보기: denoised run ddim model={target}", en=f"try it: denoised run ddim model={target}"))


def _train(config: emoji_pixel.Config, folder: Path) -> Training:
    console = Console(stderr=True)
    draw = sampler(SAMPLER)
    bar = Progress(
        TextColumn(NAME),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task(NAME, total=config.steps, loss=0.0)
        last_line = time.monotonic()

        def report(progress: Report, training: Training) -> None:
            nonlocal last_line
            bar.update(task, completed=progress.step, loss=progress.loss)
            if progress.step % PREVIEW_EVERY == 0:
                picture = png(grid(preview(training, draw), 8))
                write_whole(folder / "samples" / f"{progress.step:06d}.png", picture)
            if not console.is_terminal and time.monotonic() - last_line > 60:
                last_line = time.monotonic()
                note(
                    f"{progress.step:,}/{progress.steps:,}  loss {progress.loss:.4f}  {progress.seconds:,.0f} s"
                )

        return train(config, folder, report)

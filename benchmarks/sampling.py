"""How fast sampling is, against diffusers (and k-diffusion, where it is installed) with the same networks.

    python benchmarks/sampling.py [--write] [--quick]

Both sides draw from the same noise on the same grid with equally many network evaluations, in one process on one
thread, interleaved; the minimum CPU time of eleven rounds counts. That they draw the same pictures is checked first:
a difference above 1e-5, or another number of evaluations, ends the benchmark. Only the cold start runs in
processes of its own, from the interpreter's start to a PNG file. --write keeps the table in
site/assets/benchmarks/sampling.json, which the site's page of comparisons shows; --quick checks that both sides
agree with few steps and one round, whose times mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DDIMScheduler, DPMSolverSinglestepScheduler, StableDiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from denoised.diffusion.attention import keep_text
from denoised.diffusion.continuous import Levels
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.samplers import ddim
from denoised.diffusion.schedule import timesteps as spaced
from denoised.diffusion.tracing import traced
from denoised.environment import cpu_name
from denoised.zoo.load import Checkpoint, load_checkpoint
from denoised.zoo.text_to_image import TextToImage, load_text_to_image
from runners.fast_sampling import dpm_solver
from runners.foundations import ddim as ddim_runner

ROUNDS, TOLERANCE = 11, 1e-5
ROOT = Path(__file__).resolve().parents[1]
PIXEL, TEXT = ROOT / "zoo" / "emoji-pixel", ROOT / "zoo" / "emoji-t2i"
PROMPT = "a red apple on a blue background"

Side = Callable[[], Tensor]


@dataclass(frozen=True)
class Size:
    """How much is drawn: of `steps` DDIM steps or about as many evaluations, timed over `rounds`."""

    steps: int = 20
    batch: int = 16
    rounds: int = ROUNDS
    scheduler_steps: int = 1000


FULL, QUICK = Size(), Size(steps=10, batch=2, rounds=1, scheduler_steps=10)


@dataclass(frozen=True)
class Row:
    """One comparison: CPU seconds of both sides, how far their pictures are apart, evaluations of each."""

    name: str
    ours: float
    theirs: float
    difference: float
    nfe: int | None = None


# --- timing ----------------------------------------------------------------------------------------------


def against(
    name: str, ours: Side, theirs: Side, rounds: int, networks: Set[nn.Module] = frozenset(), per: int = 1
) -> Row:
    """Time both sides, after checking that they draw the same with equally many calls of `networks`.

    `per`: what the seconds are divided by. RuntimeError where the sides differ.
    """
    with counted(networks) as calls, torch.inference_mode():
        a, ours_calls = ours(), calls.pop("n", 0)
        b, theirs_calls = theirs(), calls.pop("n", 0)
    difference = float((a - b).abs().max())
    if difference > TOLERANCE or ours_calls != theirs_calls:
        raise RuntimeError(
            f"{name}: the sides differ by {difference:.1e} after {ours_calls} and {theirs_calls} evaluations"
        )
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    a_best, b_best = (min(column) / per for column in zip(*times, strict=True))
    return Row(name, a_best, b_best, difference, ours_calls if networks else None)


@torch.inference_mode()
def seconds(work: Side) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


@contextmanager
def counted(networks: Set[nn.Module]) -> Iterator[dict[str, int]]:
    """The calls of all networks together inside the block, as "n"."""
    calls: dict[str, int] = {}

    def count(*_: object) -> None:
        calls["n"] = calls.get("n", 0) + 1

    hooks = [network.register_forward_pre_hook(count) for network in networks]
    yield calls
    for hook in hooks:
        hook.remove()


# --- the pixel model, unguided ---------------------------------------------------------------------------


@cache
def pixel() -> Checkpoint:
    return load_checkpoint(PIXEL, shipped=True)


def noise_and_classes(batch: int) -> tuple[Tensor, Tensor]:
    x = SampleGenerators(0, range(batch)).randn(*pixel().picture_shape)
    return x, torch.arange(batch) % (pixel().classes or 1)


def ddim_16(size: Size) -> Row:
    """The DDIM runner against the loop of diffusers' documentation with its DDIMScheduler, both with clipping."""
    checkpoint, (x, classes) = pixel(), noise_and_classes(size.batch)
    scheduler = DDIMScheduler.from_pretrained(PIXEL / "scheduler")
    scheduler.set_timesteps(size.steps)
    grid = spaced(checkpoint.schedule.T, size.steps, "trailing")

    def ours() -> Tensor:
        return ddim_runner.sample(checkpoint.denoiser(), x, grid, condition=classes)

    def theirs() -> Tensor:
        sample = x
        for t in scheduler.timesteps:
            output = checkpoint.unet(sample, t, class_labels=classes).sample
            # eps from the clipped x0, as ours
            sample = scheduler.step(output, t, sample, use_clipped_model_output=True).prev_sample
        return sample

    return against("ddim", ours, theirs, size.rounds, {checkpoint.unet})


def dpm_solver_2(size: Size) -> Row:
    """The DPM-Solver runner, order 2, against diffusers' single-step solver, given the runner's own grid."""
    checkpoint, (x, classes) = pixel(), noise_and_classes(size.batch)
    levels = Levels(checkpoint.schedule)
    orders = [2] * (size.steps // 2)
    grid = dpm_solver.log_snr_grid(levels, -5.1, len(orders))
    visited = [grid[0]]  # with the level half way of each step, which the scheduler counts as a step
    for s, t in pairwise(grid):
        visited += [levels.at_lambda((s.lam + t.lam) / 2), t]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of DPM-Solver, which diffusers calls deprecated for DPM-Solver++
        scheduler = DPMSolverSinglestepScheduler.from_pretrained(
            PIXEL / "scheduler",
            algorithm_type="dpmsolver",
            solver_order=2,
            lower_order_final=False,
            final_sigmas_type="sigma_min",
        )
        scheduler.set_timesteps(2 * len(orders))
    scheduler.timesteps = torch.tensor([each.t for each in visited[:-1]])
    scheduler.sigmas = torch.tensor([each.sigma for each in visited], dtype=torch.float64)

    def ours() -> Tensor:
        return dpm_solver.sample(checkpoint.denoiser(), x, grid, orders, condition=classes)

    def theirs() -> Tensor:
        stepper, sample = deepcopy(scheduler), x  # it keeps what it saw
        for t in stepper.timesteps:
            output = checkpoint.unet(sample, t, class_labels=classes).sample
            sample = stepper.step(output, t, sample).prev_sample
        return sample

    return against("dpm-solver-2", ours, theirs, size.rounds, {checkpoint.unet})


def k_diffusion_euler(size: Size) -> Row | None:
    """The DDIM runner against k-diffusion's Euler steps, which are the same; None where it is not installed.

    The grid is the leading one: k-diffusion computes with x / sqrt(alpha_bar), which float32 cannot hold at the last
    timesteps of the cosine schedule.
    """
    if importlib.util.find_spec("k_diffusion") is None:
        return None
    sample_euler = importlib.import_module("k_diffusion.sampling").sample_euler

    checkpoint, (x, classes) = pixel(), noise_and_classes(size.batch)
    grid = spaced(checkpoint.schedule.T, size.steps, "leading")
    alpha_bar = checkpoint.schedule.alpha_bar(torch.tensor([*grid, -1]))
    sigmas = ((1 - alpha_bar) / alpha_bar).sqrt()

    def ours() -> Tensor:
        return ddim_runner.sample(checkpoint.denoiser(), x, grid, clip=False, condition=classes)

    def theirs() -> Tensor:
        visited = iter(grid)

        def x0(scaled: Tensor, sigma: Tensor) -> Tensor:
            t = next(visited)
            a, s = checkpoint.schedule.signal_and_noise(t, scaled)
            sample = a * scaled
            output: Tensor = checkpoint.unet(sample, t, class_labels=classes).sample
            return a * sample - s * output

        start = x / alpha_bar[0].sqrt().float()
        drawn: Tensor = sample_euler(x0, start, sigmas.float(), disable=True)
        return drawn

    return against("k-diffusion-euler", ours, theirs, size.rounds, {checkpoint.unet})


def scheduler_step(size: Size) -> Row:
    """A DDIM step without the network: Denoiser and update against DDIMScheduler.step, one picture, seconds a step."""
    checkpoint, (x, _) = pixel(), noise_and_classes(1)
    output = torch.full_like(x, 0.1)
    scheduler = DDIMScheduler.from_pretrained(PIXEL / "scheduler")
    scheduler.set_timesteps(size.scheduler_steps)
    grid = spaced(checkpoint.schedule.T, size.scheduler_steps, "trailing")
    denoiser = Denoiser(lambda x, t, condition: output, checkpoint.schedule, checkpoint.parameterisation)

    def ours() -> Tensor:
        return ddim_runner.sample(denoiser, x, grid)

    def theirs() -> Tensor:
        sample = x
        for t in scheduler.timesteps:
            sample = scheduler.step(output, t, sample, use_clipped_model_output=True).prev_sample
        return sample

    return against("scheduler-step", ours, theirs, size.rounds, per=size.scheduler_steps)


# --- the text-to-image model, guided ---------------------------------------------------------------------


@cache
def text_to_image() -> TextToImage:
    return load_text_to_image(TEXT, shipped=True)


@cache
def pipeline() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a pipeline without a safety checker
        loaded = StableDiffusionPipeline.from_pretrained(TEXT, low_cpu_mem_usage=False)
    loaded.scheduler = DDIMScheduler.from_config(loaded.scheduler.config)
    loaded.set_progress_bar_config(disable=True)
    loaded.unet = text_to_image().unet  # so that both sides' calls are counted
    return loaded


def guided_1(size: Size) -> Row:
    """From a sentence to one picture with classifier-free guidance, against StableDiffusionPipeline.

    Ours computes the text's keys and values once.
    """
    model = text_to_image()

    def ours() -> Tensor:
        with keep_text(model.unet):
            return guided_picture(model, size)

    return against_pipeline("guided", ours, model, size)


def guided_traced(size: Size) -> Row:
    """The same with the UNet's operations recorded, as in a program that draws one sentence after the other.

    The recording, as long as about thirty calls of the UNet, is made before the clock runs.
    """
    model = replace(text_to_image(), unet=deepcopy(text_to_image().unet))  # theirs is not recorded
    with traced(model.unet):
        return against_pipeline("guided-traced", lambda: guided_picture(model, size), model, size)


def guided_picture(model: TextToImage, size: Size) -> Tensor:
    x, grid = SampleGenerators(0, range(1)).randn(*model.latent_shape), model.timesteps(size.steps)
    latents = ddim(model.denoiser(), x, grid, condition=model.encode([PROMPT]))
    return (model.decode(latents) + 1) / 2


def against_pipeline(name: str, ours: Side, model: TextToImage, size: Size) -> Row:
    x, theirs_pipeline = SampleGenerators(0, range(1)).randn(*model.latent_shape), pipeline()

    def theirs() -> Tensor:
        drawn: Tensor = theirs_pipeline(
            PROMPT,
            num_inference_steps=size.steps,
            guidance_scale=model.guidance_scale,
            latents=x,
            output_type="pt",
        ).images
        return drawn

    return against(name, ours, theirs, size.rounds, {model.unet, theirs_pipeline.unet})


def kept_text(size: Size) -> Row:
    """Guided sampling with the text's keys and values computed once, against the same without."""
    model = text_to_image()
    x = SampleGenerators(0, range(1)).randn(*model.latent_shape)
    grid, condition = model.timesteps(size.steps), model.encode([PROMPT])

    def plain() -> Tensor:
        return ddim(model.denoiser(), x, grid, condition=condition)

    def kept() -> Tensor:
        with keep_text(model.unet):
            return plain()

    return against("kept-text", kept, plain, size.rounds, {model.unet})


# --- from nothing to a picture ---------------------------------------------------------------------------

OURS = """
import sys
from pathlib import Path
import torch
from denoised.diffusion.samplers import ddim
from denoised.diffusion.schedule import timesteps
from denoised.pictures import grid, png
from denoised.zoo.load import load_checkpoint
torch.set_num_threads(1)
folder, file, steps = sys.argv[1:]
checkpoint = load_checkpoint(Path(folder), shipped=True)
x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
x = ddim(checkpoint.denoiser(), x, timesteps(checkpoint.schedule.T, int(steps)), condition=torch.tensor([0]))
Path(file).write_bytes(png(grid(x, 1)))
"""

THEIRS = """
import sys
import torch
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image
torch.set_num_threads(1)
folder, file, steps = sys.argv[1:]
unet = UNet2DModel.from_pretrained(folder, subfolder="unet", low_cpu_mem_usage=False)
scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler", clip_sample=False)
scheduler.set_timesteps(int(steps))
x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t, class_labels=torch.tensor([0])).sample, t, x).prev_sample
pixels = ((x[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
Image.fromarray(pixels).save(file)
"""


def cold_start(size: Size) -> Row:
    """From the start of the interpreter to a PNG of one picture, CPU seconds of a process."""
    times: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "ours.png", Path(folder) / "theirs.png"]
        for _ in range(size.rounds):
            pair = [
                process_seconds(code, file, size.steps)
                for code, file in zip((OURS, THEIRS), files, strict=True)
            ]
            times.append((pair[0], pair[1]))
        a, b = (np.asarray(Image.open(file).convert("RGB"), dtype=float) for file in files)
    difference = float(np.abs(a - b).max())
    if difference > 1:  # a grey level of 255, where both round
        raise RuntimeError(f"cold-start: the pictures differ by {difference:g} grey levels")
    a_best, b_best = (min(column) for column in zip(*times, strict=True))
    return Row("cold-start", a_best, b_best, difference / 255, size.steps)


def process_seconds(code: str, file: Path, steps: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, str(PIXEL), str(file), str(steps)], check=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# --- the table -------------------------------------------------------------------------------------------

ROWS: Sequence[tuple[str, Callable[[Size], Row | None]]] = (
    ("DDIM, batch of pictures", ddim_16),
    ("DPM-Solver-2, batch of pictures", dpm_solver_2),
    ("DDIM against k-diffusion's Euler, batch of pictures", k_diffusion_euler),
    ("sentence to picture, guided, one picture", guided_1),
    ("the same, operations of the UNet recorded", guided_traced),
    ("keys and values of the text once, against in every step", kept_text),
    ("one DDIM step without the network", scheduler_step),
    ("cold start to the first picture", cold_start),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the table for the site")
    parser.add_argument("--quick", action="store_true", help="only check that both sides agree")
    arguments = parser.parse_args()
    if arguments.write and arguments.quick:
        parser.error("--quick measures nothing that is worth keeping")
    size = QUICK if arguments.quick else FULL
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    environment = {
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "cpu": cpu_name(),
        "threads": 1,
        "steps": size.steps,
        "batch": size.batch,
    }
    print(", ".join(f"{k} {v}" for k, v in environment.items()) + "\n")
    print("| | ours, s | theirs, s | faster | difference | NFE |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows: list[Row] = []
    for what, measure in ROWS:
        row = measure(size)
        if row is None:
            print(f"| {what} | not installed | | | | |", flush=True)
            continue
        rows.append(row)
        nfe = "" if row.nfe is None else row.nfe
        print(
            f"| {what} | {row.ours:.3g} | {row.theirs:.3g} | {row.theirs / row.ours:.2f}× | "
            f"{row.difference:.0e} | {nfe} |",
            flush=True,
        )
    if arguments.write:
        path = ROOT / "site" / "assets" / "benchmarks" / "sampling.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"environment": environment, "rows": [vars(row) for row in rows]}
        path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

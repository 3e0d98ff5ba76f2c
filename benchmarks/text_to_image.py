"""How long emoji-t2i takes to load and to draw, against plain diffusers with the same folder.

    python benchmarks/text_to_image.py [FOLDER]

Sixteen guided pictures of 20 steps each. Both sides run in one process on all cores, interleaved; the minimum
wall time of five rounds counts. Importing the libraries is not counted.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.samplers import ddim
from denoised.environment import cpu_name
from denoised.worlds.emoji import sample_scenes
from denoised.zoo.text_to_image import TextToImage, load_text_to_image

PICTURES, STEPS, GUIDANCE, ROUNDS = 16, 20, 3.0, 5


def draw(model: TextToImage, captions: list[str]) -> torch.Tensor:
    """Our way: guided DDIM from one noise for each picture, and decoded."""
    noise = SampleGenerators(0, range(len(captions))).randn(*model.latent_shape)
    with torch.inference_mode():
        denoiser = model.denoiser(GUIDANCE)
        condition = model.encode(captions)
        return model.decode(ddim(denoiser, noise, model.timesteps(STEPS), condition=condition))


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a pipeline without a safety checker
        pipeline = StableDiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "zoo/emoji-t2i")
    captions = sample_scenes(PICTURES, 0, "test", "full").captions("en")
    model, pipeline = load_text_to_image(folder), load_pipeline(folder)
    sides: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "load": (lambda: load_text_to_image(folder), lambda: load_pipeline(folder)),
        f"draw {PICTURES}": (
            lambda: draw(model, captions),
            lambda: pipeline(captions, num_inference_steps=STEPS, guidance_scale=GUIDANCE),
        ),
    }
    print(
        f"torch {torch.__version__}, diffusers {version('diffusers')}, {torch.get_num_threads()} threads, "
        f"{cpu_name()}\n"
    )
    print("| | ours, s | plain diffusers, s | ratio |")
    print("| --- | --- | --- | --- |")
    for name, (ours, theirs) in sides.items():
        times = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
        a, b = (min(column) for column in zip(*times, strict=True))
        print(f"| {name} | {a:.2f} | {b:.2f} | {a / b:.2f} |")


if __name__ == "__main__":
    main()

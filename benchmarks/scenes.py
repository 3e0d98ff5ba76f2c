"""How fast scenes are drawn, against a plain Pillow loop that draws the same scenes.

    python benchmarks/scenes.py

Both sides run in one process on one thread, interleaved; the minimum CPU time of five rounds counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from PIL import Image

from denoised.environment import cpu_name
from denoised.worlds.emoji import BACKGROUNDS, Scenes, load_atlas, render, sample_scenes

N, ROUNDS = 512, 5


def pillow_sprites() -> list[Image.Image]:
    """The atlas as Pillow pictures with straight alpha."""
    sprites = load_atlas().sprites.clone()
    sprites[:, :3] /= sprites[:, 3:].clamp(min=1e-6)
    return [Image.fromarray((s.permute(1, 2, 0) * 255).round().byte().numpy(), "RGBA") for s in sprites]


def pillow_loop(scenes: Scenes, size: int, sprites: list[Image.Image]) -> list[Image.Image]:
    """The same scenes one by one: resize the object, paste it at the nearest pixel."""
    pictures = []
    boxes = (scenes.boxes()[:, 0] * size).round().int().tolist()
    for thing, background, (left, top, right, bottom) in zip(
        scenes.object.tolist(), scenes.background.tolist(), boxes, strict=True
    ):
        picture = Image.new("RGBA", (size, size), BACKGROUNDS[background][2])
        sprite = sprites[thing].resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        picture.alpha_composite(sprite, (left, top))
        pictures.append(picture.convert("RGB"))
    return pictures


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    torch.set_num_threads(1)
    sprites = pillow_sprites()
    print(f"torch {torch.__version__}, Pillow {version('pillow')}, one thread, {cpu_name()}\n")
    print("| scenes | ours, images/s | Pillow loop, images/s | ratio |")
    print("| --- | --- | --- | --- |")
    for size in (32, 64):
        scenes = sample_scenes(N, 0)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(cpu_seconds(lambda scenes=scenes, size=size: render(scenes, size)))  # type: ignore[misc]
            theirs.append(
                cpu_seconds(lambda scenes=scenes, size=size: pillow_loop(scenes, size, sprites))  # type: ignore[misc]
            )
        a, b = N / min(ours), N / min(theirs)
        print(f"| plain, {size} | {a:,.0f} | {b:,.0f} | {a / b:.2f} |")
    for size in (32, 64):  # everything there is: Pillow's loop does not draw these
        full = sample_scenes(N, 0, "train", "full")
        times = [cpu_seconds(lambda full=full, size=size: render(full, size)) for _ in range(ROUNDS)]  # type: ignore[misc]
        print(f"| full, {size} | {N / min(times):,.0f} | | |")


if __name__ == "__main__":
    main()

"""`denoised world`: a picture of a world's scenes, with their captions."""

from __future__ import annotations

from pathlib import Path

from denoised.files import write_whole
from denoised.language import Language
from denoised.pictures import grid, png
from denoised.worlds.emoji import render, sample_scenes

COLUMNS, ROWS = 6, 4


def preview_emoji(path: Path, seed: int, size: int, language: Language) -> list[str]:
    """Write COLUMNS × ROWS scenes of `size` pixels to `path` (PNG) and return their captions in order."""
    scenes = sample_scenes(COLUMNS * ROWS, seed, "test")
    write_whole(path, png(grid(render(scenes, size), COLUMNS)))
    return scenes.captions(language)

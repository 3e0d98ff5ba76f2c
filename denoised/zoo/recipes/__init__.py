"""The recipes of `denoised train`, one module a checkpoint: data, network, loss, and how it is measured.

In the order in which they stand on each other: emoji-pixel is measured by the judge, emoji-t2i needs all
that come before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from denoised.zoo.train import Recipe

NAMES = ("emoji-judge", "emoji-pixel", "emoji-noisy-classifier", "emoji-vae", "emoji-clip", "emoji-t2i")


def load_recipe(name: str) -> Recipe:
    """The recipe of that name, one of `NAMES`."""
    from denoised.zoo.recipes import (
        emoji_clip,
        emoji_judge,
        emoji_noisy_classifier,
        emoji_pixel,
        emoji_t2i,
        emoji_vae,
    )

    recipes: tuple[Recipe, ...] = (
        emoji_judge,
        emoji_pixel,
        emoji_noisy_classifier,
        emoji_vae,
        emoji_clip,
        emoji_t2i,
    )
    return {recipe.NAME: recipe for recipe in recipes}[name]

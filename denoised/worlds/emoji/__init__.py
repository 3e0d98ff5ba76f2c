"""The emoji world: scenes drawn from an embedded atlas, with exact captions and exact ground truth.

A scene is one object, two objects in a relation, or a few of one object, on a background; it may wear
something and be drawn in a style. `sample_scenes` draws what is in the scenes, `place` takes it from
descriptions, `render` draws the pictures, `change` makes the counterfactual that differs in one attribute.
"""

from denoised.worlds.emoji.atlas import (
    ACCESSORIES,
    BACKGROUNDS,
    RELATIONS,
    SIZES,
    STYLES,
    TEXTURES,
    Atlas,
    Object,
    load_atlas,
)
from denoised.worlds.emoji.captions import Language, Scene, caption, words
from denoised.worlds.emoji.drawing import accessory_masks, depth, edges, keypoints, masks, render
from denoised.worlds.emoji.scenes import (
    Kind,
    Scenes,
    Split,
    attributes,
    change,
    distractor,
    held_out_accessory,
    held_out_background,
    place,
    sample_scenes,
    truth,
)

__all__ = [
    "ACCESSORIES",
    "BACKGROUNDS",
    "RELATIONS",
    "SIZES",
    "STYLES",
    "TEXTURES",
    "Atlas",
    "Kind",
    "Language",
    "Object",
    "Scene",
    "Scenes",
    "Split",
    "accessory_masks",
    "attributes",
    "caption",
    "change",
    "depth",
    "distractor",
    "edges",
    "held_out_accessory",
    "held_out_background",
    "keypoints",
    "load_atlas",
    "masks",
    "place",
    "render",
    "sample_scenes",
    "truth",
    "words",
]

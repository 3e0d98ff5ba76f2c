"""Losses that tie the words of a caption to places: which token names which thing, and where that thing is.

The emoji world draws a thing's exact mask beside it, so TokenCompose's token loss (Wang et al. 2023,
arXiv:2312.03626, section 3.2) needs no segmenter here. The place loss is ours; emoji-t2i's recipe says what for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from denoised.diffusion.attention import Layer, controlled
from denoised.worlds.emoji import Scenes, accessory_masks, load_atlas, masks
from denoised.zoo.tokenizer import LENGTH

# The nouns of each accessory's phrases, in Korean with the particle, which the tokenizer does not part from them.
WORN = ((), ("glasses", "안경을"), ("hat", "모자를"))


def regions(scenes: Scenes, size: int) -> Tensor:
    """(n, 3, size, size) in [0, 1]: where the first object is, all of its copies, the second, and what is worn."""
    covered = F.avg_pool2d(masks(scenes, 2 * size), 2)
    second = covered[:, 1] * (scenes.second >= 0).float()[:, None, None]
    first = (covered.sum(dim=1) - second).clamp(max=1)
    return torch.stack([first, second, F.avg_pool2d(accessory_masks(scenes, 2 * size)[:, 0], 2)], dim=1)


def nouns(tokenizer: CLIPTokenizer, scenes: Scenes, captions: Sequence[str]) -> Tensor:
    """(n, 3, 24) bool: which tokens of a caption name its first object, its second and what is worn, if any."""
    encoded = tokenizer(list(captions), padding="max_length", return_offsets_mapping=True)
    named = torch.zeros(len(captions), 3, LENGTH, dtype=torch.bool)
    for i, text in enumerate(captions):
        for place, names in enumerate(_names(scenes, i)):
            if not text or not names:
                continue
            # Of two Korean nouns the first object's stands last, with its particle; English has no such doubt.
            found = list(re.finditer(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})", text))
            start, end = found[-1 if place == 0 else 0].span()
            for token, (first, last) in enumerate(encoded["offset_mapping"][i]):
                named[i, place, token] = first < last and start <= first and last <= end
    return named


def _names(scenes: Scenes, i: int) -> list[tuple[str, ...]]:
    """What scene i's first object, its second and what it wears can be called; nothing where there is none."""
    things = load_atlas().all
    objects = [things[n] if n >= 0 else None for n in (int(scenes.object[i]), int(scenes.second[i]))]
    called = [(thing.en_plural, thing.en, thing.ko) if thing else () for thing in objects]
    return [*called, WORN[int(scenes.accessory[i])]]


def token_loss(maps: Sequence[Tensor], named: Tensor, where: Tensor) -> Tensor:
    """TokenCompose's token loss, a mean over layers and nouns: the squared share of attention that lies outside.

    `maps`: the cross-attention of each layer (n, heads, queries, 24). `named` (n, k, 24) bool, `where`
    (n, k, h, h) in [0, 1]. 0 where nothing is named.
    """
    losses = [
        (1 - (paid * inside).sum(dim=1) / paid.sum(dim=1).clamp(min=1e-6)).square()
        for paid, inside in _paid(maps, named, where)
    ]
    return torch.cat(losses).mean() if bool(named.any()) else torch.zeros(())


def pixel_loss(maps: Sequence[Tensor], named: Tensor, where: Tensor) -> Tensor:
    """TokenCompose's pixel loss, a mean over layers and nouns: the cross-entropy of attention with the mask.

    The token loss asks where a word is looked at, this one how much. Arguments as for `token_loss`; 0 where nothing
    is named.
    """
    # What is worn shares its pixels with who wears it.
    where = where / where.sum(dim=1, keepdim=True).clamp(min=1)
    losses = [
        F.binary_cross_entropy(paid.clamp(1e-6, 1 - 1e-6), inside, reduction="none").mean(dim=1)
        for paid, inside in _paid(maps, named, where)
    ]
    return torch.cat(losses).mean() if bool(named.any()) else torch.zeros(())


def _paid(maps: Sequence[Tensor], named: Tensor, where: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each layer and noun the attention that each place pays it (nouns, queries), and its mask there."""
    chosen = named.any(dim=2)
    for layer in maps:
        side = int(layer.shape[2] ** 0.5)
        paid = torch.einsum("nql,njl->njq", layer.float().mean(dim=1), named.float())[chosen]
        yield paid, F.adaptive_avg_pool2d(where, side).flatten(2)[chosen]


def place_loss(head: nn.Linear, states: Tensor, named: Tensor, scenes: Scenes) -> Tensor:
    """The cross-entropy of the head that reads an object's place off its word: alone, or its relation to the other.

    `states` (n, 24, 128), `named` (n, 3, 24) bool, of which only the objects' words count. In English nothing
    that stands before the first noun tells its place, in Korean nothing before the second's, so their loss stays at
    that of a guess. 0 where nothing is named.
    """
    # Relations come in pairs of opposites: what is left of the second has the second to its right.
    places = torch.stack([1 + scenes.relation, 1 + (scenes.relation ^ 1)], dim=1)
    places[scenes.second < 0] = 0
    row, place, token = named[:, :2].nonzero(as_tuple=True)
    if not len(row):
        return torch.zeros(())
    return F.cross_entropy(head(states[row, token].float()), places[row, place])


def kept_attention(unet: nn.Module, maps: list[Tensor]) -> AbstractContextManager[None]:
    """Inside, the cross-attention (n, heads, queries, 24) of every layer is added to `maps`."""

    def keep(probabilities: Tensor, layer: Layer) -> Tensor:
        maps.append(probabilities)
        return probabilities

    return controlled(unet, keep, lambda layer: layer.cross)

"""Reading and editing the attention maps of a UNet while it runs.

    with controlled(unet, control):
        prediction = denoiser(x, t, condition)

`control(probabilities, layer)` sees the attention probabilities (rows, heads, queries, keys) of each layer
and returns those that are used. Layers that are not asked for keep diffusers' fast attention, and every
layer has its old processor back when the block ends.

    with keep_text(unet):
        pictures = ddim(denoiser, x, timesteps, condition=condition)

computes the keys and values of a text once, not again in every step.

The rest are pure functions on maps and tokens: which token of one prompt is which of another
(`swap_words`, `refine`), and what becomes of the maps (`inject`). They follow Prompt-to-Prompt (Hertz et al.
2022, arXiv:2208.01626, section 3) and its code, github.com/google/prompt-to-prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """One attention layer: its name in the UNet, which part it is in, whether it reads the text."""

    name: str  # down_blocks.1.attentions.0.transformer_blocks.0.attn2
    part: str  # down, mid or up
    cross: bool


# (probabilities (rows, heads, queries, keys), layer) -> the probabilities to use, of the same shape
Control = Callable[[Tensor, Layer], Tensor]


@contextmanager
def controlled(
    unet: Any, control: Control, where: Callable[[Layer], bool] = lambda layer: True
) -> Iterator[None]:
    """Let `control` see and replace the probabilities of the layers `where` says, inside the block.

    `unet`: a UNet2DConditionModel. Under classifier-free guidance the rows are [null; condition].
    """
    before = dict(unet.attn_processors)
    chosen = {}
    for key in before:
        name = key.removesuffix(".processor")
        layer = Layer(name, name.split("_")[0], bool(unet.get_submodule(name).is_cross_attention))
        if where(layer):
            chosen[key] = _Explicit(layer, control)
    unet.set_attn_processor({**before, **chosen})
    try:
        yield
    finally:
        unet.set_attn_processor(dict(before))  # it empties the dict it is given


class _Explicit:
    """An attention processor that computes the probabilities one by one and hands them to a control."""

    def __init__(self, layer: Layer, control: Control) -> None:
        self._layer = layer
        self._control = control

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """What diffusers' AttnProcessor does inside a transformer block: (rows, queries, width) in and out."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        mask = attn.prepare_attention_mask(attention_mask, context.shape[1], len(context))
        query, key, value = (
            attn.head_to_batch_dim(states)
            for states in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        probabilities = attn.get_attention_scores(query, key, mask).unflatten(0, (len(context), -1))
        probabilities = self._control(probabilities, self._layer).flatten(0, 1)
        output = attn.batch_to_head_dim(torch.bmm(probabilities, value))
        output = attn.to_out[1](attn.to_out[0](output))
        if attn.residual_connection:
            output = output + hidden_states
        result: Tensor = output / attn.rescale_output_factor
        return result


@dataclass
class Recorder:
    """A control that changes nothing and keeps the mean of each layer's maps over heads and calls."""

    total: dict[Layer, Tensor] = field(default_factory=dict)
    calls: dict[Layer, int] = field(default_factory=dict)

    def __call__(self, probabilities: Tensor, layer: Layer) -> Tensor:
        maps = probabilities.detach().mean(dim=1)
        self.total[layer] = self.total[layer] + maps if layer in self.total else maps
        self.calls[layer] = self.calls.get(layer, 0) + 1
        return probabilities

    def words(self, side: int) -> Tensor:
        """The mean cross-attention of the layers of side × side pixels: (rows, side, side, tokens).

        Raises ValueError where no such layer was recorded.
        """
        chosen = [
            total / self.calls[layer]
            for layer, total in self.total.items()
            if layer.cross and total.shape[1] == side**2
        ]
        if not chosen:
            raise ValueError(f"no cross-attention layer of {side}×{side} pixels was recorded")
        mean: Tensor = torch.stack(chosen).mean(dim=0)
        return mean.reshape(len(mean), side, side, -1)


# --- a text that stays the same ---------------------------------------------------------------------------


@contextmanager
def keep_text(unet: Any) -> Iterator[None]:
    """Inside the block, compute the cross-attention's keys and values of a text once and use them again.

    `unet`: a UNet2DConditionModel. They depend on the text alone, so the output is the same to the last bit. The
    text of every call is compared with that of the call before: another one is computed anew. Where gradients
    are wanted nothing is kept. The UNet is as it was when the block ends.
    """
    kept, projections = _KeptText(), text_projections(unet)
    before = [vars(projection).get("forward") for projection in projections]
    hook = unet.register_forward_pre_hook(kept.look, with_kwargs=True)
    for projection in projections:
        projection.forward = kept.once(projection.forward)
    try:
        yield
    finally:
        hook.remove()
        for projection, own in zip(projections, before, strict=True):
            del projection.forward
            if own is not None:  # else the class's is there again
                projection.forward = own


def text_projections(unet: Any) -> list[Any]:
    """The modules that make keys and values of the text, two in each cross-attention layer."""
    layers = [unet.get_submodule(key.removesuffix(".processor")) for key in unet.attn_processors]
    return [part for layer in layers if layer.is_cross_attention for part in (layer.to_k, layer.to_v)]


class _KeptText:
    """The text of the last call, and what each projection made of it."""

    def __init__(self) -> None:
        self._text: Tensor | None = None
        self._made: dict[int, Tensor] = {}

    def look(self, unet: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Before a call of the UNet: forget what was made of another text."""
        text: Tensor = named["encoder_hidden_states"] if "encoder_hidden_states" in named else arguments[2]
        if torch.is_grad_enabled() or not _equal(self._text, text):
            self._made.clear()
            self._text = text.detach().clone()  # a copy: the caller may write into its own

    def once(self, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The projection, computed for the first call with a text only."""

        def made(text: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                return forward(text)
            if id(made) not in self._made:
                self._made[id(made)] = forward(text)
            return self._made[id(made)]

        return made


def _equal(a: Tensor | None, b: Tensor) -> bool:
    return a is not None and (a.dtype, a.device) == (b.dtype, b.device) and torch.equal(a, b)


# --- which token of one prompt is which of another --------------------------------------------------------


@dataclass(frozen=True)
class Injection:
    """How the maps of a source prompt become those of an edited one; see `inject`.

    `mapping`: (…, L, L), from the source's token (row) to the edited prompt's (column).
    `kept`: (…, L), 1 where an edited token takes its map from the source, 0 where it keeps its own.
    `scale`: (…, L), what the map of each edited token is multiplied by.
    """

    mapping: Tensor
    kept: Tensor
    scale: Tensor

    def __getitem__(self, index: slice) -> Injection:
        """That of some pictures of a batch."""
        return Injection(self.mapping[index], self.kept[index], self.scale[index])

    def to(self, device: torch.device | str) -> Injection:
        """The same on another device."""
        return Injection(self.mapping.to(device), self.kept.to(device), self.scale.to(device))

    def reweighted(self, positions: Sequence[int], scale: float) -> Injection:
        """The same with the maps of the tokens at `positions` multiplied by `scale`: the paper's c."""
        changed = self.scale.clone()
        changed[..., list(positions)] *= scale
        return replace(self, scale=changed)


def stack(injections: Sequence[Injection]) -> Injection:
    """One injection for each picture of a batch: a leading dimension n."""
    return Injection(
        torch.stack([i.mapping for i in injections]),
        torch.stack([i.kept for i in injections]),
        torch.stack([i.scale for i in injections]),
    )


def inject(source: Tensor, edited: Tensor, injection: Injection) -> Tensor:
    """The cross-attention maps to use for the edited prompt, from its own and those of the source.

    source, edited: (n, heads, queries, L); `injection` with a leading n, or none for all alike. The paper's
    Edit(M_t, M*_t, t) for word swap, refinement and re-weighting at once (section 3.2). As in its code,
    re-weighted maps are not normalised again.
    """
    mapping, kept, scale = injection.mapping, injection.kept, injection.scale
    if mapping.ndim == 3:
        mapping, kept, scale = mapping[:, None], kept[:, None, None], scale[:, None, None]
    return (source @ mapping * kept + edited * (1 - kept)) * scale


def swap_words(source: Sequence[Sequence[int]], edited: Sequence[Sequence[int]], length: int) -> Injection:
    """Word for word: each edited word takes the map of the source word in its place (section 3.2).

    source, edited: the prompts as words of tokens, without the special ones; `length`: L, with them and the
    padding. Where the prompts have different numbers of words ("a cat", "an ice cream"), all that lies between
    what they share in front and behind is exchanged as one. Words of different numbers of tokens give each new
    token an equal share, so every row of the mapping sums to 1 and no attention is lost. (The official code
    does the same, but needs equally many words, and leaves those behind a longer word where they stood.)
    Raises ValueError where nothing stands in the place of some words, or a prompt is longer than L.
    """
    mapping = torch.zeros(length, length)
    mapping[0, 0] = 1  # the start token
    i = j = 1
    for before, after in _in_pairs(source, edited):
        _check_length(max(i + len(before), j + len(after)), length)
        if len(before) == len(after):
            mapping[range(i, i + len(before)), range(j, j + len(after))] = 1
        else:
            mapping[i : i + len(before), j : j + len(after)] = 1 / len(after)
        i, j = i + len(before), j + len(after)
    _map_padding(mapping, i, j)
    return Injection(mapping, torch.ones(length), torch.ones(length))


def _in_pairs(
    source: Sequence[Sequence[int]], edited: Sequence[Sequence[int]]
) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Words that take each other's place."""
    if len(source) == len(edited):
        return list(zip(source, edited, strict=True))
    short = min(len(source), len(edited))
    front = next((k for k in range(short) if source[k] != edited[k]), short)
    behind = next((k for k in range(short - front) if source[-1 - k] != edited[-1 - k]), short - front)
    middle = [words[front : len(words) - behind] for words in (source, edited)]
    if not all(middle):
        raise ValueError(
            "a word swap needs a word in the place of another; to add or drop words is a refinement"
        )
    old, new = (tuple(token for word in words for token in word) for words in middle)
    shared = [(word, word) for word in source]
    return [*shared[:front], (old, new), *shared[len(source) - behind :]]


def refine(source: Sequence[int], edited: Sequence[int], length: int) -> Injection:
    """Tokens that both prompts have take the source's maps, new ones keep their own (section 3.2).

    source, edited: tokens without the special ones; `length`: L, with them and the padding. Raises
    ValueError where a prompt is longer than L.
    """
    _check_length(1 + max(len(source), len(edited)), length)
    mapping, kept = torch.zeros(length, length), torch.ones(length)
    mapping[0, 0] = 1
    for j, i in enumerate(align(source, edited)):
        if i is None:
            kept[1 + j] = 0
        else:
            mapping[1 + i, 1 + j] = 1
    _map_padding(mapping, 1 + len(source), 1 + len(edited))
    return Injection(mapping, kept, torch.ones(length))


def align(source: Sequence[int], edited: Sequence[int]) -> list[int | None]:
    """For each edited token the place of the same token in the source; None for a new one.

    The longest common subsequence. That is the official code's Needleman-Wunsch alignment, whose scores (gap
    0, match 1, mismatch -1) never pay for a mismatch; as there, the earliest match wins.
    """
    # best[i][j]: the longest common subsequence of source[:i] and edited[:j]
    best = [[0] * (len(edited) + 1) for _ in range(len(source) + 1)]
    for i, a in enumerate(source, 1):
        for j, b in enumerate(edited, 1):
            best[i][j] = max(best[i][j - 1], best[i - 1][j], best[i - 1][j - 1] + (a == b))
    places: list[int | None] = [None] * len(edited)
    i, j = len(source), len(edited)
    while i and j:
        if best[i][j] == best[i][j - 1]:
            j -= 1
        elif best[i][j] == best[i - 1][j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            places[j] = i
    return places


def positions(words: Sequence[Sequence[int]], chosen: int) -> list[int]:
    """Where the tokens of word number `chosen` stand in the padded prompt (the start token stands at 0)."""
    start = 1 + sum(len(word) for word in words[:chosen])
    return list(range(start, start + len(words[chosen])))


def _check_length(used: int, length: int) -> None:
    if used >= length:  # the end token needs a place too
        raise ValueError(f"the prompts do not fit into {length} tokens")


def _map_padding(mapping: Tensor, i: int, j: int) -> None:
    """Map what follows the words, end token and padding, in order; the last place takes what is left over."""
    last = len(mapping) - 1
    for k in range(len(mapping) - i):
        mapping[i + k, min(j + k, last)] = 1

"""Attention control: watching changes nothing, edits do what the paper says, tokens find their partners."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from denoised.diffusion.attention import (
    Injection,
    Layer,
    Recorder,
    align,
    controlled,
    inject,
    keep_text,
    positions,
    refine,
    stack,
    swap_words,
)

LENGTH = 8


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(16, 32),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=12,
            attention_head_dim=2,
            norm_num_groups=8,
        )
    return network.eval().requires_grad_(False)


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, LENGTH, 12, generator=generator)


def run(unet: UNet2DConditionModel, x: Tensor, text: Tensor) -> Tensor:
    output: Tensor = unet(x, 10, encoder_hidden_states=text).sample
    return output


def test_watching_changes_nothing_and_sees_probabilities(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    seen: list[tuple[Layer, tuple[int, ...]]] = []

    def watch(probabilities: Tensor, layer: Layer) -> Tensor:
        torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(probabilities.shape[:-1]))
        seen.append((layer, tuple(probabilities.shape)))
        return probabilities

    before, processors = run(unet, x, text), dict(unet.attn_processors)
    with controlled(unet, watch):
        torch.testing.assert_close(run(unet, x, text), before, atol=1e-5, rtol=1e-5)
    assert unet.attn_processors == processors
    assert [(layer.part, layer.cross, shape) for layer, shape in seen] == [
        ("down", False, (2, 2, 64, 64)),
        ("down", True, (2, 2, 64, LENGTH)),
        ("mid", False, (2, 2, 16, 16)),
        ("mid", True, (2, 2, 16, LENGTH)),
        *[("up", False, (2, 2, 64, 64)), ("up", True, (2, 2, 64, LENGTH))] * 2,
    ]


@pytest.fixture
def projected(unet: UNet2DConditionModel) -> Iterator[list[str]]:
    """The names of the layers that projected a text to keys and values, as they do."""
    names: list[str] = []
    layers = [
        (name, module) for name, module in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))
    ]

    def noting(name: str, forward: Any) -> Any:
        def noted(text: Tensor) -> Tensor:
            names.append(name)
            projected: Tensor = forward(text)
            return projected

        return noted

    for name, module in layers:
        module.forward = noting(name, module.forward)
    yield names
    for _, module in layers:
        del module.forward


def test_a_kept_text_is_projected_once_and_changes_no_bit(
    unet: UNet2DConditionModel, projected: list[str]
) -> None:
    x, text = inputs()
    texts = [text, text.clone(), text.flip(0), text.flip(0), text, text[:, :5]]
    with torch.inference_mode():
        plain = [run(unet, x, each) for each in texts]
        once = len(projected) // len(texts)
        projected.clear()
        with keep_text(unet):
            kept = [run(unet, x, each) for each in texts]
        assert len(projected) == once * 4  # four times another text than before
        assert all(torch.equal(a, b) for a, b in zip(plain, kept, strict=True))
        run(unet, x, text)
    assert len(projected) == once * 5, "outside the block nothing is kept"


def test_a_kept_text_that_was_written_into_is_seen(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    with torch.no_grad(), keep_text(unet):
        before = run(unet, x, text)
        text.mul_(2)
        after = unet(x, 10, text).sample  # as the third argument, without its name
    with torch.no_grad():
        assert torch.equal(after, run(unet, x, text)) and not torch.equal(after, before)


def test_gradients_reach_a_text_inside_the_block(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    gradients = []
    for inside in (False, True):
        leaf = text.clone().requires_grad_()
        with keep_text(unet) if inside else nullcontext():
            with torch.no_grad():
                run(unet, x, text)
            for _ in range(2):
                (gradient,) = torch.autograd.grad(run(unet, x, leaf).square().sum(), leaf)
            gradients.append(gradient)
    assert torch.equal(*gradients)


def test_a_text_is_kept_under_control_and_in_nested_blocks(
    unet: UNet2DConditionModel, projected: list[str]
) -> None:
    x, text = inputs()
    recorders = [Recorder(), Recorder()]
    with torch.no_grad(), controlled(unet, recorders[0]):
        plain = [run(unet, x, text) for _ in range(2)]
    projected.clear()
    with torch.no_grad(), keep_text(unet), controlled(unet, recorders[1]), keep_text(unet):
        kept = [run(unet, x, text) for _ in range(2)]
    assert len(projected) == len(set(projected))
    assert all(torch.equal(a, b) for a, b in zip(plain, kept, strict=True))
    for layer, total in recorders[0].total.items():
        assert torch.equal(total, recorders[1].total[layer])


def test_processors_come_back_after_an_error(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    processors = dict(unet.attn_processors)

    def fail(probabilities: Tensor, layer: Layer) -> Tensor:
        raise RuntimeError(layer.name)

    with (
        pytest.raises(RuntimeError, match="mid_block"),
        controlled(unet, fail, lambda layer: layer.part == "mid"),
    ):
        run(unet, x, text)
    assert unet.attn_processors == processors


def test_what_is_returned_is_what_is_used(unet: UNet2DConditionModel) -> None:
    """Where every query looks at the first token alone, texts that share it give the same picture."""
    x, text = inputs()
    x, text = x[:1].expand(2, -1, -1, -1), torch.cat([text[:1, :1].expand(2, -1, -1), text[:, 1:]], dim=1)

    def first_token(probabilities: Tensor, layer: Layer) -> Tensor:
        return torch.cat(
            [torch.ones_like(probabilities[..., :1]), torch.zeros_like(probabilities[..., 1:])], -1
        )

    one, other = run(unet, x, text)
    assert (one - other).abs().max() > 1e-3
    with controlled(unet, first_token, lambda layer: layer.cross):
        one, other = run(unet, x, text)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_recorder_keeps_means(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    recorder = Recorder()
    with controlled(unet, recorder):
        once = run(unet, x, text)
        twice = run(unet, x, text)
    torch.testing.assert_close(once, twice)
    maps = recorder.words(8)
    assert maps.shape == (2, 8, 8, LENGTH)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 8, 8))
    with pytest.raises(ValueError, match="no cross-attention layer of 5×5 pixels was recorded"):
        recorder.words(5)


# --- alignment --------------------------------------------------------------------------------------------


def needleman_wunsch(source: list[int], edited: list[int]) -> int:
    """The best score by trying every alignment: gap 0, match 1, mismatch -1."""
    if not source or not edited:
        return 0
    match = 1 if source[0] == edited[0] else -1
    return max(
        match + needleman_wunsch(source[1:], edited[1:]),
        needleman_wunsch(source[1:], edited),
        needleman_wunsch(source, edited[1:]),
    )


def test_alignment_is_the_best_of_all() -> None:
    choose = random.Random(0)
    for _ in range(300):
        source, edited = ([choose.randrange(3) for _ in range(choose.randrange(6))] for _ in range(2))
        places = align(source, edited)
        found = [i for i in places if i is not None]
        assert found == sorted(set(found))  # in order, each once
        assert all(source[i] == edited[j] for j, i in enumerate(places) if i is not None)
        assert len(found) == needleman_wunsch(source, edited)


def test_the_earliest_match_wins_as_in_the_official_code() -> None:
    assert align([1], [1, 1]) == [0, None]
    assert align([5, 1, 2], [5, 9, 1, 9, 2]) == [0, None, 1, None, 2]


def test_a_refinement_keeps_what_both_say() -> None:
    # start a cat end pad …  ->  start a cat wearing glasses end pad …
    injection = refine([1, 2], [1, 2, 3, 4], LENGTH)
    assert injection.kept.tolist() == [1, 1, 1, 0, 0, 1, 1, 1]
    pairs = [tuple(pair) for pair in injection.mapping.nonzero().tolist()]
    assert pairs == [(0, 0), (1, 1), (2, 2), (3, 5), (4, 6), (5, 7), (6, 7), (7, 7)]


def test_swapped_words_exchange_their_places_and_no_attention_is_lost() -> None:
    # a (2 tokens) cat  ->  a fox (3 tokens), behind it: here
    injection = swap_words([(1,), (2, 3), (9,)], [(1,), (4, 5, 6), (9,)], LENGTH)
    torch.testing.assert_close(injection.mapping.sum(dim=1), torch.ones(LENGTH))
    torch.testing.assert_close(injection.mapping[2:4, 2:5], torch.full((2, 3), 1 / 3))
    assert injection.mapping[4].nonzero().item() == 5  # "here" moved with the longer word
    assert injection.mapping[5].nonzero().item() == 6  # and so did the end


def test_phrases_of_different_lengths_are_exchanged_as_one() -> None:
    # a cat here  ->  a ice cream here
    injection = swap_words([(1,), (2,), (9,)], [(1,), (3,), (4,), (9,)], LENGTH)
    assert injection.mapping[1].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert injection.mapping[2].tolist() == [0, 0, 0.5, 0.5, 0, 0, 0, 0]
    assert injection.mapping[3].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    # and the other way round: both words' maps add up in the one that replaces them
    back = swap_words([(1,), (3,), (4,), (9,)], [(1,), (2,), (9,)], LENGTH)
    assert back.mapping[:, 2].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_every_row_of_a_swap_sums_to_one() -> None:
    choose = random.Random(0)
    for _ in range(200):
        words = choose.randrange(1, 4)
        source, edited = (
            [
                (choose.randrange(10**6),) * choose.randrange(1, 3)
                for _ in range(words + k * choose.randrange(2))
            ]
            for k in range(2)
        )
        mapping = swap_words(source, edited, 12).mapping
        torch.testing.assert_close(mapping.sum(dim=1), torch.ones(12))


def test_identical_prompts_map_to_themselves() -> None:
    eye = torch.eye(LENGTH)
    for injection in (
        swap_words([(1,), (2, 3)], [(1,), (2, 3)], LENGTH),
        refine([1, 2, 3], [1, 2, 3], LENGTH),
    ):
        assert torch.equal(injection.mapping, eye)
        maps = torch.rand(2, 4, 9, LENGTH)
        torch.testing.assert_close(inject(maps, torch.rand(2, 4, 9, LENGTH), injection), maps)


def test_inject_is_the_three_equations_of_section_3_2() -> None:
    generator = torch.Generator().manual_seed(0)
    source, edited = torch.rand(2, 2, 3, 4, LENGTH, generator=generator)
    swap = inject(source, edited, swap_words([(1,), (2,)], [(1,), (3,)], LENGTH))
    torch.testing.assert_close(swap, source)  # M_t
    added = inject(source, edited, refine([1, 2], [1, 7, 2], LENGTH))
    torch.testing.assert_close(added[..., 2], edited[..., 2])  # A(j) = None: M*_t
    torch.testing.assert_close(added[..., 3], source[..., 2])  # A(j) = i: M_t at i
    weaker = inject(source, edited, refine([1, 2], [1, 2], LENGTH).reweighted([2], -2.0))
    torch.testing.assert_close(weaker[..., 2], -2 * source[..., 2])  # c · M_t
    torch.testing.assert_close(weaker[..., 3:], source[..., 3:])


def test_a_batch_of_edits_is_each_edit_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    source, edited = torch.rand(2, 3, 2, 4, LENGTH, generator=generator)
    edits = [refine([1], [1, 2], LENGTH), refine([1, 2], [2], LENGTH), swap_words([(1, 2)], [(3,)], LENGTH)]
    together = inject(source, edited, stack(edits))
    for i, edit in enumerate(edits):
        torch.testing.assert_close(together[i], inject(source[i : i + 1], edited[i : i + 1], edit)[0])
    assert isinstance(stack(edits)[1:], Injection) and len(stack(edits)[1:].kept) == 2


def test_positions_count_the_start_token_and_tokens_of_earlier_words() -> None:
    assert positions([(5,), (6, 7), (8,)], 1) == [2, 3]
    assert positions([(5,), (6, 7), (8,)], 2) == [4]


def test_prompts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a word swap needs a word in the place of another"):
        swap_words([(1,), (2,)], [(1,)], LENGTH)
    for long in itertools.chain([(1,) * 7], [(1,) * 9]):
        with pytest.raises(ValueError, match="the prompts do not fit into 8 tokens"):
            swap_words([long], [long], LENGTH)
        with pytest.raises(ValueError, match="the prompts do not fit into 8 tokens"):
            refine(long, [1], LENGTH)

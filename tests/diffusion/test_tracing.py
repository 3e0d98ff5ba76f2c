"""A recorded UNet: the same bits, recorded once a shape, and never where recording would be wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from denoised.diffusion.attention import Recorder, controlled
from denoised.diffusion.tracing import traced


@pytest.fixture
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


@pytest.fixture
def walked(unet: UNet2DConditionModel) -> Iterator[list[int]]:
    """One number for each time that Python went through the UNet's modules: its batch."""
    batches: list[int] = []
    forward = unet.conv_in.forward

    def noted(x: Tensor) -> Tensor:
        batches.append(len(x))
        output: Tensor = forward(x)
        return output

    unet.conv_in.forward = noted
    yield batches
    del unet.conv_in.forward


def inputs(batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 4, 8, 8, generator=generator), torch.randn(batch, 5, 12, generator=generator)


def test_it_changes_no_bit_and_walks_the_modules_once_a_shape(
    unet: UNet2DConditionModel, walked: list[int]
) -> None:
    calls = [
        (batch, t, turn)
        for batch in (2, 3)
        for t in (10, torch.tensor(900), 0.5, torch.full((batch,), 37))
        for turn in (1, -1)  # of the text
    ]
    results = []
    for recorded in (False, True):
        walked.clear()
        with torch.inference_mode():
            if recorded:
                with traced(unet):
                    results.append([call(unet, *each) for each in calls])
            else:
                results.append([call(unet, *each) for each in calls])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    # of each batch: whole and fractional numbers are of two types, a timestep a picture is of another shape
    assert walked == [2, 2, 2, 3, 3, 3]
    walked.clear()
    call(unet, *calls[0])
    assert walked == [2], "outside the block the modules run"


def call(unet: UNet2DConditionModel, batch: int, t: float | Tensor, turn: int) -> Tensor:
    x, text = inputs(batch)
    output: Tensor = unet(x, t, encoder_hidden_states=turn * text).sample
    return output


def test_both_kinds_of_output(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    with torch.no_grad(), traced(unet):
        (plain,) = unet(x, 10, text, return_dict=False)
        assert torch.equal(plain, unet(x, 10, text, cross_attention_kwargs=None).sample)


def test_weights_that_change_in_place_are_seen(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    with torch.no_grad(), traced(unet):
        before = unet(x, 10, text).sample
        unet.conv_out.weight.mul_(2)
        after = unet(x, 10, text).sample
    with torch.no_grad():
        assert torch.equal(after, unet(x, 10, text).sample) and not torch.equal(after, before)


def test_gradients_pass_as_without(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    gradients: list[Tensor] = []
    for recorded in (False, True):
        leaf = text.clone().requires_grad_()
        if recorded:
            with traced(unet):
                with torch.no_grad():
                    unet(x, 10, text)
                output = unet(x, 10, leaf).sample
        else:
            output = unet(x, 10, leaf).sample
        gradients += torch.autograd.grad(output.square().sum(), leaf)
    assert torch.equal(*gradients)


def test_attention_that_is_controlled_inside_is_walked(unet: UNet2DConditionModel, walked: list[int]) -> None:
    x, text = inputs()
    recorder = Recorder()
    with torch.no_grad(), traced(unet):
        plain = unet(x, 10, text).sample
        walked.clear()
        with controlled(unet, recorder):
            unet(x, 10, text)
        assert recorder.calls and walked == [2]
        assert torch.equal(unet(x, 10, text).sample, plain) and walked == [2]


def test_more_than_a_text_is_walked(unet: UNet2DConditionModel, walked: list[int]) -> None:
    x, text = inputs()
    shapes = [(2, 16, 8, 8), (2, 16, 8, 8), (2, 16, 4, 4), (2, 32, 4, 4)]
    residuals = {
        "down_block_additional_residuals": tuple(torch.ones(shape) for shape in shapes),
        "mid_block_additional_residual": torch.ones(2, 32, 4, 4),
    }
    with torch.no_grad():
        expected = unet(x, 10, text, **residuals).sample
        with traced(unet):
            plain = unet(x, 10, text).sample
            walked.clear()
            given = unet(x, 10, text, **residuals).sample
    assert torch.equal(given, expected) and not torch.equal(given, plain) and walked == [2]


def test_hooks_of_the_unet_run_once_a_call(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    seen: list[int] = []
    hook = unet.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad(), traced(unet):
        for _ in range(3):
            unet(x, 10, text)
    hook.remove()
    assert seen == [1, 1, 1]


def test_blocks_may_nest_and_leave_nothing(unet: UNet2DConditionModel) -> None:
    x, text = inputs()
    with torch.no_grad():
        expected = unet(x, 10, text).sample
        with traced(unet), traced(unet):
            assert torch.equal(unet(x, 10, text).sample, expected)
        assert torch.equal(unet(x, 10, text).sample, expected)
    assert "forward" not in vars(unet)
    assert not any("forward" in vars(module) for module in unet.modules())

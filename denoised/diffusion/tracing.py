"""Recording the operations of a UNet once, and repeating them without the Python between them.

    with traced(unet):
        for prompt in prompts:
            pictures = ddim(denoiser, x, timesteps, condition=encode(prompt))

With few pictures at a time a good part of every step on a CPU is Python's way through the UNet's modules, which
is the same in each step. The recorded graph makes the same operations in the same order, so its output is the
same to the last bit. Recording takes about as long as thirty calls: it pays where many steps follow.

torch.jit.trace is deprecated, and still the right tool here: torch.compile needs a C++ compiler on the reader's
machine, and the graph of torch.export is walked by Python again (measured: no faster than the modules).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

from denoised.diffusion.attention import keep_text, text_projections


@contextmanager
def traced(unet: Any) -> Iterator[None]:
    """Inside the block, run the UNet as a graph that is recorded in its first call with inputs of each shape.

    `unet`: a UNet2DConditionModel. The keys and values of a text are computed once, as by `keep_text`. Calls that
    want gradients, autocast or more than a sample, a timestep and a text, or whose attention processors were
    replaced inside the block (`controlled`), run as before. Weights may be changed in place; modules and hooks
    inside the UNet may not. The UNet is as it was when the block ends.
    """
    if isinstance(unet.forward, _Traced):  # inside another block already
        yield
        return
    with keep_text(unet):
        own = vars(unet).get("forward")
        unet.forward = _Traced(unet)
        try:
            yield
        finally:
            del unet.forward
            if own is not None:  # else the class's is there again
                unet.forward = own


class _Traced:
    """The forward function of a UNet inside the block, and the graphs that it recorded."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self._forward = unet.forward
        self._projections = text_projections(unet)
        layers = [unet.get_submodule(key.removesuffix(".processor")) for key in unet.attn_processors]
        self._processors = [(layer, layer.processor) for layer in layers]
        self._graphs: dict[tuple[Any, ...], Callable[..., Tensor]] = {}

    def __call__(
        self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, *more: Any, **named: Any
    ) -> Any:
        """What UNet2DConditionModel.forward returns."""
        wanted = {name: value for name, value in named.items() if value is not None}
        as_object = wanted.pop("return_dict", True)
        if more or wanted or not self._repeatable(sample):
            return self._forward(sample, timestep, encoder_hidden_states, *more, **named)
        kept = [projection(encoder_hidden_states) for projection in self._projections]
        t = torch.as_tensor(timestep, device=sample.device)  # a number would become part of the graph
        output = self._run(sample, t, encoder_hidden_states, *kept)
        return UNet2DConditionOutput(sample=output) if as_object else (output,)

    def _repeatable(self, sample: Tensor) -> bool:
        if torch.is_grad_enabled() or torch.is_autocast_enabled(sample.device.type):
            return False
        return all(layer.processor is processor for layer, processor in self._processors)

    def _run(self, *inputs: Tensor) -> Tensor:
        key = (self._unet.training, *((each.shape, each.dtype, each.device) for each in inputs))
        if key not in self._graphs:
            network = _GivenText(self._unet, self._forward, self._projections)
            with warnings.catch_warnings():
                # Of deprecation (see above), and of branches on shapes, which are the key.
                warnings.simplefilter("ignore")
                self._graphs[key] = torch.jit.trace(network, inputs, check_trace=False)
        # The executor's own optimisations take seconds in the first calls, and gain nothing here.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return self._graphs[key](*inputs)


class _GivenText(nn.Module):
    """The UNet as a function of tensors alone, with the text's keys and values among them."""

    def __init__(self, unet: nn.Module, forward: Callable[..., Any], projections: Sequence[Any]) -> None:
        super().__init__()
        self.unet = unet  # so that its weights are the graph's, not constants in it
        self._forward, self._projections = forward, projections
        self.train(unet.training)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, *kept: Tensor) -> Tensor:
        """Like the UNet's, without its hooks, which run in every call anyway."""
        before = [projection.forward for projection in self._projections]
        for projection, made in zip(self._projections, kept, strict=True):
            projection.forward = lambda _, made=made: made
        try:
            output: Tensor = self._forward(sample, timestep, text, return_dict=False)[0]
        finally:
            for projection, own in zip(self._projections, before, strict=True):
                projection.forward = own
        return output

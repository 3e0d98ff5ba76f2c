"""Prompt-to-Prompt Image Editing with Cross Attention Control. Hertz et al., 2022. arXiv:2208.01626

The paper's symbols and the code's:
    𝒫, 𝒫* (source and edited prompt) -> edit.source, edit.edited    M_t, M*_t (their attention maps) -> source, edited
    Edit(M_t, M*_t, t) -> edit_maps        τ -> tau        A (alignment of tokens) -> align        c -> weight
    z_t, z*_t (source and edited latents) -> the two halves of x

Details that matter (the first four as in the authors' code, github.com/google/prompt-to-prompt):
- Only the conditional rows are edited; those of the empty prompt keep their own maps.
- For some first steps the self-attention maps are the source's too, in layers of at most 16² of 64² pixels.
- Refinement aligns the tokens, end and padding included; new tokens keep their own maps.
- Re-weighted maps do not sum to 1 any more, and are left so.
- Both prompts start from the same noise and run side by side in one batch, so that the source's maps of this
  very step and layer are at hand; nothing is trained or stored (Algorithm 1).
- DDIM without noise, classifier-free guidance. Blending outside a local mask is not used here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from denoised.diffusion.attention import (
    Control,
    Injection,
    Layer,
    controlled,
    inject,
    positions,
    refine,
    stack,
    swap_words,
)
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.samplers import ddim, ddim_step
from denoised.lab.editing import Edit, Kind, Task, editing_task, measure_edits
from denoised.lab.lab import Lab
from denoised.zoo.text_to_image import TextToImage


@dataclass
class Config:
    steps: int = 20  # sampling steps; with guidance each costs two network evaluations a picture
    tau: float = 0.8  # share of the steps during which the source's cross-attention maps are injected
    early: float = 0.4  # a smaller tau, to see what it does
    self_steps: float = 0.4  # share of the steps during which self-attention maps are replaced …
    self_pixels: float = 1 / 16  # … in layers of at most this share of the latents' pixels
    weight: float = -2.0  # factor of the maps of a word to be taken back: an end of the paper's [-2, 2]
    edits: list[str] = field(default_factory=list)  # "kind: source -> edited | word", in a world of prompts

    def __post_init__(self) -> None:
        shares = (self.tau, self.early, self.self_steps, self.self_pixels)
        if self.steps < 1 or not all(0 <= share <= 1 for share in shares):
            raise ValueError("steps must be at least 1; tau, early, self_steps and self_pixels lie in 0 … 1")


REHEARSAL: dict[str, Any] = {"steps": 5}
SCALES: dict[str, dict[str, Any]] = {
    "mini": {"model": "emoji-t2i", "images": 48, "batch": 16},
    "smoke": {"model": "emoji-t2i", "images": 4, "batch": 4, "steps": 2},
    # 50 steps and most of the prompts are those of the authors' notebook.
    "paper": {
        "model": "sd15",
        "data": "prompts",
        "clip": "clip-vit-b32",
        "images": 128,
        "batch": 4,
        "steps": 50,
        "edits": [
            "swap: a painting of a squirrel eating a burger -> a painting of a lion eating a burger",
            "swap: a painting of a squirrel eating a burger -> a painting of a squirrel eating a lasagne",
            "add: a painting of a squirrel -> a neoclassical painting of a squirrel | neoclassical",
            "add: a photo of a house on a mountain -> a photo of a house on a mountain at fall | fall",
            "remove: a pink bear riding a bicycle -> a bear riding a bicycle | pink",
            "remove: a smiling bunny doll -> a bunny doll | smiling",
        ],
    },
}

# The paper's three operations, and the kind of edit that each is asked to make here.
OPERATIONS: dict[str, Kind] = {"swap": "swap", "refine": "add", "reweight": "remove"}


def injection(model: TextToImage, edit: Edit, weight: float) -> Injection:
    """How the source's maps become those of the edited prompt, for one kind of edit. Section 3.2."""
    source, edited = model.words(edit.source), model.words(edited_prompt(edit))
    length = model.tokenizer.model_max_length
    if edit.kind == "swap":
        return swap_words(source, edited, length)
    aligned = refine(sum(source, ()), sum(edited, ()), length)
    if edit.kind == "add":
        return aligned
    (word,) = model.words(edit.word)
    return aligned.reweighted(positions(source, source.index(word)), weight)


def edited_prompt(edit: Edit) -> str:
    """What the edited half of the batch is conditioned on: re-weighting keeps the source's prompt."""
    return edit.source if edit.kind == "remove" else edit.edited


def edit_maps(injection: Injection, guided: bool, self_queries: float) -> Control:
    """Edit(M_t, M*_t, t) while it is in force. The rows are [source; edited], after those of no prompt."""

    def control(probabilities: Tensor, layer: Layer) -> Tensor:
        *null, source, edited = probabilities.chunk(4 if guided else 2)
        if layer.cross:
            edited = inject(source, edited, injection)
        elif source.shape[2] <= self_queries:
            edited = source
        return torch.cat([*null, source, edited])

    return control


def in_force(done: float, tau: float, self_steps: float) -> Callable[[Layer], bool]:
    """Which layers are edited when a share `done` of the steps is behind."""
    return lambda layer: done < (tau if layer.cross else self_steps)


def sample(
    denoiser: Denoiser,
    unet: Any,
    x: Tensor,
    timesteps: Sequence[int],
    injection: Injection,
    *,
    source: Tensor,
    edited: Tensor,
    tau: float,
    self_steps: float = 0.4,
    self_pixels: float = 1 / 16,
) -> Tensor:
    """Algorithm 1: latents (n, 2, …) of the source and its edit from one noise x (n, …).

    source, edited: text states (n, L, d). `injection`: with a leading n. `unet`: the one that `denoiser` calls.
    """
    control = edit_maps(injection, denoiser.passes == 2, self_pixels * x[0, 0].numel())
    x, condition = torch.cat([x, x]), torch.cat([source, edited])
    for i, (t, t_next) in enumerate(pairwise([*timesteps, -1])):
        with controlled(unet, control, where=in_force(i / len(timesteps), tau, self_steps)):
            prediction = denoiser(x, t, condition)
        x = ddim_step(prediction, t_next, denoiser.schedule)
    return torch.stack(x.chunk(2), dim=1)


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed, guidance counting twice and a pair as two."""
    paired = len(OPERATIONS) + 1  # the swap is also made with an early tau
    return 2 * config.steps * images * (2 * paired + len(OPERATIONS))


def rows_at_once(config: Config, batch: int) -> tuple[int, int]:
    """Pictures in the largest call (source and edit, each with and without its prompt), and in a training step."""
    return 4 * batch, 0


def reproduce(lab: Lab, config: Config) -> None:
    """Each operation from the same noise: with the source's attention maps, and by the prompt alone."""
    for operation, kind in OPERATIONS.items():
        task = editing_task(lab, kind, config.edits)
        reproduce_operation(lab, config, operation, task)
        lab.claim(task.change, "p2p", "<", "plain", at={"edit": operation})
        lab.claim(task.success, "p2p", ">=", "plain", at={"edit": operation}, margin=0.1)
        if operation == "swap" and task.exact:
            for other in ("plain", "p2p-early"):
                lab.claim("layout-iou", "p2p", ">", other, at={"edit": operation})


def reproduce_operation(lab: Lab, config: Config, operation: str, task: Task) -> None:
    """The arms of one operation, and what was measured on them."""
    model = lab.text_to_image()
    denoiser, timesteps = lab.count(model.denoiser()), model.timesteps(config.steps)
    x = lab.noise(model.latent_shape)
    maps = stack([injection(model, edit, config.weight) for edit in task.edits]).to(model.device)
    source = model.encode([edit.source for edit in task.edits])
    edited = model.encode([edited_prompt(edit) for edit in task.edits])
    reworded = model.encode([edit.edited for edit in task.edits])

    def with_maps(tau: float) -> Callable[[slice], Tensor]:
        def draw(part: slice) -> Tensor:
            latents = sample(
                denoiser,
                model.unet,
                x[part],
                timesteps,
                maps[part],
                source=source[part],
                edited=edited[part],
                tau=tau,
                self_steps=config.self_steps,
                self_pixels=config.self_pixels,
            )
            pictures = model.decode(latents.flatten(0, 1))
            return pictures.reshape(len(latents), 2, *pictures.shape[1:])

        return draw

    def by_prompt(part: slice) -> Tensor:
        return model.decode(ddim(denoiser, x[part], timesteps, condition=reworded[part]))

    arms = {}
    with lab.arm("p2p", edit=operation, tau=config.tau) as arms["p2p"]:
        before, arms["p2p"].images = lab.in_batches(with_maps(config.tau)).unbind(1)
    if operation == "swap":
        with lab.arm("p2p-early", edit=operation, tau=config.early) as arms["p2p-early"]:
            arms["p2p-early"].images = lab.in_batches(with_maps(config.early))[:, 1]
    with lab.arm("plain", edit=operation, tau=0.0) as arms["plain"]:
        arms["plain"].images = lab.in_batches(by_prompt)
    measure_edits(task, before.cpu(), arms)

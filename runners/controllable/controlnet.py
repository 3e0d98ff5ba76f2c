"""ControlNet: Adding Conditional Control to Text-to-Image Diffusion Models. Zhang, Rao and Agrawala, 2023.
arXiv:2302.05543

The paper's symbols and the code's:
    F(x; Θ), a locked block -> model.unet          F(·; Θ_c), its trainable copy -> control
    Z(·; Θ_z), a zero convolution: 1×1, weight and bias 0 -> control.controlnet_down_blocks, …_mid_block
    c_i, the condition as a picture -> hints     c_f = E(c_i), in latent resolution (Eq. 4) -> inside control
    y_c = F(x; Θ) + Z(F(x + Z(c; Θ_z1); Θ_c); Θ_z2) (Eq. 2) -> controlled(unet, control, hints)

Details that matter:
- At the start both Z give 0, so y_c = F(x; Θ) exactly (Eq. 3): no noise harms the trained network. Z still
  learns: its weight's gradient is its input, which is not 0.
- The copies read the prompt and t as the originals do. Only the encoder and the middle are copied; the copies'
  outputs are added to the skip connections and the middle of the locked decoder (Fig. 3).
- Half of the prompts in training are replaced by the empty one, so that the condition alone says what is to be
  drawn (§ 3.3). The loss is the plain one (Eq. 5), for the copy's weights and the zero convolutions alone.
- The control learns to follow all at once, at some step of training ("sudden convergence", Fig. 4), and a larger
  batch is worth more than more steps (docs/train.md of the official code).
- With guidance both halves, with and without the prompt, get the condition (gradio_canny2image.py); § 3.4 has
  another way, for pictures without a prompt.
- E halves the picture once for each level of the autoencoder. diffusers' default is made for a factor of 8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from denoised.diffusion.denoiser import Network
from denoised.diffusion.samplers import ddim
from denoised.diffusion.training import seeded, training_target
from denoised.lab.judging import JUDGE
from denoised.lab.lab import Arm, Lab
from denoised.language import Phrase
from denoised.metrics.edges import SIZE, edge_agreement
from denoised.worlds.emoji import SIZES, Scenes, change, edges, render, sample_scenes, truth
from denoised.zoo.text_to_image import TextToImage

EMBEDDING = (16, 32, 96, 256)  # channels of E, before the first halving and after each


@dataclass
class Config:
    train_steps: list[int] = field(default_factory=lambda: [240])  # the last is the claim's, others a curve
    train_batch: int = 16
    train_scenes: int = 2048  # drawn and encoded once
    learning_rate: float = 1e-3  # of AdamW
    drop_prompt: float = 0.5  # share of training prompts replaced by the empty one
    bf16: bool = True  # autocast of the networks in training
    steps: int = 20  # of DDIM, for the pictures that are measured
    guidance_scale: float | None = None  # null: the checkpoint's own

    def __post_init__(self) -> None:
        rising = sorted(set(self.train_steps)) == self.train_steps
        if not self.train_steps or not rising or self.train_steps[0] < 0:
            raise ValueError(f"train_steps must be a rising list of numbers, not {self.train_steps}")
        if min(self.train_batch, self.train_scenes, self.steps) < 1:
            raise ValueError("train_batch, train_scenes and steps must be at least 1")
        if not 0 <= self.drop_prompt <= 1:
            raise ValueError(f"drop_prompt must be from 0 to 1, not {self.drop_prompt}")


REHEARSAL: dict[str, Any] = {"train_steps": [2], "train_batch": 2, "train_scenes": 4, "steps": 2}
SCALES: dict[str, dict[str, Any]] = {
    "mini": {"model": "emoji-t2i", "images": 64, "batch": 32},
    "smoke": {"model": "emoji-t2i", **REHEARSAL},
    # The training of the official tutorial (docs/train.md) on a drawn data set: 4,000 steps of batch 4 at 1e-5.
    # The paper's own edges took 3 million pictures and 600 GPU hours. Sampling as in § 4: 20 DDIM steps.
    "paper": {
        "model": "sd15",
        "data": "prompts",
        "clip": "clip-vit-b32",
        "images": 256,
        "batch": 16,
        "train_steps": [4000],
        "train_batch": 4,
        "train_scenes": 20_000,
        "learning_rate": 1e-5,
        "bf16": False,
        "guidance_scale": 9.0,
    },
}


def add_control(model: TextToImage, seed: int) -> ControlNetModel:
    """A trainable copy of the UNet's encoder with zero convolutions, for conditions of one channel.

    Raises ValueError for an autoencoder that scales by more than 8.
    """
    factor = model.picture_size // model.latent_shape[-1]
    halvings = factor.bit_length() - 1
    if halvings >= len(EMBEDDING):
        raise ValueError(f"the autoencoder scales by {factor}, and conditions by at most 8")
    with seeded(seed):
        control: ControlNetModel = ControlNetModel.from_unet(
            model.unet, conditioning_embedding_out_channels=EMBEDDING[: halvings + 1], conditioning_channels=1
        )
    return control.to(model.device)


def controlled(unet: UNet2DConditionModel, control: ControlNetModel, hints: Tensor) -> Network:
    """y_c of Eq. 2: the locked UNet with what the control makes of the conditions (n, 1, h, w) in [0, 1].

    A batch of 2n, as guidance asks for, gets every condition twice.
    """

    def network(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        seen = hints.repeat(len(x) // len(hints), 1, 1, 1)
        skips, middle = control(x, t, condition, controlnet_cond=seen, return_dict=False)
        output: Tensor = unet(
            x,
            t,
            encoder_hidden_states=condition,
            down_block_additional_residuals=skips,
            mid_block_additional_residual=middle,
        ).sample
        return output

    return network


def conditions(scenes: Scenes, size: int) -> Tensor:
    """The scenes' edges as pictures, (n, 1, size, size), 0 or 1: found at 64 pixels, whatever the size."""
    return F.interpolate(edges(scenes, SIZE), size=(size, size), mode="nearest")


def train(
    model: TextToImage,
    control: ControlNetModel,
    scenes: Scenes,
    latents: Tensor,
    steps: int,
    config: Config,
    generator: torch.Generator,
    watch: Callable[[Network], Network],
) -> None:
    """Eq. 5: train the control in place on scenes with their latents (n, c, h, w)."""
    captions = scenes.captions("en")
    optimizer = torch.optim.AdamW(control.parameters(), config.learning_rate)
    control.train()
    for _ in range(steps):
        chosen = torch.randint(len(latents), (config.train_batch,), generator=generator)
        dropped = torch.rand(config.train_batch, generator=generator) < config.drop_prompt
        states = model.encode(["" if gone else captions[i] for i, gone in zip(chosen, dropped, strict=True)])
        hints = conditions(scenes[chosen], model.picture_size).to(model.device)
        x0 = latents[chosen].to(model.device)
        t = torch.randint(model.schedule.T, (len(x0),), generator=generator).to(x0.device)
        eps = torch.randn(x0.shape, generator=generator).to(x0.device)
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=config.bf16):
            network = watch(controlled(model.unet, control, hints))
            output = network(model.schedule.add_noise(x0, eps, t), t, states)
        target = training_target(x0, eps, t, model.schedule, model.parameterisation)
        optimizer.zero_grad()
        F.mse_loss(output.float(), target).backward()
        nn.utils.clip_grad_norm_(control.parameters(), 1.0)
        optimizer.step()
    control.eval()


def measure(lab: Lab, arm: Arm, scenes: Scenes) -> str:
    """Record whether the pictures have the condition's edges, and whether they show what the prompts say.

    Returns the name of the second measure: exact in the emoji world, a cosine of CLIP elsewhere.
    """
    assert arm.images is not None
    agreement = edge_agreement(arm.images, edges(scenes, SIZE))
    arm.record("edge-agreement", agreement, by=edge_agreement)
    if lab.world == "emoji":
        judge, name, asked = lab.judge(), "text-accuracy[emoji-judge]", truth(scenes)
        medium = scenes.size == [size for size, _, _ in SIZES].index("medium")
        asked["size"] = torch.where(medium, -1, asked["size"])  # captions do not say "medium"
        agrees = judge.agrees(judge(arm.images), asked)
        right = torch.stack([agrees[attribute] for attribute in asked]).all(dim=0)
        arm.record(name, right, by=judge.agrees, extractor=JUDGE)
    else:
        clip = lab.clip()
        name, score = f"clip-score[{clip.name}]", clip.similarity(arm.images, scenes.captions("en"))
        arm.record(name, score, by=clip.similarity, extractor=clip.description)
    return name


def network_rows(config: Config, images: int) -> int:
    """How many pictures networks are asked about in one seed, a training example counting three times.

    The control counts as a network of its own, though it is only the half of one.
    """
    sampled = (1 if config.guidance_scale == 1 else 2) * config.steps * images
    trained = sum(config.train_steps) * config.train_batch
    return sampled + 2 * (len(config.train_steps) * sampled + 3 * trained)


def reproduce(lab: Lab, config: Config) -> None:
    """Edges as the condition: with the control and without it, at the same prompts and noise."""
    model, size = lab.text_to_image(), lab.text_to_image().picture_size
    scenes = change(sample_scenes(lab.settings.images, lab.seed, "test", "full"), style="none")
    states, grid = model.encode(scenes.captions("en")), model.timesteps(config.steps)
    x = lab.noise(model.latent_shape)
    hints = conditions(scenes, size).to(model.device)
    above = Phrase(ko="위: 조건으로 준 경계", en="above: the edges given as the condition")

    def draw(part: slice, control: ControlNetModel | None) -> Tensor:
        network = None if control is None else controlled(model.unet, control, hints[part])
        denoiser = lab.count(model.denoiser(config.guidance_scale, network=network))
        return model.decode(ddim(denoiser, x[part], grid, condition=states[part]))

    with lab.arm("no-control") as arm:
        arm.images = lab.in_batches(lambda part: draw(part, None))
    text = measure(lab, arm, scenes)

    drawn = sample_scenes(config.train_scenes, lab.seed, "train", "full")
    parts = [slice(i, i + lab.settings.batch) for i in range(0, len(drawn), lab.settings.batch)]
    latents = torch.cat(
        [model.encode_pictures(render(drawn[part], size).to(model.device)).cpu() for part in parts]
    )
    for steps in config.train_steps:
        name = "control" if steps == config.train_steps[-1] else f"control-{steps}"
        with lab.arm(name, train_steps=steps) as arm:
            generator = torch.Generator().manual_seed(lab.seed)
            control = add_control(model, lab.seed)
            train(model, control, drawn, latents, steps, config, generator, lab.watch)
            arm.parameters_trained = sum(p.numel() for p in control.parameters())
            arm.images = lab.in_batches(lambda part, control=control: draw(part, control))  # type: ignore[misc]
        arm.show(hints.expand(-1, 3, -1, -1) * 2 - 1, above)
        measure(lab, arm, scenes)

    if lab.world == "emoji":
        with lab.arm("real-pictures") as arm:  # how high the measures can get
            arm.images = render(scenes, size)
        measure(lab, arm, scenes)
    lab.claim("edge-agreement", "control", ">", "no-control")
    lab.claim(text, "control", ">=", "no-control", margin=0.05 if lab.world == "emoji" else 0.01)

"""Textual Inversion: An Image is Worth One Word. Gal et al., 2022. arXiv:2208.01618

The paper's symbols and the code's:
    S*, the pseudo-word -> "<koala>", a token of its own      v*, its embedding (§ 3) -> NewWords.words
    c_θ(y), the text encoder -> model.encode_tokens           z_t -> x_t, a noisy latent      ε -> eps

Eq. 2: v* = argmin_v E_{z, y, ε, t} ‖ε - ε_θ(z_t, t, c_θ(y))‖². Networks, text encoder and every other word
stay as they are; a word is one vector.

Details that matter:
- v* starts at the embedding of one coarse word for the subject (§ 3, "Implementation details"). Here that word
  is found, not given: of the words for things of the subject's kind, the one with the lowest loss of Eq. 2 on
  the very same pictures. It is also the baseline, which so uses all that known words can say.
- With Adam a step moves each number of v* by about the learning rate, whatever the gradient, so the rate only
  means something beside the size of an embedding. The official code scales its 0.005 by batch and GPUs
  (main.py: 4 pictures on 2 GPUs give 0.04, for LDM's BERT); on Stable Diffusion, whose embeddings are far
  smaller, diffusers' example ends at 0.002.
- diffusers' example trains the whole table, where AdamW's decay and moments touch every row, and writes the
  old rows back after each step. `NewWords` holds the new rows apart, so there is nothing to write back.
- Prompts in training are neutral ("a photo of a S*"): what the pictures have in common goes into the word,
  so the pictures must differ in everything else. In this world's words: "a S*", "a small S*", "a large S*".
- The official code mirrors every second picture. Emoji are never mirrored in this world, so neither are these.
- Words of several subjects are trained side by side, each on its own pictures: no term of the loss holds two
  of them, and Adam does not see the loss's scale, so each comes out as if it were trained alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from denoised.diffusion.denoiser import Network
from denoised.diffusion.samplers import ddim
from denoised.diffusion.training import training_target
from denoised.lab.lab import Lab
from denoised.lab.subjects import Subject, draw_subjects, measure_subjects, subject_task
from denoised.worlds.emoji import load_atlas
from denoised.zoo.text_to_image import TextToImage


@dataclass
class Config:
    subjects: int = 4  # held-out emoji, each with a word of its own
    pictures: int = 5  # of each subject; the paper uses 3 to 5
    train_steps: int = 200
    train_batch: int = 4  # pictures of each subject in a step
    learning_rate: float = 5e-3  # of AdamW, as it is: not scaled by the batch
    name_background: bool = False  # training prompts say what is behind the subject
    trials: int = 4  # noises and timesteps for each picture, by which the existing word is chosen
    bf16: bool = True  # autocast of the networks in training
    steps: int = 20  # of DDIM, for the pictures that are measured
    guidance_scale: float | None = None  # null: the checkpoint's own

    def __post_init__(self) -> None:
        draw_subjects(self.subjects, self.pictures, seed=0)  # refuses what the world does not have
        if min(self.train_steps, self.train_batch, self.trials, self.steps) < 1:
            raise ValueError("train_steps, train_batch, trials and steps must be at least 1")


REHEARSAL: dict[str, Any] = {"subjects": 2, "train_steps": 2, "trials": 1, "steps": 2}
SCALES: dict[str, dict[str, Any]] = {
    "mini": {"model": "emoji-t2i", "images": 96, "batch": 48},
    "smoke": {"model": "emoji-t2i", "subjects": 1, "pictures": 3, "train_steps": 2, "trials": 1, "steps": 2},
    # § 3: 5,000 steps of batch 4; § 5.1: 64 samples of 50 DDIM steps for each word and prompt. The rate is that
    # of diffusers' example for Stable Diffusion. The subjects are the emoji: the paper's photographs are not
    # ours to ship.
    "paper": {
        "model": "sd15",
        "data": "prompts",
        "clip": "clip-vit-b32",
        "images": 256,
        "batch": 16,
        "train_steps": 5000,
        "learning_rate": 2e-3,
        "bf16": False,
        "steps": 50,
    },
}


class NewWords(nn.Module):
    """A frozen table of embeddings with new rows after it, v*: the only ones with a gradient.

    `first` is the token of the first new word; `start` (s, d) are the new rows before training.
    """

    def __init__(self, table: nn.Embedding, first: int, start: Tensor) -> None:
        super().__init__()
        self.table, self.first = table.requires_grad_(False), first
        self.words = nn.Parameter(start.clone())

    def forward(self, tokens: Tensor) -> Tensor:
        """Embeddings (…, d) of tokens (…)."""
        new = tokens >= self.first
        known: Tensor = self.table(tokens.masked_fill(new, 0))
        return torch.where(new[..., None], self.words[(tokens - self.first).clamp(min=0)], known)


def denoising_loss(
    model: TextToImage, network: Network, x0: Tensor, states: Tensor, t: Tensor, eps: Tensor
) -> Tensor:
    """(n,): the loss under the expectation of Eq. 2, of latents x0 (n, c, h, w) with text states (n, L, d).

    In whatever the network predicts, which is ε in the paper.
    """
    output = network(model.schedule.add_noise(x0, eps, t), t, states)
    target = training_target(x0, eps, t, model.schedule, model.parameterisation)
    return (output.float() - target).square().mean(dim=(1, 2, 3))


@torch.no_grad()
def choose_word(
    model: TextToImage,
    network: Network,
    latents: Tensor,
    prompts: Sequence[Sequence[str]],
    trials: int,
    generator: torch.Generator,
) -> int:
    """Eq. 2 over words there are: which of them explains the pictures best, at equal noises and timesteps.

    latents (p, c, h, w) of the pictures, and for each word its p prompts.
    """
    x0 = latents.repeat(trials, 1, 1, 1)
    t = torch.randint(model.schedule.T, (len(x0),), generator=generator).to(x0.device)
    eps = torch.randn(x0.shape, generator=generator).to(x0.device)
    losses = [
        denoising_loss(model, network, x0, model.encode(each).repeat(trials, 1, 1), t, eps).mean()
        for each in prompts
    ]
    return int(torch.stack(losses).argmin())


def add_words(model: TextToImage, names: Sequence[str], start: Tensor) -> tuple[TextToImage, NewWords]:
    """A copy of the model that reads `names` as new words, whose embeddings start at `start` (s, d)."""
    text_encoder = deepcopy(model.text_encoder)
    with TemporaryDirectory() as folder:  # deepcopy loses the decoder that CLIPTokenizer wraps
        model.tokenizer.save_pretrained(folder)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    first = len(tokenizer)
    if tokenizer.add_tokens(list(names)) != len(names):
        raise ValueError(f"the tokenizer knows one of {', '.join(names)} already")
    table = text_encoder.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    words = NewWords(table, first, start)
    text_encoder.set_input_embeddings(words)
    return replace(model, tokenizer=tokenizer, text_encoder=text_encoder), words


def learn(
    model: TextToImage,
    words: NewWords,
    network: Network,
    latents: Tensor,
    prompts: Sequence[Sequence[str]],
    config: Config,
    generator: torch.Generator,
) -> None:
    """Eq. 2: train the new words in place, word i on latents[i] (p, c, h, w) with its p prompts.

    `model` and `words` are what `add_words` returned; `network` is the frozen UNet.
    """
    subjects, pictures = latents.shape[:2]
    tokens = torch.stack([model.tokenize(each) for each in prompts])
    owner = torch.arange(subjects).repeat_interleave(config.train_batch)
    optimizer = torch.optim.AdamW([words.words], config.learning_rate)
    for _ in range(config.train_steps):
        chosen = torch.randint(pictures, owner.shape, generator=generator)
        x0 = latents[owner, chosen]
        t = torch.randint(model.schedule.T, owner.shape, generator=generator).to(x0.device)
        eps = torch.randn(x0.shape, generator=generator).to(x0.device)
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=config.bf16):
            states = model.encode_tokens(tokens[owner, chosen])
            losses = denoising_loss(model, network, x0, states, t, eps)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()


def embedding(model: TextToImage, name: str) -> Tensor:
    """(d,): the embedding of a word; the mean of its tokens' where it has several."""
    tokens = [token for word in model.words(name) for token in word]
    rows: Tensor = model.text_encoder.get_input_embeddings()(torch.tensor(tokens, device=model.device))
    return rows.mean(dim=0)


def sample(lab: Lab, model: TextToImage, prompts: Sequence[str], config: Config) -> Tensor:
    """Pictures (n, 3, h, w) for n prompts, from the seed's noise."""
    states, x, grid = model.encode(prompts), lab.noise(model.latent_shape), model.timesteps(config.steps)
    denoiser = lab.count(model.denoiser(config.guidance_scale))
    return lab.in_batches(lambda part: model.decode(ddim(denoiser, x[part], grid, condition=states[part])))


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed, a training example counting three times."""
    groups = [thing.group for thing in load_atlas().objects]
    words = sum(groups.count(s.thing.group) for s in draw_subjects(config.subjects, config.pictures, seed=0))
    chosen, trained = words * config.trials * config.pictures, rows_at_once(config, 0)[1] * config.train_steps
    passes = 1 if config.guidance_scale == 1 else 2
    return chosen + 3 * trained + 2 * passes * config.steps * images  # two arms


def rows_at_once(config: Config, batch: int) -> tuple[int, int]:
    """Pictures in the largest call of sampling, with guidance, and in a training step."""
    return 2 * batch, config.subjects * config.train_batch


def reproduce(lab: Lab, config: Config) -> None:
    """The learned word against the existing word it started from, in scenes its pictures did not show. § 5."""
    model, task = lab.text_to_image(), subject_task(lab, config.subjects, config.pictures)
    network, generator = lab.watch(model.network), torch.Generator().manual_seed(lab.seed)
    latents = model.encode_pictures(task.examples.flatten(0, 1).to(model.device))
    latents = latents.unflatten(0, task.examples.shape[:2])

    def describe(subject: Subject, word: str) -> list[str]:
        return [subject.describe(s, word, background=config.name_background) for s in subject.examples]

    with lab.arm("existing-word") as arm:
        existing = []
        for subject, own in zip(task.subjects, latents, strict=True):
            words = [thing.en for thing in load_atlas().objects if thing.group == subject.thing.group]
            prompts = [describe(subject, word) for word in words]
            existing.append(words[choose_word(model, network, own, prompts, config.trials, generator)])
        arm.images = sample(lab, model, task.prompts(existing), config)
    measure_subjects(lab, task, arm)

    with lab.arm("new-word") as arm:
        names = [subject.placeholder for subject in task.subjects]
        start = torch.stack([embedding(model, word) for word in existing])
        taught, new = add_words(model, names, start)
        prompts = [describe(subject, subject.placeholder) for subject in task.subjects]
        learn(taught, new, network, latents, prompts, config, generator)
        arm.parameters_trained = new.words.numel()
        arm.images = sample(lab, taught, task.prompts(names), config)
    measure_subjects(lab, task, arm)

    if task.real is not None:
        with lab.arm("real-pictures") as arm:  # how high the measures can get
            arm.images = task.real
        measure_subjects(lab, task, arm)
    lab.claim(task.likeness, "new-word", ">", "existing-word")
    lab.claim(task.following, "new-word", ">=", "existing-word", margin=task.margin)

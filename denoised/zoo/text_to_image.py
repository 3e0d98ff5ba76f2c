"""Text-to-image checkpoints in Stable Diffusion's layout, as plain parts that methods are written against.

    zoo/emoji-t2i/ or a Stable Diffusion 1.5 folder:
        tokenizer/  text_encoder/  vae/  unet/  scheduler/  model_index.json

The classes are those of diffusers and transformers. Weights are safetensors only, the half-precision
`*.fp16.safetensors` where there is no other; they are computed with in float32 either way. A folder with a
manifest is checked against it before a byte is parsed. `safety_checker/`, `feature_extractor/` and whatever
else lies in the folder are not read.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from denoised.diffusion.denoiser import Denoiser, Network, Parameterisation
from denoised.diffusion.guidance import classifier_free
from denoised.diffusion.schedule import Schedule, Spacing, timesteps
from denoised.errors import DenoisedError, Exit
from denoised.language import say
from denoised.zoo.load import WEIGHTS, check_folder, damaged, fill, missing, read_json
from denoised.zoo.manifest import verify

TEXT_WEIGHTS = "model.safetensors"
GUIDANCE_SCALE = 7.5  # where the manifest states none: what Stable Diffusion is used with
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class TextToImage:
    """A latent diffusion model with its text encoder and autoencoder, all frozen and in float32.

    `guidance_scale` is the one the checkpoint is meant for, in the convention of
    `denoised.diffusion.guidance`. `files` are the files that were read, for the record; `facts` is the
    manifest ({} without one). One instance serves every seed of a run: to train a part, copy it and use
    `dataclasses.replace`.
    """

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    schedule: Schedule
    parameterisation: Parameterisation
    spacing: Spacing
    steps_offset: int
    guidance_scale: float
    files: tuple[Path, ...]
    facts: dict[str, Any]

    @property
    def device(self) -> torch.device:
        """Where the networks are, and where conditions, latents and pictures come out."""
        device: torch.device = self.unet.device
        return device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents that the UNet was trained on."""
        size = self.unet.config.sample_size
        return (self.unet.config.in_channels, size, size)

    @property
    def picture_size(self) -> int:
        """Pixels a side of the pictures that such latents decode to."""
        size: int = self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        return size

    # --- text ---------------------------------------------------------------------------------------------

    def words(self, prompt: str) -> list[tuple[int, ...]]:
        """The tokens of each word of a prompt, without the special ones.

        Raises DenoisedError (USAGE) for a word outside a closed vocabulary and for a prompt that is too long.
        """
        encoded = self.tokenizer(prompt)
        tokens = list(zip(encoded.word_ids(), encoded["input_ids"], strict=True))[1:-1]
        words = [tuple(token for _, token in word) for _, word in groupby(tokens, key=lambda each: each[0])]
        if "words" in self.facts:
            for word in words:
                self._check_word(word, prompt)
        limit = self.tokenizer.model_max_length
        if len(encoded["input_ids"]) > limit:
            raise DenoisedError(
                say(
                    ko=f"프롬프트가 토큰 {len(tokens)}개로, 이 텍스트 인코더가 읽는 {limit - 2}개를 넘는다: "
                    f"{prompt!r}",
                    en=f"the prompt has {len(tokens)} tokens, but this text encoder reads {limit - 2}: "
                    f"{prompt!r}",
                )
            )
        return words

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Tokens (n, L) int64, padded to the text encoder's length; raises what `words` raises."""
        for prompt in prompts:
            self.words(prompt)
        encoded = self.tokenizer(list(prompts), padding="max_length", return_tensors="pt")
        tokens: Tensor = encoded["input_ids"]
        return tokens.to(self.device)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """The text encoder's last states (n, L, d) of tokens (n, L), with gradients."""
        states: Tensor = self.text_encoder(tokens).last_hidden_state
        return states

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """The text encoder's last states (n, L, d), what the denoiser is conditioned on.

        Raises what `words` raises.
        """
        return self.encode_tokens(self.tokenize(prompts))

    def _check_word(self, word: tuple[int, ...], prompt: str) -> None:
        """Refuse a word that the tokenizer has to spell out of letters.

        Known are one listed word, a Hangul word that falls into listed pieces (고양이|가), and words that were
        added to the tokenizer.
        """
        known = set(self.facts["words"])
        added = self.tokenizer.get_added_vocab().values()
        pieces = [str(self.tokenizer.decode([token])).strip() for token in word]
        listed = [token in added or piece in known for token, piece in zip(word, pieces, strict=True)]
        text = str(self.tokenizer.decode(list(word))).strip()
        if all(listed) and (len(word) == 1 or _is_hangul(text)):
            return
        near = difflib.get_close_matches(text, sorted(known), n=1, cutoff=0.5)
        raise DenoisedError(
            say(
                ko=f"이 체크포인트는 {text!r}라는 낱말을 모른다 (프롬프트: {prompt!r})",
                en=f"this checkpoint does not know the word {text!r} (prompt: {prompt!r})",
            ),
            help=say(ko=f"혹시 {near[0]!r}?", en=f"did you mean {near[0]!r}?") if near else None,
        )

    # --- pictures -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) in [-1, 1] from latents (n, c, h', w')."""
        pictures: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return pictures.clamp(-1, 1)

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Latents (n, c, h', w') of pictures (n, 3, h, w) in [-1, 1]: the posterior's mean, scaled."""
        latents: Tensor = self.vae.encode(pictures).latent_dist.mean * self.vae.config.scaling_factor
        return latents

    # --- denoising ----------------------------------------------------------------------------------------

    @property
    def network(self) -> Network:
        """The UNet as a function of (x, timesteps, text states), with gradients: for training."""

        def network(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
            output: Tensor = self.unet(x, t, encoder_hidden_states=condition).sample
            return output

        return network

    def denoiser(
        self,
        guidance_scale: float | None = None,
        null: Tensor | None = None,
        network: Network | None = None,
    ) -> Denoiser:
        """A fresh denoiser conditioned on text states (n, L, d), with its counters at zero.

        `guidance_scale`: None for the checkpoint's own; at 1 the network is called without guidance.
        `null`: the states that stand for no text, (L, d) or one for each picture; the empty prompt's if None.
        `network`: what to call instead of the bare UNet, for methods that add to it.
        """
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        network = network or self.network
        if scale == 1:
            return Denoiser(network, self.schedule, self.parameterisation)
        null = self.encode([""]) if null is None else null
        guided = classifier_free(network, null, scale)
        return Denoiser(guided, self.schedule, self.parameterisation, passes=2)

    def timesteps(self, steps: int) -> list[int]:
        """`steps` decreasing timesteps on the grid that the folder's scheduler describes.

        Raises DenoisedError where the schedule has no such grid.
        """
        try:
            grid = timesteps(self.schedule.T, steps, self.spacing)
        except ValueError as error:
            raise DenoisedError(str(error)) from error
        return [min(t + self.steps_offset, self.schedule.T - 1) for t in grid]


def load_text_to_image(
    folder: Path, device: torch.device | str = "cpu", *, shipped: bool = False
) -> TextToImage:
    """Load a folder in Stable Diffusion's layout. One that is `shipped` with the project must have its manifest.

    Raises DenoisedError: USAGE where the folder or a part of it is missing, INTEGRITY where a file does not
    match the manifest, describes another kind of component, or does not fit the others.
    """
    check_folder(folder)
    facts = verify(folder) if shipped or (folder / "manifest.json").exists() else {}
    index = folder / "model_index.json"
    if index.exists():
        expect(index, read_json(index).get("_class_name"), "StableDiffusionPipeline")

    tokenizer, tokenizer_files = load_tokenizer(folder / "tokenizer")
    text_config = folder / "text_encoder" / "config.json"
    config = read_json(text_config)
    expect(text_config, (config.get("architectures") or [None])[0], "CLIPTextModel")
    text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(config))
    text_weights = _fill(text_encoder, folder / "text_encoder" / TEXT_WEIGHTS)

    vae, vae_files = _load_network(folder / "vae", AutoencoderKL)
    unet, unet_files = _load_network(folder / "unet", UNet2DConditionModel)
    scheduler_config = folder / "scheduler" / "scheduler_config.json"
    scheduler = read_json(scheduler_config)
    try:
        schedule = Schedule.from_config(scheduler)
    except (KeyError, ValueError) as error:
        raise damaged(scheduler_config, str(error)) from error

    spacing = scheduler.get("timestep_spacing", "leading")  # diffusers' default
    _check_fit(folder, "text_encoder", text_encoder.config.hidden_size, unet.config.cross_attention_dim)
    _check_fit(folder, "vae", vae.config.latent_channels, unet.config.in_channels)
    _check_fit(folder, "tokenizer", tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    for network in (text_encoder, vae, unet):
        network.eval().requires_grad_(False).to(device)
    return TextToImage(
        tokenizer,
        text_encoder,
        vae,
        unet,
        schedule,
        scheduler.get("prediction_type", "epsilon"),
        spacing,
        scheduler.get("steps_offset", 0) if spacing == "leading" else 0,  # as in diffusers
        float(facts.get("guidance_scale", GUIDANCE_SCALE)),
        (*tokenizer_files, text_config, text_weights, *vae_files, *unet_files, scheduler_config),
        facts,
    )


def load_tokenizer(folder: Path) -> tuple[CLIPTokenizer, list[Path]]:
    """The tokenizer in a folder and its files. DenoisedError where a file is missing or of another kind."""
    config = folder / "tokenizer_config.json"
    name = str(read_json(config).get("tokenizer_class")).removesuffix("Fast")
    expect(config, name, "CLIPTokenizer")
    read_json(folder / "vocab.json")
    if not (folder / "merges.txt").is_file():
        raise missing(folder / "merges.txt")
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer, [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]


def _load_network(folder: Path, kind: Any) -> tuple[Any, list[Path]]:
    """A diffusers network of class `kind`, and the files it was read from."""
    config = read_json(folder / "config.json")
    expect(folder / "config.json", config.get("_class_name"), kind.__name__)
    network = kind.from_config(config)
    return network, [folder / "config.json", _fill(network, folder / WEIGHTS)]


def _fill(network: nn.Module, file: Path) -> Path:
    """Load the file, or its half-precision twin where only that is there; returns the one that was read."""
    half = file.with_suffix(".fp16.safetensors")
    if not file.exists() and half.exists():
        file = half
    fill(network, file, _without_prefix if isinstance(network, CLIPTextModel) else lambda name: name)
    return file


def _without_prefix(name: str) -> str | None:
    """The name that a published CLIP text tensor has in today's class, which has lost a level and a buffer."""
    name = name.removeprefix("text_model.")
    return None if name == "embeddings.position_ids" else name


def expect(file: Path, found: str | None, wanted: str) -> None:
    """Raise DenoisedError (INTEGRITY) where a config describes another kind of component than is wanted."""
    if found != wanted:
        raise DenoisedError(
            say(
                ko=f"{file}: {wanted}이어야 하는데 {found!r}이다",
                en=f"{file}: a {wanted} is needed, not {found!r}",
            ),
            help=say(
                ko="Stable Diffusion 1.x 배치의 폴더를 model=폴더로 준다",
                en="give a folder in the layout of Stable Diffusion 1.x with model=FOLDER",
            ),
            code=Exit.INTEGRITY,
        )


def _check_fit(folder: Path, part: str, size: int, wanted: int) -> None:
    """Refuse components that were not made for each other."""
    if size != wanted:
        raise DenoisedError(
            say(
                ko=f"{folder}의 {part}는 다른 모델의 것이다: 크기가 {wanted}이어야 하는데 {size}이다",
                en=f"the {part} in {folder} belongs to another model: its size is {size}, not {wanted}",
            ),
            code=Exit.INTEGRITY,
        )


def _is_hangul(text: str) -> bool:
    return all(unicodedata.name(letter, "").startswith("HANGUL") for letter in text)

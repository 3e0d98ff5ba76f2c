"""emoji-clip: one space for scenes and their captions, English and Korean.

A transformers CLIPModel (Radford et al. 2021, arXiv:2103.00020): a vision transformer and a causal text
transformer, trained with the symmetric contrastive loss of the paper's Figure 3. Two additions suit a world
whose truth is known: beside the other captions of the batch each picture is contrasted with captions that
differ from its own in one attribute, and linear heads read the attributes off both towers' pooled states. The
heads help training and are not shipped. Two choices matter for which object stands left of which: half of the
distractors of two objects differ in just that, since captions of the same words in another order are rare in a
batch, and the heads read the pooled states. With heads on the embeddings, which have length 1, and one
distractor in five, both towers were still guessing after 4,000 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from denoised.diffusion.training import warmup_cosine
from denoised.files import write_whole
from denoised.language import Phrase, say
from denoised.pictures import grid, png
from denoised.worlds.emoji import (
    RELATIONS,
    Language,
    Scene,
    Scenes,
    attributes,
    caption,
    distractor,
    render,
    sample_scenes,
    truth,
)
from denoised.zoo.publish import COMPUTED_IN, row, save_json, save_weights
from denoised.zoo.publish import publish as publish_folder
from denoised.zoo.tokenizer import FILES, LENGTH, known_words, load_tokenizer, write_tokenizer
from denoised.zoo.train import Training

NAME = "emoji-clip"
SIZE, WIDTH = 64, 128
MEASURED = 2_000  # scenes of each split
# Pictures in [0, 1] to [-1, 1], as everything here works in.
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": SIZE},
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_convert_rgb": True,
}


@dataclass
class Config:
    steps: int = 4_000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 300  # steps until the learning rate is full; then half a cosine to zero
    weight_decay: float = 0.0
    ema: float = 0.998  # decay of the averaged weights, which are the ones shipped
    gradient_clip: float = 1.0
    distractors: int = 1  # captions that differ in one attribute, for each picture
    other_relation: float = 0.5  # share of two objects' distractors in which it is the relation that differs
    no_background: float = 0.15  # share of captions that leave the background out
    attributes: float = 0.25  # weight of each head's loss
    bf16: bool = True  # autocast of the forward pass; weights and optimizer stay float32
    seed: int = 0


class Towers(nn.Module):
    """The CLIP model with a linear head for each attribute on each of its towers."""

    def __init__(self) -> None:
        super().__init__()
        with TemporaryDirectory() as folder:
            write_tokenizer(Path(folder))
            self.tokenizer = load_tokenizer(Path(folder))
        self.clip = CLIPModel(clip_config(len(self.tokenizer)))
        self.picture_heads = nn.Linear(WIDTH, sum(attributes().values()))
        self.caption_heads = nn.Linear(WIDTH, sum(attributes().values()))


def clip_config(vocabulary: int) -> CLIPConfig:
    """Two transformers of four layers, 128 wide; patches of 8×8 pixels."""
    shared = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "projection_dim": WIDTH,
    }
    ends = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
    return CLIPConfig(
        text_config=shared | ends | {"vocab_size": vocabulary, "max_position_embeddings": LENGTH},
        vision_config=shared | {"image_size": SIZE, "patch_size": 8},
        projection_dim=WIDTH,
    )


def build(config: Config) -> Towers:
    towers = Towers()
    towers.clip.set_attn_implementation("eager")  # on a CPU more than twice as fast to train as the fused one
    return towers


def learning_rate(config: Config, step: int) -> float:
    return config.learning_rate * warmup_cosine(step, config.steps, config.warmup)


def loss(network: Towers, config: Config, step: int) -> Tensor:
    """Contrastive loss both ways, and the heads' cross-entropy on both towers."""
    seed = int(np.random.SeedSequence([config.seed, step]).generate_state(1, np.uint64)[0])
    random = np.random.default_rng(seed)
    scenes = sample_scenes(config.batch, seed, "train", "full")
    own, others, kept = [], [], []
    for i in range(len(scenes)):
        scene = scenes.describe(i)
        language: Language = "ko" if random.random() < 0.5 else "en"
        background = random.random() >= config.no_background
        own.append(caption(scene, language, background=background))
        kept.append(background)
        for _ in range(config.distractors):
            turned = scene.second is not None and random.random() < config.other_relation
            others.append(caption(distractor(scene, random, "relation" if turned else None), language))
    drawn = render(scenes, SIZE)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        seen_states = network.clip.vision_model(drawn).pooler_output
        said_states = _caption_states(network, own + others)
        pictures = F.normalize(network.clip.visual_projection(seen_states), dim=1)
        captions = F.normalize(network.clip.text_projection(said_states), dim=1)
        of_pictures = network.picture_heads(seen_states).float()
        of_captions = network.caption_heads(said_states[: len(own)]).float()
    logits = network.clip.logit_scale.exp().clamp(max=100) * pictures.float() @ captions.float().T
    # A caption that is true of several pictures of the batch counts as true for each of them.
    same = torch.tensor([[a == b for b in own + others] for a in own])
    same[:, len(own) :] = False
    forwards = F.cross_entropy(logits, same.float() / same.sum(dim=1, keepdim=True))
    square, symmetric = logits[:, : len(own)].T, same[:, : len(own)].float()
    backwards = F.cross_entropy(square, symmetric / symmetric.sum(dim=1, keepdim=True))
    seen = truth(scenes)
    said = {name: column.clone() for name, column in seen.items()}
    for name in ("background", "texture"):
        said[name][~torch.tensor(kept)] = -1
    read = _heads_loss(of_pictures, seen) + _heads_loss(of_captions, said)
    total: Tensor = (forwards + backwards) / 2 + config.attributes * read
    return total


def _heads_loss(logits: Tensor, truths: dict[str, Tensor]) -> Tensor:
    """The sum over attributes of their cross-entropies; class -1 is ignored."""
    parts = logits.split(list(attributes().values()), dim=1)
    losses = [
        F.cross_entropy(part, truths[name], ignore_index=-1)
        for name, part in zip(attributes(), parts, strict=True)
        if bool((truths[name] >= 0).any())
    ]
    return torch.stack(losses).sum()


def embed_pictures(clip: CLIPModel, pictures: Tensor) -> Tensor:
    """Pictures (n, 3, 64, 64) in [-1, 1] as unit vectors (n, 128)."""
    return F.normalize(clip.visual_projection(clip.vision_model(pictures).pooler_output), dim=1)


def embed_captions(network: Towers, captions: list[str]) -> Tensor:
    """Captions as unit vectors (n, 128)."""
    return F.normalize(network.clip.text_projection(_caption_states(network, captions)), dim=1)


def _caption_states(network: Towers, captions: list[str]) -> Tensor:
    tokens = network.tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
    states: Tensor = network.clip.text_model(tokens).pooler_output
    return states


def retrieval(network: Towers, scenes: Scenes, language: Language, among: int = 100) -> float:
    """How often a scene's own caption is the nearest of `among` scenes' captions."""
    with torch.inference_mode():
        captions = scenes.captions(language)
        similarity = embed_pictures(network.clip, render(scenes, SIZE)) @ embed_captions(network, captions).T
    found = []
    for first in range(0, len(scenes) - among + 1, among):
        chosen = similarity[first : first + among, first : first + among].argmax(dim=1)
        found += [captions[first + int(c)] == captions[first + i] for i, c in enumerate(chosen)]
    return sum(found) / len(found)


def discrimination(
    network: Towers, scenes: Scenes, language: Language, others: Sequence[Sequence[Scene]]
) -> float:
    """How often a scene's own caption beats those of `others`, descriptions equally many for each scene."""
    described = [[scenes.describe(i), *wrong] for i, wrong in enumerate(others)]
    with torch.inference_mode():
        captions = embed_captions(network, [caption(scene, language) for row in described for scene in row])
        pictures = embed_pictures(network.clip, render(scenes, SIZE))
    similarity = (captions.unflatten(0, (len(scenes), -1)) * pictures[:, None]).sum(dim=2)
    return float((similarity.argmax(dim=1) == 0).float().mean())


def one_attribute(network: Towers, scenes: Scenes, language: Language, seed: int, among: int = 5) -> float:
    """How often a scene's own caption beats `among` - 1 captions that differ from it in one attribute."""
    random = np.random.default_rng(seed)
    others = [[distractor(scenes.describe(i), random) for _ in range(among - 1)] for i in range(len(scenes))]
    return discrimination(network, scenes, language, others)


def relation(network: Towers, scenes: Scenes, language: Language) -> float:
    """How often a caption of two objects beats those with the three other relations; chance is 1/4."""
    scenes = scenes[scenes.second >= 0]
    described = [scenes.describe(i) for i in range(len(scenes))]
    others = [
        [replace(scene, relation=name) for name, _, _ in RELATIONS if name != scene.relation]
        for scene in described
    ]
    return discrimination(network, scenes, language, others)


def held_out(n: int) -> Scenes:
    """Scenes that training never sees."""
    return sample_scenes(n, 7, "test", "full")


def preview(network: Towers, config: Config) -> tuple[Tensor, int]:
    """Eight captions of one change, each with the four held-out scenes of 200 that are nearest to it."""
    scenes = held_out(200)
    pictures = render(scenes, SIZE)
    with torch.inference_mode():
        similarity = (
            embed_captions(network, scenes.captions("ko")[:8]) @ embed_pictures(network.clip, pictures).T
        )
    return pictures[similarity.topk(4, dim=1).indices.flatten()], 8


def measure(network: Towers, config: Config) -> dict[str, float]:
    """Retrieval among 100, one attribute's difference and the relation of two objects, in both languages."""
    scenes = held_out(400)
    return {
        "retrieval": round(retrieval(network, scenes, "en"), 4),
        "retrieval_ko": round(retrieval(network, scenes, "ko"), 4),
        "one_attribute": round(one_attribute(network, scenes, "en", 7), 4),
        "one_attribute_ko": round(one_attribute(network, scenes, "ko", 7), 4),
        "relation": round(relation(network, scenes, "en"), 4),
        "relation_ko": round(relation(network, scenes, "ko"), 4),
    }


def publish(training: Training, folder: Path, report: Callable[[str], None]) -> None:
    """Measure the shipped weights on new scenes and on held-out pairs, and write the folder."""
    network: Towers = training.average.eval()  # type: ignore[assignment]
    write_tokenizer(folder)
    save_json(
        folder / "config.json",
        network.clip.config.to_dict() | {"architectures": ["CLIPModel"], **COMPUTED_IN},
    )
    save_json(folder / "preprocessor_config.json", PREPROCESSOR)
    save_weights(folder / "model.safetensors", network.clip.state_dict())
    network.clip = CLIPModel.from_pretrained(folder, use_safetensors=True).float().eval()
    n, among, of_one = MEASURED, 100, 5
    report(say(ko=f"장면 {n:,}개의 설명을 찾는다", en=f"finding the captions of {n:,} scenes"))
    quality = []
    for split in ("test", "compositions"):
        scenes = sample_scenes(n, 70, split, "full")
        for language in ("en", "ko"):
            quality += [
                row(
                    "retrieval",
                    Phrase(
                        ko=f"설명 {among}개 가운데 자기 설명을 찾는다",
                        en=f"own caption found among {among}",
                    ),
                    round(retrieval(network, scenes, language, among), 4),
                    n,
                    floor=0.9,
                    chance=1 / among,
                    split=split,
                    language=language,
                    headline=split == "test",
                ),
                row(
                    "one-attribute",
                    Phrase(
                        ko=f"속성 하나만 다른 설명 {of_one - 1}개를 이긴다",
                        en=f"own caption beats {of_one - 1} that differ in one attribute",
                    ),
                    round(one_attribute(network, scenes, language, 70, of_one), 4),
                    n,
                    floor=0.85,
                    chance=1 / of_one,
                    split=split,
                    language=language,
                ),
                row(
                    "relation",
                    Phrase(
                        ko="두 사물의 관계만 다른 설명 3개를 이긴다",
                        en="own caption of two objects beats the 3 other relations",
                    ),
                    round(relation(network, scenes, language), 4),
                    int((scenes.second >= 0).sum()),
                    chance=1 / len(RELATIONS),
                    split=split,
                    language=language,
                ),
            ]
    write_whole(folder / "samples.png", png(grid(*preview(network, training.config))))
    publish_folder(
        training,
        folder,
        ["config.json", "model.safetensors", "preprocessor_config.json", *FILES],
        quality,
        about=Phrase(
            ko="이모지 세계의 CLIP: 장면과 한국어·영어 설명을 한 공간의 벡터로 옮긴다.",
            en="The CLIP of the emoji world: scenes and their Korean and English captions in one space.",
        ),
        protocol=Phrase(
            ko=f"학습에 쓰지 않은 시드의 장면 {n:,}개. 글이 같은 설명은 어느 것을 골라도 맞은 것으로 친다.",
            en=f"{n:,} scenes of a seed that training never used. Among captions of the same wording any counts.",
        ),
        parameters=sum(p.numel() for p in network.clip.parameters()),
        usage="""
from transformers import CLIPModel, CLIPTokenizer

clip = CLIPModel.from_pretrained("zoo/emoji-clip")
tokenizer = CLIPTokenizer.from_pretrained("zoo/emoji-clip")
# pictures: (n, 3, 64, 64) in [-1, 1]
""",
        samples=Phrase(
            ko="한국어 설명마다 가장 가까운 장면 넷", en="For each Korean caption, the four nearest scenes"
        ),
        curves={
            "retrieval": Phrase(ko="100개 가운데 찾기, 영어", en="found among 100, English"),
            "retrieval_ko": Phrase(ko="100개 가운데 찾기, 한국어", en="found among 100, Korean"),
            "one_attribute": Phrase(ko="속성 하나의 차이, 영어", en="one attribute's difference, English"),
            "one_attribute_ko": Phrase(
                ko="속성 하나의 차이, 한국어", en="one attribute's difference, Korean"
            ),
            "relation": Phrase(ko="두 사물의 관계, 영어", en="relation of two objects, English"),
            "relation_ko": Phrase(ko="두 사물의 관계, 한국어", en="relation of two objects, Korean"),
        },
        words=known_words(),
    )

"""How well a picture matches a sentence: the cosine between CLIP's embeddings of the two.

CLIP (Radford et al. 2021, arXiv:2103.00020); as a score of generated pictures, Hessel et al. 2021
(arXiv:2104.08718) without their factor of 2.5 and their cut at zero. Cosines of different CLIPs are not
comparable, so every metric that uses one names it. A CLIP that guides or conditions a method must not judge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.metrics.facts import metric
from denoised.metrics.features import check_pictures


class Clip:
    """A CLIP with its tokenizer and the normalisation of its pictures.

    `name` is short, for the names of metrics; `description` says which network it is, and how pictures get
    to its resolution.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        mean: Sequence[float],
        deviation: Sequence[float],
    ) -> None:
        """`model`: a transformers CLIPModel; `mean`, `deviation`: of each channel of pictures in [0, 1]."""
        self.name = name
        self.size: int = model.config.vision_config.image_size
        self.description = f"CLIP {name}, bicubic resize to {self.size} px"
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._mean = torch.tensor(mean, device=model.device).reshape(3, 1, 1)
        self._deviation = torch.tensor(deviation, device=model.device).reshape(3, 1, 1)

    @metric("clip-score", better="higher", low=-1.0, high=1.0)
    def similarity(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        """The cosine between picture i and prompt i: (n,) in [-1, 1], for pictures (n, 3, h, w) in [-1, 1].

        A prompt that is too long is cut, as is usual for this score. Raises ValueError for pictures of
        another shape or range and for another number of prompts.
        """
        check_pictures(pictures)
        if len(prompts) != len(pictures):
            raise ValueError(f"{len(pictures)} pictures need as many prompts, not {len(prompts)}")
        return F.cosine_similarity(self.pictures(pictures), self.texts(prompts))

    @metric("prompt-preferred", better="higher", low=0.0, high=1.0)
    def prefers(self, pictures: Tensor, prompts: Sequence[str], others: Sequence[str]) -> Tensor:
        """(n,) bool: whether picture i is nearer to prompt i than to other i. Raises what `similarity` raises."""
        return self.similarity(pictures, prompts) > self.similarity(pictures, others)

    @torch.no_grad()
    def pictures(self, pictures: Tensor) -> Tensor:
        """Embeddings (n, d) of pictures (n, 3, h, w) in [-1, 1], on the CPU."""
        x = pictures.to(self._mean.device)
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
        x = ((x.clamp(-1, 1) + 1) / 2 - self._mean) / self._deviation
        features: Tensor = self._model.get_image_features(pixel_values=x).pooler_output
        return features.cpu()

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (n, d) of the prompts, on the CPU."""
        tokens = self._tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt")
        ids = tokens["input_ids"].to(self._mean.device)
        features: Tensor = self._model.get_text_features(input_ids=ids).pooler_output
        return features.cpu()

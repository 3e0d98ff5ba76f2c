"""What a run reads: checkpoints, data, feature extractors and judges, each loaded once, when first asked for.

A runner pays only for what it uses, and the record lists exactly the files that were read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from denoised.errors import DenoisedError, Exit
from denoised.lab.cache import Extractor, cached_features, cached_moments
from denoised.lab.data import Data, load_data
from denoised.lab.settings import ModelSettings, Settings
from denoised.language import say
from denoised.metrics.distances import Moments
from denoised.metrics.features import EfficientNetLite0
from denoised.metrics.inception import InceptionV3
from denoised.project import cache_folder
from denoised.zoo.load import Checkpoint, load_checkpoint
from denoised.zoo.manifest import verify

if TYPE_CHECKING:  # CLIP's classes are slow to import, and few runners need them
    from denoised.metrics.clip import Clip
    from denoised.metrics.judge import Judge
    from denoised.zoo.noisy_classifier import Guide
    from denoised.zoo.text_to_image import TextToImage

EXTRACTOR_FOLDER = "zoo/effnet-lite0"
JUDGE_FOLDER = "zoo/emoji-judge"
GUIDE_FOLDER = "zoo/emoji-noisy-classifier"
FEATURES = "features"  # of the cache


@dataclass(frozen=True)
class Reference:
    """The pictures that arms are compared with, as an extractor sees them."""

    name: str
    features: Tensor  # (n, d) float32
    sha256: str  # of the pictures
    extractor: Extractor
    moments: Moments | None = None  # of the features, where there are more of them than each is long
    moments_sha256: str | None = None


class Inputs:
    """Everything one run may read, shared by its seeds."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self.settings = settings
        self.files: list[Path] = []  # those that were read so far
        self._picture_size: int | None = None
        self._references: dict[str, Reference] = {}  # by extractor

    @property
    def device(self) -> torch.device:
        return torch.device(self.settings.device)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The pixel model of `settings.model`."""
        folder, shipped = self._folder(self.settings.model, "model")
        checkpoint = load_checkpoint(folder, self.device, shipped=shipped)
        self.files += checkpoint.files
        self._picture_size = checkpoint.picture_shape[-1]
        return checkpoint

    @cached_property
    def text_to_image(self) -> TextToImage:
        """The text-to-image model of `settings.model`."""
        from denoised.zoo.text_to_image import load_text_to_image

        folder, shipped = self._folder(self.settings.model, "model")
        model = load_text_to_image(folder, self.device, shipped=shipped)
        self.files += model.files
        self._picture_size = model.picture_size
        return model

    @cached_property
    def data(self) -> Data:
        """The data of `settings.data`, drawn at the size of the model's pictures where they are drawn."""
        data = self.settings.data
        assert data is not None
        size = self._picture_size or self.checkpoint.picture_shape[-1]
        loaded = load_data(data.name, data.folder, data.source, size)
        self.files += loaded.files
        return loaded

    def extractor(self, name: str) -> Extractor:
        """A feature extractor by its name; ValueError for another."""
        if name == EfficientNetLite0.name:
            return self._effnet
        if name == "emoji-judge":
            return self.judge.extractor()
        if name == InceptionV3.name:
            return self._inception
        raise ValueError(f"there is no feature extractor {name!r}")

    @property
    def extractor_name(self) -> str:
        """The extractor that sets of pictures are compared with unless a runner asks for another."""
        chosen = self.settings.extractor
        return EfficientNetLite0.name if chosen is None else chosen.name

    def reference(self, extractor: str) -> Reference:
        """The held-out pictures that arms are compared with, the same for every seed, as an extractor sees them."""
        if extractor not in self._references:
            pictures, sees = self._reference_pictures, self.extractor(extractor)
            features = cached_features(sees, pictures, cache_folder(self.root) / FEATURES)
            sha256 = hashlib.sha256(pictures.contiguous().numpy().tobytes()).hexdigest()
            moments = moments_sha256 = None
            if len(features) > features.shape[1]:
                moments, moments_sha256 = cached_moments(
                    sees, pictures, features, cache_folder(self.root) / FEATURES
                )
            self._references[extractor] = Reference(
                self.data.name, features, sha256, sees, moments, moments_sha256
            )
        return self._references[extractor]

    @cached_property
    def _reference_pictures(self) -> Tensor:
        return self.data.reference(self.settings.reference_images)

    @cached_property
    def _effnet(self) -> EfficientNetLite0:
        folder = self.root / EXTRACTOR_FOLDER
        verify(folder)
        self.files.append(folder / "model.safetensors")
        return EfficientNetLite0(folder / "model.safetensors")

    @cached_property
    def _inception(self) -> InceptionV3:
        chosen = self.settings.extractor
        if chosen is None or chosen.file is None:
            source = InceptionV3.source
            raise DenoisedError(
                say(
                    ko="inception-v3의 가중치는 이 저장소에 없다",
                    en="the weights of inception-v3 are not in this repository",
                ),
                help=say(
                    ko=f"{source}를 내려받아 extractor=파일로 주고 pip install 'denoised[inception]'을 하거나, "
                    "extractor=effnet-lite0으로 다른 척도로 잰다",
                    en=f"download {source}, give it as extractor=FILE and pip install 'denoised[inception]', "
                    "or measure on another scale with extractor=effnet-lite0",
                ),
            )
        file = Path(chosen.file)
        try:
            inception = InceptionV3(file, self.device)
        except ValueError as error:
            raise DenoisedError(str(error), code=Exit.INTEGRITY) from error
        except ImportError as error:
            raise DenoisedError(str(error)) from error
        self.files.append(file)
        return inception

    @cached_property
    def judge(self) -> Judge:
        """The attribute classifier of the emoji world."""
        from denoised.metrics.judge import Judge

        folder = self.root / JUDGE_FOLDER
        facts = verify(folder)
        self.files += [folder / name for name in facts["files"]]
        return Judge(folder, self.device)

    @cached_property
    def noisy_classifier(self) -> Guide:
        """The classifier of noised scenes that guides samplers."""
        from denoised.zoo.noisy_classifier import load_noisy_classifier

        guide = load_noisy_classifier(self.root / GUIDE_FOLDER, self.device, shipped=True)
        self.files += guide.files
        return guide

    @cached_property
    def clip(self) -> Clip:
        """The CLIP of `settings.clip`."""
        from denoised.zoo.clip import load_clip

        folder, shipped = self._folder(self.settings.clip, "clip")
        assert self.settings.clip is not None
        clip, files = load_clip(folder, self.settings.clip.name, self.device, shipped=shipped)
        self.files += files
        return clip

    def _folder(self, part: ModelSettings | None, key: str) -> tuple[Path, bool]:
        """Where a checkpoint lies, and whether it is shipped with the project."""
        if part is None:
            raise ValueError(f"the runner's SCALES must name a {key} at scale {self.settings.scale}")
        if part.folder is None:
            raise DenoisedError(
                say(
                    ko=f"{part.name}의 가중치는 이 저장소에 없다",
                    en=f"the weights of {part.name} are not in this repository",
                ),
                help=say(
                    ko=f"{part.source}를 폴더째 내려받아 {key}=폴더로 주거나, --rehearse로 경로만 시험한다",
                    en=f"download the folder {part.source} and give it as {key}=FOLDER, "
                    "or try the path alone with --rehearse",
                ),
            )
        return self.root / part.folder, part.folder.startswith("zoo/")

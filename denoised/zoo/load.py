"""Loading checkpoints: a folder in the hub's layout becomes a `Denoiser`.

Two layouts are read: a pipeline's (`unet/`, `scheduler/`) and the older one with `config.json` and
`scheduler_config.json` at the root (google/ddpm-cifar10-32). Weights are safetensors only; a folder with a
manifest is checked against it before a byte is parsed, and no pickle is ever opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from denoised.diffusion.denoiser import Denoiser, Network, Parameterisation
from denoised.diffusion.schedule import Schedule
from denoised.errors import DenoisedError, Exit
from denoised.language import say
from denoised.zoo.lean import import_unet_2d
from denoised.zoo.manifest import verify

if TYPE_CHECKING:
    from diffusers import UNet2DModel
else:
    UNet2DModel = import_unet_2d()

WEIGHTS = "diffusion_pytorch_model.safetensors"

# Names of an attention's layers in checkpoints from before diffusers 0.12, and today's. The published
# google/ddpm-* weights are that old.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Checkpoint:
    """A network with what it was trained for.

    `files` are the files that were read, for the record; `facts` is the manifest ({} without one).
    """

    unet: UNet2DModel
    schedule: Schedule
    parameterisation: Parameterisation
    files: tuple[Path, ...]
    facts: dict[str, Any]

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the pictures."""
        return (self.unet.config.in_channels, self.unet.config.sample_size, self.unet.config.sample_size)

    @property
    def classes(self) -> int | None:
        """How many classes the network knows, without the null class; None for an unconditional one."""
        embeddings = self.unet.config.num_class_embeds
        return None if embeddings is None else embeddings - 1

    def denoiser(self) -> Denoiser:
        """A fresh denoiser, with its counters at zero."""
        return Denoiser(as_network(self.unet), self.schedule, self.parameterisation)


def as_network(unet: Any) -> Network:
    """A UNet2DModel as a plain function of (x, timesteps, class labels or None).

    Without labels a class-conditional network gets its last class, the null class, and is unconditional.
    """
    classes = unet.config.num_class_embeds

    def network(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        if classes is not None and condition is None:
            condition = torch.full((len(x),), classes - 1, device=x.device)
        output: Tensor = unet(x, t, class_labels=condition).sample
        return output

    return network


def load_checkpoint(folder: Path, device: torch.device | str = "cpu", *, shipped: bool = False) -> Checkpoint:
    """Load a folder in the hub's layout. One that is `shipped` with the project must have its manifest.

    Raises DenoisedError: USAGE where the folder or a part of it is missing, INTEGRITY where a file does not
    match the manifest or does not fit the network it says it is for.
    """
    check_folder(folder)
    facts = verify(folder) if shipped or (folder / "manifest.json").exists() else {}
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler_folder = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    files = (
        unet_folder / "config.json",
        unet_folder / WEIGHTS,
        scheduler_folder / "scheduler_config.json",
    )
    config, scheduler = read_json(files[0]), read_json(files[2])
    unet = build_unet(config)
    fill(unet, files[1])
    unet.eval().requires_grad_(False)
    return Checkpoint(
        nn.Module.to(
            unet, device
        ),  # diffusers' own looks for quantised weights, which takes a second of imports
        Schedule.from_config(scheduler),
        scheduler.get("prediction_type", "epsilon"),
        files,
        facts,
    )


def build_unet(config: dict[str, Any]) -> UNet2DModel:
    """A UNet2DModel with random weights from the contents of its config.json.

    Raises DenoisedError (INTEGRITY) where the file describes another kind of network.
    """
    if config.get("_class_name") != "UNet2DModel":
        raise DenoisedError(
            say(
                ko=f"UNet2DModel이 필요한데 config.json은 {config.get('_class_name')!r}이다",
                en=f"a UNet2DModel is needed, but config.json describes {config.get('_class_name')!r}",
            ),
            code=Exit.INTEGRITY,
        )
    return UNet2DModel.from_config(config)


def check_folder(folder: Path) -> None:
    """Raise DenoisedError (USAGE) where there is no such checkpoint folder."""
    if folder.is_dir():
        return
    trained = folder.name if folder.parent.name == "zoo" else None  # by one of our own recipes
    raise DenoisedError(
        say(ko=f"체크포인트 폴더 {folder}가 없다", en=f"there is no checkpoint folder {folder}"),
        help=say(
            ko="허브 배치를 따른 폴더를 model=폴더로 준다"
            + (f". 또는 직접 학습한다: denoised train {trained} --publish" if trained else ""),
            en="give a folder in the hub's layout with model=FOLDER"
            + (f", or train it: denoised train {trained} --publish" if trained else ""),
        ),
    )


def fill(network: nn.Module, file: Path, rename: Callable[[str], str | None] = lambda name: name) -> None:
    """Load a safetensors file into a network, as float32; every tensor must find its place, and no other.

    `rename` gives the name that a tensor has in today's library, or None for one it has no use for. Raises
    DenoisedError: USAGE where the file is missing, INTEGRITY where it cannot be read or does not fit.
    """
    try:
        weights = safetensors.torch.load_file(file)
    except FileNotFoundError as error:
        raise missing(file) from error
    except SafetensorError as error:
        raise damaged(file, str(error)) from error
    try:
        network.load_state_dict(
            {name: v.float() for k, v in weights.items() if (name := rename(today(k))) is not None}
        )
    except RuntimeError as error:
        raise damaged(file, str(error).splitlines()[-1].strip()) from error


def today(name: str) -> str:
    """The name that a tensor of an old diffusers checkpoint has today."""
    parts = name.split(".")
    if "attentions" not in parts:
        return name
    return ".".join(OLD_ATTENTION.get(part, part) for part in parts)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. DenoisedError: USAGE where it is missing, INTEGRITY where it is not JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise missing(path) from error
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise damaged(path, "it holds no JSON object")
    return content


def missing(path: Path) -> DenoisedError:
    """The error for a file that a checkpoint folder must have."""
    return DenoisedError(
        say(ko=f"{path}가 없다", en=f"{path} is missing"),
        help=say(
            ko="폴더 전체를 허브 배치 그대로 내려받는다. 가중치는 safetensors여야 한다",
            en="download the whole folder in the hub's layout; weights must be safetensors",
        ),
    )


def damaged(path: Path, reason: str) -> DenoisedError:
    """The error for a file of a checkpoint folder that is not what it should be."""
    return DenoisedError(
        say(ko=f"{path}를 읽을 수 없다: {reason}", en=f"{path} cannot be used: {reason}"),
        code=Exit.INTEGRITY,
    )

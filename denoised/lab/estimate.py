"""What a run at the paper's scale will take on a GPU, said before it starts: time and memory, roughly.

The network is built from its config alone, without weights, on torch's meta device, where tensors have shapes and
no content. One forward pass there counts its floating-point operations and how many bytes are alive at once; the
runner's `network_rows` says how often the network is asked. What a GPU makes of that is an assumption, which is
printed with the numbers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from denoised.lab.settings import Settings
from denoised.language import say
from denoised.zoo.load import read_json

# Peaks in float32 without tensor cores, TFLOP/s, from NVIDIA's data sheets. Convolutions go through tensor cores
# where there are some (TF32), small networks do not fill a GPU: the share below stands for both, and may be off by a
# factor of three either way.
PEAKS = {
    "H200": 67.0,
    "H100 PCIe": 51.2,
    "H100": 67.0,
    "A100": 19.5,
    "L40S": 91.6,
    "L4": 30.3,
    "A10": 31.2,
    "V100": 15.7,
    "T4": 8.1,
    "RTX 4090": 82.6,
    "RTX 3090": 35.6,
}
REFERENCE = "NVIDIA A100"  # whose numbers are printed where no known GPU is visible
SHARE = 0.4  # of the peak that is assumed to be reached
# Samplers of pixel models hold all pictures of an arm at once: x, the output, x0, eps and two on the way.
KEPT = 6
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Gpu:
    """A GPU by its name and peak in TFLOP/s; its memory in bytes if it is here, None if it is the reference."""

    name: str
    peak: float
    memory: int | None = None


@dataclass(frozen=True)
class Pass:
    """What one call of networks does: floating-point operations, and bytes of new tensors alive at once."""

    flops: int
    peak_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a run does, whatever it runs on."""

    parameters: int  # of all networks that are loaded
    flops_per_row: float  # of the denoising network, for one picture
    rows: int  # pictures it is asked about, over all seeds
    memory: int  # bytes
    batch: int

    def seconds(self, gpu: Gpu) -> float:
        """On this GPU, at `SHARE` of its peak."""
        return self.rows * self.flops_per_row / (SHARE * gpu.peak * 1e12)


class _Alive(TorchDispatchMode):
    """Adds up the bytes of the tensors that exist, each storage once, and remembers the most there were."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Parameters and inputs, which are not counted.
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)

        def gone() -> None:
            self._known.discard(key)
            self._now -= size

        weakref.finalize(storage, gone).atexit = False


class _FusedAttention(TorchFunctionMode):
    """Attention that never holds its map, as on a GPU: the meta device would multiply it out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, key, value = args[:3] if len(args) >= 3 else (kwargs[k] for k in ("query", "key", "value"))
            return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, True)[0]
        return func(*args, **(kwargs or {}))


def one_pass(call: Callable[[], object], known: Iterable[Tensor] = ()) -> Pass:
    """Trace a call on meta tensors; `known` are those that exist before, such as parameters."""
    alive = _Alive(known)
    with FlopCounterMode(display=False) as counter, alive, _FusedAttention():
        call()
    return Pass(counter.get_total_flops(), alive.peak)


def estimate(root: Path, runner: ModuleType, settings: Settings, config: Any) -> Estimate | None:
    """The estimate of a run, or None where its network's config is not there to be read, or it is one of zoo/'s.

    A folder that is missing is no error here: whoever loads the network says so. And runners that name no network
    for the paper's scale, as those of toy densities, ask small ones of their own, whose rows say nothing here.

    A runner may say with `rows_at_once(config, batch)` how many pictures its largest call and its training step
    hold; unless it does, that is `batch` (twice with text, for guidance) and the `train_batch` of its Config.
    """
    if settings.model is None or settings.model.folder is None or settings.model.folder.startswith("zoo/"):
        return None
    folder = root / settings.model.folder
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    path = unet_folder / "config.json"
    if not path.is_file():
        return None
    content = read_json(path)
    build = {"UNet2DModel": _pixel, "UNet2DConditionModel": _latent}.get(str(content.get("_class_name")))
    if build is None:
        return None
    with torch.device("meta"):
        unet, inputs, others = build(folder, content)
    text = content["_class_name"] == "UNet2DConditionModel"
    if hasattr(runner, "rows_at_once"):
        sampled, trained = runner.rows_at_once(config, settings.batch)
    else:
        sampled, trained = (1 + text) * settings.batch, getattr(config, "train_batch", 0)

    weights = sum(p.numel() for network in (unet, *others) for p in network.parameters())
    forward = one_pass(lambda: _quietly(unet, inputs(sampled)), unet.parameters())
    peaks = [forward.peak_bytes]
    for vae in (network for network in others if hasattr(network, "decode")):
        z = torch.empty(settings.batch, *inputs(1)[0].shape[1:], device="meta")
        peaks.append(one_pass(lambda vae=vae, z=z: _quietly(vae.decode, (z,)), vae.parameters()).peak_bytes)  # type: ignore[misc]
    if trained:
        step = one_pass(lambda: unet(*inputs(trained)).sample.sum().backward(), unet.parameters())
        own = sum(p.numel() for p in unet.parameters())
        peaks.append(
            step.peak_bytes + 2 * own * FLOAT
        )  # the pass makes the gradients; Adam keeps two moments
    kept = 0 if text else KEPT * settings.images * inputs(1)[0].numel() * FLOAT
    rows = runner.network_rows(config, settings.images) * len(settings.seed_list)
    return Estimate(
        weights, forward.flops / sampled, rows, weights * FLOAT + max(peaks) + kept, settings.batch
    )


Inputs = Callable[[int], tuple[Tensor, ...]]


def _quietly(call: Callable[..., Any], arguments: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        call(*arguments)


def _pixel(folder: Path, config: dict[str, Any]) -> tuple[nn.Module, Inputs, list[Any]]:
    """A pixel model without weights, its inputs for n rows, and what else is loaded: nothing."""
    from denoised.zoo.load import build_unet

    unet = build_unet(config)
    channels, size = unet.config.in_channels, unet.config.sample_size

    def inputs(n: int) -> tuple[Tensor, ...]:
        x, t = torch.empty(n, channels, size, size, device="meta"), torch.empty(n, device="meta")
        if unet.config.num_class_embeds is None:
            return x, t
        return x, t, torch.empty(n, dtype=torch.int64, device="meta")

    return unet, inputs, []


def _latent(folder: Path, config: dict[str, Any]) -> tuple[nn.Module, Inputs, list[Any]]:
    """A text-to-image model's UNet without weights, its inputs for n rows, and its other networks that are there."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet = UNet2DConditionModel.from_config(config)
    channels, size, width = unet.config.in_channels, unet.config.sample_size, unet.config.cross_attention_dim
    length, others = 77, []
    if (text := folder / "text_encoder" / "config.json").is_file():
        others.append(CLIPTextModel(CLIPTextConfig.from_dict(read_json(text))))
        length = others[0].config.max_position_embeddings
    if (vae := folder / "vae" / "config.json").is_file():
        others.append(AutoencoderKL.from_config(read_json(vae)))

    def inputs(n: int) -> tuple[Tensor, ...]:
        return (
            torch.empty(n, channels, size, size, device="meta"),
            torch.empty(n, device="meta"),
            torch.empty(n, length, width, device="meta"),
        )

    return unet, inputs, others


def visible_gpu(device: str) -> Gpu:
    """The GPU that `device` names, if it is here and its peak is known; else the reference."""
    if device.startswith("cuda") and torch.cuda.is_available():
        name = torch.cuda.get_device_name(device)
        for known, peak in PEAKS.items():
            if known in name:
                return Gpu(name, peak, torch.cuda.get_device_properties(device).total_memory)
    return Gpu(REFERENCE, PEAKS[REFERENCE.split()[-1]])


def describe(found: Estimate, gpu: Gpu) -> str:
    """The estimate as the reader reads it, in two or three lines."""
    memory, parameters = found.memory / 2**30, found.parameters / 1e6
    each = found.flops_per_row / 1e9
    lines = [
        say(
            ko=f"어림: {gpu.name}에서 {duration(found.seconds(gpu))}, GPU 메모리 {memory:.1f} GiB (batch={found.batch})",
            en=f"estimate: {duration(found.seconds(gpu))} and {memory:.1f} GiB of GPU memory on {gpu.name} "
            f"(batch={found.batch})",
        ),
        say(
            ko=f"파라미터 {parameters:,.1f}M, 이미지 한 장을 한 번 평가하는 데 {each:,.1f} GFLOP, 모두 {found.rows:,}번. "
            f"float32 최고 속도 {gpu.peak:g} TFLOP/s의 {SHARE:.0%}가 난다고 가정했고, 지표와 데이터 읽기는 뺐다",
            en=f"{parameters:,.1f} M parameters, {each:,.1f} GFLOP a picture and evaluation, {found.rows:,} of them, "
            f"assuming {SHARE:.0%} of the peak of {gpu.peak:g} TFLOP/s in float32; metrics and reading data not counted",
        ),
    ]
    if gpu.memory is None:
        lines.append(
            say(
                ko=f"빠르기를 아는 GPU가 여기 보이지 않아 {gpu.name}를 기준으로 어림했다",
                en=f"no GPU of known speed is visible here, so {gpu.name} stands for one",
            )
        )
    elif found.memory > gpu.memory:
        lines.append(
            say(
                ko=f"이 GPU의 메모리는 {gpu.memory / 2**30:.1f} GiB다. 모자라면 batch를 줄인다: "
                f"batch={max(1, found.batch // 2)}",
                en=f"this GPU has {gpu.memory / 2**30:.1f} GiB; if that is too little, put fewer pictures into one "
                f"call: batch={max(1, found.batch // 2)}",
            )
        )
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """In minutes up to an hour and a half, then in hours."""
    minutes = seconds / 60
    if minutes < 1:
        return say(ko="1분 미만", en="less than a minute")
    if minutes < 90:
        return say(ko=f"약 {minutes:.0f}분", en=f"about {minutes:.0f} min")
    hours = minutes / 60
    digits = 1 if hours < 10 else 0
    return say(ko=f"약 {hours:,.{digits}f}시간", en=f"about {hours:,.{digits}f} hours")

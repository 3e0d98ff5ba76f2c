"""What a runner's `reproduce` is given: a network, noise, a reference, arms to fill and claims to state.

    denoiser, real = lab.denoiser(), lab.reference()
    with lab.arm("ddim", steps=10) as arm:
        arm.images = sample(denoiser, lab.noise(), lab.timesteps(10))
    arm.measure("fid", "kid", reference=real)
    lab.claim("fid", "ddim", "<", "ddpm", at={"steps": 10})

There is one `Lab` for each seed. Arms of one seed share their initial noise, classes and random streams, so
that their difference is the method's.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from denoised.diffusion.denoiser import Denoiser, Network, Parameterisation
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.errors import DenoisedError, Exit
from denoised.lab.data import Data
from denoised.lab.settings import Settings
from denoised.metrics import distances
from denoised.metrics.features import EfficientNetLite0
from denoised.zoo.load import Checkpoint, as_network, build_unet

# metric -> (distance between features, is a higher value better)
DISTANCES: dict[str, tuple[Callable[[Tensor, Tensor], float], bool]] = {
    "fid": (distances.frechet_distance, False),
    "kid": (distances.kernel_distance, False),
}


@dataclass(frozen=True)
class Reference:
    """Features of the pictures that arms are compared with."""

    name: str
    features: Tensor  # (n, d) float32
    sha256: str  # of the pictures


@dataclass(frozen=True)
class Claim:
    """`metric` of arm `arm` is `relation` that of arm `than`, at these settings, by more than `margin`."""

    metric: str
    arm: str
    relation: Literal["<", ">"]
    than: str
    at: dict[str, Any]
    margin: float = 0.0


@dataclass
class Arm:
    """One side of a comparison at one setting: its pictures, what was measured on them, what it cost."""

    name: str
    settings: dict[str, Any]
    extractor: EfficientNetLite0
    images: Tensor | None = None  # (n, 3, h, w), clamped to [-1, 1] when the arm closes
    parameters_trained: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    calls: int = 0
    samples: int = 0
    seconds: float = 0.0
    peak_memory_mb: float = 0.0

    def measure(self, *metrics: str, reference: Reference) -> None:
        """Measure `images` against `reference`, by the names in `DISTANCES`."""
        if self.images is None:
            raise ValueError(f"arm {self.name!r} has no images to measure")
        features = self.extractor(self.images)
        for metric in metrics:
            distance, _ = DISTANCES[metric]
            self.metrics[metric_name(metric)] = distance(features, reference.features)


def metric_name(metric: str) -> str:
    """A distance's full name, which says whose features it is measured in."""
    return f"{metric}[{EfficientNetLite0.name}]"


@dataclass
class Lab:
    """Everything one seed of a run works with."""

    seed: int
    settings: Settings
    checkpoint: Checkpoint
    data: Data
    extractor: EfficientNetLite0
    shared_reference: Reference
    report: Callable[[str], None]  # told what is being done, for the progress display
    advance: Callable[[], None]  # told after every network call
    arms: list[Arm] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    _denoisers: list[Denoiser] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return torch.device(self.settings.device)

    def denoiser(self) -> Denoiser:
        """The checkpoint's denoiser, counting what it costs."""
        c = self.checkpoint
        return self.wrap(c.unet, c.schedule, c.parameterisation)

    def wrap(self, network: nn.Module, schedule: Schedule, kind: Parameterisation) -> Denoiser:
        """A denoiser around a network, evaluated in batches of `settings.batch`."""
        denoiser = Denoiser(self._in_batches(as_network(network.eval())), schedule, kind)
        self._denoisers.append(denoiser)
        return denoiser

    def call(self, network: nn.Module) -> Network:
        """A network as a function of (x, t, condition), for training."""

        def counted(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
            output = as_network(network)(x, t, condition)
            self.advance()
            return output

        return counted

    def untrained(self, channels: Sequence[int] = ()) -> nn.Module:
        """The checkpoint's architecture with fresh weights from this seed.

        `channels`: another width for each level of the network; empty keeps the checkpoint's.
        """
        config = dict(self.checkpoint.unet.config)
        if channels:
            levels = len(config["block_out_channels"])
            if len(channels) != levels:
                raise DenoisedError(f"channels must name {levels} widths, one a level, not {len(channels)}")
            config["block_out_channels"] = list(channels)
            if config["attention_head_dim"] is not None:  # a head may not be wider than its level
                config["attention_head_dim"] = min(config["attention_head_dim"], *channels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network: nn.Module = build_unet(config | {"_class_name": "UNet2DModel"})
        return network.to(self.device)

    def reference(self) -> Reference:
        """The held-out pictures that arms are compared with, the same for every seed."""
        return self.shared_reference

    def noise(self) -> Tensor:
        """x_T for every sample of this seed: (images, channels, height, width), the same for each arm."""
        return self._generators(0).randn(*self.checkpoint.picture_shape, device=self.device)

    def generator(self) -> SampleGenerators:
        """A fresh stream of noise for a sampler, the same for each arm."""
        return self._generators(1)

    def labels(self) -> Tensor | None:
        """A class for every sample, in turn; None for an unconditional network."""
        if self.checkpoint.classes is None:
            return None
        return torch.arange(self.settings.images, device=self.device) % self.checkpoint.classes

    def timesteps(self, steps: int, spacing: str) -> list[int]:
        """`steps` timesteps of the checkpoint's schedule; see `denoised.diffusion.schedule.timesteps`.

        Raises DenoisedError where the schedule has no such grid.
        """
        try:
            return timesteps(self.checkpoint.schedule.T, steps, spacing)  # type: ignore[arg-type]
        except ValueError as error:
            raise DenoisedError(str(error)) from error

    def batches(self, batch: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Endless training batches: pictures, and classes where the network takes them."""
        for pictures, classes in self.data.batches(batch, self.seed):
            conditional = self.checkpoint.classes is not None
            yield pictures.to(self.device), classes.to(self.device) if conditional else None

    @contextmanager
    def arm(self, name: str, **settings: Any) -> Iterator[Arm]:
        """Time and count everything done inside the block as the cost of this arm."""
        arm = Arm(name, settings, self.extractor)
        self.report(" ".join([name, *(f"{k}={v}" for k, v in settings.items())]))
        calls, samples = self._counted()
        started = time.perf_counter()
        yield arm
        arm.seconds = time.perf_counter() - started
        after = self._counted()
        arm.calls, arm.samples = after[0] - calls, after[1] - samples
        arm.peak_memory_mb = self._peak_memory_mb()
        if arm.images is None or not bool(torch.isfinite(arm.images).all()):
            raise DenoisedError(
                f"arm {name!r} {settings} gave no finite pictures: the sampler diverged", code=Exit.FAILED
            )
        arm.images = arm.images.clamp(-1, 1).cpu()
        self.arms.append(arm)

    def claim(
        self,
        metric: str,
        arm: str,
        relation: Literal["<", ">"],
        than: str,
        *,
        at: Mapping[str, Any] | None = None,
        margin: float = 0.0,
    ) -> None:
        """State the paper's claim; the verdict is taken over all seeds."""
        self.claims.append(Claim(metric_name(metric), arm, relation, than, dict(at or {}), margin))

    def _generators(self, stream: int) -> SampleGenerators:
        return SampleGenerators(2 * self.seed + stream, range(self.settings.images))

    def _in_batches(self, network: Network) -> Network:
        def batched(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
            size = self.settings.batch
            parts = []
            for i in range(0, len(x), size):
                chosen = None if condition is None else condition[i : i + size]
                parts.append(network(x[i : i + size], t[i : i + size], chosen))
                self.advance()
            return torch.cat(parts)

        return batched

    def _counted(self) -> tuple[int, int]:
        return sum(d.calls for d in self._denoisers), sum(d.samples for d in self._denoisers)

    def _peak_memory_mb(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

"""What a runner's `reproduce` is given: networks, noise, references, arms to fill and claims to state.

    denoiser, real = lab.denoiser(), lab.reference()
    with lab.arm("ddim", steps=10) as arm:
        arm.images = sample(denoiser, lab.noise(), lab.timesteps(10))
    arm.measure("fid", "kid", reference=real)
    lab.claim("fid", "ddim", "<", "ddpm", at={"steps": 10})

A text-to-image method takes its parts from `lab.text_to_image()`, and records metrics of its own:

    model = lab.text_to_image()
    denoiser, x = lab.count(model.denoiser()), lab.noise(model.latent_shape)
    with lab.arm("plain", edit="swap") as arm:
        arm.images = lab.in_batches(lambda part: model.decode(ddim(denoiser, x[part], …)))
    arm.record("edit-success[emoji-judge]", right, by=judge.agrees)

There is one `Lab` for each seed. Arms of one seed share their initial noise, classes and random streams, so
that their difference is the method's.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from denoised.diffusion.continuous import Levels
from denoised.diffusion.denoiser import Denoiser, Network, Parameterisation
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.diffusion.training import seeded
from denoised.errors import DenoisedError, Exit
from denoised.lab.cache import Extractor
from denoised.lab.data import Data
from denoised.lab.inputs import Inputs, Reference
from denoised.lab.settings import Settings
from denoised.lab.verdicts import Relation
from denoised.language import Phrase, say
from denoised.metrics import distances, manifolds
from denoised.metrics.bootstrap import bootstrap_interval
from denoised.metrics.facts import Facts
from denoised.worlds.toys import Density
from denoised.zoo.load import Checkpoint, as_network, build_unet

if TYPE_CHECKING:
    from denoised.metrics.clip import Clip
    from denoised.metrics.judge import Judge
    from denoised.zoo.noisy_classifier import Guide
    from denoised.zoo.text_to_image import TextToImage

RESAMPLED = 5_000  # pictures up to which a comparison is made again and again to see how sure it is
ROUNDING = 1e-6  # by which a value may pass its bounds
# What `Arm.measure` knows by name: functions of the features of real and of drawn pictures.
Comparison = Callable[[Any, Tensor], float]  # (features of real pictures or their moments, of drawn ones)
COMPARISONS: dict[str, Comparison] = {
    "fid": distances.frechet_distance,
    "kid": distances.kernel_distance,
    "precision": manifolds.precision,
    "recall": manifolds.recall,
    "density": manifolds.density,
    "coverage": manifolds.coverage,
}


@dataclass(frozen=True)
class Claim:
    """`metric` of arm `arm` is `relation` that of arm `than`, at these settings.

    "<" and ">": by more than `margin`. "<=" and ">=": not worse by more than `margin`.
    """

    metric: str
    arm: str
    relation: Relation
    than: str
    at: dict[str, Any]
    margin: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """One metric of one arm and seed, with what a reader needs in order to trust it."""

    value: float
    n: int  # pictures or samples it was taken over
    facts: Facts
    implementation: str  # dotted name of the function
    extractor: str | None = None
    reference: Reference | None = None
    interval: tuple[float, float] | None = None  # 95 %, over the samples; only where there is one seed


@dataclass
class Arm:
    """One side of a comparison at one setting: its pictures, what was measured on them, what it cost."""

    name: str
    settings: dict[str, Any]
    inputs: Inputs
    images: Tensor | None = None  # (n, 3, h, w), clamped to [-1, 1] when the arm closes; None: no pictures
    parameters_trained: int = 0
    beside: Tensor | None = None  # pictures to show above `images`, (n, 3, h, w)
    label: Phrase | None = None  # what they are
    points: Tensor | None = None  # (n, 2), to be drawn over `density`
    density: Density | None = None  # what they ought to follow
    metrics: dict[str, Measurement] = field(default_factory=dict)
    calls: int = 0
    samples: int = 0
    seconds: float = 0.0
    peak_memory_mb: float = 0.0

    def measure(self, *metrics: str, reference: Reference) -> None:
        """Measure `images` against `reference`, by the names in `COMPARISONS`, with its extractor."""
        if self.images is None:
            raise ValueError(f"arm {self.name!r} has no images to measure")
        features = reference.extractor(self.images)
        for metric in metrics:
            compare = COMPARISONS[metric]
            # Of a large set the Fréchet distance needs no more than what is stored of it.
            large = metric == "fid" and reference.moments is not None
            real = reference.moments if large else reference.features

            def value(rows: Tensor, compare: Comparison = compare, real: Any = real) -> float:
                return compare(real, features[rows])

            self.record(
                metric_name(metric, reference.extractor.name),
                compare(real, features),
                n=len(self.images),
                by=compare,
                extractor=reference.extractor.description,
                reference=reference,
                again=value if len(self.images) <= RESAMPLED else None,
            )

    def record(
        self,
        name: str,
        values: Tensor | float,
        *,
        by: Callable[..., Any],
        n: int | None = None,
        extractor: str | None = None,
        reference: Reference | None = None,
        again: Callable[[Tensor], float] | None = None,
    ) -> None:
        """Record a metric under its full name, which names whoever judges: `edit-success[emoji-judge]`.

        `values`: one number or truth value for each picture, (n,), whose mean is recorded; or one number for
        all, together with `n`. `by`: the function of `denoised.metrics` that computes it; direction, bounds and
        version are the ones it carries. `extractor`: what it looks through. `again`: the value on rows (n,) of
        the samples, to see by resampling how sure it is where a run has one seed. Raises DenoisedError (FAILED)
        for a value that is not finite, ValueError for one that cannot be.
        """
        facts: Facts | None = getattr(by, "facts", None)
        implementation = f"{by.__module__}.{by.__qualname__}"
        if facts is None:
            raise ValueError(f"{implementation} is no metric: decorate it with denoised.metrics.facts.metric")
        if isinstance(values, Tensor):
            each = values.double()
            n, value = len(values), float(each.mean())
            again = again or (lambda rows: float(each[rows].mean()))
        else:
            value = values
        if n is None:
            raise ValueError(f"the metric {name!r} of arm {self.name!r} needs n")
        if not math.isfinite(value):
            raise DenoisedError(
                f"the metric {name!r} of arm {self.name!r} {self.settings} is {value}", code=Exit.FAILED
            )
        low, high = (
            (-math.inf if facts.low is None else facts.low),
            (math.inf if facts.high is None else facts.high),
        )
        if n < facts.least or not low - ROUNDING <= value <= high + ROUNDING:
            raise ValueError(
                f"the metric {name!r} of arm {self.name!r} is {value:g} of {n} samples, but {facts.name} takes "
                f"{facts.least} or more and lies in {low:g} … {high:g}"
            )
        alone = len(self.inputs.settings.seed_list) == 1 and again is not None and n > 1
        sure = bootstrap_interval(again, n) if alone and again is not None else None
        self.metrics[name] = Measurement(value, n, facts, implementation, extractor, reference, sure)

    def show(self, beside: Tensor, label: Phrase) -> None:
        """In the published grid, put each of `beside` (n, 3, h, w) above the picture it led to."""
        self.beside, self.label = beside.clamp(-1, 1).cpu(), label

    def plot(self, points: Tensor, density: Density) -> None:
        """Publish a picture of points in the plane (n, 2), over the density they ought to follow."""
        self.points, self.density = points.detach().double().cpu(), density


def metric_name(metric: str, extractor: str) -> str:
    """A metric's full name: that of a comparison says whose features it is measured in."""
    return f"{metric}[{extractor}]" if metric in COMPARISONS else metric


@dataclass
class Lab:
    """Everything one seed of a run works with."""

    seed: int
    settings: Settings
    inputs: Inputs  # the same for every seed
    report: Callable[[str], None]  # told what is being done, for the progress display
    advance: Callable[[], None]  # told after every network call
    arms: list[Arm] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    _denoisers: list[Denoiser] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return torch.device(self.settings.device)

    @property
    def world(self) -> str:
        """The name of the data: "emoji" has scenes with exact ground truth, "prompts" has nothing but text."""
        assert self.settings.data is not None
        return self.settings.data.name

    @property
    def checkpoint(self) -> Checkpoint:
        """The pixel model of this run."""
        return self.inputs.checkpoint

    @property
    def data(self) -> Data:
        """What to train on, and what is held out."""
        return self.inputs.data

    def text_to_image(self) -> TextToImage:
        """The text-to-image model of this run, shared by its seeds: copy what you train."""
        return self.inputs.text_to_image

    def judge(self) -> Judge:
        """The emoji world's attribute classifier. ValueError in another world."""
        if self.world != "emoji":
            raise ValueError(f"the judge knows the emoji world, not {self.world}")
        return self.inputs.judge

    def noisy_classifier(self) -> Guide:
        """The emoji world's classifier of noised scenes, which guides and never judges. ValueError elsewhere."""
        if self.world != "emoji":
            raise ValueError(f"the noisy classifier knows the emoji world, not {self.world}")
        return self.inputs.noisy_classifier

    def clip(self) -> Clip:
        """The CLIP that the runner's SCALES name."""
        return self.inputs.clip

    def extractor(self, name: str | None = None) -> Extractor:
        """A feature extractor by its name, "effnet-lite0", "emoji-judge" or "inception-v3"; None: this run's."""
        return self.inputs.extractor(name or self.inputs.extractor_name)

    def denoiser(self) -> Denoiser:
        """The pixel model's denoiser, counting what it costs."""
        c = self.checkpoint
        return self.wrap(c.unet, c.schedule, c.parameterisation)

    def count(self, denoiser: Denoiser) -> Denoiser:
        """The same denoiser: from here on its evaluations are the cost of the arm they happen in."""
        denoiser.network = self.watch(denoiser.network)
        self._denoisers.append(denoiser)
        return denoiser

    def watch(self, network: Network) -> Network:
        """The network, moving the progress display with every call: for training, which is no sampling cost."""

        def watched(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
            output = network(x, t, condition)
            self.advance()
            return output

        return watched

    def in_batches(self, draw: Callable[[slice], Tensor]) -> Tensor:
        """`draw` on slices of `settings.batch` out of `settings.images`, put together."""
        n, size = self.settings.images, self.settings.batch
        return torch.cat([draw(slice(i, min(i + size, n))) for i in range(0, n, size)])

    def wrap(self, network: nn.Module, schedule: Schedule, kind: Parameterisation) -> Denoiser:
        """A denoiser around a network, evaluated in batches of `settings.batch`."""
        denoiser = Denoiser(self._in_batches(as_network(network.eval())), schedule, kind)
        self._denoisers.append(denoiser)
        return denoiser

    def call(self, network: nn.Module) -> Network:
        """A pixel network as a function of (x, t, condition), for training."""
        return self.watch(as_network(network))

    def untrained(self, channels: Sequence[int] = (), *, out_channels: int | None = None) -> nn.Module:
        """The checkpoint's architecture with fresh weights from this seed.

        `channels`: another width for each level of the network; empty keeps the checkpoint's. `out_channels`:
        how many it outputs, for methods that predict more than a picture; None keeps the checkpoint's. All layers
        but the last begin with the same weights either way.
        """
        config = dict(self.checkpoint.unet.config)
        if out_channels is not None:
            config["out_channels"] = out_channels
        if channels:
            levels = len(config["block_out_channels"])
            if len(channels) != levels:
                raise DenoisedError(f"channels must name {levels} widths, one a level, not {len(channels)}")
            config["block_out_channels"] = list(channels)
            if config["attention_head_dim"] is not None:  # a head may not be wider than its level
                config["attention_head_dim"] = min(config["attention_head_dim"], *channels)
        with seeded(self.seed):
            network: nn.Module = build_unet(config | {"_class_name": "UNet2DModel"})
        return network.to(self.device)

    def reference(self, extractor: str | None = None) -> Reference:
        """The held-out pictures that arms are compared with, the same for every seed, as an extractor sees them.

        `extractor`: as in `Lab.extractor`.
        """
        return self.inputs.reference(extractor or self.inputs.extractor_name)

    def noise(self, shape: Sequence[int] | None = None) -> Tensor:
        """x_T for every sample of this seed: (images, *shape), the same for each arm.

        `shape` is that of the pixel model's pictures if None.
        """
        shape = self.checkpoint.picture_shape if shape is None else shape
        return self._generators(0).randn(*shape, device=self.device)

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

    def levels(self, **ends: float) -> Levels:
        """The noise levels of the pixel model.

        `ends`: the smallest and the largest sigma that a runner will ask for, under the names of their settings.
        Raises DenoisedError where the network does not know all that lies between them.
        """
        levels = Levels(self.checkpoint.schedule)
        (low, smallest), (high, largest) = ends.items()
        if smallest < levels.first.sigma or largest > levels.last.sigma:
            known = f"{levels.first.sigma:.3g} … {levels.last.sigma:.3g}"
            raise DenoisedError(
                say(
                    ko=f"{low}과 {high}는 네트워크가 아는 {known} 안에 있어야 하는데 {smallest}, {largest}이다",
                    en=f"{low} and {high} must lie in {known}, which the network knows, "
                    f"not at {smallest} and {largest}",
                )
            )
        return levels

    def batches(self, batch: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Endless training batches: pictures, and classes where the network takes them."""
        for pictures, classes in self.data.batches(batch, self.seed):
            conditional = self.checkpoint.classes is not None
            yield pictures.to(self.device), classes.to(self.device) if conditional else None

    @contextmanager
    def arm(self, name: str, **settings: Any) -> Iterator[Arm]:
        """Time and count everything done inside the block as the cost of this arm."""
        arm = Arm(name, settings, self.inputs)
        self.report(" ".join([name, *(f"{k}={v}" for k, v in settings.items())]))
        calls, samples = self._counted()
        started = time.perf_counter()
        yield arm
        arm.seconds = time.perf_counter() - started
        after = self._counted()
        arm.calls, arm.samples = after[0] - calls, after[1] - samples
        arm.peak_memory_mb = self._peak_memory_mb()
        if arm.images is not None:
            if not bool(torch.isfinite(arm.images).all()):
                raise DenoisedError(
                    f"arm {name!r} {settings} gave no finite pictures: the sampler diverged", code=Exit.FAILED
                )
            arm.images = arm.images.clamp(-1, 1).cpu()
        self.arms.append(arm)

    def claim(
        self,
        metric: str,
        arm: str,
        relation: Relation,
        than: str,
        *,
        at: Mapping[str, Any] | None = None,
        margin: float = 0.0,
    ) -> None:
        """State the paper's claim; the verdict is taken over all seeds (`denoised.lab.verdicts.verdict`).

        `metric`: as recorded, or the short name of a comparison by this run's extractor. `at`: what must single
        out one arm of each name.
        """
        full = metric_name(metric, self.inputs.extractor_name)
        self.claims.append(Claim(full, arm, relation, than, dict(at or {}), margin))

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

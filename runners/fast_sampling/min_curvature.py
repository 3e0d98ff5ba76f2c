"""Minimizing Trajectory Curvature of ODE-based Generative Models. Lee, Kim and Ye, 2023. arXiv:2301.12003

The paper's symbols and the code's; time runs from the data, t = 0, to the prior, t = 1:
    x ~ p(x), data -> x      z ~ p(z), prior -> z, noise times `prior`      x_t = (1 - t) x + t z -> x_t
    q_φ(z | x), the coupling -> encoder(x), mean and log variance      v_θ(x_t, t) -> flow(x_t, t), aims at z - x
    β -> beta, the weight of KL(q_φ(z | x) || p(z)); without an encoder the coupling is independent

Details that matter:
- Where straight paths from x to z cross, the flow can only learn their mean, and its own paths bend. The loss of the flow
  measures that crossing, so its gradient also trains the encoder: one loss, both networks, no ODE solved in training.
- The KL term, a mean over dimensions as in the official code, holds the encoder's z to the prior that sampling starts
  from. β -> ∞ is the independent coupling; a small β leaves holes, since Σ_x q(z | x) need not be p(z).
- The encoder is dropped after training: samples start from the prior.
- Curvature is the mean square of z_1 - z_0 - v along the flow's own paths from the prior (per number, official code's
  `straightness`), on the finest grid of steps.
- "two-gaussians" is the official 2-D example: modes at (±8, 8) of covariance diag(3, 0.1), prior N(0, diag(36, 1)), tanh
  networks of 100 units. "pictures" takes the lab's own pictures and network.
- Points are compared by the kernel distance of random Fourier features on two scales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.schedule import Schedule
from denoised.diffusion.training import train_averaged
from denoised.lab.lab import Arm, Lab
from denoised.metrics.distances import kernel_distance
from denoised.metrics.features import random_fourier_features
from denoised.metrics.scores import curvature
from denoised.worlds.toys import GaussianMixture
from denoised.zoo.load import as_network

Velocity = Callable[[Tensor, float], Tensor]  # v: (x (n, …), t in 0 … 1) -> (n, …)
WORLDS = ("two-gaussians", "pictures")
POOL = 50_000  # training points, drawn once
# Added to the seed of four streams of points and noise, to keep them apart.
DATA, TRAINING, MEASURING, REFERENCE = 2301_12003, 2302_12003, 2303_12003, 2304_12003


@dataclass
class Config:
    world: str = "two-gaussians"  # or pictures
    betas: list[float] = field(default_factory=lambda: [3.0, 10.0, 30.0])  # weights of the KL term, rising
    steps: list[int] = field(default_factory=lambda: [4, 8, 64])  # Euler steps; curvature at the most
    train_steps: int = 4000  # of Adam, for each coupling
    train_batch: int = 256
    learning_rate: float = 1e-3
    ema: float = 0.99  # decay of the averaged weights that are sampled from
    points: int = 2000  # drawn and compared in the 2-D world
    channels: list[int] = field(
        default_factory=list
    )  # width of each level of the flow for pictures; [] = the model's
    encoder_channels: list[int] = field(default_factory=list)  # of the encoder

    def __post_init__(self) -> None:
        if self.world not in WORLDS:
            raise ValueError(f"world must be one of {', '.join(WORLDS)}, not {self.world!r}")
        if not self.betas or min(self.betas) <= 0 or sorted(set(self.betas)) != self.betas:
            raise ValueError(f"betas must be rising numbers above 0, not {self.betas}")
        if not self.steps or min(self.steps) < 1:
            raise ValueError(f"steps must be a list of numbers of at least 1, not {self.steps}")
        if min(self.train_steps, self.train_batch) < 1 or self.points < 2:
            raise ValueError("train_steps and train_batch must be at least 1, points at least 2")


REHEARSAL: dict[str, Any] = {"betas": [10.0], "steps": [2, 3], "train_steps": 2, "train_batch": 2}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"betas": [3.0, 10.0], "train_steps": 20, "train_batch": 32, "steps": [2, 4], "points": 100},
    # README: CIFAR-10, β = 20, 500,000 steps of batch 128, learning rate 2e-4. Its network is EDM's; here it is the
    # architecture of DDPM's, trained from scratch, with an encoder of the same kind.
    "paper": {
        "world": "pictures",
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "betas": [10.0, 20.0],
        "steps": [4, 5, 10, 128],
        "train_steps": 500_000,
        "train_batch": 128,
        "learning_rate": 2e-4,
        "ema": 0.9999,
    },
}


class Points(nn.Module):
    """The 2-D networks of the official code: two tanh layers of 100 units over (x, t)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, outputs)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(n, outputs) from points (n, 2) and times (n,)."""
        output: Tensor = self.layers(torch.cat([x, t[:, None]], dim=1))
        return output


class Pictures(nn.Module):
    """A UNet that takes t in 0 … 1, which it is told as a timestep."""

    def __init__(self, unet: nn.Module, last: int) -> None:
        super().__init__()
        self.unet, self.last = unet, last

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(n, channels, h, w) from pictures and times (n,), without classes."""
        return as_network(self.unet)(x, self.last * t, None)


class Model(nn.Module):
    """The flow, and the encoder it is trained with; None is the independent coupling."""

    def __init__(self, flow: nn.Module, encoder: nn.Module | None) -> None:
        super().__init__()
        self.flow, self.encoder = flow, encoder


@dataclass(frozen=True)
class World:
    """Data, prior and untrained networks."""

    batches: Iterator[Tensor]
    prior: Tensor  # standard deviation of p(z), broadcast over a sample
    flow: nn.Module
    encoder: nn.Module


def couple(encoder: nn.Module, x: Tensor, noise: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """z ~ q_φ(z | x) (n, …), and KL(q_φ || p) as a mean over dimensions and samples."""
    mean, log_variance = encoder(x, torch.ones(len(x), device=x.device)).chunk(2, dim=1)
    variance = prior.square()
    ratio = (mean.square() + log_variance.exp()) / variance
    kl = 0.5 * (variance.log() - log_variance - 1 + ratio).mean()
    return mean + (log_variance / 2).exp() * noise, kl


def loss(model: Model, x: Tensor, prior: Tensor, beta: float, generator: torch.Generator) -> Tensor:
    """E ‖z - x - v_θ(x_t, t)‖² + β KL, with straight paths x_t; without an encoder z is drawn from the prior."""
    noise = torch.randn(x.shape, generator=generator).to(x)
    t = torch.rand(len(x), generator=generator).to(x)
    z, kl = (prior * noise, 0.0) if model.encoder is None else couple(model.encoder, x, noise, prior)
    at = t.reshape(-1, *[1] * (x.ndim - 1))
    error: Tensor = (z - x - model.flow((1 - at) * x + at * z, t)).square().mean()
    return error + beta * kl


def sample(velocity: Velocity, z: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """x (n, …) from z (n, …) by Euler steps from t = 1 to 0, and the velocities met (steps, n, …)."""
    x, met = z, []
    for i in range(steps, 0, -1):
        met.append(velocity(x, i / steps))
        x = x - met[-1] / steps
    return x, torch.stack(met)


def two_gaussians() -> GaussianMixture:
    """The data of the official 2-D example."""
    means = torch.tensor([[-8.0, 8.0], [8.0, 8.0]], dtype=torch.float64)
    return GaussianMixture(means, torch.tensor([3.0, 0.1], dtype=torch.float64).diag().expand(2, 2, 2))


def fourier(points: Tensor) -> Tensor:
    """Features (n, 256) of points (n, 2), half on the scale of one mode, half three times as wide."""
    width = torch.tensor([3.0, 0.1], dtype=torch.float64).sqrt()
    return random_fourier_features(points.double() / width, scales=(1.0, 3.0), seed=REFERENCE)


def world(lab: Lab, config: Config) -> World:
    """What every coupling of this seed trains on and starts from."""
    generator = torch.Generator().manual_seed(DATA + lab.seed)
    if config.world == "pictures":
        pictures = (x for x, _ in lab.batches(config.train_batch))
        last, channels = lab.checkpoint.schedule.T - 1, lab.checkpoint.picture_shape[0]
        flow = lab.untrained(config.channels)
        encoder = lab.untrained(config.encoder_channels, out_channels=2 * channels)
        return World(
            pictures, torch.ones((), device=lab.device), Pictures(flow, last), Pictures(encoder, last)
        )
    pool = two_gaussians().sample(POOL, DATA + lab.seed).float().to(lab.device)

    def batches() -> Iterator[Tensor]:
        while True:
            yield pool[torch.randint(POOL, (config.train_batch,), generator=generator).to(pool.device)]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lab.seed)
        flow, encoder = Points(2).to(lab.device), Points(4).to(lab.device)
    return World(batches(), torch.tensor([6.0, 1.0], device=lab.device), flow, encoder)


def network_rows(config: Config, images: int) -> int:
    """Samples that the networks see in one seed, one of training counting three times."""
    examples = 3 * config.train_steps * config.train_batch
    drawn = sum(config.steps) * (images if config.world == "pictures" else config.points)
    return (1 + 2 * len(config.betas)) * examples + (1 + len(config.betas)) * drawn


def reproduce(lab: Lab, config: Config) -> None:
    """One architecture, equally trained: learned couplings of several β against the independent one."""
    names: dict[str, float | None] = {f"beta-{beta:g}": beta for beta in config.betas}
    points = torch.Generator().manual_seed(MEASURING + lab.seed)
    pictures = config.world == "pictures"
    noise = lab.noise() if pictures else torch.randn(config.points, 2, generator=points).to(lab.device)
    for name, beta in (names | {"independent": None}).items():
        each = world(lab, config)  # the same data, networks and order for every coupling
        model = Model(deepcopy(each.flow), None if beta is None else deepcopy(each.encoder))
        trained = sum(p.numel() for p in model.parameters())
        generator = torch.Generator().manual_seed(TRAINING + lab.seed)

        def next_loss(
            each: World = each,
            model: Model = model,
            beta: float = beta or 0.0,
            generator: torch.Generator = generator,
        ) -> Tensor:
            value = loss(model, next(each.batches), each.prior, beta, generator)
            lab.advance()
            return value

        averaged = train_averaged(
            model, next_loss, steps=config.train_steps, learning_rate=config.learning_rate, ema=config.ema
        )
        assert isinstance(averaged, Model)
        velocity = counted(lab, averaged.flow.eval(), in_batches=pictures)
        for steps in config.steps:
            with lab.arm(name, steps=steps) as arm:
                arm.parameters_trained = trained
                z = each.prior * noise
                x, met = sample(velocity, z, steps)
                arm.images = x if pictures else None
            _measure(lab, arm, x)
            if steps == max(config.steps):
                arm.record("curvature", curvature(met, z - x), by=curvature, n=len(x))
    _claim(config, list(names), "fid" if pictures else "kid[fourier]", lab)


def counted(lab: Lab, flow: nn.Module, *, in_batches: bool) -> Velocity:
    """The flow as a velocity that counts what it costs: a denoiser's counter, around a network that is no denoiser."""

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        output: Tensor = torch.cat([flow(*part) for part in zip(x.split(size), t.split(size), strict=True)])
        return output

    size = lab.settings.batch if in_batches else 2**16
    counter = lab.count(Denoiser(network, Schedule.linear(), "sample"))  # "sample": x0 is the bare output
    return lambda x, t: counter.between(x, t, 1.0, 1.0).x0


def _measure(lab: Lab, arm: Arm, x: Tensor) -> None:
    if arm.images is not None:
        arm.measure("fid", "kid", reference=lab.reference())
        return
    arm.plot(x, two_gaussians())
    real = fourier(two_gaussians().sample(len(x), REFERENCE))
    seen = "256 random Fourier features of the coordinates"
    arm.record(
        "kid[fourier]", kernel_distance(real, fourier(x.cpu())), by=kernel_distance, n=len(x), extractor=seen
    )


def _claim(config: Config, names: list[str], quality: str, lab: Lab) -> None:
    most = {"steps": max(config.steps)}
    for name, than in zip(names, [*names[1:], "independent"], strict=True):
        lab.claim("curvature", name, "<", than, at=most)  # smaller β, straighter paths
    middle = names[len(names) // 2]
    for steps in config.steps:
        if 4 <= steps <= 10:  # the few steps of the claim
            lab.claim(quality, middle, "<", "independent", at={"steps": steps})

"""Minimizing Trajectory Curvature of ODE-based Generative Models. Lee, Kim and Ye, 2023. arXiv:2301.12003

The paper's symbols and the code's; time runs from the data, t = 0, to the prior, t = 1:
    x ~ p(x), data -> x      z ~ p(z), prior -> z, noise times `prior`      x_t = (1 - t) x + t z -> x_t
    q_φ(z | x), the coupling -> encoder(x), mean and log variance      v_θ(x_t, t) -> flow(x_t, t), aims at z - x
    β -> beta, the weight of KL(q_φ(z | x) || p(z)); without an encoder the coupling is independent

Details that matter:
- The loss of the flow measures how straight paths from x to z cross, so its gradient also trains the encoder: one loss,
  both networks, no ODE solved in training.
- The KL term is a mean over dimensions, as in the official code. A small β leaves holes: Σ_x q(z | x) need not be p(z).
- Curvature is the mean square of z_1 - z_0 - v, per number as in the official code, on the finest grid of steps.
- "two-gaussians" is the official 2-D example: modes at (±8, 8) of covariance diag(3, 0.1), prior N(0, diag(36, 1)), tanh
  networks of 100 units. "pictures" takes the lab's own pictures and network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise, repeat
from typing import Any

import torch
from torch import Tensor, nn

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.schedule import Schedule, per_row
from denoised.diffusion.training import seeded, train_averaged
from denoised.lab.lab import Lab
from denoised.metrics.distances import kernel_distance
from denoised.metrics.features import random_fourier_features
from denoised.metrics.scores import curvature
from denoised.worlds.toys import GaussianMixture
from denoised.zoo.load import as_network

Velocity = Callable[[Tensor, float], Tensor]  # v: (x (n, …), t in 0 … 1) -> (n, …)
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
    # Width of each level of the flow for pictures, and of the encoder; [] = the model's.
    channels: list[int] = field(default_factory=list)
    encoder_channels: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.world not in ("two-gaussians", "pictures"):
            raise ValueError(f"world must be one of two-gaussians, pictures, not {self.world!r}")
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
    at = per_row(t, x)
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
    if config.world == "pictures":
        last, channels = lab.checkpoint.schedule.T - 1, lab.checkpoint.picture_shape[0]
        flow = Pictures(lab.untrained(config.channels), last)
        encoder = Pictures(lab.untrained(config.encoder_channels, out_channels=2 * channels), last)
        pictures = (x for x, _ in lab.batches(config.train_batch))
        return World(pictures, torch.ones((), device=lab.device), flow, encoder)
    generator = torch.Generator().manual_seed(DATA + lab.seed)
    pool = two_gaussians().sample(POOL, DATA + lab.seed).float().to(lab.device)
    chosen = (torch.randint(POOL, (config.train_batch,), generator=generator) for _ in repeat(None))
    batches = (pool[rows.to(lab.device)] for rows in chosen)
    with seeded(lab.seed):
        networks = Points(2).to(lab.device), Points(4).to(lab.device)
    return World(batches, torch.tensor([6.0, 1.0], device=lab.device), *networks)


def network_rows(config: Config, images: int) -> int:
    """Samples that the networks see in one seed, one of training counting three times."""
    examples = 3 * config.train_steps * config.train_batch
    drawn = sum(config.steps) * (images if config.world == "pictures" else config.points)
    return (1 + 2 * len(config.betas)) * examples + (1 + len(config.betas)) * drawn


def train(lab: Lab, config: Config, beta: float | None) -> tuple[Model, Tensor]:
    """Flow and encoder (None: β → ∞) with averaged weights, and the prior. Each β meets the same data and noise."""
    each, generator = world(lab, config), torch.Generator().manual_seed(TRAINING + lab.seed)
    model = Model(each.flow, None if beta is None else each.encoder)

    def next_loss() -> Tensor:
        lab.advance()
        return loss(model, next(each.batches), each.prior, beta or 0.0, generator)

    averaged = train_averaged(
        model, next_loss, steps=config.train_steps, learning_rate=config.learning_rate, ema=config.ema
    )
    return averaged, each.prior


def counted(lab: Lab, flow: nn.Module, batch: int) -> Velocity:
    """The flow as a velocity that counts what it costs: a denoiser's counter, around a network that is no denoiser."""

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.cat([flow(*part) for part in zip(x.split(batch), t.split(batch), strict=True)])

    counter = lab.count(Denoiser(network, Schedule.linear(), "sample"))  # "sample": x0 is the bare output
    return lambda x, t: counter.between(x, t, 1.0, 1.0).x0


def reproduce(lab: Lab, config: Config) -> None:
    """One architecture, equally trained: learned couplings of several β against the independent one."""
    names: dict[str, float | None] = {f"beta-{beta:g}": beta for beta in config.betas}
    points = torch.Generator().manual_seed(MEASURING + lab.seed)
    pictures, data, most = config.world == "pictures", two_gaussians(), {"steps": max(config.steps)}
    noise = lab.noise() if pictures else torch.randn(config.points, 2, generator=points).to(lab.device)
    for name, beta in (names | {"independent": None}).items():
        model, prior = train(lab, config, beta)
        velocity = counted(lab, model.flow.eval(), lab.settings.batch if pictures else 2**16)
        for steps in config.steps:
            with lab.arm(name, steps=steps) as arm:
                arm.parameters_trained = sum(p.numel() for p in model.parameters())
                z = prior * noise
                x, met = sample(velocity, z, steps)
                arm.images = x if pictures else None
            if pictures:
                arm.measure("fid", "kid", reference=lab.reference())
            else:
                arm.plot(x, data)
                kid = kernel_distance(fourier(data.sample(len(x), REFERENCE)), fourier(x.cpu()))
                seen = "256 random Fourier features of the coordinates"
                arm.record("kid[fourier]", kid, by=kernel_distance, n=len(x), extractor=seen)
            if steps == most["steps"]:
                arm.record("curvature", curvature(met, z - x), by=curvature, n=len(x))
    for name, than in pairwise([*names, "independent"]):
        lab.claim("curvature", name, "<", than, at=most)  # smaller β, straighter paths
    middle, quality = list(names)[len(names) // 2], "fid" if pictures else "kid[fourier]"
    for steps in config.steps:
        if 4 <= steps <= 10:  # the few steps of the claim
            lab.claim(quality, middle, "<", "independent", at={"steps": steps})

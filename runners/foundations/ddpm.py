"""DDPM: Denoising Diffusion Probabilistic Models. Ho, Jain and Abbeel, 2020. arXiv:2006.11239

The paper's symbols and the code's:
    x_t -> x      β_t -> beta      ᾱ_t -> alpha_bar_t      ε_θ(x_t, t) -> network(x, t), prediction.eps
    β̃_t -> the "small" variance (Eq. 7)      T -> schedule.T; the paper counts t from 1, the code from 0

Details that matter:
- T = 1000 and β on a line from 1e-4 to 0.02 (§ 4).
- The reverse variance is fixed: β_t ("large") or β̃_t ("small"); the paper finds them equally good (§ 3.2).
- No noise in the last step (Algorithm 2, line 3).
- The predicted x0 is clipped to [-1, 1] before the posterior mean is taken, as in the official code.
- Samples come from an exponential moving average of the weights (appendix B).
- The bound's weight (Eq. 12) is largest at small t; L_simple (Eq. 14) drops it and so spends the network on
  the harder, noisier timesteps.
- In the first timestep, too, the training loss has the weight of Eq. 12, as if the data were continuous. The
  bound that is measured scores the 256 grey levels there (Eq. 13). Its variance is β, as in the weight, and in
  the first timestep β̃ of the second, as in the official code.
- The network is unconditional, as the paper's is: the class-conditional one here always sees its null class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from denoised.diffusion.bounds import chain, fixed_variance, to_levels
from denoised.diffusion.denoiser import Denoiser, Network, Prediction
from denoised.diffusion.random import Noise
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.diffusion.training import train_averaged
from denoised.lab.lab import Lab
from denoised.lab.likelihoods import Nll, bits, bounded
from denoised.metrics.scores import bits_per_dimension

T = 1000  # timesteps, § 4
MEASURING = 2006_11239  # added to the seed of the noise that bounds are measured with: no other stream has it


@dataclass
class Config:
    train_steps: int = 360  # optimizer steps of each network
    train_batch: int = 16
    learning_rate: float = 2e-3  # Adam, the same for both losses
    ema: float = 0.99  # decay of the averaged weights that are sampled from
    channels: list[int] = field(default_factory=lambda: [16, 32, 64])  # width of each level; [] = the model's
    sample_steps: int = 50  # ancestral steps, evenly spaced
    variance: str = "small"  # reverse variance when sampling: small (β̃) or large (β)
    bound_images: int = 128  # held-out pictures whose likelihood is bounded
    bound_draws: int = 16  # of the 999 KL terms of the bound, drawn for each picture; 0 = all of them

    def __post_init__(self) -> None:
        if self.variance not in ("small", "large"):
            raise ValueError(f"variance must be small or large, not {self.variance!r}")
        if min(self.train_steps, self.train_batch, self.sample_steps, self.bound_images) < 1:
            raise ValueError("train_steps, train_batch, sample_steps and bound_images must be at least 1")
        if self.sample_steps > T:
            raise ValueError(
                f"sample_steps must be from 1 to {T}, the trained timesteps, not {self.sample_steps}"
            )
        if self.bound_draws < 0:
            raise ValueError(f"bound_draws must be 0 (all terms) or more, not {self.bound_draws}")


REHEARSAL: dict[str, Any] = {
    "train_steps": 2,
    "train_batch": 2,
    "sample_steps": 2,
    "bound_images": 2,
    "bound_draws": 1,
}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"train_steps": 2, "train_batch": 4, "sample_steps": 2, "bound_images": 4, "bound_draws": 1},
    # § 4 and appendix B: 800,000 steps of batch 128, learning rate 2e-4, EMA 0.9999, T = 1000 steps. The loader
    # reads CIFAR-10's training set alone, so the bound is Table 1's number in brackets, the one on training data.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "train_steps": 800_000,
        "train_batch": 128,
        "learning_rate": 2e-4,
        "ema": 0.9999,
        "channels": [],
        "sample_steps": 1000,
        "variance": "large",
        "bound_images": 10_000,
        "bound_draws": 0,
    },
}


def network_rows(config: Config, images: int) -> int:
    """Pictures that the two networks see in one seed, an example of training counting three times."""
    terms = 1 + (config.bound_draws or T - 1)
    return 2 * (
        3 * config.train_steps * config.train_batch
        + config.sample_steps * images
        + terms * config.bound_images
    )


def simple_weight(schedule: Schedule, t: Tensor) -> Tensor:
    """The weight of ‖ε - ε_θ‖² in L_simple, which is 1 everywhere. Eq. 14. Float64, of the shape of t."""
    return torch.ones_like(schedule.beta[t])


def vlb_weight(schedule: Schedule, t: Tensor) -> Tensor:
    """The weight of ‖ε - ε_θ‖² in the variational bound, β² / (2 σ² α (1 - ᾱ)) with σ² = β. Eq. 12."""
    beta = schedule.beta[t]
    return beta / (2 * (1 - beta) * (1 - schedule.alpha_bar(t)))


def loss(
    network: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    x0: Tensor,
    condition: Tensor | None,
    schedule: Schedule,
    weight: Callable[[Schedule, Tensor], Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Algorithm 1, line 5, with a weight for each timestep: a scalar, for pictures x0 (n, 3, h, w)."""
    t = torch.randint(schedule.T, (len(x0),), generator=generator)  # schedules live on the CPU
    eps = torch.randn(x0.shape, generator=generator).to(x0.device)
    error = eps - network(schedule.add_noise(x0, eps, t), t.to(x0.device), condition)
    return (weight(schedule, t).to(error) * error.square().mean(dim=(1, 2, 3))).mean()


def train(
    network: nn.Module,
    call: Callable[[nn.Module], Callable[[Tensor, Tensor, Tensor | None], Tensor]],
    batches: Iterator[tuple[Tensor, Tensor | None]],
    schedule: Schedule,
    weight: Callable[[Schedule, Tensor], Tensor],
    config: Config,
    generator: torch.Generator,
) -> nn.Module:
    """Algorithm 1: the network after `config.train_steps` steps of Adam, with its weights averaged."""

    def next_loss() -> Tensor:
        x0, condition = next(batches)
        return loss(call(network), x0, condition, schedule, weight, generator)

    return train_averaged(
        network, next_loss, steps=config.train_steps, learning_rate=config.learning_rate, ema=config.ema
    )


def posterior(
    x: Tensor,
    prediction: Prediction,
    t: int,
    t_next: int,
    schedule: Schedule,
    variance: Literal["small", "large"] | str,
) -> tuple[Tensor, float]:
    """Mean and standard deviation of q(x_{t_next} | x_t, x0). Eq. 6 and 7.

    On a strided grid β_t becomes 1 - ᾱ_t / ᾱ_{t_next}, which is β_t where t_next = t - 1.
    """
    a, a_next = float(schedule.alpha_bar(t)), float(schedule.alpha_bar(t_next))
    beta = 1 - a / a_next
    mean = (sqrt(a_next) * beta * prediction.x0 + sqrt(1 - beta) * (1 - a_next) * x) / (1 - a)
    small = beta * (1 - a_next) / (1 - a)
    return mean, sqrt(small if variance == "small" else beta)


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    variance: Literal["small", "large"] | str = "small",
    clip: bool = True,
    condition: Tensor | None = None,
    generator: Noise,
) -> Tensor:
    """Algorithm 2: pictures (n, …) from noise x (n, …) by ancestral steps along `timesteps`."""
    for t, t_next in pairwise([*timesteps, -1]):
        prediction = denoiser(x, t, condition)
        if clip:
            prediction = prediction.clip()
        x, deviation = posterior(x, prediction, t, t_next, denoiser.schedule, variance)
        if t_next >= 0:
            x = x + deviation * generator.randn_like(x)
    return x


def nll(network: Network, schedule: Schedule, config: Config) -> Nll:
    """The bound on -log p of 8-bit pictures (n, 3, h, w), in nats, with the variance β. Eq. 5."""
    steps = chain(schedule, range(schedule.T - 1, -1, -1))
    return bounded(fixed_variance(network, "epsilon", steps, "large"), steps, config.bound_draws or None)


def reproduce(lab: Lab, config: Config) -> None:
    """Two networks that differ in the weight of their loss alone: L_simple against the bound. Tables 1 and 2."""
    schedule = Schedule.linear(T)
    grid = timesteps(T, config.sample_steps)
    untrained = lab.untrained(config.channels)
    real, held_out = lab.reference(), to_levels(lab.data.reference(config.bound_images))
    for name, weight in (("l_simple", simple_weight), ("l_vlb", vlb_weight)):
        with lab.arm(name, train_steps=config.train_steps, steps=config.sample_steps) as arm:
            network = train(
                deepcopy(untrained),
                lab.call,
                ((pictures, None) for pictures, _ in lab.batches(config.train_batch)),
                schedule,
                weight,
                config,
                torch.Generator().manual_seed(lab.seed),
            )
            arm.parameters_trained = sum(p.numel() for p in network.parameters())
            arm.images = sample(
                lab.wrap(network, schedule, "epsilon"),
                lab.noise(),
                grid,
                variance=config.variance,
                generator=lab.generator(),
            )
        arm.measure("fid", "kid", "precision", "recall", reference=real)
        values = bits(lab, nll(lab.call(network), schedule, config), held_out, MEASURING)
        arm.record("bits-per-dimension", values, by=bits_per_dimension)
    lab.claim("fid", "l_simple", "<", "l_vlb")
    lab.claim("bits-per-dimension", "l_vlb", "<", "l_simple")

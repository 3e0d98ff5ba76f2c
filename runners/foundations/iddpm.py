"""IDDPM: Improved Denoising Diffusion Probabilistic Models. Nichol and Dhariwal, 2021. arXiv:2102.09672

The paper's symbols and the code's:
    x_t -> x      β_t -> exp(steps.log_large)      β̃_t -> exp(steps.log_small)      ᾱ_t -> schedule.alpha_bar(t)
    Σ_θ(x_t, t) -> exp(log_variance)      v (Eq. 15) -> (v + 1) / 2: the network says a v around 0, as in the
    official code      S, the timesteps that are kept (§ 4) -> timesteps      λ (Eq. 16) -> vlb_weight

Details that matter:
- The network has one more output a channel. In L_vlb the mean is detached: the bound teaches the variance, L_simple
  teaches the mean (§ 3.1).
- λ = 0.001 weighs the whole bound, that is T times a term at a uniform t, in bits per dimension (official code).
- A shorter chain gets its own β and β̃ (Eq. 19), and the learned share between them is used as it is, without any
  training for it (§ 4). The kept timesteps are evenly spaced and include both ends.
- β̃ is 0 in the last step. Its logarithm is that of the step before; the fixed large variance takes it there too,
  as in the official code.
- The predicted x0 is clipped in sampling and measuring, not in the loss.
- Timesteps are drawn by importance (§ 3.3) for training on L_vlb alone. L_hybrid needs no such thing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from denoised.diffusion.bounds import Chain, Reverse, chain, posterior_mean, rows, term, to_levels
from denoised.diffusion.denoiser import Denoiser, Network, predict
from denoised.diffusion.random import Noise
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.diffusion.training import train_averaged
from denoised.lab.lab import Lab
from denoised.lab.likelihoods import bits, bounded
from denoised.metrics.scores import bits_per_dimension

MEASURING = 2102_09672  # added to the seed of the noise that bounds are measured with: no other stream has it
# Each arm: the network it samples, and its variance. The last is a control: half way, where nothing is learned.
ARMS = {
    "l_hybrid": ("l_hybrid", "learned"),
    "l_simple_small": ("l_simple", "small"),
    "l_simple_large": ("l_simple", "large"),
    "l_hybrid_midway": ("l_hybrid", "midway"),
}


@dataclass
class Config:
    train_steps: int = 300  # optimizer steps of each network
    train_batch: int = 16
    learning_rate: float = 2e-3  # Adam, the same for both losses
    ema: float = 0.99  # decay of the averaged weights that are sampled from
    channels: list[int] = field(default_factory=lambda: [16, 32, 64])  # width of each level; [] = the model's
    T: int = 1000  # timesteps of the cosine schedule
    vlb_weight: float = 0.001  # λ, the weight of L_vlb in L_hybrid
    steps: list[int] = field(default_factory=lambda: [5, 10, 25])  # lengths of the strided chain
    bound_images: int = 64  # held-out pictures whose likelihood is bounded
    bound_draws: int = 8  # KL terms of the bound that are drawn for each picture; 0 = all of them

    def __post_init__(self) -> None:
        if min(self.train_steps, self.train_batch, self.bound_images) < 1:
            raise ValueError("train_steps, train_batch and bound_images must be at least 1")
        if not self.steps or min(self.steps) < 2 or max(self.steps) > self.T:
            raise ValueError(f"steps must be a list of numbers from 2 to T = {self.T}, not {self.steps}")
        if self.vlb_weight <= 0:
            raise ValueError(f"vlb_weight must be positive, or no variance is learned, not {self.vlb_weight}")
        if self.bound_draws < 0:
            raise ValueError(f"bound_draws must be 0 (all terms) or more, not {self.bound_draws}")


REHEARSAL: dict[str, Any] = {
    "train_steps": 2,
    "train_batch": 2,
    "steps": [2, 3],
    "bound_images": 2,
    "bound_draws": 1,
}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": REHEARSAL | {"channels": [8, 8, 8], "steps": [25]},
    # Table 2, § 4, appendix A: T = 4000, 500,000 updates of batch 128, learning rate 1e-4, EMA 0.9999. The network is
    # DDPM's with more outputs; the paper's own has three residual blocks a level, more attention and dropout 0.3.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "train_steps": 500_000,
        "train_batch": 128,
        "learning_rate": 1e-4,
        "ema": 0.9999,
        "channels": [],
        "T": 4000,
        "steps": [25, 50, 100, 4000],
        "bound_images": 1000,
        "bound_draws": 0,
    },
}


def network_rows(config: Config, images: int) -> int:
    """Pictures that the two networks see in one seed, an example of training counting three times."""
    training = 2 * 3 * config.train_steps * config.train_batch
    measuring = (
        sum(1 + (kl_terms(config, steps) or steps - 1) for steps in config.steps) * config.bound_images
    )
    return training + len(ARMS) * (sum(config.steps) * images + measuring)


def kl_terms(config: Config, steps: int) -> int | None:
    """How many KL terms of a chain of `steps` are drawn for each picture; None: all, there being no more."""
    return config.bound_draws if 0 < config.bound_draws < steps - 1 else None


def log_variance(steps: Chain, k: Tensor, like: Tensor, variance: str, v: Tensor | None = None) -> Tensor:
    """log Σ_θ in steps k (n,) to broadcast over `like` (n, …).

    `variance`: small (β̃), large (β), midway (v = 0 in Eq. 15), or learned: Eq. 15 with the network's v (n, …), which
    says β̃ at -1 and β at 1. ValueError for others, and for v of another shape than `like`.
    """
    small, large = rows(steps.log_small, k, like), rows(steps.log_large, k, like)
    match variance:
        case "small":
            return small
        case "large":
            return torch.where(rows(steps.t_next, k, like) < 0, small, large)
        case "midway":
            return (small + large) / 2
        case "learned":
            if v is None or v.shape != like.shape:
                raise ValueError(
                    "learned variances need a network with twice as many output channels as x has"
                )
            share = (v.double() + 1) / 2
            return share * large + (1 - share) * small
        case other:
            raise ValueError(f"variance must be learned, small, large or midway, not {other!r}")


def loss(network: Network, x0: Tensor, steps: Chain, vlb_weight: float, generator: torch.Generator) -> Tensor:
    """L_hybrid = L_simple + λ L_vlb (Eq. 16) for pictures x0 (n, c, h, w) of 256 levels; L_simple alone at λ = 0."""
    k = torch.randint(len(steps), (len(x0),), generator=generator)
    t = steps.t[k]
    eps = torch.randn(x0.shape, generator=generator).to(x0.device)
    x = steps.schedule.add_noise(x0, eps, t)
    output = network(x, t.to(x.device), None)
    said, v = output[:, : x.shape[1]], output[:, x.shape[1] :]
    simple = (eps - said).square().mean()
    if vlb_weight == 0:
        return simple
    a, s = steps.schedule.signal_and_noise(t, x)
    mean = posterior_mean(steps, k, predict(said.detach(), x, a, s, "epsilon").x0, x)
    nats = term(steps, k, x0, x, mean, log_variance(steps, k, x, "learned", v)).mean()
    return simple + vlb_weight * len(steps) * (nats / (x0[0].numel() * math.log(2))).to(simple)


def train(lab: Lab, network: nn.Module, steps: Chain, vlb_weight: float, config: Config) -> nn.Module:
    """The network trained with L_hybrid, or at λ = 0 with L_simple, and its weights averaged."""
    call, noise = lab.call(network), torch.Generator().manual_seed(lab.seed)
    batches = lab.batches(config.train_batch)
    return train_averaged(
        network,
        lambda: loss(call, to_levels(next(batches)[0]), steps, vlb_weight, noise),
        steps=config.train_steps,
        learning_rate=config.learning_rate,
        ema=config.ema,
    )


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    variance: str = "learned",
    condition: Tensor | None = None,
    generator: Noise,
) -> Tensor:
    """Pictures (n, …) from noise x (n, …) by ancestral steps along `timesteps`, two or more. § 4.

    `variance`: as in `log_variance`.
    """
    steps = chain(denoiser.schedule, timesteps)
    for index, t in enumerate(timesteps):
        k = torch.full((len(x),), index)
        prediction = denoiser(x, t, condition).clip()
        mean = posterior_mean(steps, k, prediction.x0, x)
        if index < len(steps) - 1:
            spread = (0.5 * log_variance(steps, k, x, variance, prediction.extra)).exp()
            mean = mean + spread * generator.randn_like(x)
        x = mean.to(x)
    return x


def reverse(network: Network, steps: Chain, variance: str) -> Reverse:
    """p(x_{t_next} | x_t) of a network with a variance as in `log_variance`, for the bound."""

    def step(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        t = steps.t[k]
        a, s = steps.schedule.signal_and_noise(t, x)
        output = network(x, t.to(x.device), None)
        said, v = output[:, : x.shape[1]], output[:, x.shape[1] :]
        x0 = predict(said, x, a, s, "epsilon").x0.clamp(-1, 1)
        return posterior_mean(steps, k, x0, x), log_variance(steps, k, x, variance, v)

    return step


def reproduce(lab: Lab, config: Config) -> None:
    """Learned variances against fixed ones after equal training, on strided chains. Table 2 and § 4."""
    schedule = Schedule.cosine(config.T)
    whole = chain(schedule, range(config.T - 1, -1, -1))
    channels = lab.checkpoint.picture_shape[0]
    networks = {
        "l_simple": (lab.untrained(config.channels), 0.0),
        "l_hybrid": (lab.untrained(config.channels, out_channels=2 * channels), config.vlb_weight),
    }
    real, held_out = lab.reference(), to_levels(lab.data.reference(config.bound_images))
    trained = {}
    for name, (network, vlb_weight) in networks.items():
        lab.report(f"{name}: training")
        trained[name] = train(lab, network, whole, vlb_weight, config)
    for steps in config.steps:
        grid = timesteps(config.T, steps, "linspace")
        strided = chain(schedule, grid)
        for name, (source, variance) in ARMS.items():
            network = trained[source]
            denoiser = lab.wrap(network, schedule, "epsilon")
            with lab.arm(name, steps=steps) as arm:
                arm.parameters_trained = sum(p.numel() for p in network.parameters())
                arm.images = sample(denoiser, lab.noise(), grid, variance=variance, generator=lab.generator())
            arm.measure("fid", "kid", reference=real)
            model = reverse(lab.call(network), strided, variance)
            nll = bounded(model, strided, kl_terms(config, steps))
            arm.record("bits-per-dimension", bits(lab, nll, held_out, MEASURING), by=bits_per_dimension)
    for steps in config.steps:
        if 25 <= steps <= 100:  # the budgets of the claim
            for fixed in ("l_simple_small", "l_simple_large"):
                lab.claim("fid", "l_hybrid", "<", fixed, at={"steps": steps})
                lab.claim("bits-per-dimension", "l_hybrid", "<", fixed, at={"steps": steps})
            # That variances are learned, not that half way is better than either end.
            lab.claim("bits-per-dimension", "l_hybrid", "<", "l_hybrid_midway", at={"steps": steps})

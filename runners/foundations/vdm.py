"""VDM: Variational Diffusion Models. Kingma, Salimans, Poole and Ho, 2021. arXiv:2107.00630

The paper's symbols and the code's:
    γ_η(t) = -log SNR(t) -> gamma(t), increasing from gamma_min to gamma_max over t in [0, 1]
    α_t² = sigmoid(-γ), σ_t² = sigmoid(γ) -> signal_and_noise(gamma)      z_t = α_t x + σ_t ε -> z
    ε̂_θ(z_t; t), which is told γ instead of t -> eps(z, gamma)      γ'(t) -> slope

Details that matter:
- In continuous time the diffusion term is ½ E[γ'(t) ‖ε - ε̂‖²] (Eq. 17). Substituting γ for t leaves no schedule but
  its two ends (§ 5.1), so the shape between them is free, and is spent on the variance of the estimate (§ 5.3).
- The network must be told γ and not t, or another schedule would be another model.
- The gradient for the schedule is that of the squared loss. It needs no second backward pass: the pass for the
  network also gives the loss's derivative in γ, which the chain rule takes on to η.
- γ_η is monotone: a line plus a network with positive weights. Its ends are pinned here, so that all schedules
  share them; the paper learns them as well.
- The decoder scores the 256 values by their distance to z_0, normalised to sum to 1, in float64: at γ = -13.3 the
  noise is a sixth of a grey level's width, and float32 leaves nothing of the tails.
- No Fourier features here: the network is the lab's U-Net, which takes three channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoised.diffusion.bounds import LEVELS, normal_kl, to_levels
from denoised.diffusion.denoiser import Network
from denoised.diffusion.log_snr import Gamma, beta_linear, cosine, linear
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import per_row
from denoised.diffusion.training import update_ema
from denoised.lab.lab import Lab
from denoised.metrics.scores import bits_per_dimension, estimate_deviation

Eps = Callable[[Tensor, Tensor], Tensor]  # ε̂(z, γ) for z (n, …) and γ (n,)
MEASURING = 2107_00630  # added to the seed of the noise that bounds are measured with: training has another


@dataclass
class Config:
    train_steps: int = 420  # optimizer steps of network and schedule together
    train_batch: int = 32
    learning_rate: float = 2e-3  # Adam, the network
    schedule_rate: float = 1e-2  # Adam, the schedule
    schedule_units: int = 64  # hidden units of the schedule's network
    ema: float = 0.99  # decay of the averaged weights that are measured
    channels: list[int] = field(default_factory=lambda: [16, 32, 64])  # width of each level; [] = the model's
    gamma_min: float = -13.3  # the official code's ends
    gamma_max: float = 5.0
    bound_images: int = 64  # held-out pictures
    bound_draws: int = 32  # times drawn for each of them, under each schedule
    margin: float = 0.1  # bits per dimension by which two estimates of one bound may differ

    def __post_init__(self) -> None:
        if not self.gamma_min < self.gamma_max:
            raise ValueError(f"gamma_min must be below gamma_max = {self.gamma_max}, not {self.gamma_min}")
        counts = ("train_steps", "train_batch", "schedule_units", "bound_images", "bound_draws")
        if min(getattr(self, name) for name in counts) < 1 or self.bound_images * self.bound_draws < 2:
            raise ValueError(f"{', '.join(counts)} must be at least 1, and two draws are needed in all")
        if self.margin <= 0 or not 0 <= self.ema < 1:
            raise ValueError(
                f"margin must be above 0 and ema lie in [0, 1), not {self.margin} and {self.ema}"
            )


REHEARSAL: dict[str, Any] = {"train_steps": 2, "train_batch": 4, "bound_images": 2, "bound_draws": 3}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": REHEARSAL,
    # The official CIFAR-10 configuration: 10 million steps of batch 128, learning rate 2e-4, EMA 0.9999. The paper's
    # U-Net never lowers the resolution; the nearest one here is DDPM's. The loader reads the training set alone.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "train_steps": 10_000_000,
        "train_batch": 128,
        "learning_rate": 2e-4,
        "schedule_rate": 2e-4,
        "schedule_units": 1024,
        "ema": 0.9999,
        "channels": [],
        "bound_images": 10_000,
        "margin": 0.02,
    },
}


def signal_and_noise(gamma: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ for γ (n,), shaped to multiply `like` (n, …). § 3.2."""
    gamma = per_row(gamma, like)
    return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()


class LearnedSchedule(nn.Module):
    """γ_η(t) between fixed ends, increasing whatever the weights: a line plus sigmoids, all factors positive."""

    def __init__(self, low: float, high: float, units: int) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.line = nn.Parameter(torch.zeros(()))
        self.steepness = nn.Parameter(torch.ones(units))
        self.place = nn.Parameter(torch.linspace(-6, 6, units))
        self.height = nn.Parameter(torch.full((units,), -3.0))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """γ (n,) and its derivative (n,) at t (n,)."""
        w, v = F.softplus(self.steepness) * 4, F.softplus(self.height) / len(self.height)
        line = F.softplus(self.line)

        def raw(t: Tensor) -> tuple[Tensor, Tensor]:
            inside = torch.sigmoid(w * (2 * t[:, None] - 1) + self.place)
            return line * t + inside @ v, line + (inside * (1 - inside)) @ (2 * w * v)

        (value, slope), (ends, _) = raw(t), raw(t.new_tensor([0.0, 1.0]))
        scale = (self.high - self.low) / (ends[1] - ends[0])
        return self.low + scale * (value - ends[0]), scale * slope


def even_times(n: int, generator: torch.Generator) -> Tensor:
    """n times in [0, 1), each alone uniform: even steps from one random offset, shuffled, for low discrepancy (paper)."""
    even = torch.arange(n, dtype=torch.float64) / n
    t = (torch.rand(1, generator=generator, dtype=torch.float64) + even) % 1
    return t[torch.randperm(n, generator=generator)]


def squared_error(eps: Eps, x: Tensor, gamma: Tensor, noise: Tensor) -> Tensor:
    """‖ε - ε̂‖² (n,), of x (n, …) at γ (n,)."""
    a, s = signal_and_noise(gamma, x)
    difference: Tensor = noise - eps(a * x + s * noise, gamma)
    return difference.square().flatten(1).sum(1)


def backward(eps: Eps, schedule: LearnedSchedule, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Leave the gradients of the loss in the network and those of its variance in the schedule; the losses (n,).

    L = ½ γ' ‖ε - ε̂(z_γ; γ)‖² of each row (Eq. 17), divided by the dimensions. The mean of L does not depend on η,
    so its variance falls with the mean of L²: d(L²) = 2 L (∂L/∂γ dγ + ∂L/∂γ' dγ'). § 5.3.
    """
    gamma, slope = schedule(t)
    at = gamma.detach().requires_grad_()
    error = squared_error(eps, x, at, noise) / x[0].numel()
    loss = slope.detach() * error / 2
    loss.mean().backward()
    assert at.grad is not None
    value: Tensor = loss.detach()
    by_gamma = len(x) * at.grad
    (2 * value * (by_gamma * gamma + error.detach() / 2 * slope)).mean().backward()
    return value


def train(network: nn.Module, lab: Lab, config: Config) -> tuple[nn.Module, LearnedSchedule]:
    """Network and schedule after `config.train_steps` steps, with their weights averaged."""
    generator = torch.Generator().manual_seed(lab.seed)
    schedule = LearnedSchedule(config.gamma_min, config.gamma_max, config.schedule_units).to(lab.device)
    both = nn.ModuleList([network, schedule])
    average = deepcopy(both).requires_grad_(False)
    groups = ((network, config.learning_rate), (schedule, config.schedule_rate))
    optimizer = torch.optim.Adam([{"params": part.parameters(), "lr": rate} for part, rate in groups])
    eps, batches = told_gamma(lab.call(network), config), lab.batches(config.train_batch)
    for step in range(config.train_steps):
        x = to_levels(next(batches)[0])
        t = even_times(len(x), generator).to(x)
        optimizer.zero_grad()
        backward(eps, schedule, x, t, torch.randn(x.shape, generator=generator).to(x))
        for part in both:
            nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimizer.step()
        update_ema(average.parameters(), both.parameters(), min(config.ema, (1 + step) / (10 + step)))
    return average[0], average[1]  # type: ignore[return-value]


def told_gamma(network: Network, config: Config) -> Eps:
    """ε̂(z, γ) of a network that takes timesteps: γ is told on a scale from 0 to 1000."""
    span = config.gamma_max - config.gamma_min
    return lambda z, gamma: network(z, 1000 * (gamma - config.gamma_min) / span, None)


def decoder_nll(x: Tensor, z: Tensor, gamma: float) -> Tensor:
    """-log p(x | z_0) in nats, (n,) float64, for x (n, …) of `to_levels`: p(v) ∝ N(z_0; α v, σ²) over 256 values v."""
    alpha2 = 1 / (1 + math.exp(gamma))
    values = torch.linspace(-1, 1, LEVELS, dtype=torch.float64, device=x.device)
    mean = z.double() / math.sqrt(alpha2)

    def exponent(v: Tensor) -> Tensor:
        return -(mean[..., None] - v).square() / (2 * math.exp(gamma))

    normaliser = exponent(values).logsumexp(-1)
    return (normaliser - exponent(x.double()[..., None])[..., 0]).flatten(1).sum(1)


def ends(x: Tensor, config: Config, noise: SampleGenerators) -> Tensor:
    """The prior's and the decoder's terms of the bound in nats, (n,): the same for every schedule. § 3.5."""
    a, s = signal_and_noise(torch.tensor([config.gamma_min, config.gamma_max], dtype=torch.float64), x.cpu())
    (a0, a1), (s0, s1) = (each.flatten().tolist() for each in (a, s))
    zero = torch.zeros((), dtype=torch.float64, device=x.device)
    prior = normal_kl(a1 * x.double(), zero + 2 * math.log(s1), zero, zero).flatten(1).sum(1)
    return prior + decoder_nll(x, a0 * x.double() + s0 * noise.randn_like(x).double(), config.gamma_min)


def network_rows(config: Config, images: int) -> int:
    """Pictures that the network sees in one seed, an example of training counting three times."""
    return 3 * config.train_steps * config.train_batch + 4 * config.bound_images * config.bound_draws


@torch.inference_mode()
def estimates(eps: Eps, gamma: Gamma, x: Tensor, seed: int, draws: int, batch: int) -> Tensor:
    """The diffusion term in nats for `draws` times and noises of each picture: (n · draws,) float64. Eq. 17."""
    generator = torch.Generator().manual_seed(seed)
    value, slope = gamma(even_times(len(x) * draws, generator).to(x.device))
    found = []
    for part in torch.arange(len(value)).split(batch):
        pictures = x[part.to(x.device) % len(x)]
        noise = torch.randn(pictures.shape, generator=generator).to(pictures)
        found.append(squared_error(eps, pictures, value[part].to(pictures), noise))
    return slope.double() * torch.cat(found).double() / 2


def reproduce(lab: Lab, config: Config) -> None:
    """One denoiser under four schedules of equal ends: one bound (§ 5.1), estimated with less variance (§ 5.3)."""
    x = to_levels(lab.data.reference(config.bound_images)).to(lab.device)
    network, schedule = train(lab.untrained(config.channels), lab, config)
    eps, span = told_gamma(lab.call(network.eval()), config), (config.gamma_min, config.gamma_max)
    schedules: dict[str, Gamma] = {
        "learned": lambda t: schedule(t.float()),
        "linear": linear(*span),
        "cosine": cosine(*span),
        "beta-linear": beta_linear(*span),
    }
    seed = MEASURING + lab.seed
    fixed = ends(x, config, SampleGenerators(seed, range(len(x)))).repeat(config.bound_draws)
    for name, gamma in schedules.items():
        with lab.arm(name) as arm:
            nats = fixed + estimates(eps, gamma, x, seed, config.bound_draws, lab.settings.batch)
        arm.parameters_trained = sum(p.numel() for p in schedule.parameters()) if name == "learned" else 0
        bits = bits_per_dimension(nats, x[0].numel())
        arm.record("bits-per-dimension", bits, by=bits_per_dimension)
        arm.record("estimate-deviation", estimate_deviation(bits), by=estimate_deviation, n=len(bits))
    for name in list(schedules)[1:]:
        lab.claim("estimate-deviation", "learned", "<", name)
    # DDPM's schedule spends less than a hundredth of the time on the first third of γ: a few thousand draws cannot say
    # what its mean is to within the margin, so it is left out here.
    for name in ("linear", "cosine"):
        lab.claim("bits-per-dimension", "learned", "<=", name, margin=config.margin)
        lab.claim("bits-per-dimension", "learned", ">=", name, margin=config.margin)

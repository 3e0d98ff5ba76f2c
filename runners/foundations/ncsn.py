"""NCSN: Generative Modeling by Estimating Gradients of the Data Distribution. Song and Ermon, 2019. arXiv:1907.05600

The paper's symbols and the code's:
    σ_1 > … > σ_L -> sigmas      s_θ(x, σ) -> score(x, sigma)      x̃, data with noise -> x
    ε -> step, the step size at σ_L      α_i = ε σ_i² / σ_L² -> alpha      T, steps at each level -> steps_each

Details that matter:
- The levels are a geometric sequence, its first one as large as the data are wide (§ 4.1).
- The loss of each level is weighted by σ², so that no level outweighs another: ‖σ s‖ is about 1 everywhere (§ 4.2).
  The network therefore gives σ s, and is divided by σ afterwards.
- α ∝ σ² keeps the signal-to-noise ratio of a step, ‖α s / 2‖ / ‖sqrt(α) z‖, the same at all levels (§ 4.3).
- Langevin dynamics has no accept step, and no noise is removed at the end: what is drawn is data with σ_L of noise.
- On the mixture a larger step does not help the baseline: it would have to cross some ten deviations between modes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from denoised.diffusion.continuous import Levels, predict_at
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import Noise
from denoised.diffusion.schedule import Schedule
from denoised.diffusion.training import seeded
from denoised.lab.lab import Lab
from denoised.metrics.scores import mode_share_error
from denoised.worlds.toys import GaussianMixture, two_modes

Score = Callable[[Tensor, float], Tensor]  # s_θ(x, σ) for x (n, …)
Scores = Callable[[Tensor, Tensor], Tensor]  # the same with a σ for each row, (n, 1)
START = 8.0  # half the width of the square in which the mixture's chains start, as in the official code
DRAWING = 1907_05600  # added to the seed of the chains' noise, which training noise must not be


@dataclass
class Config:
    levels: list[int] = field(default_factory=lambda: [2, 3, 5, 10])  # L, one network and arm for each
    sigma_max: float = 20.0  # σ_1 on the mixture
    sigma_min: float = 1.0  # σ_L, which is also the only level of the baseline
    steps_each: int = 100  # T on the mixture, at each level; the baseline takes as many as all together
    step: float = 0.1  # ε on the mixture
    chains: int = 1280  # samples of every arm on the mixture
    hidden: int = 128  # width of the two hidden layers of the score network
    train_steps: int = 2000  # Adam steps of each network
    train_batch: int = 256
    learning_rate: float = 2e-3
    picture_levels: int = 10  # L on pictures
    picture_steps: int = 5  # T on pictures, at each level
    picture_step: float = 0.5  # ε / σ_L² on pictures; the paper has 0.2 with T = 100
    picture_sigma_max: float = 2.0  # for data in [-1, 1], which is twice the paper's range
    picture_sigma_min: float = 0.02

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"levels must be a list of numbers of at least 2, not {self.levels}")
        for of in ("", "picture_"):
            low, high = getattr(self, f"{of}sigma_min"), getattr(self, f"{of}sigma_max")
            if not 0 < low < high:
                raise ValueError(f"{of}sigma_min must lie between 0 and {of}sigma_max = {high}, not {low}")
        if not (0 < self.step < 4 * self.sigma_min**2 and 0 < self.picture_step < 4):
            raise ValueError(
                "step must lie between 0 and 4 sigma_min², and picture_step between 0 and 4, "
                f"where Langevin dynamics diverges, not {self.step} and {self.picture_step}"
            )
        counts = ("steps_each", "chains", "hidden", "train_steps", "train_batch", "picture_steps")
        if min(getattr(self, name) for name in counts) < 1 or self.picture_levels < 2:
            raise ValueError(f"{', '.join(counts)} must be at least 1 and picture_levels at least 2")


REHEARSAL: dict[str, Any] = {
    "levels": [2],
    "steps_each": 10,
    "chains": 20,
    "train_steps": 5,
    "picture_levels": 2,
    "picture_steps": 1,
}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": REHEARSAL,
    # § 5: L = 10 levels from 1 to 0.01 on data in [0, 1], T = 100, ε = 2e-5 (0.2 σ_L²). The paper's network is a
    # RefineNet of its own; the nearest one in the hub's layout is DDPM's, of the same data.
    "paper": {"model": "ddpm-cifar10", "data": "cifar10", "picture_steps": 100, "picture_step": 0.2},
}


class ScoreNetwork(nn.Module):
    """s_θ(x, σ) for points (n, d): a small network of x and log σ, divided by σ."""

    def __init__(self, dimensions: int, hidden: int, sigma_max: float) -> None:
        super().__init__()
        self.scale = sigma_max
        first, second = nn.Linear(2 * dimensions + 1, hidden), nn.Linear(hidden, hidden)
        self.layers = nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), nn.Linear(hidden, dimensions))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        # x at two scales, that of the data and that of the largest noise.
        scaled: Tensor = self.layers(torch.cat([x / 5, x / self.scale, sigma.log()], dim=1))
        return scaled / sigma


def geometric(sigma_max: float, sigma_min: float, levels: int) -> list[float]:
    """σ_1 … σ_L with one ratio from each to the next; `levels` is at least 2. § 4.1."""
    return [sigma_max * (sigma_min / sigma_max) ** (i / (levels - 1)) for i in range(levels)]


def loss(score: Scores, x0: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """σ² times the denoising score matching loss, a scalar, for x0 (n, d) and sigma (n, 1). Eq. 5 and 6."""
    x = x0 + sigma * torch.randn(x0.shape, generator=generator)
    target = -(x - x0) / sigma**2  # the score of N(x; x0, σ² I) in x
    return (sigma**2 * (score(x, sigma) - target).square()).sum(dim=1).mean() / 2


def train(density: GaussianMixture, sigmas: Sequence[float], config: Config, seed: int) -> nn.Module:
    """A score network of these levels, each drawn equally often. Eq. 6 with λ(σ) = σ²."""
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed):
        network = ScoreNetwork(density.means.shape[1], config.hidden, config.sigma_max)
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.train_steps)
    data = density.sample(config.train_steps * config.train_batch, seed).float()
    for x0 in data.split(config.train_batch):
        sigma = torch.tensor(sigmas)[torch.randint(len(sigmas), (len(x0), 1), generator=generator)]
        optimizer.zero_grad()
        loss(network, x0, sigma, generator).backward()
        optimizer.step()
        slower.step()
    return network


def langevin(
    score: Score, x: Tensor, sigmas: Sequence[float], steps_each: Sequence[int], step: float, generator: Noise
) -> Tensor:
    """x (n, …) after annealed Langevin dynamics through `sigmas`. Algorithm 1; with one level, Eq. 4."""
    for sigma, steps in zip(sigmas, steps_each, strict=True):
        alpha = step * (sigma / sigmas[-1]) ** 2
        for _ in range(steps):
            x = x + alpha / 2 * score(x, sigma) + math.sqrt(alpha) * generator.randn_like(x)
    return x


class Stream:
    """Noise for all chains at once: a generator for each would take longer than the networks."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def randn_like(self, x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=self._generator, dtype=x.dtype)


def as_denoiser(network: nn.Module) -> Denoiser:
    """The network as one that predicts ε = -σ s_θ and is told σ for t, so that calls are counted; no schedule is asked."""
    return Denoiser(lambda x, sigma, _: -sigma[:, None] * network(x, sigma[:, None]), Schedule.linear())


def point_score(denoiser: Denoiser) -> Score:
    """The score of points with noise σ: a = 1, s = σ."""
    return lambda x, sigma: denoiser.between(x, sigma, 1.0, sigma).score


def nearest_mode(x: Tensor, density: GaussianMixture) -> Tensor:
    """(n,) the component whose mean is nearest to each point."""
    return torch.cdist(x.double(), density.means).argmin(dim=1)


def picture_score(denoiser: Denoiser, condition: Tensor | None) -> Score:
    """∇ log p_σ of data with noise σ, from a network of a variance-preserving chain: -ε / σ."""
    levels = Levels(denoiser.schedule)

    def score(x: Tensor, sigma: float) -> Tensor:
        level = levels.at_sigma(sigma)
        return -predict_at(denoiser, level.a * x, level, condition).eps / sigma

    return score


def sample(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    steps_each: Sequence[int],
    step: float,
    condition: Tensor | None = None,
    generator: Noise,
) -> Tensor:
    """Pictures (n, …) with noise σ_L from unit noise x (n, …), which is made uniform on [-1, 1] first. Algorithm 1."""
    start = 2 * torch.special.ndtr(x) - 1
    return langevin(picture_score(denoiser, condition), start, sigmas, steps_each, step, generator)


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed; the mixture's networks are too small to count."""
    return 2 * config.picture_levels * config.picture_steps * images


def reproduce(lab: Lab, config: Config) -> None:
    """Weights of two modes, annealed against one level (§ 3.2.2 and Figure 3), then the same on pictures (§ 5)."""
    lab.levels(picture_sigma_min=config.picture_sigma_min, picture_sigma_max=config.picture_sigma_max)
    denoiser, real = lab.denoiser(), lab.reference()
    _mixture(lab, config)
    sigmas = geometric(config.picture_sigma_max, config.picture_sigma_min, config.picture_levels)
    steps = config.picture_levels * config.picture_steps
    for name, ladder in (("annealed-pictures", sigmas), ("single-pictures", sigmas[-1:])):
        with lab.arm(name, steps=steps) as arm:
            arm.images = sample(
                denoiser,
                lab.noise(),
                ladder,
                steps_each=[steps // len(ladder)] * len(ladder),
                step=config.picture_step * sigmas[-1] ** 2,
                condition=lab.labels(),
                generator=lab.generator(),
            )
        arm.measure("fid", "kid", "precision", "recall", reference=real)
    most = max(config.levels)
    lab.claim("mode-share-error", "annealed", "<", "single", at={"levels": most})
    # "Recovers" the weights: up to 0.05 as well as an exact sample of the same size.
    lab.claim("mode-share-error", "annealed", "<=", "exact", at={"levels": most}, margin=0.05)
    lab.claim("fid", "annealed-pictures", "<", "single-pictures")


def _mixture(lab: Lab, config: Config) -> None:
    density = two_modes()
    start = START * (2 * torch.rand(config.chains, 2, generator=torch.Generator().manual_seed(lab.seed)) - 1)
    single = train(density, [config.sigma_min], config, lab.seed)
    for levels in config.levels:
        sigmas = geometric(config.sigma_max, config.sigma_min, levels)
        steps = levels * config.steps_each
        annealed = train(density, sigmas, config, lab.seed)
        plans = {"annealed": (annealed, sigmas), "single": (single, sigmas[-1:])}
        for name in (*plans, "exact"):
            with lab.arm(name, levels=levels, steps=steps) as arm:
                if name == "exact":  # as many points of the density itself
                    x = density.sample(config.chains, DRAWING + lab.seed)
                else:
                    network, ladder = plans[name]
                    arm.parameters_trained = sum(p.numel() for p in network.parameters())
                    score = point_score(lab.count(as_denoiser(network)))
                    each = [steps // len(ladder)] * len(ladder)
                    x = langevin(score, start, ladder, each, config.step, Stream(DRAWING + lab.seed))
            arm.plot(x, density)
            error = mode_share_error(nearest_mode(x, density), density.weights)
            arm.record("mode-share-error", error, by=mode_share_error, n=len(x))

"""DPM: Deep Unsupervised Learning using Nonequilibrium Thermodynamics. Sohl-Dickstein, Weiss, Maheswaranathan and
Ganguli, 2015. arXiv:1503.03585

The paper's symbols and the code's:
    x^(0) -> x0      x^(t) -> x[t - 1]      β_t -> beta[t - 1]      T -> steps      K -> minus `bound`
    f_μ(x^(t), t), f_Σ(x^(t), t) -> mean, exp(log_variance)      π -> N(0, I)

Details that matter:
- Mean and (diagonal) covariance of every reverse step are learned. Each is a read-out of its own for each step over
  hidden units that all steps share; on the swiss roll these are radial basis functions (appendix D).
- At read-outs of zero the reverse step is N(sqrt(1 - β_t) x, β_t), whose chain turns π into π: training starts at
  the isotropic Gaussian, and what it gains over that is learned. So too in the official code.
- β_2 … β_T are learned by the same bound, with the noise of a batch held fixed while they change; β_1 is a small
  constant, or they would overfit (§ 2.4.1).
- The last reverse step is not learned: it is the forward one, N(sqrt(1 - β_1) x^(1), β_1) (appendix B).
- K is written with entropies (Eq. 14). Its ends are here KL(q(x^(T)|x^(0)) ‖ π) and -log p(x^(0)|x^(1)), which is the
  same for data of unit variance, and a bound for any data.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from denoised.diffusion.bounds import normal_kl, normal_nll
from denoised.diffusion.training import train_averaged
from denoised.lab.lab import Lab
from denoised.metrics.scores import bits_per_dimension
from denoised.worlds.toys import toy

POINTS = 10_000  # training points
DRAWN = 1_000  # points of each arm for its picture
MEASURING = 1503_03585  # added to the seed of the noise that bounds are measured with: training has another


@dataclass
class Config:
    density: str = "swiss-roll"  # which of the toy densities
    steps: list[int] = field(default_factory=lambda: [5, 10, 20, 40])  # T, each with a network of its own
    units: int = 64  # radial basis functions
    updates: int = 3000  # optimizer steps of each network
    rows: int = 2560  # points × steps that the network sees in an update: longer chains get fewer points
    learning_rate: float = 3e-3  # Adam
    ema: float = 0.999  # decay of the averaged weights that are measured
    first_beta: float = 1e-3  # β_1, which is not learned
    draws: int = 8  # of the noise, for each held-out point

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 2 or max(self.steps) > self.rows:
            raise ValueError(
                f"steps must be a list of numbers from 2 to rows = {self.rows}, not {self.steps}"
            )
        if min(self.units, self.updates, self.draws) < 1:
            raise ValueError("units, updates and draws must be at least 1")
        if not 0 < self.first_beta < 0.5:
            raise ValueError(f"first_beta must be between 0 and 0.5, not {self.first_beta}")


REHEARSAL: dict[str, Any] = {"steps": [2, 3], "updates": 2, "rows": 12}
SCALES: dict[str, dict[str, Any]] = {
    "mini": {"images": 2000},  # held-out points
    "smoke": {"steps": [2, 4], "updates": 20, "rows": 64, "units": 8},
    # Table 1 and appendix D: 40 steps and 16 hidden units. The number of updates is not given.
    "paper": {"units": 16, "updates": 50_000, "seeds": [0, 1, 2]},
}


def network_rows(config: Config, images: int) -> int:
    """Points that the networks see in one seed, once for each step, a training example counting three times."""
    training = sum(config.updates * (config.rows // steps) * (steps - 1) for steps in config.steps)
    return 3 * training + sum(steps - 1 for steps in config.steps) * config.draws * images


class Model(nn.Module):
    """The diffusion's β and the reverse steps 2 … T in d dimensions, which start as the forward ones."""

    def __init__(
        self, steps: int, units: int, first_beta: float, points: Tensor, generator: torch.Generator
    ) -> None:
        """`points` (n, d): `units` of them are where the basis functions stand at first."""
        super().__init__()
        d = points.shape[1]
        chosen = torch.randint(len(points), (units,), generator=generator)
        self.centre = nn.Parameter(points[chosen].clone())
        self.log_width = nn.Parameter(torch.full((units,), 0.5).log())
        self.read_mean = nn.Parameter(torch.zeros(steps - 1, units + 1, d))
        self.read_variance = nn.Parameter(torch.zeros(steps - 1, units + 1, d))
        # At first the log signal-to-noise ratio falls on a line, from that of β_1 to -4.
        first = torch.tensor(first_beta)
        alpha_bar = torch.linspace(float(-torch.logit(first)), -4.0, steps).sigmoid()
        self.register_buffer("first_beta", first.reshape(1))
        self.beta_logits = nn.Parameter(torch.logit(1 - alpha_bar[1:] / alpha_bar[:-1]))

    def beta(self) -> Tensor:
        """β_1 … β_T as (T, 1, 1)."""
        first: Tensor = self.get_buffer("first_beta")
        return torch.cat([first, self.beta_logits.sigmoid()]).reshape(-1, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (T - 1, n, d) of p(x^(t-1) | x^(t)) for x^(2) … x^(T), (T - 1, n, d)."""
        square = x.square().sum(-1, keepdim=True) - 2 * x @ self.centre.T + self.centre.square().sum(-1)
        hidden = torch.exp(-0.5 * square / (2 * self.log_width).exp())
        hidden = torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=-1)
        beta = self.beta()[1:]
        mean = (1 - beta).sqrt() * x + beta.sqrt() * (hidden @ self.read_mean)
        return mean, nn.functional.logsigmoid(torch.logit(beta) + hidden @ self.read_variance)


def bound(model: Model, x0: Tensor, eps: Tensor) -> Tensor:
    """The bound on -log p(x0) in nats, (n,), for points x0 (n, d) and noise eps (T, n, d): minus K, Eq. 14."""
    beta = model.beta()
    alpha_bar = (1 - beta).cumprod(0)
    x = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
    now, before, step = alpha_bar[1:], alpha_bar[:-1], beta[1:]
    true_mean = (before.sqrt() * step * x0 + (1 - step).sqrt() * (1 - before) * x[1:]) / (1 - now)
    true_log_variance = (step * (1 - before) / (1 - now)).log()
    kl = normal_kl(true_mean, true_log_variance, *model(x[1:])).sum(0)
    zero = torch.zeros_like(x0)
    prior = normal_kl(alpha_bar[-1].sqrt() * x0, (1 - alpha_bar[-1]).log(), zero, zero)
    first = normal_nll(x0, (1 - beta[0]).sqrt() * x[0], beta[0].log())
    return (kl + prior + first).sum(1)


@torch.no_grad()
def sample(model: Model, x: Tensor, generator: torch.Generator) -> Tensor:
    """Points (n, d) from noise x (n, d), through all reverse steps."""
    beta = model.beta()

    def noise() -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)

    for t in range(len(beta) - 2, -1, -1):  # the network answers for all steps at once
        mean, log_variance = (each[t] for each in model(x.expand(len(beta) - 1, *x.shape)))
        x = mean + (0.5 * log_variance).exp() * noise()
    return (1 - beta[0]).sqrt() * x + beta[0].sqrt() * noise()


def train(points: Tensor, steps: int, config: Config, generator: torch.Generator, lab: Lab) -> Model:
    """A model of T = `steps` trained on `points` (n, d) with the whole bound in every update, weights averaged."""
    model = Model(steps, config.units, config.first_beta, points.cpu(), generator).to(points.device)

    def loss() -> Tensor:
        n = config.rows // steps
        chosen = torch.randint(len(points), (n,), generator=generator).to(points.device)
        eps = torch.randn(steps, n, points.shape[1], generator=generator).to(points.device)
        lab.advance()
        return bound(model, points[chosen], eps).mean()

    return train_averaged(
        model, loss, steps=config.updates, learning_rate=config.learning_rate, ema=config.ema
    )


@torch.no_grad()
def measure(model: Model, points: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """The bound on the bits per dimension of each point (n, d), the mean over `draws` of the noise, in float64."""
    model, total = deepcopy(model).double().cpu(), torch.zeros(len(points), dtype=torch.float64)
    for _ in range(draws):
        eps = torch.randn(len(model.beta()), *points.shape, generator=generator, dtype=torch.float64)
        total += bound(model, points, eps) / draws
    return bits_per_dimension(total, points.shape[1])


def reproduce(lab: Lab, config: Config) -> None:
    """The bound on held-out points for chains of several lengths, against a Gaussian. Table 1, swiss roll."""
    density = toy(config.density)
    data, held_out = (
        density.sample(POINTS, 2 * lab.seed),
        density.sample(lab.settings.images, 2 * lab.seed + 1),
    )
    mean, deviation = data.mean(0), data.std(0)
    exact = -density.log_prob(held_out) - deviation.log().sum()  # in the units below
    data, held_out = (data - mean) / deviation, (held_out - mean) / deviation
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(2).double(), data.T.cov())
    dimensions, longest = data.shape[1], max(config.steps)
    shortest_bits = torch.zeros(0)
    for steps in sorted(config.steps):
        with lab.arm("chain", steps=steps) as arm:
            generator = torch.Generator().manual_seed(lab.seed)
            model = train(data.float().to(lab.device), steps, config, generator, lab)
            arm.parameters_trained = sum(p.numel() for p in model.parameters())
        noise = torch.randn(DRAWN, dimensions, generator=generator).to(lab.device)
        arm.plot(sample(model, noise, generator).cpu() * deviation + mean, density)
        bits = measure(model, held_out, config.draws, torch.Generator().manual_seed(MEASURING + lab.seed))
        arm.record("bits-per-dimension", bits, by=bits_per_dimension)
        shortest_bits = bits if steps == min(config.steps) else shortest_bits
        with lab.arm("gaussian", steps=steps) as arm:  # fitted, with its whole covariance
            nll = -gaussian.log_prob(held_out)
        normal = torch.randn(DRAWN, dimensions, generator=generator, dtype=torch.float64)
        arm.plot(normal @ gaussian.scale_tril.T * deviation + mean, density)
        arm.record("bits-per-dimension", bits_per_dimension(nll, dimensions), by=bits_per_dimension)
    for name, values in (
        ("shortest-chain", shortest_bits),
        ("exact-density", bits_per_dimension(exact, dimensions)),
    ):
        with lab.arm(
            name, steps=longest
        ) as arm:  # what the longest chain is held against: nothing new is trained
            arm.record("bits-per-dimension", values, by=bits_per_dimension)
    lab.claim("bits-per-dimension", "chain", "<", "gaussian", at={"steps": longest})
    if longest > min(config.steps):
        lab.claim("bits-per-dimension", "chain", "<", "shortest-chain", at={"steps": longest})

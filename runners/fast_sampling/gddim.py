"""gDDIM: Generalized Denoising Diffusion Implicit Models. Zhang, Tao and Chen, 2022. arXiv:2206.05564

The paper's symbols and the code's, for critically-damped Langevin diffusion (CLD), whose state u = (x, v) has a velocity:
    du = F u dt + G dw -> DRIFT, HALF = G Gᵀ / 2      Ψ(t, s), CLD's transition matrix -> transition(s, t)
    Σ_t, covariance of u_t given one datum -> covariance(t)      R_t, L_t, factors K_t with K_t K_tᵀ = Σ_t -> factor(kind, t)
    ε_θ, with the score -K_t^{-T} ε_θ -> eps(u, t)      q, order of the multistep extrapolation -> order

Details that matter:
- For a single datum ε does not change along the ODE with one factor only, R' = F R + ½ G Gᵀ R^{-T}. It is the Cholesky
  factor L_t, which CLD had used, times a rotation, whose angle is one integral over t.
- The linear part of the ODE is solved exactly; ε is extrapolated by a polynomial through the last q + 1 evaluations.
- G acts on v alone, so of L_t's ε only the part for v enters the ODE, and its network is trained on that part (CLD's
  objective). The official code trains one network, with R_t, and converts it: that is the arm "converted".
- Both networks add to the best linear prediction of their ε, so that a small one need not learn how R_t⁻¹ turns with t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from denoised.diffusion.cld import AT_REST, DRIFT, HALF, M_INV, apply, covariance, transition
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.schedule import Schedule
from denoised.diffusion.training import seeded, train_averaged
from denoised.lab.lab import Lab
from denoised.metrics.distances import kernel_distance
from denoised.metrics.features import random_fourier_features
from denoised.worlds.toys import GaussianMixture, eight_gaussians

Kind = Literal["R", "L"]
Eps = Callable[[Tensor, float], Tensor]  # ε: (u (n, d, 2), t) -> (n, d, 2)
END = 1e-3  # time at which all arms end
TIMES = 1000  # training times, even in sqrt(t)
SPREAD = 1.42  # standard deviation of a coordinate of the data
# Added to the seed of four streams of points and noise, to keep them apart.
DATA, TRAINING, MEASURING, REFERENCE = 2206_05564, 2207_05564, 2208_05564, 2209_05564


@dataclass
class Config:
    nfe: list[int] = field(default_factory=lambda: [10, 20, 50])  # network evaluations to compare at
    order: int = 2  # q of the multistep extrapolation, of R_t and L_t alike
    train_steps: int = 3000  # of Adam, for each of the two networks
    train_batch: int = 512
    learning_rate: float = 2e-3
    ema: float = 0.99  # decay of the averaged weights that are sampled from
    width: int = 128  # units of each of the network's three layers
    points: int = 2000  # drawn and compared

    def __post_init__(self) -> None:
        if not self.nfe or min(self.nfe) < 1:
            raise ValueError(f"nfe must be a list of numbers of at least 1, not {self.nfe}")
        if not 0 <= self.order <= 3:
            raise ValueError(f"order must be from 0 to 3, not {self.order}")
        if min(self.train_steps, self.train_batch, self.width) < 1 or self.points < 2:
            raise ValueError("train_steps, train_batch and width must be at least 1, points at least 2")


REHEARSAL: dict[str, Any] = {"nfe": [2, 3], "train_steps": 2, "train_batch": 4, "width": 8, "points": 20}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"nfe": [5, 20], "train_steps": 20, "train_batch": 32, "width": 16, "points": 100},
    # The paper's FIDs are of a CLD network on CIFAR-10, whose weights are not in the hub's layout and which no other
    # network can stand in for. This is its 2-D setting at the length of the official configuration.
    "paper": {"train_steps": 200_000, "train_batch": 1024, "width": 256, "points": 50_000},
}


@lru_cache(maxsize=1)
def angles() -> tuple[np.ndarray, np.ndarray]:
    """Times, and the angle of R_t = L_t Q_t there. With B = L⁻¹ (F + ½ G Gᵀ Σ⁻¹) L its derivative is -B_12."""
    t = torch.cat([torch.zeros(1), torch.logspace(-8, 0, 40_001, dtype=torch.float64)])
    sigma = covariance(t)
    lower = torch.linalg.cholesky(sigma)
    turn = -torch.linalg.solve(lower, (DRIFT + HALF @ torch.linalg.inv(sigma)) @ lower)[:, 0, 1]
    angle = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(turn, t)])
    return t.numpy(), angle.numpy()


def factor(kind: Kind, t: Tensor) -> Tensor:
    """K_t, (…, 2, 2) float64: R_t of gDDIM, or L_t, the Cholesky factor of Σ_t."""
    lower: Tensor = torch.linalg.cholesky(covariance(t))
    if kind == "L":
        return lower
    angle = torch.from_numpy(np.asarray(np.interp(t.numpy(), *angles())))
    turned = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1)
    return lower @ turned.reshape(*angle.shape, 2, 2)


def times(steps: int) -> Tensor:
    """`steps` + 1 times from 1 to END, even in sqrt(t)."""
    return torch.linspace(1, math.sqrt(END), steps + 1, dtype=torch.float64).square()


def weights(kind: Kind, grid: Tensor, step: int, order: int) -> Tensor:
    """What a step multiplies the last evaluations of ε by, newest first: (used, 2, 2).

    ∫ Ψ(t', τ) ½ G Gᵀ K_τ^{-T} ℓ_j(τ) dτ from t to t', with ℓ_j Lagrange's polynomials through the used times.
    """
    nodes, mass = map(torch.from_numpy, np.polynomial.legendre.leggauss(96))
    start, end = grid[step], grid[step + 1]
    tau = start + (end - start) * (nodes + 1) / 2
    kernel = transition(tau, end.expand_as(tau)) @ HALF @ torch.linalg.inv(factor(kind, tau)).mT
    used = grid[max(0, step - order) : step + 1].flip(0)
    each = []
    for t in used:
        others = used[used != t]
        lagrange = ((tau[:, None] - others) / (t - others)).prod(dim=1)
        each.append(((mass * lagrange * (end - start) / 2)[:, None, None] * kernel).sum(dim=0))
    return torch.stack(each)


def sample(eps: Eps, u: Tensor, grid: Tensor, *, kind: Kind = "R", order: int = 2) -> Tensor:
    """u (n, d, 2) at grid[-1] from grid[0]: deterministic gDDIM, an exponential multistep predictor."""
    past: list[Tensor] = []
    for step, (t, t_next) in enumerate(pairwise(grid)):
        past = [eps(u, float(t)), *past[:order]]
        u = apply(transition(t, t_next), u)
        for weight, each in zip(weights(kind, grid, step, order), past, strict=True):
            u = u + apply(weight, each)
    return u


def euler(eps: Eps, u: Tensor, grid: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same ODE by Euler steps with R_t; with a generator the reverse SDE, by Euler-Maruyama."""
    for t, t_next in pairwise(grid):
        change = (2 if generator is not None else 1) * HALF @ torch.linalg.inv(factor("R", t)).mT
        u = u + float(t_next - t) * (apply(DRIFT, u) + apply(change, eps(u, float(t))))
        if generator is not None:
            noise = torch.randn(u.shape, generator=generator).to(u)
            u = u + apply((2 * (t - t_next) * HALF).sqrt(), noise)
    return u


def linear(kind: Kind, t: Tensor, spread: float) -> Tensor:
    """ε's best linear prediction from u, (…, 2, 2): exact for Gaussian data of that standard deviation. Kᵀ Σ_u⁻¹."""
    psi = transition(torch.zeros_like(t), t)
    total = psi @ torch.tensor([spread**2, 0.0], dtype=torch.float64).diag() @ psi.mT + covariance(t)
    return factor(kind, t).mT @ total.inverse()


class Network(nn.Module):
    """ε_θ: the linear prediction, and what three layers over the state, that prediction and the time add to it."""

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        sizes = [4 * dimensions + 9, width, width, width]
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2 * dimensions))

    def forward(self, u: Tensor, t: Tensor, prediction: Tensor) -> Tensor:
        """(n, d, 2) from states u and predictions (n, d, 2) and times (n,); v is brought to the scale of x."""
        scaled = (u * u.new_tensor([1, math.sqrt(M_INV)])).flatten(1)
        log = t.log()
        waves = [wave(rate * log) for rate in (0.5, 1.0, 2.0) for wave in (torch.sin, torch.cos)]
        told = torch.stack([t, t.sqrt(), log / 7, *waves], dim=1)
        added: Tensor = self.layers(torch.cat([scaled, prediction.flatten(1), told], dim=1))
        return prediction + added.reshape(u.shape)


def train(kind: Kind, density: GaussianMixture, config: Config, lab: Lab) -> nn.Module:
    """A network for ε = K_t⁻¹ (u_t - Ψ(t, 0) (x_0, 0)), the velocity's start being averaged over."""
    with seeded(lab.seed):
        network = Network(density.means.shape[1], config.width).to(lab.device)
    generator = torch.Generator().manual_seed(TRAINING + lab.seed)
    t = torch.linspace(math.sqrt(END), 1, TIMES, dtype=torch.float64).square()
    psi, k = transition(torch.zeros_like(t), t).float(), factor(kind, t).float()
    pool, best = density.sample(50_000, DATA + lab.seed).float(), linear(kind, t, SPREAD).float()

    def loss() -> Tensor:
        i = torch.randint(TIMES, (config.train_batch,), generator=generator)
        x = pool[torch.randint(len(pool), (config.train_batch,), generator=generator)]
        noise = torch.randn(*x.shape, 2, generator=generator)
        u = apply(psi[i], torch.stack([x, torch.zeros_like(x)], -1)) + apply(k[i], noise)
        told = (each.to(lab.device) for each in (u, t[i].float(), apply(best[i], u)))
        error: Tensor = network(*told) - noise.to(lab.device)
        lab.advance()
        return error[..., 1 if kind == "L" else slice(None)].square().mean()

    return train_averaged(
        network, loss, steps=config.train_steps, learning_rate=config.learning_rate, ema=config.ema
    )


def counted(lab: Lab, kind: Kind, network: nn.Module) -> Eps:
    """The network as ε, counting what it costs: a denoiser's counter, around a network that is no denoiser."""

    def output(u: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        eps: Tensor = network(u, t, apply(linear(kind, t[0].double().cpu(), SPREAD), u))
        return eps

    counter = lab.count(Denoiser(output, Schedule.linear(), "sample"))  # "sample": x0 is the bare output
    return lambda u, t: counter.between(u.float(), t, 1.0, 1.0).x0.to(u.dtype)


def converted(eps: Eps) -> Eps:
    """ε of L_t from ε of R_t: one score, so Lᵀ R^{-T} ε."""

    def turned(u: Tensor, t: float) -> Tensor:
        at = torch.tensor(t, dtype=torch.float64)
        return apply(factor("L", at).mT @ torch.linalg.inv(factor("R", at)).mT, eps(u, t))

    return turned


def fourier(points: Tensor) -> Tensor:
    """Features (n, 256) of points (n, 2), half on the scale of a mode (0.3), half on the ring's (2)."""
    return random_fourier_features(points, scales=(0.3, 2.0), seed=REFERENCE)


def network_rows(config: Config, images: int) -> int:
    """Points that the networks are asked about in one seed, one of training counting three times."""
    return 2 * 3 * config.train_steps * config.train_batch + 5 * sum(config.nfe) * config.points


def reproduce(lab: Lab, config: Config) -> None:
    """Two networks alike but for the factor of their score, and one ODE at equal evaluations."""
    density, seen = eight_gaussians(), "256 random Fourier features of the coordinates"
    real = fourier(density.sample(config.points, REFERENCE))
    noise = torch.Generator().manual_seed(MEASURING + lab.seed)
    start = torch.randn(config.points, 2, 2, generator=noise, dtype=torch.float64).to(lab.device)
    start, kinds = apply(AT_REST.sqrt(), start), get_args(Kind)
    networks: dict[Kind, nn.Module] = {kind: train(kind, density, config, lab).eval() for kind in kinds}
    eps = {kind: counted(lab, kind, network) for kind, network in networks.items()}
    turned, fresh = converted(eps["R"]), MEASURING + 1000 + lab.seed
    solvers: dict[str, Callable[[Tensor], Tensor]] = {
        "gddim": lambda grid: sample(eps["R"], start, grid, kind="R", order=config.order),
        "cholesky": lambda grid: sample(eps["L"], start, grid, kind="L", order=config.order),
        "converted": lambda grid: sample(turned, start, grid, kind="L", order=config.order),
        "euler": lambda grid: euler(eps["R"], start, grid),
        "euler-maruyama": lambda grid: euler(eps["R"], start, grid, torch.Generator().manual_seed(fresh)),
    }
    for nfe in config.nfe:
        for name, solve in solvers.items():
            with lab.arm(name, nfe=nfe) as arm:
                x = solve(times(nfe))[..., 0].cpu()
                arm.plot(x, density)
            arm.parameters_trained = sum(p.numel() for p in networks["R"].parameters())
            kid = kernel_distance(real, fourier(x))
            arm.record("kid[fourier]", kid, by=kernel_distance, n=len(x), extractor=seen)
            if 20 <= nfe <= 50 and name != "gddim":  # the budgets of the claim
                lab.claim("kid[fourier]", "gddim", "<", name, at={"nfe": nfe})

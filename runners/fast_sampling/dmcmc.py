"""DMCMC: Denoising MCMC for Accelerating Diffusion-Based Generative Models. Kim and Ye, 2022. arXiv:2209.14593

The paper's symbols and the code's. Everything lives in x = x0 + σ z, the variance-exploding variable x_t / sqrt(ᾱ_t):
    (x, σ), the state in the product space of data and noise level -> x (n, …), sigma (n,): every row has its own σ
    s_θ(x, σ), the score -> (denoise(x, sigma) - x) / sigma²      η, the Langevin step size -> step
    n_skip, Langevin-Gibbs steps between two kept states -> skip      n_den, evaluations of the integrator -> solve

Details that matter:
- Denoising Langevin Gibbs alternates a Langevin step of x at its σ with a draw of σ given x, for σ log-uniform on a
  grid. The step size is the same at every σ, so the chain settles where its own noise, sqrt(η), is about σ.
- The paper learns p(σ | x): a small classifier of 1,000 noise levels. Here it is in closed form, given the finest
  diagonal Haar band of x alone: white noise keeps its variance σ² there, pictures leave next to nothing, τ². It
  takes neither training nor evaluations, and σ is drawn from it, where the official code takes the most probable one.
- A chain starts from a picture of the same integrator, noised to `start_sigma`. Of each `skip` states the one with
  the least noise is integrated, as in the official code; the chain itself walks on from the last.
- All evaluations count: those that start the chains and warm them up are shared out among their pictures, so both
  starting points cost exactly `nfe` evaluations a picture.
- No classes on either side: a chain walks over all of the data, and one class for each of its pictures would undo that.
- Grids depend on σ at the start only: ρ = 7 for Heun (EDM, Eq. 5), geometric for reverse diffusion (Score SDE), the
  last step always to σ = 0 without noise.
- η and `start_sigma` are the official code's for pictures in [0, 1], scaled to [-1, 1]: 4 · 0.5 and 2 · 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor

from denoised.diffusion.continuous import Levels
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import Noise, SampleGenerators
from denoised.diffusion.schedule import per_row
from denoised.errors import DenoisedError
from denoised.lab.lab import Lab
from denoised.language import say

Denoise = Callable[[Tensor, Tensor], Tensor]  # D(x; σ): (x (n, …), σ (n,)) -> denoised pictures (n, …)
Draw = Callable[[Tensor], Tensor]  # x (n, …) -> σ (n,) ~ p(σ | x)
INTEGRATORS = ("heun", "reverse-diffusion")  # of the reverse ODE and of the reverse SDE
LEVELS = 1000  # noise levels that σ is drawn from
BAND = 512  # training pictures that τ² is measured on
CHAIN = 2209_14593  # added to the seed of the chains' noise: no other stream has it


@dataclass
class Config:
    nfe: list[int] = field(default_factory=lambda: [11, 19])  # evaluations a picture, all counted; odd
    chains: int = 32  # that draw side by side; must divide the number of pictures
    step: float = 2.0  # η of the Langevin steps
    start_nfe: int = 7  # evaluations for the picture that a chain starts from; odd
    start_sigma: float = 1.0  # noise added to that picture
    burn_in: int = 5  # Langevin-Gibbs steps before the first state counts, at least
    sigma_min: float = 0.02  # last noise level before 0
    sigma_max: float = 100.0  # noise level of the prior

    def __post_init__(self) -> None:
        if not self.nfe or any(nfe < 5 or nfe % 2 == 0 for nfe in self.nfe):
            raise ValueError(
                f"nfe must be odd numbers of at least 5, since N Heun steps take 2 N - 1, not {self.nfe}"
            )
        if self.start_nfe < 3 or self.start_nfe % 2 == 0:
            raise ValueError(f"start_nfe must be odd and at least 3, not {self.start_nfe}")
        if not 0 < self.sigma_min < self.start_sigma < self.sigma_max:
            raise ValueError("sigma_min, start_sigma and sigma_max must be above 0 and rise in this order")
        if self.step <= 0:
            raise ValueError(f"step must be above 0, not {self.step}")
        if min(self.chains, self.burn_in) < 1:
            raise ValueError("chains and burn_in must be at least 1")


REHEARSAL: dict[str, Any] = {"nfe": [7], "chains": 2, "start_nfe": 3, "burn_in": 1}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"nfe": [11], "chains": 2, "start_nfe": 3, "burn_in": 3},
    # Chains, start and warm-up as in the official code; its network is Score SDE's NCSN++ (VE), which is not in the
    # hub's layout, so DDPM's network of the same data stands in.
    "paper": {"model": "ddpm-cifar10", "data": "cifar10", "chains": 200, "start_nfe": 37, "burn_in": 20},
}


@dataclass(frozen=True)
class Plan:
    """How a chain spends its evaluations, besides those for its first picture."""

    burn_in: int  # Langevin-Gibbs steps, once
    skip: int  # of them for each picture
    solve: int  # evaluations of the integrator for each picture


def plan(nfe: int, rounds: int, config: Config) -> Plan:
    """A chain's `rounds` pictures at `nfe` evaluations each, all told: two thirds of what the start leaves integrate.

    Raises DenoisedError where the start leaves too little.
    """
    start = math.ceil((config.start_nfe + config.burn_in) / rounds)  # what each picture pays for it
    solve = 2 * round((2 * (nfe - start) / 3 - 1) / 2) + 1
    skip = nfe - start - solve
    if solve < 3 or skip < 1:
        raise DenoisedError(
            say(
                ko=f"nfe는 {start + 4} 이상이어야 하는데 {nfe}이다: 사슬을 시작하는 몫을 빼면 남는 평가가 없다",
                en=f"nfe must be at least {start + 4}, not {nfe}: starting the chains takes the rest",
            )
        )
    return Plan(rounds * start - config.start_nfe, skip, solve)


def denoiser_of_sigma(denoiser: Denoiser) -> Denoise:
    """D(x; σ) of a VP network without classes, every row at its own σ; t is interpolated in log σ."""
    levels = Levels(denoiser.schedule)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        a = per_row((1 + sigma.square()).rsqrt(), x)
        s = per_row(sigma, x) * a
        return denoiser.between((a * x).float(), levels.timesteps(sigma), a, s).x0.to(x.dtype)

    return denoise


def heun(denoise: Denoise, x: Tensor, sigma: Tensor, nfe: int, config: Config) -> Tensor:
    """x0 from x at σ (n,) by Heun steps on the ρ = 7 grid of each row, with `nfe` (odd) evaluations. EDM, Algorithm 1."""
    steps, root = (nfe + 1) // 2, 1 / 7
    high, low = sigma**root, config.sigma_min**root
    grid = [(high + i / (steps - 1) * (low - high)) ** 7 for i in range(steps)]
    for i, now in enumerate(grid):
        slope = (x - denoise(x, now)) / per_row(now, x)
        if i == steps - 1:
            return x - per_row(now, x) * slope
        change = per_row(grid[i + 1] - now, x)
        ahead = x + change * slope
        slope_ahead = (ahead - denoise(ahead, grid[i + 1])) / per_row(grid[i + 1], x)
        x = x + change * (slope + slope_ahead) / 2
    return x


def reverse_diffusion(
    denoise: Denoise, x: Tensor, sigma: Tensor, nfe: int, config: Config, generator: Noise
) -> Tensor:
    """x0 from x at σ (n,) along the reverse SDE, `nfe` levels in geometric progression. Score SDE, Algorithm 2."""
    grid = [sigma * (config.sigma_min / sigma) ** (i / (nfe - 1)) for i in range(nfe)]
    for i, (now, following) in enumerate(pairwise([*grid, torch.zeros_like(sigma)])):
        variance = now.square() - following.square()
        x = x + per_row(variance / now.square(), x) * (denoise(x, now) - x)
        if i < nfe - 1:
            x = x + per_row(variance.sqrt(), x) * generator.randn_like(x)
    return x


def detail(x: Tensor) -> Tensor:
    """The finest diagonal Haar coefficients of pictures (n, c, h, w), orthonormal: (n, c h w / 4)."""
    both = x[..., ::2, :] - x[..., 1::2, :]
    return ((both[..., ::2] - both[..., 1::2]) / 2).flatten(1)


def draw_sigma(x: Tensor, band: float, sigmas: Tensor, generator: Noise) -> Tensor:
    """σ (n,) ~ p(σ | x): the Gibbs step, with all of `sigmas` equally likely beforehand.

    The detail of x is taken for N(0, σ² + τ²), with τ² = `band`.
    """
    coefficients = detail(x.double())
    variance = sigmas.double().square() + band
    squares = coefficients.square().sum(dim=1, keepdim=True)
    log = -(coefficients.shape[1] * variance.log() + squares / variance) / 2
    u = torch.special.ndtr(generator.randn_like(squares[:, 0]))
    chosen = torch.searchsorted(log.softmax(dim=1).cumsum(dim=1), u[:, None]).clamp(max=len(sigmas) - 1)
    return sigmas[chosen[:, 0]].to(x.dtype)


def langevin(denoise: Denoise, x: Tensor, sigma: Tensor, step: float, generator: Noise) -> Tensor:
    """x (n, …) after one step of Langevin dynamics on p(x | σ): x + η/2 score + sqrt(η) z."""
    score = (denoise(x, sigma) - x) / per_row(sigma.square(), x)
    return x + step / 2 * score + math.sqrt(step) * generator.randn_like(x)


def langevin_gibbs(
    denoise: Denoise, x: Tensor, sigma: Tensor, skips: list[int], draw: Draw, step: float, generator: Noise
) -> tuple[Tensor, Tensor]:
    """Of every `skips` states of the chains from (x, σ) the one with the least noise: x (rounds n, …), σ (rounds n,)."""
    kept = []
    for skip in skips:
        best, least = x, torch.full_like(sigma, math.inf)
        for _ in range(skip):
            x = langevin(denoise, x, sigma, step, generator)
            sigma = draw(x)
            best = torch.where(per_row(sigma < least, x), x, best)
            least = torch.minimum(sigma, least)
        kept.append((best, least))
    return torch.cat([x for x, _ in kept]), torch.cat([sigma for _, sigma in kept])


def initialise(
    denoise: Denoise, noise: Tensor, how: Plan, rounds: int, band: float, config: Config, seed: int
) -> tuple[Tensor, Tensor]:
    """Starting points for the integrator, (rounds chains, …) with their σ, from unit noise (chains, …)."""
    generator = SampleGenerators(CHAIN + seed, range(len(noise)))
    sigma = torch.full((len(noise),), config.sigma_max, dtype=noise.dtype, device=noise.device)
    x = heun(denoise, config.sigma_max * noise, sigma, config.start_nfe, config)
    x = x + config.start_sigma * generator.randn_like(x)
    sigmas = torch.logspace(math.log10(config.sigma_min), math.log10(config.sigma_max), LEVELS).to(noise)
    draw = partial(draw_sigma, band=band, sigmas=sigmas, generator=generator)
    # The burn-in is a stretch of which no state is kept.
    skips = [how.burn_in, *[how.skip] * rounds]
    x, sigma = langevin_gibbs(denoise, x, draw(x), skips, draw, config.step, generator)
    return x[len(noise) :], sigma[len(noise) :]


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed."""
    return 2 * len(INTEGRATORS) * sum(config.nfe) * images


def reproduce(lab: Lab, config: Config) -> None:
    """One network, one integrator and equal evaluations: from states of the chains, and from prior noise."""
    images = lab.settings.images
    rounds, rest = divmod(images, config.chains)
    if rest:
        raise DenoisedError(
            say(
                ko=f"chains는 images={images}의 약수여야 하는데 {config.chains}이다",
                en=f"chains must divide images={images}, not {config.chains}",
            )
        )
    plans = {nfe: plan(nfe, rounds, config) for nfe in config.nfe}
    lab.levels(sigma_min=config.sigma_min, sigma_max=config.sigma_max)
    denoise, real = denoiser_of_sigma(lab.denoiser()), lab.reference()
    band = float(detail(next(lab.batches(BAND))[0].double()).square().mean())
    noise = lab.noise().double()
    for (nfe, how), integrator, name in product(plans.items(), INTEGRATORS, ("dlg", "prior")):
        with lab.arm(name, integrator=integrator, classes="none", nfe=nfe) as arm:
            if name == "dlg":
                x, sigma = initialise(denoise, noise[: config.chains], how, rounds, band, config, lab.seed)
                left = how.solve
            else:
                x, sigma = config.sigma_max * noise, torch.full_like(noise[:, 0, 0, 0], config.sigma_max)
                left = nfe
            if integrator == "heun":
                x = heun(denoise, x, sigma, left, config)
            else:
                x = reverse_diffusion(denoise, x, sigma, left, config, lab.generator())
            arm.images = x.float()
        arm.measure("fid", "kid", "precision", "recall", reference=real)
    for nfe, integrator in product(config.nfe, INTEGRATORS):
        if 10 <= nfe <= 20:  # the budgets of the claim
            lab.claim("fid", "dlg", "<", "prior", at={"integrator": integrator, "nfe": nfe})

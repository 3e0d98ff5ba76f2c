"""EDM: Elucidating the Design Space of Diffusion-Based Generative Models. Karras, Aittala, Aila and Laine, 2022.
arXiv:2206.00364

The paper's symbols and the code's. Everything lives in the variable x_t / sqrt(alpha_bar_t) = x0 + σ n:
    σ = sqrt((1 - ᾱ_t) / ᾱ_t) -> sigma      D(x; σ), the denoised picture -> denoise(x, sigma)
    t_i (time is noise: σ(t) = t, s(t) = 1) -> sigmas[i]      γ_i, t̂_i, x̂_i -> gamma, sigma_hat, x_hat
    u_j, the levels an iDDPM-like network was trained at (Table 1) -> Levels.at_timestep(T-1-j).sigma

Details that matter:
- With σ(t) = t and s(t) = 1 the ODE is dx/dσ = (x - D(x; σ)) / σ (Eq. 1 with Eq. 3). Euler steps on it are DDIM.
- Heun's second evaluation is left out in the last step, to σ = 0, so N steps cost 2 N - 1 evaluations.
- The network was trained at T levels only: every σ of a grid, and every σ̂ of a churn, is rounded to the nearest
  of them, as in the official code (`round_sigma`), and σ_min and σ_max are cut to what the network knows.
- The original grid is that of Table 1's column "iDDPM + DDIM": every k-th timestep among those up to σ_max.
- The solver's state is in float64, the network's input is not.
- A v-prediction network of a VP schedule is this paper's preconditioning with σ_data = 1 (`preconditioning`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from denoised.diffusion.continuous import Levels, predict_at
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import Noise
from denoised.errors import DenoisedError
from denoised.lab.lab import Lab
from denoised.language import say

Denoise = Callable[[Tensor, float], Tensor]  # D(x; σ): (x (n, …), sigma) -> denoised pictures (n, …)


@dataclass
class Config:
    nfe: list[int] = field(default_factory=lambda: [7, 11, 19, 35])  # evaluations of each arm; odd
    rho: float = 7.0  # exponent of the grid: larger takes shorter steps near the data (appendix D.1)
    sigma_min: float = 0.002  # last noise level before 0
    sigma_max: float = 80.0  # noise level of the start
    s_churn: float = 0.0  # amount of fresh noise in Heun's arm; 0: deterministic, Algorithm 1
    s_tmin: float = 0.0  # levels below get no fresh noise
    s_tmax: float = 100.0  # levels above get no fresh noise
    s_noise: float = 1.0  # standard deviation of the fresh noise, a little over 1 in the paper

    def __post_init__(self) -> None:
        if not self.nfe or any(nfe < 3 or nfe % 2 == 0 for nfe in self.nfe):
            raise ValueError(
                f"nfe must be odd numbers of at least 3, since N Heun steps take 2 N - 1, not {self.nfe}"
            )
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min must lie between 0 and sigma_max = {self.sigma_max}, not {self.sigma_min}"
            )
        if self.rho <= 0:
            raise ValueError(f"rho must be above 0, not {self.rho}")
        if min(self.s_churn, self.s_tmin, self.s_noise) < 0:
            raise ValueError("s_churn, s_tmin and s_noise must be at least 0")


REHEARSAL: dict[str, Any] = {"nfe": [3]}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"nfe": [3, 11]},
    # Figure 2a samples the VP network of Score SDE on CIFAR-10; DDPM's network of the same data is the nearest one
    # in the hub's layout. The headline number (1.97 at 35 evaluations) is of a network trained anew.
    "paper": {"model": "ddpm-cifar10", "data": "cifar10", "nfe": [11, 19, 35, 79]},
}


def rho_grid(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """`steps` (at least 2) noise levels from sigma_max to sigma_min, then 0. Eq. 5."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(high + i / (steps - 1) * (low - high)) ** rho for i in range(steps)] + [0.0]


def original_grid(levels: Levels, steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`steps` (at least 2) levels at evenly spaced timesteps, then 0. Table 1, time steps of "iDDPM + DDIM".

    Raises DenoisedError where the schedule has fewer timesteps between sigma_min and sigma_max.
    """
    t = np.arange(levels.last.t + 1)
    known = [s for s in (levels.at_timestep(i).sigma for i in t) if sigma_min <= s <= sigma_max][::-1]
    if steps > len(known):
        raise DenoisedError(
            say(
                ko=f"nfe는 {len(known)} 이하여야 하는데 {steps}이다: 스케줄에 그만한 시점이 없다",
                en=f"nfe must be at most {len(known)}, the timesteps the schedule has there, not {steps}",
            )
        )
    return [known[round(i)] for i in np.linspace(0, len(known) - 1, steps)] + [0.0]


def preconditioning(sigma: float, sigma_data: float) -> tuple[float, float, float, float]:
    """c_skip, c_out, c_in and c_noise of D(x; σ) = c_skip x + c_out F(c_in x; c_noise). Eq. 7, Table 1."""
    total = math.hypot(sigma, sigma_data)
    return (sigma_data / total) ** 2, sigma * sigma_data / total, 1 / total, math.log(sigma) / 4


def denoiser_of_sigma(denoiser: Denoiser, condition: Tensor | None, like: Tensor) -> Denoise:
    """D(x; σ) of a VP network: what it predicts for x0 at x sqrt(ᾱ_t), t being the timestep nearest to σ."""
    levels = Levels(denoiser.schedule)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        level = levels.nearest(sigma)
        return predict_at(denoiser, (level.a * x).to(like.dtype), level, condition).x0.to(x.dtype)

    return denoise


def solve(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    second_order: bool = True,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
    round_sigma: Callable[[float], float] = float,
    generator: Noise | None = None,
) -> Tensor:
    """x at sigmas[-1] from x at sigmas[0]. Algorithm 2; Algorithm 1 where s_churn = 0; Euler unless second_order."""
    for sigma, sigma_next in pairwise(sigmas):
        # Lines 4-6: raise the noise from σ to σ̂, by no more than the noise that is there already.
        churns = s_churn > 0 and s_tmin <= sigma <= s_tmax
        gamma = min(s_churn / (len(sigmas) - 1), math.sqrt(2) - 1) if churns else 0.0
        sigma_hat, x_hat = sigma, x
        if gamma > 0:
            if generator is None:
                raise ValueError("s_churn > 0 draws noise: pass a generator")
            sigma_hat = max(sigma, round_sigma(sigma + gamma * sigma))
            x_hat = x + math.sqrt(sigma_hat**2 - sigma**2) * s_noise * generator.randn_like(x)
        # Lines 7-8: dx/dσ at σ̂ and an Euler step.
        slope = (x_hat - denoise(x_hat, sigma_hat)) / sigma_hat
        x = x_hat + (sigma_next - sigma_hat) * slope
        # Lines 9-11: the trapezoid with the slope at the far end, which does not exist at σ = 0.
        if second_order and sigma_next > 0:
            slope_next = (x - denoise(x, sigma_next)) / sigma_next
            x = x_hat + (sigma_next - sigma_hat) * (slope + slope_next) / 2
    return x


def sample(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    second_order: bool = True,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
    condition: Tensor | None = None,
    generator: Noise | None = None,
) -> Tensor:
    """Pictures (n, …) from unit noise x (n, …) along a grid of σ, each rounded to one that the network knows."""
    levels = Levels(denoiser.schedule)

    def round_sigma(sigma: float) -> float:
        return levels.nearest(sigma).sigma

    rounded = [round_sigma(sigma) if sigma > 0 else 0.0 for sigma in sigmas]
    return solve(
        denoiser_of_sigma(denoiser, condition, x),
        rounded[0] * x.double(),
        rounded,
        second_order=second_order,
        s_churn=s_churn,
        s_tmin=s_tmin,
        s_tmax=s_tmax,
        s_noise=s_noise,
        round_sigma=round_sigma,
        generator=generator,
    ).to(x.dtype)


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed."""
    return 2 * sum(config.nfe) * images


def reproduce(lab: Lab, config: Config) -> None:
    """One network at equal evaluations: Heun on the ρ grid against Euler on the original one. Figure 2."""
    denoiser, real = lab.denoiser(), lab.reference()
    levels = Levels(denoiser.schedule)
    low, high = max(config.sigma_min, levels.first.sigma), min(config.sigma_max, levels.last.sigma)
    if low >= high:
        raise DenoisedError(
            say(
                ko=f"sigma_min과 sigma_max 사이가 네트워크가 아는 {levels.first.sigma:.3g} … "
                f"{levels.last.sigma:.3g}와 겹쳐야 한다",
                en=f"sigma_min … sigma_max must overlap with {levels.first.sigma:.3g} … "
                f"{levels.last.sigma:.3g}, which the network knows",
            )
        )
    grids = {
        nfe: {
            "heun": rho_grid((nfe + 1) // 2, low, high, config.rho),
            "euler": original_grid(levels, nfe, low, high),
        }
        for nfe in config.nfe
    }
    for nfe, grid in grids.items():
        for name, sigmas in grid.items():
            with lab.arm(name, nfe=nfe) as arm:
                arm.images = sample(
                    denoiser,
                    lab.noise(),
                    sigmas,
                    second_order=name == "heun",
                    s_churn=config.s_churn if name == "heun" else 0.0,
                    s_tmin=config.s_tmin,
                    s_tmax=config.s_tmax,
                    s_noise=config.s_noise,
                    condition=lab.labels(),
                    generator=lab.generator(),
                )
            arm.measure("fid", "kid", "precision", "recall", reference=real)
    for nfe in config.nfe:
        if 10 <= nfe <= 50:  # the budgets of the claim
            lab.claim("fid", "heun", "<", "euler", at={"nfe": nfe})

"""Score SDE: Score-Based Generative Modeling through Stochastic Differential Equations. Song, Sohl-Dickstein, Kingma,
Kumar, Ermon and Poole, 2021. arXiv:2011.13456

The paper's symbols and the code's:
    x(t) ~ N(a x(0), s² I) (Eq. 29) -> a, s = sde.marginal(t)      s_θ(x, t) -> score(x, t)
    f(x, t), g(t) -> sde.drift(t) x, sde.diffusion(t)      r, the corrector's signal-to-noise ratio -> snr
    N, noise levels that are visited -> steps      M, corrector steps at each -> corrections      δx(t)/δt -> flow

Details that matter:
- The reverse diffusion predictor has the coefficients of the forward step x_far = r x_near + G z:
  x_near = (2 - r) x_far + G² score + G z (Eq. 46). For the VE SDE r = 1, for the VP SDE r² = 1 - β.
- The corrector's step is set by norms, ε = 2 α (r ‖z‖ / ‖score‖)² (Algorithms 4 and 5), here of each sample by
  itself, so that a sample does not depend on its batch. The official code averages the norms over the batch.
- As in the official code a level is corrected before it is left, and the last step adds no noise.
- The likelihood (Eq. 39) integrates the divergence of the flow, estimated with one Rademacher vector a picture
  (Eq. 40). The paper's RK45 is Heun's method on a fixed grid here, whose two lengths show what it costs.
- All of these SDEs with one network have one flow, up to the scale of x and of time; it is followed in the VE SDE's
  time, log σ, in which it is smooth. Below the first trained level the network is told the first timestep.
- Data of 256 levels are made continuous with uniform noise, so the result bounds the discrete likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor

from denoised.diffusion.bounds import Variance, chain, fixed_variance, to_levels
from denoised.diffusion.continuous import Levels, predict_at, predict_through
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import Noise, SampleGenerators
from denoised.diffusion.schedule import per_row
from denoised.diffusion.sde import SDE, VE, VP, Predict, flow, score, transition, with_divergence
from denoised.errors import DenoisedError
from denoised.lab.lab import Lab
from denoised.lab.likelihoods import Nll, bits, bounded
from denoised.language import say
from denoised.metrics.scores import bits_per_dimension

PREDICTORS = ("reverse-diffusion", "ancestral", "flow")
STEP = 2 / 255  # from one grey level to the next, which makes a probability of a density
MEASURING = 2011_13456  # added to the seed of the noise that likelihoods are measured with


@dataclass
class Config:
    nfe: list[int] = field(default_factory=lambda: [16, 48])  # evaluations of each arm; even
    sdes: list[str] = field(default_factory=lambda: ["ve", "vp"])  # ve, vp or both
    predictor: str = "reverse-diffusion"  # or ancestral, or flow: steps of the ODE
    snr: float = 0.16  # r of the corrector, as in the official CIFAR-10 configuration
    beta_min: float = 0.1  # of the VP SDE
    beta_max: float = 20.0
    sigma_min: float = 0.01  # of the VE SDE
    sigma_max: float = 50.0
    end: float = 1e-3  # smallest time that the VP SDE visits before it goes to clean data
    likelihood_images: int = 12  # held-out pictures whose likelihood is measured
    likelihood_steps: list[int] = field(default_factory=lambda: [20, 40])  # Heun steps; two evaluations each
    likelihood_margin: float = 0.2  # bits; more than the integration's error, which lowers the ODE's number
    likelihood_sigma_min: float = 0.001  # where the ODE begins; the paper begins at t = 1e-5 of the VP SDE
    bound_draws: int = 32  # of the KL terms of the bound, drawn for each picture; 0 = all of them

    def __post_init__(self) -> None:
        if not self.nfe or any(nfe < 4 or nfe % 2 for nfe in self.nfe):
            raise ValueError(
                f"nfe must be even numbers of at least 4, half of them for the corrector, not {self.nfe}"
            )
        if not self.sdes or not set(self.sdes) <= {"ve", "vp"} or len(set(self.sdes)) < len(self.sdes):
            raise ValueError(f"sdes must name ve, vp or both, not {self.sdes}")
        if self.predictor not in PREDICTORS:
            raise ValueError(f"predictor must be one of {', '.join(PREDICTORS)}, not {self.predictor!r}")
        if not 0 < self.snr < 1:
            raise ValueError(f"snr must lie between 0 and 1, not {self.snr}")
        if not 0 <= self.beta_min < self.beta_max:
            raise ValueError(f"beta_min must lie from 0 to beta_max = {self.beta_max}, not {self.beta_min}")
        low = min(self.sigma_min, self.likelihood_sigma_min), max(self.sigma_min, self.likelihood_sigma_min)
        if not 0 < low[0] <= low[1] < self.sigma_max:
            raise ValueError(f"sigma_min must lie between 0 and sigma_max = {self.sigma_max}, not at {low}")
        if not 0 < self.end < 1:
            raise ValueError(f"end must lie between 0 and 1, not {self.end}")
        if not self.likelihood_steps or min(*self.likelihood_steps, self.likelihood_images) < 1:
            raise ValueError("likelihood_steps and likelihood_images must be at least 1")
        if self.likelihood_margin < 0:
            raise ValueError(f"likelihood_margin must be at least 0, not {self.likelihood_margin}")
        if self.bound_draws < 0:
            raise ValueError(f"bound_draws must be 0 (all terms) or more, not {self.bound_draws}")


REHEARSAL: dict[str, Any] = {"nfe": [4], "likelihood_images": 2, "likelihood_steps": [2], "bound_draws": 2}
SCALES: dict[str, dict[str, Any]] = {
    "mini": {"images": 48},
    "smoke": REHEARSAL,
    # Table 1, VP: P2000 against PC1000 with DDPM's network. The headline numbers (2.20, 2.99 bits) are of NCSN++ and
    # DDPM++, which are not in the hub's layout. Likelihoods are of CIFAR-10's training set: the loader reads no other.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "sdes": ["vp"],
        "nfe": [2000],
        "likelihood_images": 1000,
        "likelihood_steps": [100, 200],
        "likelihood_margin": 0.05,
        "bound_draws": 0,
    },
}


def times(sde: SDE, steps: int, end: float) -> list[float]:
    """`steps` times from 1 to the smallest one, evenly spaced: `end` for the VP SDE, 0 for the VE SDE."""
    last = 0.0 if sde.marginal(0.0)[1] > 0 else end
    return [1 + i / (steps - 1) * (last - 1) for i in range(steps)]


def predictor_step(
    kind: str, x: Tensor, score: Tensor, far: tuple[float, float], near: tuple[float, float]
) -> tuple[Tensor, float]:
    """Mean (n, …) and standard deviation of x at the marginal (a, s) `near` the data, from x at `far`."""
    ratio, noise = transition(near, far)
    match kind:
        case "reverse-diffusion":  # Eq. 46
            return (2 - ratio) * x + noise**2 * score, noise
        case "flow":  # the same for the ODE: half of the score, no noise
            return (2 - ratio) * x + noise**2 / 2 * score, 0.0
        case "ancestral":  # Eq. 4 for VP; appendix F for VE. The variance of q(x_near | x_far, x0)
            return x / ratio + noise**2 / ratio * score, noise * near[1] / far[1]
        case other:
            raise ValueError(f"predictor must be one of {', '.join(PREDICTORS)}, not {other!r}")


def corrector_step(x: Tensor, score: Tensor, z: Tensor, snr: float, alpha: float) -> Tensor:
    """One Langevin step at a fixed noise level. Algorithm 4 (VE, alpha = 1) and 5 (VP, alpha = 1 - β)."""
    ratio = z.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1)
    size = per_row(2 * alpha * (snr * ratio) ** 2, x)
    return x + size * score + (2 * size).sqrt() * z


def sample(
    denoiser: Denoiser,
    x: Tensor,
    sde: SDE,
    times: Sequence[float],
    *,
    predictor: str = "reverse-diffusion",
    corrections: int = 0,
    snr: float = 0.16,
    condition: Tensor | None = None,
    generator: Noise,
) -> Tensor:
    """Pictures (n, …) from unit noise x (n, …) through decreasing `times`. Algorithm 1."""
    levels, ask = Levels(denoiser.schedule), partial(predict_at, denoiser, condition=condition)
    marginals = [*map(sde.marginal, times), (1.0, 0.0)]
    x = marginals[0][1] * x
    for t, (far, near) in zip(times, pairwise(marginals), strict=True):
        alpha = transition(near, far)[0] ** 2  # 1 - β
        for _ in range(corrections):
            x = corrector_step(x, score(ask, levels, sde, x, t), generator.randn_like(x), snr, alpha)
        x, deviation = predictor_step(predictor, x, score(ask, levels, sde, x, t), far, near)
        if t != times[-1] and deviation > 0:
            x = x + deviation * generator.randn_like(x)
    return x


def log_likelihood(ask: Predict, levels: Levels, x: Tensor, sde: SDE, steps: int, probe: Tensor) -> Tensor:
    """log p(x) in nats, (n,) float64, of x (n, …) as x(0): Eq. 39, by `steps` Heun steps from t = 0 to 1."""
    total, h = torch.zeros(len(x), dtype=torch.float64, device=x.device), 1 / steps

    def at(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        return with_divergence(lambda x: flow(sde, x, t, score(ask, levels, sde, x, t)), x, probe)

    for i in range(steps):
        slope, divergence = at(x, i * h)
        slope_next, divergence_next = at(x + h * slope, (i + 1) * h)
        x = x + h / 2 * (slope + slope_next)
        total += h / 2 * (divergence + divergence_next)
    s = sde.marginal(1.0)[1]  # the prior is N(0, s² I)
    z = x.flatten(1).double() / s
    return total - z.square().sum(1) / 2 - z.shape[1] * math.log(s * math.sqrt(2 * math.pi))


def network_rows(config: Config, images: int) -> int:
    """Pictures asked about in one seed; in a likelihood three times for each of Heun's two, as it takes a gradient."""
    measuring = 2 * (1 + (config.bound_draws or 999)) + 3 * 2 * sum(config.likelihood_steps)
    return 2 * len(config.sdes) * sum(config.nfe) * images + measuring * config.likelihood_images


def reproduce(lab: Lab, config: Config) -> None:
    """Predictor and corrector against the predictor alone (Table 1); the ODE's likelihood against the bound (Table 2)."""
    denoiser, real = lab.denoiser(), lab.reference()
    ve, vp = VE(config.sigma_min, config.sigma_max), VP(config.beta_min, config.beta_max)
    sdes: dict[str, SDE] = {"ve": ve, "vp": vp}
    known, ends = Levels(denoiser.schedule).last.sigma, [sdes[name].marginal(1.0) for name in config.sdes]
    if max(config.sigma_max, *(s / a for a, s in ends)) > known:
        raise DenoisedError(
            say(
                ko=f"sigma_max와 beta_max는 네트워크가 아는 σ = {known:.4g} 이하에서 끝나야 한다",
                en=f"sigma_max and beta_max must not go beyond σ = {known:.4g}, the most the network knows",
            )
        )
    for name, nfe, corrections in product(config.sdes, config.nfe, (0, 1)):
        with lab.arm("predictor-corrector" if corrections else "predictor", sde=name, nfe=nfe) as arm:
            arm.images = sample(
                denoiser,
                lab.noise(),
                sdes[name],
                times(sdes[name], nfe // (1 + corrections), config.end),
                predictor=config.predictor,
                corrections=corrections,
                snr=config.snr,
                condition=lab.labels(),
                generator=lab.generator(),
            )
        arm.measure("fid", "kid", "precision", "recall", reference=real)
        if corrections:
            lab.claim("fid", "predictor-corrector", "<", "predictor", at={"sde": name, "nfe": nfe})
    _likelihoods(lab, config)
    # Below the bound of the same network with either variance of DDPM, by more than the integration may be off.
    ode, margin = f"ode-{max(config.likelihood_steps)}", config.likelihood_margin
    lab.claim("bits-per-dimension", ode, "<", "bound-large", margin=margin)
    lab.claim("bits-per-dimension", ode, "<", "bound-small", margin=margin)


def _likelihoods(lab: Lab, config: Config) -> None:
    checkpoint, schedule = lab.checkpoint, lab.checkpoint.schedule
    network, kind = lab.call(checkpoint.unet), checkpoint.parameterisation
    pictures, levels = to_levels(lab.data.reference(config.likelihood_images)), Levels(schedule)
    sde, whole = VE(config.likelihood_sigma_min, config.sigma_max), chain(schedule, range(schedule.T)[::-1])
    ask = partial(predict_through, network, kind)

    def ode(x: Tensor, noise: SampleGenerators, steps: int) -> Tensor:
        u = torch.special.ndtr(noise.randn_like(x)) - 0.5
        probe = torch.where(noise.randn_like(x) < 0, -1.0, 1.0)
        return -log_likelihood(ask, levels, x + STEP * u, sde, steps, probe)

    def bound(variance: Variance) -> Nll:
        return bounded(fixed_variance(network, kind, whole, variance), whole, config.bound_draws or None)

    plans: dict[str, tuple[Nll, float]] = {
        f"ode-{steps}": (partial(ode, steps=steps), STEP) for steps in config.likelihood_steps
    }
    plans |= {"bound-large": (bound("large"), 1.0), "bound-small": (bound("small"), 1.0)}
    for name, (nll, width) in plans.items():
        with lab.arm(name) as arm:
            values = bits(lab, nll, pictures, MEASURING) - math.log2(width)
        arm.record("bits-per-dimension", values, by=bits_per_dimension)

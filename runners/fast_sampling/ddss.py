"""DDSS: Learning Fast Samplers for Diffusion Models by Differentiating Through Sample Quality. Watson, Chan, Ho and
Norouzi, 2022. arXiv:2202.05830

The paper's symbols and the code's; step k of K goes from state k to state k + 1, state 0 being the noise:
    x_u, u later than t: all states so far -> states      x̂_0(x_t) -> x0      K, the budget of steps -> steps
    μ_tu -> towards_x0[k] for u = 0 and towards_state[k, j] for state j      σ_t -> noise[k]      t -> times[k] (T - 1)

Details that matter:
- GGDM's reverse step draws from N(Σ_u μ_tu x_u, σ_t² I) over x̂_0 and every state so far. DDIM and DDPM are members,
  with all but x̂_0 and the last state at zero: both baselines are this file's sampler before any training.
- In full the family also learns the coefficients that turn the network's output into x̂_0, and the timesteps that the
  network is told. Since μ is free here, the former change nothing that μ could not, and are left as the schedule has them.
- The loss is the kernel distance (KID) of features between drawn pictures and training pictures.
- The features of the loss never judge: training and measuring look through different networks, and the pictures of the
  loss are training pictures with classes of their own, noise included.
- x̂_0 is clipped to [-1, 1] in all arms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import log, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from denoised.diffusion.denoiser import Denoiser, Network, Parameterisation, predict
from denoised.diffusion.random import Noise
from denoised.diffusion.schedule import Schedule
from denoised.diffusion.training import Stream
from denoised.errors import DenoisedError
from denoised.lab.lab import Lab
from denoised.lab.restoring import backbone
from denoised.language import say
from denoised.metrics.features import EFFNET_NAME, EFFNET_SIZE
from denoised.metrics.judge import prepared

PredictX0 = Callable[[Tensor, Tensor], Tensor]  # x̂_0: (x (n, …), real-valued timestep ()) -> (n, …)
Features = Callable[[Tensor], Tensor]  # (n, 3, h, w) in [-1, 1] -> (n, d), differentiable
FEATURES = ("emoji-judge", EFFNET_NAME, "pixels")
TRAINING = 2202_05830  # added to the seed of the noise and classes of training: no other stream has it


@dataclass
class Config:
    steps: list[int] = field(default_factory=lambda: [5])  # network evaluations to compare at
    train_steps: int = 40  # of Adam on the sampler's parameters
    train_batch: int = 32  # pictures drawn in each
    real_images: int = 512  # training pictures that they are compared with
    learning_rate: float = 5e-3
    eta: float = 0.5  # noise of the sampler that training starts from: 0 is DDIM, 1 is DDPM
    features: str = "emoji-judge"  # of the loss: emoji-judge, effnet-lite0, or pixels for none
    rematerialise: bool = False  # compute evaluations twice rather than keep their activations
    spacing: str = "trailing"  # timesteps of the baselines, and where those of GGDM start

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 2:
            raise ValueError(f"steps must be a list of numbers of at least 2, not {self.steps}")
        if self.train_steps < 1 or min(self.train_batch, self.real_images) < 2:
            raise ValueError("train_steps must be at least 1, train_batch and real_images at least 2")
        if self.features not in FEATURES:
            raise ValueError(f"features must be one of {', '.join(FEATURES)}, not {self.features!r}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in 0 … 1, not {self.eta}")


SMALL: dict[str, Any] = {"train_steps": 1, "train_batch": 2, "real_images": 4, "features": "pixels"}
REHEARSAL: dict[str, Any] = SMALL | {"steps": [2]}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": SMALL,
    # CIFAR-10 at the paper's budgets. Its networks are its authors' own and its loss looks through Inception, which
    # judges here, so DDPM's network and EfficientNet features stand in; length and batch of training are chosen here.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "steps": [5, 10, 15, 20, 25],
        "train_steps": 5_000,
        "train_batch": 256,
        "real_images": 10_000,
        "learning_rate": 5e-4,
        "features": EFFNET_NAME,
        "rematerialise": True,
    },
}


class GGDM(nn.Module):
    """The parameters of one sampler of K steps: the coefficients of every step, and the timestep it is told."""

    def __init__(self, schedule: Schedule, timesteps: Sequence[int], eta: float) -> None:
        """Start as DDIM on these timesteps, with its noise scaled by η (its Eq. 12 and 16)."""
        super().__init__()
        steps = len(timesteps)
        towards_x0, noise, towards_state = torch.zeros(steps), torch.zeros(steps), torch.zeros(steps, steps)
        for k, (t, following) in enumerate(pairwise([*timesteps, -1])):
            a, a_next = schedule.alpha_bar(t), schedule.alpha_bar(following)
            sigma = eta * sqrt((1 - a_next) / (1 - a) * (1 - a / a_next))
            kept = sqrt(max(0.0, 1 - a_next - sigma**2) / (1 - a))
            noise[k], towards_state[k, k], towards_x0[k] = sigma, kept, sqrt(a_next) - sqrt(a) * kept
        self.times = nn.Parameter(torch.tensor(timesteps) / (schedule.T - 1))
        self.towards_x0, self.noise = nn.Parameter(towards_x0), nn.Parameter(noise)
        self.towards_state = nn.Parameter(towards_state)  # only j <= k is used
        self.last = schedule.T - 1

    def time(self, k: int) -> Tensor:
        """The timestep of step k, within what the network knows."""
        return (self.times[k] * self.last).clamp(0, self.last)


def sample(ggdm: GGDM, predict_x0: PredictX0, x: Tensor, generator: Noise | None = None) -> Tensor:
    """Pictures (n, …) from noise x (n, …), one evaluation a step. Without a generator no noise is added."""
    states = [x]
    for k in range(len(ggdm.times)):
        x0 = predict_x0(states[k], ggdm.time(k)).clamp(-1, 1)
        x = ggdm.towards_x0[k] * x0
        for j, state in enumerate(states):
            x = x + ggdm.towards_state[k, j] * state
        if generator is not None and k < len(ggdm.times) - 1:  # the last step is to clean data
            x = x + ggdm.noise[k] * generator.randn_like(x)
        states.append(x)
    return x


def level(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise at a real-valued timestep, differentiable in it: the log-SNR is linear between timesteps."""
    below = int(t.detach().clamp(0, schedule.T - 2))
    low, high = (log(schedule.snr(i)) for i in (below, below + 1))
    log_snr = low + (t - below) * (high - low)
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


def differentiable(
    network: Network,
    schedule: Schedule,
    kind: Parameterisation,
    condition: Tensor | None,
    rematerialise: bool,
) -> PredictX0:
    """x̂_0 of a network with gradients in x and t, for training."""

    def evaluate(x: Tensor, t: Tensor) -> Tensor:
        return predict(network(x, t.expand(len(x)), condition), x, *level(schedule, t), kind).x0

    return (lambda x, t: checkpoint(evaluate, x, t, use_reentrant=False)) if rematerialise else evaluate


def counted(denoiser: Denoiser, condition: Tensor | None) -> PredictX0:
    """x̂_0 of the lab's denoiser, which counts what it costs, without gradients."""
    return lambda x, t: denoiser.between(x, t, *level(denoiser.schedule, t), condition).x0


def kernel_loss(drawn: Tensor, real: Tensor) -> Tensor:
    """The kernel distance of features (n, d) and (m, d), up to its term of `real` alone, which is constant."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    n, within = len(drawn), kernel(drawn, drawn)
    return (within.sum() - within.diagonal().sum()) / (n * (n - 1)) - 2 * kernel(drawn, real).mean()


def features_of(lab: Lab, name: str) -> Features:
    """What the loss looks through. Raises DenoisedError for the network that judges, or one of another world."""
    if name == lab.inputs.extractor_name or (name == "emoji-judge" and lab.world != "emoji"):
        raise DenoisedError(
            say(
                ko=f"features={name}은 쓸 수 없다: 결과를 재는 네트워크이거나 이 데이터({lab.world})를 모른다",
                en=f"features={name} cannot be used: it judges the result, or does not know this data ({lab.world})",
            ),
            help=f"features={'pixels' if lab.world != 'emoji' else 'emoji-judge'}",
        )
    if name == "emoji-judge":
        judge = lab.judge()
        return lambda pictures: judge.network.resnet(prepared(pictures)).pooler_output.flatten(1)
    if name == EFFNET_NAME:
        network = backbone(lab)._network.to(lab.device)  # a call of the extractor itself has no gradient
        return lambda pictures: network.extract_features(
            F.interpolate(pictures, (EFFNET_SIZE, EFFNET_SIZE), mode="bilinear")
        ).mean(dim=(2, 3))
    return lambda pictures: F.adaptive_avg_pool2d(pictures, 8).flatten(1)


def train(
    ggdm: GGDM,
    evaluator: Callable[[Tensor | None], PredictX0],
    features: Features,
    real: Tensor,
    draw: Callable[[], tuple[Tensor, Tensor | None]],
    config: Config,
    generator: Noise,
) -> list[float]:
    """Adam on the sampler's parameters; the loss of every step. `draw`: noise (n, …) and its classes."""
    optimizer, losses = torch.optim.Adam(ggdm.parameters(), config.learning_rate), []
    for _ in range(config.train_steps):
        x, condition = draw()
        pictures = sample(ggdm, evaluator(condition), x, generator).clamp(-1, 1)
        loss = kernel_loss(features(pictures), real)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def network_rows(config: Config, images: int) -> int:
    """How many pictures the network is asked about in one seed, one of training counting three times."""
    return sum(config.steps) * 3 * (config.train_steps * config.train_batch + images)


def reproduce(lab: Lab, config: Config) -> None:
    """One frozen network at equal steps: the sampler that was optimised, DDIM and DDPM."""
    features = features_of(lab, config.features)
    grids = {steps: lab.timesteps(steps, config.spacing) for steps in config.steps}
    model, denoiser, reference = lab.checkpoint, lab.denoiser(), lab.reference()
    network = lab.call(model.unet)
    with torch.no_grad():
        pictures, _ = next(lab.batches(config.real_images))
        real = torch.cat([features(part) for part in pictures.split(lab.settings.batch)])
    like = torch.empty(config.train_batch, *model.picture_shape, device=lab.device)

    def draw(stream: Stream) -> tuple[Tensor, Tensor | None]:
        if model.classes is None:
            return stream.randn_like(like), None
        classes = torch.randint(model.classes, (len(like),), generator=stream.generator)
        return stream.randn_like(like), classes.to(lab.device)

    evaluator = partial(
        differentiable, network, model.schedule, model.parameterisation, rematerialise=config.rematerialise
    )
    for steps, timesteps in grids.items():
        for name, eta in (("ggdm", config.eta), ("ddim", 0.0), ("ddpm", 1.0)):
            ggdm = GGDM(model.schedule, timesteps, eta).to(lab.device)
            with lab.arm(name, steps=steps) as arm:
                if name == "ggdm":
                    stream = Stream(TRAINING + lab.seed)
                    train(ggdm, evaluator, features, real, partial(draw, stream), config, stream)
                    arm.parameters_trained = sum(p.numel() for p in ggdm.parameters())
                with torch.no_grad():
                    noise = None if eta == 0 else lab.generator()
                    arm.images = sample(ggdm, counted(denoiser, lab.labels()), lab.noise(), noise)
            arm.measure("fid", "kid", "precision", "recall", reference=reference)
    for steps in config.steps:
        for baseline in ("ddim", "ddpm"):
            lab.claim("fid", "ggdm", "<", baseline, at={"steps": steps})

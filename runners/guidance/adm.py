"""ADM: Diffusion Models Beat GANs on Image Synthesis. Dhariwal and Nichol, 2021. arXiv:2105.05233

The paper's half about sampling, classifier guidance (§ 4); its symbols and the code's:
    p_φ(y | x_t, t) -> guide(x_t, t), logits      ∇_{x_t} log p_φ(y | x_t) -> gradient      s -> scale
    μ, Σ of p_θ(x_{t-1} | x_t) -> posterior(...)    ε_θ -> prediction.eps      ε̂ (Eq. 14) -> guided(...).eps

Details that matter:
- The classifier is trained on noised pictures at every timestep (§ 4). One for clean pictures gives gradients that
  mean nothing on x_t.
- Algorithm 1 moves the mean by s Σ ∇log p: the less noise a step adds, the less it moves, and the last one not at
  all. Σ is fixed to β̃ here; the paper's network learns it.
- Algorithm 2 is for samplers without noise: ε is moved by -sqrt(1 - ᾱ) s ∇log p. In Algorithm 1 x0 is clipped before
  the mean is moved, as in the official code. In Algorithm 2 it is clipped afterwards: on the cosine schedule ᾱ_T is so
  small that what a classifier finds in pure noise would throw x0 out of any range.
- The gradient is taken at x_t (Algorithm 1), while its derivation expands log p around μ (§ 4.1).
- s multiplies a gradient of a log-probability, so it samples from p(y | x)^s up to a constant (§ 4.3): s > 1 is
  sharper. A network without classes needs a large s, one with classes a small one (Table 4: 10 and 1).
- The guide costs a forward and a backward pass of its own at every step; NFE counts the denoiser alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoised.diffusion.denoiser import Denoiser, Prediction
from denoised.diffusion.random import Noise
from denoised.diffusion.reverse import posterior
from denoised.diffusion.samplers import ddim_step
from denoised.diffusion.schedule import Schedule
from denoised.diffusion.training import seeded
from denoised.errors import DenoisedError
from denoised.lab.judging import CLASS_ACCURACY, record_class_accuracy
from denoised.lab.lab import Lab
from denoised.language import say
from denoised.zoo.noisy_classifier import Guide, NoisyClassifier

NETWORKS = ("unconditional", "conditional")
WEIGHT_DECAY = 0.05  # of the classifier, as in the official README
Classifier = Callable[[Tensor, Tensor], Tensor]  # (x_t, t (n,)) -> logits (n, classes)
Gradient = Callable[[Tensor, int], Tensor]  # (x_t, t) -> ∇ log p(y | x_t), of the shape of x_t


@dataclass
class Config:
    steps: int = 20  # sampling steps, evenly spaced
    sampler: str = "ancestral"  # ancestral (Algorithm 1) or ddim (Algorithm 2)
    scales: list[float] = field(default_factory=lambda: [1.0, 3.0, 10.0])  # of guidance, beside none, rising
    networks: list[str] = field(default_factory=lambda: list(NETWORKS))  # one network, told classes or not
    guide_steps: int = 0  # optimizer steps of a classifier trained in the run; 0: the one shipped in zoo/
    guide_batch: int = 64
    guide_rate: float = 3e-4  # learning rate of AdamW, as in the official README
    guide_channels: list[int] = field(default_factory=lambda: [32, 64, 128])  # width of each of its levels

    def __post_init__(self) -> None:
        if self.sampler not in ("ancestral", "ddim"):
            raise ValueError(f"sampler must be ancestral or ddim, not {self.sampler!r}")
        if not self.scales or sorted(set(self.scales)) != self.scales or self.scales[0] <= 0:
            raise ValueError(f"scales must be a rising list of numbers above 0, not {self.scales}")
        if not self.networks or not set(self.networks) <= set(NETWORKS):
            raise ValueError(f"networks must be a list out of {', '.join(NETWORKS)}, not {self.networks}")
        if min(self.steps, self.guide_batch) < 1 or self.guide_steps < 0:
            raise ValueError("steps and guide_batch must be at least 1, guide_steps at least 0")


TINY: dict[str, Any] = {"guide_steps": 2, "guide_batch": 4, "guide_channels": [8, 16]}
REHEARSAL: dict[str, Any] = {**TINY, "steps": 2, "scales": [1.0]}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {**TINY, "steps": 2, "scales": [1.0, 10.0]},
    # Table 4 has ImageNet 256×256 and networks published as pickles, which are never opened here. The closest that
    # loads is DDPM's for CIFAR-10, which knows no classes, with a classifier trained in the run by the recipe of the
    # official README (300,000 steps of 256). 250 steps as in the paper.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "steps": 250,
        "scales": [1.0, 10.0],
        "networks": ["unconditional"],
        "guide_steps": 300_000,
        "guide_batch": 256,
        "guide_channels": [64, 128, 256],
    },
}


def class_gradient(classifier: Classifier, x: Tensor, t: int, classes: Tensor) -> Tensor:
    """∇_{x_t} log p_φ(y | x_t) for pictures x_t (n, …), all at timestep t, of the classes (n,) asked for."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_(True)
        logits = classifier(x, torch.full((len(x),), t, device=x.device))
        (gradient,) = torch.autograd.grad(-F.cross_entropy(logits, classes, reduction="sum"), x)
    return gradient


def guided(prediction: Prediction, gradient: Tensor, scale: float) -> Prediction:
    """The prediction with ε̂ = ε - sqrt(1 - ᾱ) s ∇log p(y | x_t). Eq. 14, with the scale of Algorithm 2."""
    a, s = prediction.a, prediction.s
    shift = s * scale * gradient
    return Prediction(prediction.x0 + s / a * shift, prediction.eps - shift, a, s)


def sample(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    *,
    gradient: Gradient | None = None,
    scale: float = 0.0,
    sampler: str = "ancestral",
    clip: bool = True,
    condition: Tensor | None = None,
    generator: Noise,
) -> Tensor:
    """Pictures (n, …) from noise x (n, …). Without a gradient or at scale 0 the classifier is not asked."""
    schedule, gradient = denoiser.schedule, None if scale == 0 else gradient
    for t, t_next in pairwise([*timesteps, -1]):
        prediction = denoiser(x, t, condition)
        if sampler == "ddim":  # Algorithm 2
            if gradient is not None:
                prediction = guided(prediction, gradient(x, t), scale)
            x = ddim_step(prediction.clip() if clip else prediction, t_next, schedule)
        else:  # Algorithm 1
            mean, variance = posterior(x, prediction.clip() if clip else prediction, t, t_next, schedule)
            if gradient is not None and variance > 0:
                mean = mean + scale * variance * gradient(x, t)
            x = mean if t_next < 0 else mean + sqrt(variance) * generator.randn_like(x)
    return x


def train_guide(
    classifier: nn.Module,
    call: Classifier,
    batches: Iterator[tuple[Tensor, Tensor]],
    schedule: Schedule,
    config: Config,
    generator: torch.Generator,
) -> None:
    """§ 4: train a classifier in place on noised pictures, all timesteps alike. `call` is how it is asked."""
    optimizer = torch.optim.AdamW(classifier.parameters(), config.guide_rate, weight_decay=WEIGHT_DECAY)
    device = next(classifier.parameters()).device
    classifier.train()
    for step in range(config.guide_steps):
        # Annealed on a line, as in the official README.
        optimizer.param_groups[0]["lr"] = config.guide_rate * (1 - step / config.guide_steps)
        x0, classes = next(batches)
        t = torch.randint(schedule.T, (len(x0),), generator=generator)
        x_t = schedule.add_noise(x0, torch.randn(x0.shape, generator=generator), t)
        optimizer.zero_grad()
        F.cross_entropy(call(x_t.to(device), t.to(device)), classes.to(device)).backward()
        optimizer.step()
    classifier.eval().requires_grad_(False)


def make_guide(lab: Lab, config: Config) -> Guide:
    """The classifier of this seed: the shipped one, or one trained here on what the denoiser was trained on.

    Raises DenoisedError where the shipped one was made for other pictures, classes or noise than the denoiser.
    """
    schedule, shape, classes = lab.checkpoint.schedule, lab.checkpoint.picture_shape, lab.checkpoint.classes
    if config.guide_steps == 0:
        guide = lab.noisy_classifier()
        same_noise = torch.equal(guide.schedule.beta, schedule.beta)
        if guide.picture_shape != shape or not same_noise or classes not in (None, guide.classes):
            raise DenoisedError(
                say(
                    ko="분류기와 디노이저의 그림 크기, 클래스 또는 노이즈 스케줄이 다르다",
                    en="the classifier and the denoiser differ in size of pictures, classes or noise schedule",
                ),
                help=say(
                    ko="실행 중에 학습한다: guide_steps=4000", en="train one in the run: guide_steps=4000"
                ),
            )
        return guide
    classes = classes or lab.data.classes
    with seeded(lab.seed):
        classifier = NoisyClassifier(classes, shape[-1], config.guide_channels, in_channels=shape[0])
    call = lab.watch(lambda x, t, _: classifier(x, t))
    batches, noise = lab.data.batches(config.guide_batch, lab.seed), torch.Generator().manual_seed(lab.seed)
    train_guide(classifier.to(lab.device), lambda x, t: call(x, t, None), batches, schedule, config, noise)
    return Guide(classifier, schedule)


def network_rows(config: Config, images: int) -> int:
    """How many pictures networks are asked about in one seed; the classifier's gradient counts as two more."""
    arms = len(config.networks) * (1 + 3 * len(config.scales))
    return arms * config.steps * images + 3 * config.guide_steps * config.guide_batch


def reproduce(lab: Lab, config: Config) -> None:
    """Without guidance and at rising scales, for a network that is told no class and one that is. Table 4."""
    if "conditional" in config.networks and lab.checkpoint.classes is None:
        raise DenoisedError(
            say(
                ko="이 네트워크는 클래스를 모른다: networks에 conditional을 둘 수 없다",
                en="this network knows no classes: networks cannot name conditional",
            ),
            help="networks='[unconditional]'",
        )
    timesteps = lab.timesteps(config.steps, "trailing")
    guide, denoiser = make_guide(lab, config), lab.denoiser()
    classes = torch.arange(lab.settings.images, device=lab.device) % guide.classes

    def gradient(x: Tensor, t: int) -> Tensor:
        return lab.in_batches(lambda part: class_gradient(guide.network, x[part], t, classes[part]))

    for network in config.networks:
        for scale in (0.0, *config.scales):
            with lab.arm(arm_name(scale), network=network, scale=scale) as arm:
                if config.guide_steps and scale:
                    arm.parameters_trained = sum(p.numel() for p in guide.network.parameters())
                arm.images = sample(
                    denoiser,
                    lab.noise(),
                    timesteps,
                    gradient=gradient,
                    scale=scale,
                    sampler=config.sampler,
                    condition=classes if network == "conditional" else None,
                    generator=lab.generator(),
                )
            arm.measure("fid", "kid", "precision", "recall", reference=lab.reference())
            if lab.world == "emoji":
                record_class_accuracy(lab, arm, classes)
    state_claims(lab, config)


def arm_name(scale: float) -> str:
    """One name for each scale, so that a claim can set one scale against another."""
    return f"guided-{scale:g}" if scale else "unguided"


def state_claims(lab: Lab, config: Config) -> None:
    """Table 4: each network at the scale that suits it, the large one without classes and the small one with."""
    smallest, largest = arm_name(config.scales[0]), arm_name(config.scales[-1])
    for network in config.networks:
        best, at = smallest if network == "conditional" else largest, {"network": network}
        if lab.world == "emoji":
            lab.claim(CLASS_ACCURACY, best, ">", "unguided", at=at)
        lab.claim("precision", best, ">", "unguided", at=at)
        lab.claim("fid", best, "<", "unguided", at=at)
        lab.claim("recall", largest, "<", "unguided", at=at)
        if network == "conditional" and smallest != largest:
            lab.claim("fid", smallest, "<", largest, at=at)  # up to some scale: beyond it variety is lost

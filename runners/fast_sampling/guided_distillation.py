"""Guided distillation: On Distillation of Guided Diffusion Models. Meng, Rombach, Gao, Kingma, Ermon, Ho and Salimans,
2023. arXiv:2210.03142

The paper's symbols and the code's:
    w, the guidance strength -> w, the guidance scale less 1      c -> classes, the null class being the network's last
    x̂^w = (1 + w) x̂_c - w x̂ -> guided_output      x̂_η1(z_t, w), the student of stage 1 -> w_conditioned(unet)
    x̂_η2(z_t, w), that of stage 2 -> the student after halvings      p_w = U[w_min, w_max] -> w in [0, w_max]

Details that matter:
- The layer of w begins at zero: a student begins as its unguided teacher. x0 is clipped in sampling, not in targets.
- The claim is to be no worse by more than a margin at half the evaluations, and better than without guidance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from math import pi
from typing import Any

import torch
from torch import Tensor, nn

from denoised.diffusion.denoiser import Denoiser, Network
from denoised.diffusion.distillation import one_step, one_step_target
from denoised.diffusion.guidance import guided
from denoised.diffusion.samplers import ddim
from denoised.diffusion.schedule import Schedule, per_row, timesteps
from denoised.diffusion.training import stratified_timesteps, train_annealed, training_target
from denoised.errors import DenoisedError
from denoised.lab.guiding import null_class
from denoised.lab.judging import CLASS_ACCURACY, record_class_accuracy
from denoised.lab.lab import Lab
from denoised.language import say
from denoised.metrics.pictures import psnr

Target = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (x, t (n,), which t, rows) -> output to learn
FREQUENCIES = 6  # of w: the lowest one runs through a quarter of its period from 0 to w_max
# By how much the student may be worse than the guided teacher, stated before any result. The Fréchet distance of 480
# real scenes on the card of emoji-pixel is about 100, so 30 is less than a third of what is due to few samples there.
ACCURACY_MARGIN, FID_MARGIN = 0.05, 30.0


@dataclass
class Config:
    weights: list[float] = field(default_factory=lambda: [1.0, 3.0])  # w to sample at, rising
    w_max: float = 4.0  # stage 1 learns w from 0 to this
    steps: int = 10  # of DDIM; the student of stage 1
    updates: int = 180  # optimizer steps of stage 1
    train_batch: int = 16
    learning_rate: float = 2e-4  # Adam, at the beginning of each stage, falling to 0 on a line
    w_rate: float = 1e-3  # that of the layer w goes through
    halvings: int = 0  # rounds of stage 2, each of which halves the steps
    halving_updates: int = 100  # optimizer steps of each of them
    clip: bool = True  # clip the predicted x0 to [-1, 1] when sampling

    def __post_init__(self) -> None:
        rising = sorted(set(self.weights)) == self.weights
        if not self.weights or not rising or self.weights[0] <= 0 or self.weights[-1] > self.w_max:
            raise ValueError(
                f"weights must be a rising list of numbers above 0 and up to w_max = {self.w_max:g}, "
                f"not {self.weights}"
            )
        if min(self.updates, self.train_batch, self.halving_updates, self.steps) < 1:
            raise ValueError("updates, halving_updates, train_batch and steps must be at least 1")
        if self.halvings < 0 or self.steps % 2**self.halvings:
            raise ValueError(
                f"halvings must be at least 0, and steps = {self.steps} divisible by 2 that often, "
                f"not {self.halvings}"
            )


TINY: dict[str, Any] = {"updates": 2, "halving_updates": 1, "train_batch": 2, "weights": [1.0]}
# The rehearsal's network is the shipped one: it knows classes and a null class, which no published one does.
REHEARSAL: dict[str, Any] = {**TINY, "model": "emoji-pixel", "steps": 4, "halvings": 1}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {**TINY, "steps": 2, "halvings": 1},
    # Class-conditional CIFAR-10, w from 0 to 4, from 1024 steps down to 1. The paper's networks are not public: this is
    # for one of the user's. The numbers of updates are those of Progressive Distillation, not the paper's.
    "paper": {
        "model": "cifar10-conditional", "data": "cifar10", "weights": [0.3, 1.0, 2.0, 4.0],
        "steps": 1024, "updates": 100_000, "train_batch": 128, "learning_rate": 1e-4, "w_rate": 1e-4,
        "halvings": 10, "halving_updates": 50_000,
    },
}  # fmt: skip


class ClassAndWeight(nn.Module):
    """The embedding of a class plus that of w, both added to the timestep's, for rows [class, w]. Section 3.1."""

    def __init__(self, classes: nn.Embedding, w_max: float) -> None:
        super().__init__()
        self.classes = classes
        self.frequencies = nn.Buffer(pi / 2 / w_max * 2.0 ** torch.arange(FREQUENCIES))
        self.weight = nn.Linear(2 * FREQUENCIES, classes.embedding_dim, bias=False)
        nn.init.zeros_(self.weight.weight)

    def forward(self, rows: Tensor) -> Tensor:
        angles = rows[:, 1:] * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], dim=1)
        embedding: Tensor = self.classes(rows[:, 0].long()) + self.weight(features)
        return embedding


def w_conditioned(unet: nn.Module, w_max: float) -> nn.Module:
    """A copy of a class-conditional UNet2DModel whose condition is `with_weight(classes, w)`."""
    student: Any = deepcopy(unet)
    student.class_embedding = ClassAndWeight(student.class_embedding, w_max).to(student.device)
    return student  # type: ignore[no-any-return]


def with_weight(classes: Tensor, w: Tensor | float) -> Tensor:
    """Rows [class, w] (n, 2) for classes (n,) and one w for each of them, or one for all."""
    return torch.stack([classes.float(), torch.zeros_like(classes).float() + w], dim=1)


def guided_output(teacher: Network, null: int, x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
    """Stage 1's target at x (n, …), t (n,) for rows [class, w]: (1 + w) of the class, less w of the null class."""
    classes, w = rows[:, 0].long(), per_row(rows[:, 1], x)
    of_class, of_null = teacher(x, t, classes), teacher(x, t, torch.full_like(classes, null))
    return (1 + w) * of_class - w * of_null


def two_steps_in_one(teacher: Network, lab: Lab, schedule: Schedule, teacher_grid: list[int]) -> Target:
    """Stage 2's target: what leads in one DDIM step to where the teacher of the same w is after two. Section 3.2."""
    grid, kind = torch.tensor([*teacher_grid, -1]), lab.checkpoint.parameterisation
    asked = Denoiser(teacher, schedule, kind)

    def target(x: Tensor, t: Tensor, k: Tensor, rows: Tensor) -> Tensor:
        middle, end = grid[2 * k + 1], grid[2 * k + 2]
        arrived = one_step(asked, one_step(asked, x, t, middle, rows), middle, end, rows)
        x0 = one_step_target(x, arrived, t, end, schedule)
        a, s = schedule.signal_and_noise(t, x)
        return training_target(x0, (x - a * x0) / s, t, schedule, kind)

    return target


def train(
    lab: Lab, config: Config, student: nn.Module, grid: list[int], target: Target, updates: int, stage: int
) -> nn.Module:
    """The student after `updates` steps of Adam on ‖target - output‖² at timesteps of `grid`, for w in [0, w_max]."""
    call, batches = lab.call(student), lab.batches(config.train_batch)
    random = torch.Generator().manual_seed(lab.seed + stage)

    def loss() -> Tensor:
        x0, classes = next(batches)
        assert classes is not None
        k = stratified_timesteps(len(x0), len(grid), random)
        t, eps = torch.tensor(grid)[k], torch.randn(x0.shape, generator=random).to(x0.device)
        x = lab.checkpoint.schedule.add_noise(x0, eps, t)
        rows = with_weight(classes, (config.w_max * torch.rand(len(x0), generator=random)).to(x0.device))
        with torch.no_grad():
            wanted = target(x, t, k, rows)
        return (wanted - call(x, t.to(x.device), rows)).square().mean()  # of a raw v: weights of SNR + 1

    rates = {student.get_parameter("class_embedding.weight.weight"): config.w_rate}
    return train_annealed(student, loss, steps=updates, learning_rate=config.learning_rate, rates=rates)


def students(lab: Lab, config: Config, null: int) -> Iterator[tuple[int, nn.Module]]:
    """The student of stage 1 and its number of steps, then those of stage 2 and theirs."""
    unet, schedule = lab.checkpoint.unet, lab.checkpoint.schedule
    lab.report("student: stage 1")
    teacher, every = lab.call(unet), list(range(schedule.T))

    def both(x: Tensor, t: Tensor, k: Tensor, rows: Tensor) -> Tensor:
        return guided_output(teacher, null, x, t.to(x.device), rows)

    student = train(lab, config, w_conditioned(unet, config.w_max), every, both, config.updates, 0)
    yield config.steps, student
    for stage in range(1, config.halvings + 1):
        steps = config.steps >> stage
        lab.report(f"student: stage 2, {steps} steps")
        fine, grid = timesteps(schedule.T, 2 * steps), timesteps(schedule.T, steps)
        target = two_steps_in_one(lab.call(student), lab, schedule, fine)
        student = train(lab, config, deepcopy(student), grid, target, config.halving_updates, stage)
        yield steps, student


def network_rows(config: Config, images: int) -> int:
    """How many pictures networks are asked about in one seed, an example of training counting three times."""
    updates = config.updates + config.halvings * config.halving_updates  # each asks the teacher twice
    sampled = sum(config.steps >> stage for stage in range(config.halvings + 1))
    return updates * config.train_batch * (3 + 2) + (1 + 3 * len(config.weights)) * sampled * images


def refuse_halving(lab: Lab, config: Config) -> None:
    """DenoisedError where the steps of a network that predicts ε are to be halved."""
    if config.halvings and lab.checkpoint.parameterisation == "epsilon":
        raise DenoisedError(
            say(
                ko="ε을 예측하는 네트워크는 스텝을 반으로 줄일 수 없다: 순수한 노이즈에서 ε은 x0를 알려 주지 않는다",
                en="a network that predicts ε cannot be halved: in pure noise ε says nothing of x0",
            ),
            help="halvings=0",
        )


def reproduce(lab: Lab, config: Config) -> None:
    """At equally many steps: the teacher with guidance and without, and the student at half the evaluations."""
    null = null_class(lab, of_data=True)
    refuse_halving(lab, config)
    schedule, kind = lab.checkpoint.schedule, lab.checkpoint.parameterisation
    lab.timesteps(config.steps, "trailing")  # refuses a grid longer than the schedule
    classes = lab.labels()
    assert classes is not None
    many: dict[float, Tensor] = {}  # the guided teacher's pictures at `config.steps`
    for steps, network in list(students(lab, config, null)):  # all of them before any is measured
        grid, student = timesteps(schedule.T, steps), lab.wrap(network, schedule, kind)
        arms = [(f"guided-{w:g}", w, guided(lab.denoiser(), null, 1 + w), classes) for w in config.weights]
        arms += [("unguided", 0.0, lab.denoiser(), classes)]
        arms += [(f"student-{w:g}", w, student, with_weight(classes, w)) for w in config.weights]
        for name, w, denoiser, condition in arms:
            with lab.arm(name, steps=steps, w=w) as arm:
                if denoiser is student:
                    arm.parameters_trained = sum(p.numel() for p in network.parameters())
                arm.images = ddim(denoiser, lab.noise(), grid, clip=config.clip, condition=condition)
            arm.measure("fid", "kid", "precision", "recall", reference=lab.reference())
            if lab.world == "emoji":
                record_class_accuracy(lab, arm, classes)
            if name.startswith("guided") and steps == config.steps:
                many[w] = arm.images
            for aim in {"unguided": list(many), f"student-{w:g}": [w]}.get(name, []):
                arm.record(f"psnr[guided-{aim:g}]", psnr(arm.images, many[aim]), by=psnr)
    at = {"steps": config.steps}  # stage 1: as good as the guided teacher, and better than the unguided one
    for weight in config.weights:
        learned, aimed = f"student-{weight:g}", f"guided-{weight:g}"
        lab.claim("fid", learned, "<=", aimed, at=at, margin=FID_MARGIN)
        lab.claim("fid", learned, "<", "unguided", at=at)
        lab.claim(f"psnr[{aimed}]", learned, ">", "unguided", at=at)
        if lab.world == "emoji":
            lab.claim(CLASS_ACCURACY, learned, ">=", aimed, at=at, margin=ACCURACY_MARGIN)
            lab.claim(CLASS_ACCURACY, learned, ">", "unguided", at=at)
        for stage in range(1, config.halvings + 1):  # stage 2: better at equally few steps
            lab.claim("fid", learned, "<", aimed, at={"steps": config.steps >> stage})

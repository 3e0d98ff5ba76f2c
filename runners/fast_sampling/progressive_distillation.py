"""Progressive Distillation: Progressive Distillation for Fast Sampling of Diffusion Models. Salimans and Ho, 2022.
arXiv:2202.00512

The paper's symbols and the code's:
    z_t -> x      α_t, σ_t of z_t = α_t x + σ_t ε -> a, s      x̂_θ, x̂_η -> the x0 of student and teacher
    t, t' = t - 0.5/N, t'' = t - 1/N (Algorithm 2) -> t, middle, end      x̃ -> the target      N -> steps
    v = α_t ε - σ_t x (appendix D) -> prediction.v      SNR = α_t² / σ_t² -> schedule.snr(t)

Details that matter:
- A student begins as a copy of its teacher, learns to do in one DDIM step what the teacher does in two, and is the
  next teacher (Algorithm 2). It learns at the timesteps of its own grid alone.
- The target is no picture but what one step has to predict in order to arrive where two arrived. Given x it is
  certain, while a picture given x is not: so the student need not blur over what x may become.
- The first timestep is pure noise, where ε says nothing of x0: the network must predict v or x0, and the loss must
  weigh pure noise too (section 4). SNR + 1 is the plain squared error of v; truncated SNR is max(SNR, 1) in x0.
- x0 is clipped in sampling, not in the targets. In each round the learning rate falls to 0 on a line, and weights
  are not averaged (official code).
- The control learns as often from as many pictures at the same timesteps with the same loss, but from data. What it
  does not gain is the target's merit. (Its updates are cheaper: it asks no teacher.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from denoised.diffusion.denoiser import Denoiser, Network, Parameterisation, predict
from denoised.diffusion.distillation import one_step, one_step_target
from denoised.diffusion.samplers import ddim
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.diffusion.training import train_annealed, train_averaged
from denoised.errors import DenoisedError
from denoised.lab.lab import Lab
from denoised.language import say


@dataclass
class Config:
    steps: list[int] = field(default_factory=lambda: [2, 4, 8])  # of DDIM; the fewest ends the rounds
    start_steps: int = 8  # of the first teacher
    round_updates: int = 80  # optimizer steps of every round, each of which halves the steps
    train_batch: int = 16
    learning_rate: float = 2e-4  # Adam, at the beginning of each round
    weight: str = "snr+1"  # of the squared error of x0: snr+1 or truncated-snr
    clip: bool = True  # clip the predicted x0 to [-1, 1] when sampling
    teacher_updates: int = 0  # optimizer steps of a teacher trained in the run; 0: the checkpoint's weights
    teacher_rate: float = 2e-4
    T: int = 1000  # timesteps of the cosine schedule of a teacher trained in the run

    def __post_init__(self) -> None:
        halved = [self.start_steps >> k for k in range(self.start_steps.bit_length())]
        possible = [n for k, n in enumerate(halved) if n << k == self.start_steps]
        if not self.steps or not set(self.steps) <= set(possible) or min(self.steps) == self.start_steps:
            raise ValueError(
                f"steps must be a list out of {possible[::-1]}, halves of start_steps = {self.start_steps} "
                f"with at least one below it, not {self.steps}"
            )
        if self.weight not in ("snr+1", "truncated-snr"):
            raise ValueError(f"weight must be snr+1 or truncated-snr, not {self.weight!r}")
        if min(self.round_updates, self.train_batch) < 1 or self.teacher_updates < 0:
            raise ValueError("round_updates and train_batch must be at least 1, teacher_updates at least 0")
        if self.teacher_updates and self.start_steps > self.T:
            raise ValueError(f"start_steps must be at most T = {self.T}, not {self.start_steps}")


REHEARSAL: dict[str, Any] = {
    "steps": [1], "start_steps": 2, "round_updates": 1, "train_batch": 1, "teacher_updates": 1, "T": 64,
}  # fmt: skip
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"steps": [2], "start_steps": 4, "round_updates": 2, "train_batch": 2},
    # Table 2 and appendix E: unconditional CIFAR-10 from 8192 steps, 50,000 updates of batch 128 in a round. The
    # published teacher is no file that the loader opens, and DDPM's network predicts ε; so DDPM's architecture is
    # trained in the run, to predict v, with the official rates and truncated SNR.
    "paper": {
        "model": "ddpm-cifar10",
        "data": "cifar10",
        "steps": [1, 2, 4, 8],
        "start_steps": 8192,
        "round_updates": 50_000,
        "train_batch": 128,
        "learning_rate": 5e-5,
        "weight": "truncated-snr",
        "teacher_updates": 800_000,
        "T": 8192,
    },
}

# (x_t, the clean pictures, k, classes) -> the x0 to learn at step k (n,) of the student's grid
Target = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def loss_weight(schedule: Schedule, t: Tensor, name: str) -> Tensor:
    """The weight of ‖x̃ - x̂‖² at timesteps t (n,), float64: SNR + 1 or max(SNR, 1). Section 4."""
    snr = schedule.snr(t)
    return snr + 1 if name == "snr+1" else snr.clamp(min=1)


def distilled(
    teacher: Network, kind: Parameterisation, schedule: Schedule, teacher_grid: list[int]
) -> Target:
    """Algorithm 2: the x̃ for which one step of the student is two of its teacher's, whose grid is twice as fine."""
    grid, denoiser = torch.tensor([*teacher_grid, -1]), Denoiser(teacher, schedule, kind)

    def target(x: Tensor, x0: Tensor, k: Tensor, classes: Tensor | None) -> Tensor:
        t, middle, end = grid[2 * k], grid[2 * k + 1], grid[2 * k + 2]
        arrived = one_step(denoiser, one_step(denoiser, x, t, middle, classes), middle, end, classes)
        return one_step_target(x, arrived, t, end, schedule)

    return target


def from_data(x: Tensor, x0: Tensor, k: Tensor, classes: Tensor | None) -> Tensor:
    """What ordinary training learns: the clean pictures."""
    return x0


def loss(
    network: Network,
    kind: Parameterisation,
    schedule: Schedule,
    grid: list[int],
    target: Target,
    weight: str,
    batch: tuple[Tensor, Tensor | None],
    generator: torch.Generator,
) -> Tensor:
    """w ‖x̃ - x̂_θ(z_t)‖² at random timesteps of `grid`, a scalar, for pictures (n, …) and their classes (n,)."""
    x0, classes = batch
    k = torch.randint(len(grid), (len(x0),), generator=generator)  # schedules live on the CPU
    eps = torch.randn(x0.shape, generator=generator).to(x0.device)
    t = torch.tensor(grid)[k]
    x = schedule.add_noise(x0, eps, t)
    with torch.no_grad():
        wanted = target(x, x0, k, classes)
    a, s = schedule.signal_and_noise(t, x)
    found = predict(network(x, t.to(x.device), classes), x, a, s, kind).x0
    error = (wanted - found).square().mean(dim=(1, 2, 3))
    return (loss_weight(schedule, t, weight).to(error) * error).mean()


def train_round(network: nn.Module, a_loss: Callable[[nn.Module], Tensor], config: Config) -> nn.Module:
    """A copy of the network after one round of Adam, whose rate falls to 0 on a line."""
    student = deepcopy(network)
    return train_annealed(
        student, lambda: a_loss(student), steps=config.round_updates, learning_rate=config.learning_rate
    )


def rounds(config: Config) -> list[int]:
    """The numbers of steps that students are made for, in order: 4, 2 from 8 to 2."""
    count = (config.start_steps // min(config.steps)).bit_length() - 1
    return [config.start_steps >> k for k in range(1, count + 1)]


def network_rows(config: Config, images: int) -> int:
    """How many pictures networks are asked about in one seed, an example of training counting three times."""
    made = rounds(config)
    # A round of distillation asks the teacher twice; the control asks nobody.
    training = len(made) * config.round_updates * config.train_batch * (3 + 2 + 3)
    sampling = sum(config.steps) + 2 * sum(steps for steps in config.steps if steps in made)
    return 3 * config.teacher_updates * config.train_batch + training + sampling * images


def make_teacher(lab: Lab, config: Config) -> tuple[nn.Module, Schedule, Parameterisation]:
    """The checkpoint's network, or its architecture trained in the run to predict v on the cosine schedule."""
    c = lab.checkpoint
    if config.teacher_updates == 0:
        if c.parameterisation == "epsilon":
            raise DenoisedError(
                say(
                    ko="이 네트워크는 ε을 예측하는데, 순수한 노이즈에서 ε은 x0를 알려 주지 않으므로 증류할 수 없다",
                    en="this network predicts ε, which says nothing of x0 in pure noise: it cannot be distilled",
                ),
                help="teacher_updates=800000: v-prediction",
            )
        return c.unet, c.schedule, c.parameterisation
    network, schedule, batches = lab.untrained(), Schedule.cosine(config.T), lab.batches(config.train_batch)
    random, every = torch.Generator().manual_seed(lab.seed), list(range(config.T))
    lab.report("teacher: training")

    def a_loss() -> Tensor:
        call = lab.call(network)
        return loss(call, "v_prediction", schedule, every, from_data, config.weight, next(batches), random)

    teacher = train_averaged(
        network, a_loss, steps=config.teacher_updates, learning_rate=config.teacher_rate, ema=0.9999
    )
    return teacher.eval(), schedule, "v_prediction"


def students(
    lab: Lab, config: Config, teacher: nn.Module, schedule: Schedule, kind: Parameterisation, name: str
) -> Iterator[tuple[int, nn.Module]]:
    """Each number of steps with the network made for it: by distillation, or ("fine-tuned") from data alike."""
    network, batches = teacher, lab.batches(config.train_batch)
    random = torch.Generator().manual_seed(lab.seed)
    for steps in rounds(config):
        lab.report(f"{name}: training for {steps} steps")
        grid, fine = timesteps(schedule.T, steps), timesteps(schedule.T, 2 * steps)
        target = distilled(lab.call(network), kind, schedule, fine) if name == "student" else from_data

        def a_loss(trained: nn.Module, grid: list[int] = grid, target: Target = target) -> Tensor:
            args = (kind, schedule, grid, target, config.weight, next(batches), random)
            return loss(lab.call(trained), *args)

        network = train_round(network, a_loss, config)
        yield steps, network


def reproduce(lab: Lab, config: Config) -> None:
    """At equally few DDIM steps: a distilled student, its first teacher, and a network trained on as from data."""
    if not config.teacher_updates:
        lab.timesteps(config.start_steps, "trailing")  # refuses a grid longer than the schedule
    teacher, schedule, kind = make_teacher(lab, config)
    networks = [("teacher", steps, teacher) for steps in config.steps]
    for name in ("student", "fine-tuned"):
        made = students(lab, config, teacher, schedule, kind, name)
        networks += [(name, steps, network) for steps, network in made if steps in config.steps]
    real = lab.reference()
    for name, steps, network in networks:
        denoiser = lab.wrap(network, schedule, kind)
        with lab.arm(name, steps=steps) as arm:
            if name != "teacher" or config.teacher_updates:
                arm.parameters_trained = sum(p.numel() for p in network.parameters())
            grid = timesteps(schedule.T, steps)
            arm.images = ddim(denoiser, lab.noise(), grid, clip=config.clip, condition=lab.labels())
        arm.measure("fid", "kid", "precision", "recall", reference=real)
    for steps in sorted(steps for name, steps, _ in networks if name == "student" and steps <= 8):
        lab.claim("fid", "student", "<", "teacher", at={"steps": steps})
        lab.claim("fid", "student", "<", "fine-tuned", at={"steps": steps})

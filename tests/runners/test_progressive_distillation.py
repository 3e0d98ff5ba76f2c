"""Progressive distillation: its targets against exact flows and the paper's own expression, and its rounds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from denoised.cli import main
from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.distillation import one_step_target
from denoised.diffusion.samplers import ddim
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.diffusion.training import training_target
from denoised.errors import DenoisedError, Exit
from denoised.lab.record import read_record
from runners.fast_sampling.progressive_distillation import (
    Config,
    distilled,
    from_data,
    loss,
    loss_weight,
    network_rows,
    reproduce,
    rounds,
    students,
    train_round,
)
from tests.runners.pixel_lab import pixel_lab

SCHEDULE = Schedule.cosine()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
    """v of the exact denoiser of data N(0.3, 0.5²)."""
    a, s = SCHEDULE.signal_and_noise(t, x)
    x0 = 0.3 + a * 0.25 / (a**2 * 0.25 + s**2) * (x - a * 0.3)
    return (a * x - x0) / s


def test_one_step_towards_the_target_arrives_where_two_steps_do() -> None:
    """Algorithm 2, for every step of the student's grid, the last one to clean data among them."""
    coarse, fine = timesteps(1000, 4), timesteps(1000, 8)
    x, k = draw(4, 3, 2, 2), torch.arange(4)
    found = distilled(gaussian, "v_prediction", SCHEDULE, fine)(x, x, k, None)
    for row, t in enumerate(coarse):
        one, teacher = x[row : row + 1], Denoiser(gaussian, SCHEDULE, "v_prediction")
        ends = [*coarse[1:], -1]
        two = one
        for now, following in zip(fine[2 * row : 2 * row + 2], (fine[2 * row + 1], ends[row]), strict=True):
            prediction = teacher(two, now)
            a, s = SCHEDULE.signal_and_noise(following, two)
            two = a * prediction.x0 + s * prediction.eps
        a, s = SCHEDULE.signal_and_noise(t, one)
        a_end, s_end = SCHEDULE.signal_and_noise(ends[row], one)
        step = a_end * found[row] + s_end * (one - a * found[row]) / s
        torch.testing.assert_close(step, two, rtol=1e-9, atol=1e-9)


def test_the_target_of_the_last_step_is_where_it_arrives() -> None:
    x, end = draw(2, 3), draw(2, 3, seed=1)
    found = one_step_target(x, end, torch.tensor([100, 999]), torch.tensor([-1, -1]), SCHEDULE)
    torch.testing.assert_close(found, end)


def test_targets_are_exact_in_single_precision_though_the_ends_lie_close() -> None:
    t, end = torch.tensor([999, 501, 20]), torch.tensor([997, 500, 19])
    x0, eps = draw(3, 8), draw(3, 8, seed=1)
    x, x_end = (SCHEDULE.add_noise(x0, eps, each).float() for each in (t, end))
    found = one_step_target(x, x_end, t, end, SCHEDULE)
    torch.testing.assert_close(found[1:], x0[1:].float(), atol=1e-3, rtol=1e-3)


def test_a_student_that_predicts_its_targets_samples_what_its_teacher_does() -> None:
    """The exact fixed point of a round, on noise that no target was made for."""
    fine, coarse = timesteps(1000, 8), timesteps(1000, 4)
    target = distilled(gaussian, "v_prediction", SCHEDULE, fine)

    def student(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return target(x, x, torch.tensor([coarse.index(int(each)) for each in t]), None)

    x = draw(16, 1, 1, 1, seed=5)
    ours = ddim(Denoiser(student, SCHEDULE, "sample"), x, coarse)
    theirs = ddim(Denoiser(gaussian, SCHEDULE, "v_prediction"), x, fine)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    plain = ddim(Denoiser(gaussian, SCHEDULE, "v_prediction"), x, coarse)
    assert float((plain - theirs).abs().max()) > 1e-2  # what there is to learn


def test_v_is_the_velocity_along_the_angle() -> None:
    """Appendix D: v = dz/dφ with α = cos φ, σ = sin φ, and a DDIM step is a rotation by the angle's change."""
    x0, eps, t = draw(2, 3), draw(2, 3, seed=1), torch.tensor([300, 300])
    v = training_target(x0, eps, t, SCHEDULE, "v_prediction")
    a, s = (float(each[0]) for each in SCHEDULE.signal_and_noise(t, x0))
    torch.testing.assert_close(v, a * eps - s * x0)
    angle = math.atan2(s, a)
    torch.testing.assert_close(
        math.cos(0.2 - angle) * (a * x0 + s * eps) + math.sin(0.2 - angle) * v,
        math.cos(0.2) * x0 + math.sin(0.2) * eps,
    )


def test_the_weights_of_section_4() -> None:
    """SNR + 1 is the squared error of v, truncated SNR the larger one of the errors of x0 and ε."""
    t = torch.tensor([10, 500, 999])
    a, s = SCHEDULE.signal_and_noise(t, draw(3, 1))
    error_x, error_eps = 0.01, 0.01 * a / s  # z = α x + σ ε ties one to the other
    torch.testing.assert_close(
        loss_weight(SCHEDULE, t, "snr+1")[:, None] * error_x**2, (a * error_eps + s * error_x) ** 2
    )
    torch.testing.assert_close(
        loss_weight(SCHEDULE, t, "truncated-snr")[:, None] * error_x**2,
        error_eps.square().clamp(min=error_x**2),
    )


def test_the_loss_of_a_network_that_knows_its_targets_is_zero() -> None:
    x0 = torch.full((8, 1, 2, 2), 0.4, dtype=torch.float64)

    def knowing(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = SCHEDULE.signal_and_noise(t, x)
        return (a * x - 0.4) / s

    for weight in ("snr+1", "truncated-snr"):
        random = torch.Generator().manual_seed(0)
        value = loss(
            knowing, "v_prediction", SCHEDULE, timesteps(1000, 4), from_data, weight, (x0, None), random
        )
        assert float(value) < 1e-12


class Line(nn.Module):
    """v = u x + b with numbers of its own at each timestep of a grid."""

    def __init__(self, grid: list[int]) -> None:
        super().__init__()
        self.grid = grid
        self.u = nn.Parameter(torch.zeros(len(grid)))
        self.b = nn.Parameter(torch.zeros(len(grid)))

    def forward(self, x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        k = torch.tensor([self.grid.index(int(each)) for each in t])
        return self.u[k].reshape(-1, 1, 1, 1) * x + self.b[k].reshape(-1, 1, 1, 1)


def test_a_round_learns_what_two_steps_of_a_gaussian_teacher_do() -> None:
    """The target is linear in x then, so a line per timestep can learn it all; training from data cannot."""
    fine, coarse = timesteps(1000, 4), timesteps(1000, 2)
    x = draw(64, 1, 1, 1, seed=9).float()
    theirs = ddim(Denoiser(gaussian, SCHEDULE, "v_prediction"), x, fine)
    config = Config(start_steps=4, steps=[2], round_updates=250, learning_rate=0.05)
    errors = {}
    for name, target in (
        ("student", distilled(gaussian, "v_prediction", SCHEDULE, fine)),
        ("fine-tuned", from_data),
    ):
        random = torch.Generator().manual_seed(0)

        def a_loss(network: nn.Module, target=target, random=random) -> Tensor:  # type: ignore[no-untyped-def]
            x0 = 0.3 + 0.5 * torch.randn(64, 1, 1, 1, generator=random)
            batch = (x0, None)
            return loss(network, "v_prediction", SCHEDULE, coarse, target, "snr+1", batch, random)

        made = train_round(Line(coarse), a_loss, config)
        ours = ddim(Denoiser(made, SCHEDULE, "v_prediction"), x, coarse)
        errors[name] = float((ours - theirs).abs().mean())
    assert errors["student"] < 0.02 < 0.1 < errors["fine-tuned"]


def test_students_grow_out_of_one_another_and_leave_the_teacher_as_it_is() -> None:
    lab, config = pixel_lab(), Config(start_steps=4, steps=[1], round_updates=1, train_batch=2)
    teacher = lab.checkpoint.unet
    before = [p.clone() for p in teacher.parameters()]
    made = dict(students(lab, config, teacher, lab.checkpoint.schedule, "v_prediction", "student"))
    assert list(made) == [2, 1] == rounds(config)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    first, second = (list(made[steps].parameters()) for steps in (2, 1))
    assert any(not torch.equal(a, b) for a, b in zip(before, first, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_reproduce_compares_three_networks_at_equal_steps() -> None:
    lab, config = pixel_lab(), Config(start_steps=4, steps=[2, 4], round_updates=1, train_batch=2)
    reproduce(lab, config)
    assert [(arm.name, arm.settings["steps"], arm.calls) for arm in lab.arms] == [
        ("teacher", 2, 2),
        ("teacher", 4, 4),
        ("student", 2, 2),
        ("fine-tuned", 2, 2),
    ]
    assert [arm.parameters_trained > 0 for arm in lab.arms] == [False, False, True, True]
    sampled = sum(arm.samples for arm in lab.arms)
    assert network_rows(config, 4) == sampled + 1 * 1 * 2 * (3 + 2 + 3)
    assert [(c.arm, c.relation, c.than, c.at) for c in lab.claims] == [
        ("student", "<", "teacher", {"steps": 2}),
        ("student", "<", "fine-tuned", {"steps": 2}),
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": [3]}, r"steps must be a list out of \[1, 2, 4, 8\]"),
        ({"steps": [8]}, "with at least one below it"),
        ({"steps": []}, "steps must be a list"),
        ({"start_steps": 12, "steps": [1]}, r"steps must be a list out of \[3, 6, 12\]"),
        ({"weight": "snr"}, "weight must be snr\\+1 or truncated-snr, not 'snr'"),
        ({"round_updates": 0}, "must be at least 1"),
        ({"teacher_updates": 1, "T": 4}, "start_steps must be at most T = 4, not 8"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Config(**settings)  # type: ignore[arg-type]


def test_what_cannot_be_distilled_is_refused_before_any_work() -> None:
    lab = pixel_lab()
    with pytest.raises(DenoisedError, match="steps must be from 1 to 1000"):
        reproduce(lab, Config(start_steps=2048, steps=[2]))
    lab.inputs.checkpoint = type(lab.checkpoint)(
        lab.checkpoint.unet, lab.checkpoint.schedule, "epsilon", (), {}
    )
    with pytest.raises(DenoisedError, match="it cannot be distilled"):
        reproduce(lab, Config())
    assert not lab.arms


def test_the_paper_scale_is_rehearsed_with_a_teacher_of_its_own(tmp_path: Path) -> None:
    """On the architecture of a small folder: that of the paper scale has 36 million parameters."""
    arguments = ["scale=paper", "--rehearse", "model=zoo/emoji-pixel", "seeds=[0]", "threads=1"]
    assert main(["run", "progressive-distillation", *arguments, "--out", str(tmp_path)]) == Exit.OK
    written = tmp_path / "progressive-distillation" / "rehearsal.json"
    record = read_record(written, paper="progressive-distillation")
    assert [arm.name for arm in record.arms] == ["teacher", "student", "fine-tuned"]
    assert all(arm.cost.parameters_trained > 0 for arm in record.arms)

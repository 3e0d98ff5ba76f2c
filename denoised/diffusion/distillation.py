"""Students that sample in fewer steps of DDIM than their teachers: what the methods that make them share."""

from __future__ import annotations

from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, predict
from denoised.diffusion.schedule import Schedule


def one_step(teacher: Denoiser, x: Tensor, t: Tensor, t_end: Tensor, condition: Tensor | None) -> Tensor:
    """Where one DDIM step of the teacher leads from x at t to t_end < t (-1: clean data); (n, …) like x.

    t, t_end: (n,), a step for each row, on the CPU as schedules are. Can be differentiated; it is not counted.
    DDIM (Song et al. 2021, arXiv:2010.02502), Eq. 12 with σ = 0.
    """
    schedule, output = teacher.schedule, teacher.network(x, t.to(x.device), condition)
    believed = predict(output, x, *schedule.signal_and_noise(t, x), teacher.parameterisation)
    a, s = schedule.signal_and_noise(t_end, x)
    return a * believed.x0 + s * believed.eps


def one_step_target(x: Tensor, x_end: Tensor, t: Tensor, t_end: Tensor, schedule: Schedule) -> Tensor:
    """The x0 that a network has to predict at x for one DDIM step from t to t_end to arrive at x_end.

    x, x_end: (n, …), t, t_end: (n,) with t_end < t, -1 being clean data. What a student of few steps learns from a
    teacher of many: Progressive Distillation (Salimans & Ho 2022, arXiv:2202.00512), Algorithm 2 and appendix G.
    """
    wide = x.double()  # the two ends may lie close together
    (a, s), (a_end, s_end) = schedule.signal_and_noise(t, wide), schedule.signal_and_noise(t_end, wide)
    ratio = s_end / s
    target: Tensor = (x_end - ratio * wide) / (a_end - ratio * a)
    return target.to(x.dtype)

"""What students of few steps share: a step of each row's own, and the target that undoes it."""

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Parameterisation
from denoised.diffusion.distillation import one_step, one_step_target
from denoised.diffusion.samplers import ddim_step
from denoised.diffusion.schedule import Schedule

SCHEDULE = Schedule.cosine()
T, T_END = torch.tensor([999, 500, 20]), torch.tensor([700, 20, -1])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
    """Something that depends on all it is given."""
    shift = 0 if condition is None else condition.reshape(-1, 1, 1)
    return torch.tanh(x + t.reshape(-1, 1, 1) / 1000 + shift)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_rows_step_as_they_would_alone(kind: Parameterisation) -> None:
    x, classes, teacher = draw(3, 2, 2), torch.tensor([0.0, 1.0, 2.0]), Denoiser(network, SCHEDULE, kind)
    together = one_step(teacher, x, T, T_END, classes)
    for row, (t, t_end) in enumerate(zip(T.tolist(), T_END.tolist(), strict=True)):
        one = slice(row, row + 1)
        alone = ddim_step(teacher(x[one], t, classes[one]), t_end, SCHEDULE)
        torch.testing.assert_close(together[one], alone)


def test_a_step_is_not_counted_and_has_a_gradient() -> None:
    x, teacher = draw(3, 2, 2).requires_grad_(), Denoiser(network, SCHEDULE, "v_prediction")
    one_step(teacher, x, T, T_END, None).sum().backward()
    assert x.grad is not None and bool((x.grad != 0).all())
    assert teacher.calls == 0


def test_a_network_that_says_the_target_arrives() -> None:
    x, x_end = draw(3, 2, 2), draw(3, 2, 2, seed=1)
    target = one_step_target(x, x_end, T, T_END, SCHEDULE)
    student = Denoiser(lambda x, t, condition: target, SCHEDULE, "sample")
    torch.testing.assert_close(one_step(student, x, T, T_END, None), x_end)

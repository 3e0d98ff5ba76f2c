"""Schedules, timestep grids and conversions, against diffusers and against algebra."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from denoised.diffusion.denoiser import Prediction, predict
from denoised.diffusion.schedule import Schedule, per_row, resampling, timesteps
from denoised.diffusion.training import (
    min_snr_weight,
    stratified_timesteps,
    warmup_cosine,
    warmup_stable_decay,
)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_alpha_bar_is_that_of_diffusers(name: str) -> None:
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule=name)
    ours = Schedule.from_config(dict(theirs.config))
    # theirs is accumulated in float32
    torch.testing.assert_close(
        ours.alpha_bar(torch.arange(1000)).float(), theirs.alphas_cumprod, rtol=2e-4, atol=1e-9
    )
    assert ours.alpha_bar(-1) == 1


def test_an_unknown_schedule_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'sigmoid' is not known; use linear"):
        Schedule.from_config({"num_train_timesteps": 10, "beta_schedule": "sigmoid"})


@pytest.mark.parametrize("beta", [[0.0, 0.1], [0.1, 1.0], [[0.1]]])
def test_betas_outside_the_unit_interval_are_refused(beta: list[float]) -> None:
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        Schedule(torch.tensor(beta))


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("steps", [2, 5, 10, 20, 50, 1000])
def test_the_grid_is_that_of_diffusers(spacing: str, steps: int) -> None:
    scheduler = DDIMScheduler(num_train_timesteps=1000, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert timesteps(1000, steps, spacing) == scheduler.timesteps.tolist()  # type: ignore[arg-type]


def test_the_quadratic_grid_is_denser_near_the_data() -> None:
    grid = timesteps(1000, 10, "quadratic")
    gaps = [a - b for a, b in pairwise(grid)]
    assert grid[-1] == 0 and len(grid) == 10
    assert gaps == sorted(gaps, reverse=True)


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 1000, the number of trained timesteps, not {steps}"):
        timesteps(1000, steps)


# sqrt(alpha_bar) and sqrt(1 - alpha_bar) as `Denoiser` gives them, as 0-dim tensors and one for each picture
LEVELS: dict[str, tuple[float | Tensor, float | Tensor]] = {
    "numbers": (0.6, 0.8),
    "tensors": (torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)),
    "rows": (
        torch.tensor([0.6, 0.8], dtype=torch.float64).reshape(2, 1, 1, 1),
        torch.tensor([0.8, 0.6], dtype=torch.float64).reshape(2, 1, 1, 1),
    ),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_parameterisation_describes_the_same_picture(kind: str, level: str) -> None:
    random = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(2, 3, 8, 8, generator=random, dtype=torch.float64) for _ in range(2))
    a, s = LEVELS[level]
    output = {"epsilon": eps, "v_prediction": a * eps - s * x0, "sample": x0}[kind]
    prediction = predict(output, a * x0 + s * eps, a, s, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(prediction.combine(0.3, 0.7), 0.3 * x0 + 0.7 * eps)
    torch.testing.assert_close(prediction.x0, x0)
    torch.testing.assert_close(prediction.eps, eps)
    torch.testing.assert_close(prediction.v, a * eps - s * x0)
    torch.testing.assert_close(prediction.score, -eps / s)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("known", [False, True], ids=["of x0 and eps", "of an output"])
def test_clipping_keeps_x_t(known: bool, level: str) -> None:
    random = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(2, 3, 8, 8, generator=random, dtype=torch.float64) for _ in range(2))
    a, s = LEVELS[level]
    prediction = predict(eps, x, a, s, "epsilon") if known else Prediction((x - s * eps) / a, eps, a, s)
    clipped = prediction.clip()
    assert clipped.x0.abs().max() <= 1
    torch.testing.assert_close(a * clipped.x0 + s * clipped.eps, x)
    torch.testing.assert_close(clipped.combine(0.3, 0.7), 0.3 * clipped.x0 + 0.7 * clipped.eps)


def test_a_prediction_leaves_its_inputs_as_they_are() -> None:
    x, output = torch.ones(1, 3, 8, 8), torch.full((1, 3, 8, 8), 2.0)
    clipped = predict(output, x, 0.6, 0.8, "v_prediction").clip()
    before = clipped.x0.clone()
    clipped.combine(0.3, 0.7)
    assert bool((x == 1).all() and (output == 2).all() and (clipped.x0 == before).all())


def test_stratified_timesteps_visit_every_stratum_once() -> None:
    t = stratified_timesteps(50, 1000, torch.Generator().manual_seed(0))
    assert sorted((t // 20).tolist()) == list(range(50))


def test_min_snr_weight_by_its_formula() -> None:
    schedule = Schedule.linear()
    t = torch.tensor([0, 500, 999])
    expected = [min(float(s) + 1, 5.0) / (float(s) + 1) for s in schedule.snr(t)]
    torch.testing.assert_close(min_snr_weight(schedule, t), torch.tensor(expected))


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    factors = [warmup_cosine(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1 == max(factors)
    assert factors[-1] < 0.001 and factors[9:] == sorted(factors[9:], reverse=True)


def test_the_stable_learning_rate_does_not_know_how_long_training_is_until_it_falls() -> None:
    short, long = ([warmup_stable_decay(k, n, 10, 0.25) for k in range(n)] for n in (80, 100))
    assert short[:60] == long[:60] and short[60:] != long[60:80]
    assert long[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert set(long[10:76]) == {1.0}
    assert long[76:] == pytest.approx([k / 25 for k in range(24, 0, -1)])


def test_resampling_walks_every_stretch_as_often_as_asked() -> None:
    assert resampling([30, 20, 10, 0]) == [30, 20, 10, 0, -1]
    assert resampling([30, 20, 10, 0], jump=2, repeats=3) == [30, 20, 10, 0, 20, 10, 0, 20, 10, 0, -1]
    visited = resampling(list(range(9, -1, -1)), jump=3, repeats=2)
    assert visited == [9, 8, 7, 6, 9, 8, 7, 6, 5, 4, 3, 6, 5, 4, 3, 2, 1, 0, 3, 2, 1, 0, -1]


@pytest.mark.parametrize("jump", [0, 4])
def test_a_jump_without_room_is_refused(jump: int) -> None:
    with pytest.raises(ValueError, match=f"jump must be from 1 to 3, one less than the steps, not {jump}"):
        resampling([30, 20, 10, 0], jump=jump, repeats=2)
    with pytest.raises(ValueError, match="repeats must be at least 1, not 0"):
        resampling([30, 20, 10, 0], repeats=0)


def test_a_value_for_each_row_multiplies_that_row() -> None:
    values, pictures = torch.tensor([2.0, 3.0]), torch.ones(2, 1, 4, 4)
    assert (per_row(values, pictures) * pictures).sum(dim=(1, 2, 3)).tolist() == [32, 48]
    assert per_row(values, values).shape == (2,)

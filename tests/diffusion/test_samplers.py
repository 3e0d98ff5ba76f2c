"""The shared deterministic sampler is DDIM, and training targets invert predictions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser, Parameterisation, predict
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.samplers import ancestral_step, ddim
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.diffusion.training import training_target
from runners.foundations import ddpm
from runners.foundations.ddim import sample


def test_it_is_the_ddim_of_the_paper() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 4, generator=random, dtype=torch.float64)

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return torch.tanh(x) * (1 + t.reshape(-1, 1, 1, 1) / 1000)

    denoiser = Denoiser(network, Schedule.cosine(), "v_prediction")
    grid = timesteps(1000, 7)
    for clip in (False, True):
        torch.testing.assert_close(ddim(denoiser, x, grid, clip=clip), sample(denoiser, x, grid, clip=clip))


def test_with_clipping_it_ends_in_range() -> None:
    x, grid = torch.tensor([[-2.0], [0.5]]), timesteps(1000, 5)
    wild = Denoiser(lambda x, t, condition: 3 * torch.sign(x), Schedule.cosine(), "sample")
    torch.testing.assert_close(ddim(wild, x, grid, clip=True), torch.sign(x))  # x0 is ±1 at every step
    torch.testing.assert_close(ddim(wild, x, grid), 3 * torch.sign(x))


@pytest.mark.parametrize(("t", "t_next"), [(999, 800), (300, 299), (20, -1)])
def test_an_ancestral_step_draws_from_ddpms_posterior(t: int, t_next: int) -> None:
    random, schedule = torch.Generator().manual_seed(0), Schedule.cosine()
    x, output = torch.randn(2, 3, 1, 4, 4, generator=random, dtype=torch.float64)
    prediction = predict(output, x, *schedule.signal_and_noise(t, x), "v_prediction").clip()
    ours = ancestral_step(prediction, t, t_next, schedule, SampleGenerators(1, range(3)))
    mean, deviation = ddpm.posterior(x, prediction, t, t_next, schedule, "small")
    noise = SampleGenerators(1, range(3)).randn_like(x) if t_next >= 0 else torch.zeros_like(x)
    torch.testing.assert_close(ours, mean + deviation * noise)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_training_target_is_what_predicts_rightly(kind: Parameterisation) -> None:
    random, schedule, t = torch.Generator().manual_seed(0), Schedule.cosine(), torch.tensor([3, 500, 998])
    x0, eps = torch.randn(2, 3, 1, 4, 4, generator=random, dtype=torch.float64)
    x_t = schedule.add_noise(x0, eps, t)
    a, s = schedule.signal_and_noise(t, x0)
    found = predict(training_target(x0, eps, t, schedule, kind), x_t, a, s, kind)
    torch.testing.assert_close(found.x0, x0)
    torch.testing.assert_close(found.eps, eps)

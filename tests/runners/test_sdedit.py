"""SDEdit: its guides, its two ends, what a known score makes of it, and what its reproduction claims."""

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.errors import DenoisedError
from runners.foundations import ddpm
from runners.guidance.sdedit import (
    FAITHFULNESS,
    Config,
    grid_from,
    network_rows,
    reproduce,
    sample,
    strokes,
)
from tests.runners.pixel_lab import pixel_lab

MEAN, DEVIATION = -0.4, 0.1  # of Gaussian data


def gaussian_denoiser() -> Denoiser:
    """The exact denoiser of data N(MEAN, DEVIATION²)."""
    schedule = Schedule.cosine()

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = schedule.signal_and_noise(int(t[0]), x)
        return MEAN + a * DEVIATION**2 / (a**2 * DEVIATION**2 + s**2) * (x - a * MEAN)

    return Denoiser(network, schedule, "sample")


def test_guides_have_few_colours_and_no_details() -> None:
    pictures = torch.full((2, 3, 16, 16), -0.5)
    pictures[1, :, :, 8:] = 0.5
    pictures[:, :, 4, 4] = 1.0  # a speckle: a detail
    painted = strokes(pictures, 3, 6)
    assert torch.equal(painted[0], torch.full((3, 16, 16), -0.5))  # gone
    assert torch.equal(painted[1], torch.where(torch.arange(16) < 8, -0.5, 0.5).expand(3, 16, 16))
    random = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    painted = strokes(random, 3, 4)
    for picture in painted:
        assert len(picture.flatten(1).T.unique(dim=0)) <= 4
    assert float(painted.abs().max()) <= 1
    one = strokes(random, 1, 1)  # one colour: the mean
    torch.testing.assert_close(one, random.mean(dim=(2, 3), keepdim=True).expand_as(random))


def test_more_colours_paint_nearer() -> None:
    random = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    errors = [float((strokes(random, 1, k) - random).square().mean()) for k in (1, 4, 16, 64)]
    assert errors == sorted(errors, reverse=True) and errors[3] < 0.1 * errors[0]


def test_every_t0_takes_the_same_number_of_steps_from_its_share_of_the_timesteps() -> None:
    schedule = Schedule.cosine()
    assert grid_from(schedule, 1.0, 20) == timesteps(1000, 20)
    for t0 in (0.2, 0.5, 0.8):
        grid = grid_from(schedule, t0, 20)
        assert len(grid) == 20 and grid[0] == round(t0 * 1000) - 1


def test_at_the_end_of_the_schedule_it_is_ddpm_whatever_the_guide() -> None:
    denoiser, grid = gaussian_denoiser(), timesteps(1000, 10)
    x = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = sample(denoiser, x, grid, guide=torch.full_like(x, 0.9), generator=SampleGenerators(0, range(4)))
    theirs = ddpm.sample(denoiser, x, grid, generator=SampleGenerators(0, range(4)))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)  # alpha_bar is 2e-9 there, not 0


def test_guides_drift_to_the_data_and_away_from_themselves_as_t0_grows() -> None:
    denoiser, n = gaussian_denoiser(), 300
    guide = torch.full((n, 1, 1, 1), 0.5, dtype=torch.float64)  # nine deviations from the data
    x = torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = []
    for t0 in (0.05, 0.2, 0.5, 1.0):
        grid = grid_from(denoiser.schedule, t0, 25)
        drawn = sample(denoiser, x, grid, guide=guide, generator=SampleGenerators(0, range(n)))
        means.append(float(drawn.mean()))
    assert means == sorted(means, reverse=True)
    assert means[0] > 0 and means[3] == pytest.approx(MEAN, abs=0.03)


def test_reproduce_spends_equally_and_states_both_sides_of_the_trade() -> None:
    lab, config = pixel_lab(images=4), Config(t0=[0.2, 0.5, 0.9], steps=3)
    reproduce(lab, config)
    assert {arm.name: arm.calls for arm in lab.arms} == {
        "guide": 0,
        "t0=0.2": 3,
        "t0=0.5": 3,
        "t0=0.9": 3,
        "unconditional": 3,
    }
    assert sum(arm.samples for arm in lab.arms) == network_rows(config, 4)
    assert lab.arms[0].metrics[FAITHFULNESS].value == 0
    kid = "kid[effnet-lite0]"
    assert [(c.metric, c.arm, c.relation, c.than) for c in lab.claims] == [
        (kid, "t0=0.5", "<", "t0=0.2"),
        (FAITHFULNESS, "t0=0.5", ">", "t0=0.2"),
        (kid, "t0=0.9", "<", "t0=0.5"),
        (FAITHFULNESS, "t0=0.9", ">", "t0=0.5"),
        (kid, "t0=0.5", "<", "guide"),
        (FAITHFULNESS, "t0=0.5", "<", "unconditional"),
        (kid, "unconditional", "<", "guide"),
    ]


def test_impossible_settings_are_refused() -> None:
    for t0 in ([0.5], [0.6, 0.4], [0.0, 0.5], [0.5, 1.0]):
        with pytest.raises(
            ValueError, match="t0 must be a rising list of two or more numbers between 0 and 1"
        ):
            Config(t0=t0)
    with pytest.raises(ValueError, match="kernel must be an odd number of at least 1, not 4"):
        Config(kernel=4)
    with pytest.raises(ValueError, match="steps and colours must be at least 1"):
        Config(colours=0)
    with pytest.raises(ValueError, match="kernel must be from 1 to 8, the picture's side, not 9"):
        strokes(torch.zeros(1, 3, 8, 8), 9, 2)
    lab = pixel_lab()
    with pytest.raises(
        DenoisedError, match=r"steps must be from 1 to 200, the timesteps below t0=0\.2, not 201"
    ):
        reproduce(lab, Config(steps=201))
    with pytest.raises(DenoisedError, match="kernel must be from 1 to 16, the picture's side, not 17"):
        reproduce(lab, Config(kernel=17))
    assert not lab.arms  # before any work

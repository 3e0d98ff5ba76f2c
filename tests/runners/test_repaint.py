"""RePaint: its schedule, its masks, its steps where they are exact, and what its reproduction records."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, resampling, timesteps
from denoised.lab.restoring import PERCEPTUAL
from runners.foundations import ddpm
from runners.inpainting.repaint import (
    MASKS,
    Config,
    back,
    evaluations,
    known_step,
    masks,
    network_rows,
    reproduce,
    sample,
)
from tests.runners.pixel_lab import SIZE, pixel_lab

MEAN, VARIANCE, CORRELATION = 0.1, 0.04, 0.9  # of Gaussian pictures of two pixels, well inside [-1, 1]


def gaussian_denoiser() -> Denoiser:
    """The exact denoiser of pictures (n, 1, 1, 2) whose two pixels are normal and correlated."""
    covariance = VARIANCE * torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64)
    schedule = Schedule.cosine()

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = schedule.signal_and_noise(int(t[0]), x)
        gain = a * covariance @ torch.linalg.inv(a**2 * covariance + s**2 * torch.eye(2, dtype=x.dtype))
        predicted: Tensor = MEAN + (x - a * MEAN) @ gain.T
        return predicted

    return Denoiser(network, schedule, "sample")


def test_the_papers_schedule_makes_2410_network_calls() -> None:
    visited = resampling(timesteps(1000, 250, "leading"), jump=10, repeats=10)
    down = sum(after < before for before, after in pairwise(visited))
    assert down == evaluations(250, 10, 10) == 2410
    assert evaluations(250, 10, 1) == 250


def test_known_pixels_are_noised_to_the_level_of_the_step() -> None:
    """Equation 8a, and the end where nothing is added."""
    schedule, known = Schedule.linear(), torch.full((20_000, 1, 1, 1), 0.5, dtype=torch.float64)
    noised = known_step(known, 400, schedule, SampleGenerators(0, range(len(known))))
    alpha_bar = float(schedule.alpha_bar(400))
    assert float(noised.mean()) == pytest.approx(alpha_bar**0.5 * 0.5, abs=0.02)
    assert float(noised.var()) == pytest.approx(1 - alpha_bar, rel=0.03)
    assert torch.equal(known_step(known, -1, schedule, SampleGenerators(0, range(1))), known)


def test_going_back_at_once_is_going_back_step_by_step() -> None:
    """Equation 1 over three steps: the same mean and variance as the three transitions one after another."""
    schedule = Schedule.linear()
    x = torch.ones(20_000, 1, 1, 1, dtype=torch.float64)
    far = back(x, 100, 103, schedule, SampleGenerators(1, range(len(x))))
    mean, variance = 1.0, 0.0
    for t in (101, 102, 103):
        beta = float(schedule.beta[t])
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
    assert float(far.mean()) == pytest.approx(mean, abs=0.005)
    assert float(far.var()) == pytest.approx(variance, rel=0.04)


def test_without_known_pixels_and_resampling_it_is_ddpm() -> None:
    denoiser, grid = gaussian_denoiser(), timesteps(1000, 12)
    x = torch.randn(5, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Skipping(SampleGenerators):
        """Noise that the known pixels use up goes nowhere, so that DDPM can be given the same."""

        def __init__(self) -> None:
            super().__init__(3, range(5))
            self.drawn = 0

        def randn_like(self, x: Tensor) -> Tensor:
            self.drawn += 1
            return torch.zeros_like(x) if self.drawn % 2 else super().randn_like(x)

    nothing = torch.zeros(5, 1, 1, 2, dtype=torch.float64)
    ours = sample(denoiser, x, grid, known=nothing, keep=nothing, generator=Skipping())
    theirs = ddpm.sample(denoiser, x, grid, generator=SampleGenerators(3, range(5)))
    torch.testing.assert_close(ours, theirs)


def test_known_pixels_come_out_exactly_and_calls_are_counted() -> None:
    denoiser, grid = gaussian_denoiser(), timesteps(1000, 10)
    known, keep = torch.full((3, 1, 1, 2), 0.7, dtype=torch.float64), torch.tensor([[[[1.0, 0.0]]]]).double()
    x = torch.zeros_like(known)
    drawn = sample(
        denoiser, x, grid, known=known, keep=keep, jump=3, repeats=3, generator=SampleGenerators(0, range(3))
    )
    assert torch.equal(drawn[..., 0], known[..., 0]) and not torch.equal(drawn[..., 1], known[..., 1])
    assert denoiser.calls == evaluations(10, 3, 3) == 28


def test_resampling_brings_the_unknown_pixel_nearer_to_its_posterior() -> None:
    """The right answer is known here: E[x2 | x1] = μ + ρ (x1 - μ). Pasting alone leaves a gap to it."""
    n, value = 600, 0.5
    known = torch.full((n, 1, 1, 2), value, dtype=torch.float64)
    keep = torch.tensor([[[[1.0, 0.0]]]]).double()
    x = torch.randn(n, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact, gaps = MEAN + CORRELATION * (value - MEAN), []
    for repeats in (1, 8):
        drawn = sample(
            gaussian_denoiser(),
            x,
            timesteps(1000, 20),
            known=known,
            keep=keep,
            repeats=repeats,
            generator=SampleGenerators(1, range(n)),
        )
        gaps.append(abs(float(drawn[..., 1].mean()) - exact))
    assert gaps[1] < 0.8 * gaps[0]


def test_the_masks_know_what_the_paper_says() -> None:
    shares = {"half": 0.5, "expand": 1 / 16, "lines": 0.5, "super-resolve": 0.25}
    for kind in MASKS:
        keep = masks(kind, 8, 32, torch.Generator().manual_seed(0))
        assert keep.shape == (8, 1, 32, 32) and set(keep.unique().tolist()) == {0.0, 1.0}
        if kind in shares:
            assert float(keep.mean()) == shares[kind]
        else:
            assert (
                len({tuple(each.flatten().tolist()) for each in keep}) == 8
            )  # every picture its own strokes
    wide, narrow = (masks(k, 64, 32, torch.Generator().manual_seed(0)).mean() for k in ("wide", "narrow"))
    assert 0.3 < wide < narrow < 0.85
    assert masks("half", 1, 4, torch.Generator())[0, 0].tolist() == [[1, 1, 0, 0]] * 4
    expand = masks("expand", 1, 32, torch.Generator())[0, 0]
    assert expand[12:20, 12:20].all() and float(expand.sum()) == 64


def test_reproduce_spends_equally_and_claims_at_every_cost() -> None:
    lab, config = pixel_lab(images=4), Config(steps=4, jump=1, repeats=[2, 3], mask="half")
    reproduce(lab, config)
    assert [(arm.name, arm.settings["evaluations"]) for arm in lab.arms] == [
        ("slower", 4),
        ("slower", 7),
        ("slower", 10),
        ("repaint", 7),
        ("repaint", 10),
    ]
    for arm in lab.arms:
        assert arm.calls == arm.settings["evaluations"]
        assert {PERCEPTUAL, "fid[effnet-lite0]", "class-agreement[emoji-judge]"} <= set(arm.metrics)
    assert sum(arm.samples for arm in lab.arms) == network_rows(config, 4)
    assert [(c.metric, c.arm, c.relation, c.than, c.at) for c in lab.claims] == [
        (PERCEPTUAL, "repaint", "<", "slower", {"evaluations": 7}),
        (PERCEPTUAL, "repaint", "<", "slower", {"evaluations": 10}),
    ]
    left = [arm.images[..., : SIZE // 2] for arm in lab.arms if arm.images is not None]
    assert all(torch.equal(part, left[0]) for part in left)  # the known half, whatever the arm


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask must be one of wide, narrow, half, .* not 'ring'"):
        Config(mask="ring")
    with pytest.raises(ValueError, match="steps must be at least 2, not 1"):
        Config(steps=1)
    with pytest.raises(ValueError, match="jump must be from 1 to 19, one less than steps, not 20"):
        Config(jump=20)
    with pytest.raises(ValueError, match=r"repeats must be a list of different .* not \[1, 2\]"):
        Config(repeats=[1, 2])

"""DDNM: exact consistency, its noise bookkeeping, Gaussian data with a known posterior, and its reproduction."""

import pytest
import torch
from torch import Tensor

from denoised.diffusion.denoiser import Denoiser
from denoised.diffusion.operators import Operator, average_pooling, blur, box_line, grey, inpainting
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule, timesteps
from denoised.lab.restoring import PERCEPTUAL
from runners.restoration.ddnm import (
    RESIDUAL,
    TASKS,
    Config,
    gains,
    network_rows,
    operator,
    replacement,
    reproduce,
    sample,
    travelled,
)
from tests.runners.pixel_lab import pixel_lab

SHAPE = (3, 8, 8)
OPERATORS = [
    average_pooling(SHAPE, 4),
    grey(SHAPE),
    operator("inpainting", SHAPE, 4),
    blur(SHAPE, box_line(3)),
]


def some_denoiser() -> Denoiser:
    """A network that is nobody's: consistency must not depend on it."""
    return Denoiser(lambda x, t, _: torch.tanh(x.flip(-1) + x.mean(dim=1, keepdim=True)), Schedule.cosine())


@pytest.mark.parametrize("A", OPERATORS, ids=lambda A: A.name)
@pytest.mark.parametrize("repeats", [1, 3])
def test_without_noise_the_measurement_comes_out_exactly(A: Operator, repeats: int) -> None:
    random = torch.Generator().manual_seed(0)
    truth, x = torch.rand(2, 2, *SHAPE, generator=random, dtype=torch.float64) * 2 - 1
    y, generator = A(truth), SampleGenerators(1, range(2))
    drawn = sample(
        some_denoiser(), x, timesteps(1000, 6), A=A, y=y, jump=2, repeats=repeats, generator=generator
    )
    torch.testing.assert_close(A(drawn), y, rtol=0, atol=1e-9)
    assert float((drawn - truth).abs().mean()) > 0.1  # what y does not say is drawn
    again = replacement(some_denoiser(), x, timesteps(1000, 6), A=A, y=y, generator=generator)
    torch.testing.assert_close(A(again), y, rtol=0, atol=1e-9)


def test_equation_13_splits_range_and_null_space() -> None:
    A, random = OPERATORS[0], torch.Generator().manual_seed(0)
    x0, truth = torch.randn(2, 2, *SHAPE, generator=random, dtype=torch.float64)
    refined = A.pinv(A(truth)) + x0 - A.pinv(A(x0))
    torch.testing.assert_close(refined, x0 - A.pinv(A(x0) - A(truth)))
    torch.testing.assert_close(A.spectral(refined, lambda s: s == 0), A.spectral(x0, lambda s: s == 0))
    torch.testing.assert_close(A.spectral(refined, lambda s: s > 0), A.spectral(truth, lambda s: s > 0))


@pytest.mark.parametrize("t_next", [900, 300, 20, -1])
def test_every_direction_gets_the_noise_of_its_step(t_next: int) -> None:
    """Eq. 17 to 19: what y brings and what is added make 1 - ᾱ together, in every direction."""
    schedule, noise = Schedule.cosine(), 0.3
    s = torch.tensor([0.0, 0.05, 0.25, 0.6, 1.0], dtype=torch.float64)
    believed, left = gains(s, schedule, t_next, noise)
    alpha_bar = float(schedule.alpha_bar(t_next))
    brought = torch.where(s > 0, alpha_bar**0.5 * believed * noise / s, 0.0)
    total = brought.square() + left.square() * (1 - alpha_bar)
    torch.testing.assert_close(total, torch.full_like(s, 1 - alpha_bar))
    if t_next < 0:
        assert believed[1:].tolist() == [0, 0, 0, 0]  # the network has the last word
    else:
        assert bool((believed <= 1).all()) and bool((believed[left > 0] == 1).all())


def test_without_noise_y_is_believed_wholly() -> None:
    believed, left = gains(torch.tensor([0.0, 0.25, 1.0]), Schedule.cosine(), 500, 0.0)
    assert believed.tolist() == [1, 1, 1] and left.tolist() == [1, 1, 1]


def gaussian(covariance: Tensor) -> Denoiser:
    """The exact denoiser of pictures (n, 1, 1, 2) that are normal around 0."""
    schedule = Schedule.cosine()

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        a, s = schedule.signal_and_noise(int(t[0]), x)
        gain = a * covariance @ torch.linalg.inv(a**2 * covariance + s**2 * torch.eye(2, dtype=x.dtype))
        predicted: Tensor = x @ gain.T
        return predicted

    return Denoiser(network, schedule, "sample")


def test_what_the_measurement_does_not_touch_keeps_its_prior() -> None:
    """Independent pixels: the posterior of the missing one is its prior, N(0, 0.04), which the ODE (η = 0) draws."""
    n, A = 1000, inpainting((1, 1, 2), torch.tensor([1.0, 0.0]))
    denoiser = gaussian(0.04 * torch.eye(2, dtype=torch.float64))
    x = torch.randn(n, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = A(torch.full_like(x, 0.3))
    generator = SampleGenerators(0, range(n))
    drawn = sample(denoiser, x, timesteps(1000, 250), A=A, y=y, eta=0.0, generator=generator)
    assert torch.equal(drawn[..., 0], torch.full_like(drawn[..., 0], 0.3))
    assert float(drawn[..., 1].mean()) == pytest.approx(0, abs=0.02)
    assert float(drawn[..., 1].std()) == pytest.approx(0.2, rel=0.06)
    widths = []
    for eta in (0.0, 0.85):  # the note's pitfall: large η on a coarse grid varies too little
        generator = SampleGenerators(0, range(n))
        drawn = sample(denoiser, x, timesteps(1000, 20), A=A, y=y, eta=eta, generator=generator)
        widths.append(float(drawn[..., 1].std()))
    assert widths[1] < widths[0] < 0.2


def test_it_is_nearer_to_the_gaussian_posterior_than_replacement() -> None:
    """Correlated pixels: the posterior mean of the missing one is ρ times the known one."""
    n, correlation, value = 500, 0.9, 0.4
    A = inpainting((1, 1, 2), torch.tensor([1.0, 0.0]))
    covariance = 0.04 * torch.tensor([[1, correlation], [correlation, 1]], dtype=torch.float64)
    x = torch.randn(n, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, grid = A(torch.full_like(x, value)), timesteps(1000, 20)
    ours = sample(gaussian(covariance), x, grid, A=A, y=y, generator=SampleGenerators(0, range(n)))
    theirs = replacement(gaussian(covariance), x, grid, A=A, y=y, generator=SampleGenerators(0, range(n)))
    gaps = [abs(float(drawn[..., 1].mean()) - correlation * value) for drawn in (ours, theirs)]
    assert gaps[0] < 0.8 * gaps[1]


def test_ddnm_plus_does_not_swallow_the_noise() -> None:
    """Gaussian data and y = x + n in both pixels: the best answer shrinks y, and DDNM copies it, noise and all."""
    n, variance, noise = 400, 0.04, 0.3
    A, random = inpainting((1, 1, 2), torch.ones(2)), torch.Generator().manual_seed(0)
    truth, error, x = torch.randn(3, n, 1, 1, 2, generator=random, dtype=torch.float64)
    truth = variance**0.5 * truth
    y, denoiser = truth + noise * error, gaussian(variance * torch.eye(2, dtype=torch.float64))
    errors = []
    for believed in (0.0, noise):
        generator = SampleGenerators(0, range(n))
        drawn = sample(denoiser, x, timesteps(1000, 40), A=A, y=y, noise=believed, generator=generator)
        errors.append(float((drawn - truth).square().mean()))
    assert errors[0] == pytest.approx(float((y - truth).square().mean()))
    posterior = variance * noise**2 / (variance + noise**2)  # the variance of it: nothing can be nearer
    assert 0.9 * posterior < errors[1] < 0.5 * errors[0]


def test_reproduce_compares_at_equal_cost_and_is_consistent() -> None:
    lab, config = pixel_lab(images=4), Config(steps=3, repeats=2)
    reproduce(lab, config)
    cost = "inpainting, 5 evaluations"
    found = {(arm.name, arm.settings["task"]): arm for arm in lab.arms}
    assert travelled(config) == 5
    assert {key: arm.calls for key, arm in found.items()} == {
        **{("ddnm", task): 3 for task in TASKS},
        **{("replacement", task): 3 for task in TASKS},
        **{("pseudo-inverse", task): 0 for task in TASKS},
        ("ddnm", "noisy super-resolution"): 3,
        ("ddnm+", "noisy super-resolution"): 3,
        ("ddnm, finer grid", cost): 5,
        ("time travel", cost): 5,
    }
    assert sum(arm.samples for arm in lab.arms) == network_rows(config, 4)
    for (name, task), arm in found.items():
        assert {"psnr", PERCEPTUAL, RESIDUAL, "fid[effnet-lite0]"} == set(arm.metrics)
        if name != "ddnm+":
            assert arm.metrics[RESIDUAL].value < 1e-3, (name, task)
    assert found["ddnm+", "noisy super-resolution"].metrics[RESIDUAL].value > 1
    assert [(c.metric, c.arm, c.relation, c.than) for c in lab.claims if c.at["task"] == "colourisation"] == [
        (PERCEPTUAL, "ddnm", "<", "replacement"),
        (PERCEPTUAL, "ddnm", "<", "pseudo-inverse"),
    ]
    assert len(lab.claims) == 10


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"tasks must be different ones of super-resolution, .* not \['blur'\]"
    ):
        Config(tasks=["blur"])
    with pytest.raises(ValueError, match=r"eta must be from 0 to 1, not 1\.5"):
        Config(eta=1.5)
    with pytest.raises(ValueError, match=r"noise must be at least 0, not -0\.1"):
        Config(noise=-0.1)
    with pytest.raises(ValueError, match="jump must be from 1 to 19, one less than steps, not 20"):
        Config(jump=20)
    with pytest.raises(ValueError, match="steps and repeats must be at least 1, and factor at least 2"):
        Config(factor=1)
    with pytest.raises(ValueError, match=r"factor must be from 1 to 16 and divide .* not 5"):
        reproduce(pixel_lab(), Config(factor=5))

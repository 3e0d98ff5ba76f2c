"""Score SDE: its steps against DDPM's and against exact Gaussians, its likelihood against a known density."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from denoised.diffusion.continuous import Level, Levels
from denoised.diffusion.denoiser import Denoiser, Prediction
from denoised.diffusion.random import SampleGenerators
from denoised.diffusion.schedule import Schedule
from denoised.diffusion.sde import SDE, VE, VP
from denoised.errors import DenoisedError
from runners.foundations import ddpm
from runners.foundations.score_sde import (
    Config,
    corrector_step,
    log_likelihood,
    network_rows,
    predictor_step,
    reproduce,
    sample,
    times,
)
from tests.runners.pixel_lab import pixel_lab

BOTH = pytest.mark.parametrize("sde", [VP(), VE()])
MEAN, DEVIATION = 0.3, 0.5


def perfect(x: Tensor, level: Level) -> Prediction:
    """What a perfect network says of data N(0.3, 0.5²)."""
    eps = level.s * (x - level.a * MEAN) / ((level.a * DEVIATION) ** 2 + level.s**2)
    return Prediction((x - level.s * eps) / level.a, eps, torch.tensor(level.a), torch.tensor(level.s))


def perfect_denoiser(schedule: Schedule) -> Denoiser:
    levels = Levels(schedule)

    def network(x: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
        return perfect(x, levels.at_timestep(float(t[0].clamp(max=schedule.T - 1)))).eps

    return Denoiser(network, schedule, "epsilon")


def score_at(x: Tensor, marginal: tuple[float, float]) -> Tensor:
    a, s = marginal
    return -(x - a * MEAN) / ((a * DEVIATION) ** 2 + s**2)


def test_reverse_diffusion_is_the_published_vp_update() -> None:
    """x_i = (2 - sqrt(1 - β)) x_{i+1} + β score + sqrt(β) z, with the β of the step."""
    near, far = VP().marginal(0.4), VP().marginal(0.5)
    beta = 1 - (far[0] / near[0]) ** 2
    x, score = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[-0.7]], dtype=torch.float64)
    mean, deviation = predictor_step("reverse-diffusion", x, score, far, near)
    assert mean.item() == pytest.approx(2 - math.sqrt(1 - beta) - 0.7 * beta)
    assert deviation == pytest.approx(math.sqrt(beta))


def test_ancestral_steps_are_ddpm_s() -> None:
    """On DDPM's own marginals, step for step, with the small variance."""
    schedule, t, t_next = Schedule.linear(), 600, 450
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    far, near = schedule.level(t), schedule.level(t_next)
    prediction = perfect(x, Levels(schedule).at_timestep(t))
    expected, deviation = ddpm.posterior(x, prediction, t, t_next, schedule, "small")
    mean, ours = predictor_step("ancestral", x, prediction.score, far, near)
    torch.testing.assert_close(mean, expected)
    assert ours == pytest.approx(deviation)


def moments(sde: SDE, kind: str, steps: int) -> tuple[float, float]:
    """Mean and standard deviation of what a predictor draws with the exact score: its steps are affine in x."""
    grid = times(sde, steps, 1e-3)
    mean, variance = 0.0, sde.marginal(1.0)[1] ** 2
    for t, t_next in pairwise([*grid, None]):
        assert t is not None
        far, near = sde.marginal(t), (1.0, 0.0) if t_next is None else sde.marginal(t_next)
        x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        out, deviation = predictor_step(kind, x, score_at(x, far), far, near)
        slope = float(out[1] - out[0])
        mean, variance = float(out[0]) + slope * mean, slope**2 * variance
        variance += 0.0 if t_next is None else deviation**2
    return mean, math.sqrt(variance)


@BOTH
@pytest.mark.parametrize("kind", ["reverse-diffusion", "ancestral", "flow"])
def test_predictors_tend_to_the_data_with_more_steps(sde: SDE, kind: str) -> None:
    errors = []
    for steps in (250, 500, 1000):
        mean, deviation = moments(sde, kind, steps)
        errors.append(abs(deviation - DEVIATION))
        assert mean == pytest.approx(MEAN, abs=0.01)
    assert errors[-1] < 0.02
    if kind != "ancestral" or isinstance(sde, VE):  # first order where the error is not tiny already
        assert all(1.7 < coarse / fine < 2.3 for coarse, fine in pairwise(errors))


def test_the_corrector_s_step_has_the_signal_to_noise_ratio_it_is_given() -> None:
    """‖ε score‖ / ‖sqrt(2 ε) z‖ = r sqrt(α): Algorithms 4 and 5, for each sample by itself."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(3, 4, 5, dtype=torch.float64)
    score, z = (torch.randn(3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    score *= torch.tensor([0.01, 1.0, 50.0], dtype=torch.float64)[:, None, None]
    there, back = corrector_step(x, score, z, 0.16, 0.9), corrector_step(x, score, -z, 0.16, 0.9)
    signal, noise = (((there + sign * back) / 2).flatten(1).norm(dim=1) for sign in (1, -1))
    torch.testing.assert_close(signal / noise, torch.full_like(signal, 0.16 * math.sqrt(0.9)))


def test_sampling_asks_as_often_with_a_corrector_as_without() -> None:
    schedule = Schedule.cosine()
    for sde in (VP(), VE()):
        for steps, corrections in ((8, 0), (4, 1)):
            denoiser, noise = perfect_denoiser(schedule), SampleGenerators(0, range(5))
            x = sample(
                denoiser,
                noise.randn(2),
                sde,
                times(sde, steps, 1e-3),
                corrections=corrections,
                generator=noise,
            )
            assert (denoiser.calls, denoiser.samples) == (8, 40)
            assert x.shape == (5, 2) and bool(x.isfinite().all())


def test_a_sample_does_not_depend_on_its_batch() -> None:
    def draw(numbers: range) -> Tensor:
        noise = SampleGenerators(3, numbers)
        denoiser = perfect_denoiser(Schedule.cosine())
        return sample(denoiser, noise.randn(4), VE(), times(VE(), 5, 1e-3), corrections=1, generator=noise)

    torch.testing.assert_close(draw(range(4))[:2], draw(range(2)))


def test_correctors_mend_what_the_predictor_gets_wrong() -> None:
    """On few levels reverse diffusion leaves too much noise; Langevin steps take some of it away again."""

    def error(corrections: int) -> float:
        noise = SampleGenerators(0, range(50))
        x = sample(
            perfect_denoiser(Schedule.cosine()),
            noise.randn(64),
            VE(),
            times(VE(), 30, 1e-3),
            corrections=corrections,
            generator=noise,
        )
        return abs(float(x.std()) - DEVIATION)

    alone, mended = error(0), error(3)
    assert alone > 0.02
    assert mended < 0.8 * alone


@BOTH
def test_the_likelihood_of_gaussian_data_is_exact_to_second_order(sde: SDE) -> None:
    """log N(x; m, d² + σ_min²), to which Heun's method converges with order 2 in time."""
    x = torch.tensor([[-1.0, 0.2], [0.3, 0.4], [1.5, -0.2]], dtype=torch.float64)
    probe = torch.tensor([[1.0, -1.0]] * 3, dtype=torch.float64)
    started = sde if isinstance(sde, VE) else VPFrom()
    (a0, s0), (a1, s1) = started.marginal(0.0), started.marginal(1.0)
    deviation0, deviation1 = (math.hypot(a * DEVIATION, s) for a, s in ((a0, s0), (a1, s1)))
    # The exact flow keeps the standard score; the prior there is N(0, s²), a little off the data's own end.
    end = a1 * MEAN + deviation1 * (x - a0 * MEAN) / deviation0
    exact = torch.distributions.Normal(0.0, s1).log_prob(end).sum(1) + 2 * math.log(deviation1 / deviation0)
    data = torch.distributions.Normal(a0 * MEAN, deviation0).log_prob(x).sum(1)
    assert float((exact - data).abs().max()) < 0.05
    errors = []
    for steps in (40, 80, 160):
        got = log_likelihood(perfect, Levels(Schedule.cosine()), x, started, steps, probe)
        errors.append(float((got - exact).abs().max()))
    assert errors[-1] < 0.02
    assert all(3.2 < coarse / fine < 4.8 for coarse, fine in pairwise(errors))


class VPFrom(VP):
    """The VP SDE with a little noise at its start, without which no network has a score."""

    def marginal(self, t: float) -> tuple[float, float]:
        return super().marginal(max(t, 1e-9))


def test_impossible_settings_are_refused() -> None:
    for nfe in (2, 7):
        with pytest.raises(ValueError, match="nfe must be even numbers of at least 4"):
            Config(nfe=[nfe])
    with pytest.raises(ValueError, match="sdes must name ve, vp or both"):
        Config(sdes=["subvp"])
    with pytest.raises(ValueError, match="predictor must be one of reverse-diffusion, ancestral, flow"):
        Config(predictor="euler")
    with pytest.raises(ValueError, match="sigma_min must lie between 0 and sigma_max"):
        Config(sigma_min=60.0)
    lab = pixel_lab()
    with pytest.raises(DenoisedError, match="the most the network knows"):
        reproduce(lab, Config(sigma_max=1e6))
    assert not lab.arms


def test_reproduce_spends_equal_evaluations_and_states_the_claims() -> None:
    lab = pixel_lab(images=4)
    config = Config(nfe=[4, 6], likelihood_images=3, likelihood_steps=[2, 3], bound_draws=2)
    reproduce(lab, config)
    sampled = [(arm.name, arm.settings["sde"], arm.settings["nfe"], arm.calls) for arm in lab.arms[:8]]
    assert sampled == [
        (name, sde, nfe, nfe)
        for sde in ("ve", "vp")
        for nfe in (4, 6)
        for name in ("predictor", "predictor-corrector")
    ]
    measured = lab.arms[8:]
    assert [arm.name for arm in measured] == ["ode-2", "ode-3", "bound-large", "bound-small"]
    assert all(arm.images is None and arm.metrics["bits-per-dimension"].n == 3 for arm in measured)
    assert [(c.metric, c.arm, c.relation, c.than) for c in lab.claims] == [
        ("fid[effnet-lite0]", "predictor-corrector", "<", "predictor")
    ] * 4 + [("bits-per-dimension", "ode-3", "<", f"bound-{name}") for name in ("large", "small")]
    assert [c.margin for c in lab.claims] == [0.0] * 4 + [0.2] * 2
    likelihoods = 3 * (2 * 3 * (2 + 3) + 2 * 3)
    assert network_rows(config, 4) == sum(arm.samples for arm in lab.arms) + likelihoods

"""Curvature minimisation: the coupling's KL and limits, straight flows against exact ones, and what a run claims."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from denoised.metrics.scores import curvature
from runners.fast_sampling.min_curvature import (
    Config,
    Model,
    couple,
    fourier,
    loss,
    network_rows,
    reproduce,
    sample,
    two_gaussians,
    world,
)
from tests.runners.pixel_lab import pixel_lab

PRIOR = torch.tensor([6.0, 1.0])


class Fixed(nn.Module):
    """An encoder that says the same mean and log variance of every point."""

    def __init__(self, mean: list[float], log_variance: list[float]) -> None:
        super().__init__()
        self.says = torch.tensor([*mean, *log_variance])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.says.expand(len(x), -1)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_the_kl_term_is_that_of_two_gaussians_per_dimension() -> None:
    encoder = Fixed([2.0, -0.5], [1.0, -1.0])
    z, kl = couple(encoder, noise(3, 2), noise(3, 2), PRIOR)
    mean, deviation = torch.tensor([2.0, -0.5]), torch.tensor([0.5, -0.5]).exp()
    exact = kl_divergence(Normal(mean, deviation), Normal(torch.zeros(2), PRIOR))
    torch.testing.assert_close(kl, exact.mean())
    torch.testing.assert_close(z, mean + deviation * noise(3, 2))


def test_an_encoder_that_says_the_prior_is_the_independent_coupling() -> None:
    flow = world(pixel_lab(), Config()).flow
    prior_encoder = Fixed([0.0, 0.0], PRIOR.square().log().tolist())
    independent, learned = (
        loss(Model(flow, encoder), noise(64, 2), PRIOR, 5.0, torch.Generator().manual_seed(1))
        for encoder in (None, prior_encoder)
    )
    torch.testing.assert_close(independent, learned)


def test_the_flows_loss_trains_the_encoder_too() -> None:
    each = world(pixel_lab(), Config())
    model = Model(each.flow, each.encoder)
    loss(model, noise(8, 2), PRIOR, 0.0, torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in each.encoder.parameters())


def test_a_shift_is_learned_as_a_straight_flow_and_solved_in_one_step() -> None:
    """z = x + c has the velocity c everywhere: one Euler step is exact, and nothing is curved."""
    shift, z = torch.tensor([3.0, -1.0]), noise(5, 2)
    for steps in (1, 4):
        x, met = sample(lambda x, t: shift.expand_as(x), z, steps)
        torch.testing.assert_close(x, z - shift)
        assert curvature(met, z - x) == pytest.approx(0, abs=1e-9)


def test_euler_on_the_exact_flow_of_gaussians_is_of_first_order_and_its_curvature_known() -> None:
    """Independent N(0, d²) and N(0, 1): v = s'(t) / s(t) x with s² = (1 - t)² d² + t², so a path is z s(t) / s(1)."""
    d, z = 0.3, noise(2000, 1).double()

    def spread(t: float) -> float:
        return float(((1 - t) ** 2 * d**2 + t**2) ** 0.5)

    def velocity(x: Tensor, t: float) -> Tensor:
        return (t - (1 - t) * d**2) / spread(t) ** 2 * x

    errors = [float((sample(velocity, z, n)[0] - d * z).abs().max()) for n in (50, 100, 200)]
    assert all(1.7 < coarse / fine < 2.3 for coarse, fine in pairwise(errors))
    x, met = sample(velocity, z, 400)
    slopes = torch.tensor([(t - (1 - t) * d**2) / spread(t) for t in ((i + 0.5) / 400 for i in range(400))])
    exact = float((slopes.double() - (1 - d)).square().mean() * z.square().mean())
    assert curvature(met, z - x) == pytest.approx(exact, rel=0.05)


def test_random_features_tell_modes_of_the_wrong_width() -> None:
    data = two_gaussians()
    features = fourier(data.sample(500, 1))
    assert features.shape == (500, 256)
    torch.testing.assert_close(
        features[:, :128].square() + features[:, 128:].square(), torch.ones_like(features[:, :128])
    )
    same = (fourier(data.sample(500, 2)).mean(0) - features.mean(0)).square().sum()
    wider = (fourier(1.1 * data.sample(500, 2)).mean(0) - features.mean(0)).square().sum()
    assert wider > 5 * same


def test_every_coupling_begins_alike() -> None:
    lab = pixel_lab()
    first, second = world(lab, Config(train_batch=4)), world(lab, Config(train_batch=4))
    assert torch.equal(next(first.batches), next(second.batches))
    for a, b in zip(first.flow.parameters(), second.flow.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_strong_kl_holds_the_coupling_to_the_prior() -> None:
    each = world(pixel_lab(), Config(train_batch=64))
    kls = []
    for beta in (0.1, 100.0):
        model = Model(deepcopy(each.flow), deepcopy(each.encoder))
        optimizer, generator = torch.optim.Adam(model.parameters(), 1e-2), torch.Generator().manual_seed(0)
        for _ in range(60):
            optimizer.zero_grad()
            loss(model, next(each.batches), PRIOR, beta, generator).backward()
            optimizer.step()
        assert model.encoder is not None
        with torch.no_grad():
            kls.append(float(couple(model.encoder, next(each.batches), noise(64, 2), PRIOR)[1]))
    assert kls[1] < kls[0] / 5


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="world must be one of two-gaussians, pictures, not 'moons'"):
        Config(world="moons")
    with pytest.raises(ValueError, match=r"betas must be rising numbers above 0, not \[3.0, 1.0\]"):
        Config(betas=[3.0, 1.0])
    with pytest.raises(ValueError, match=r"steps must be a list of numbers of at least 1, not \[0\]"):
        Config(steps=[0])
    with pytest.raises(ValueError, match="points at least 2"):
        Config(points=1)


def test_reproduce_on_points() -> None:
    lab = pixel_lab()
    config = Config(betas=[3.0, 10.0], steps=[4, 6], train_steps=2, train_batch=8, points=50)
    reproduce(lab, config)
    names = ["beta-3", "beta-10", "independent"]
    assert [(arm.name, arm.settings["steps"]) for arm in lab.arms] == [(n, s) for n in names for s in (4, 6)]
    assert all(
        (arm.calls, arm.samples) == (arm.settings["steps"], 50 * arm.settings["steps"]) for arm in lab.arms
    )
    assert all(("curvature" in arm.metrics) == (arm.settings["steps"] == 6) for arm in lab.arms)
    assert [(c.metric, c.arm, c.relation, c.than, c.at["steps"]) for c in lab.claims] == [
        ("curvature", "beta-3", "<", "beta-10", 6),
        ("curvature", "beta-10", "<", "independent", 6),
        ("kid[fourier]", "beta-10", "<", "independent", 4),
        ("kid[fourier]", "beta-10", "<", "independent", 6),
    ]
    assert network_rows(config, 4) == 5 * 3 * 2 * 8 + 3 * 10 * 50


def test_reproduce_on_pictures() -> None:
    lab = pixel_lab(images=4)
    config = Config(
        world="pictures", betas=[10.0], steps=[4], train_steps=1, train_batch=2, encoder_channels=[8, 8, 8]
    )
    reproduce(lab, config)
    assert [(arm.name, arm.samples) for arm in lab.arms] == [("beta-10", 16), ("independent", 16)]
    assert all(arm.images is not None and "fid[effnet-lite0]" in arm.metrics for arm in lab.arms)
    assert lab.arms[0].parameters_trained > lab.arms[1].parameters_trained > 0
    assert [(c.metric, c.arm) for c in lab.claims] == [
        ("curvature", "beta-10"),
        ("fid[effnet-lite0]", "beta-10"),
    ]

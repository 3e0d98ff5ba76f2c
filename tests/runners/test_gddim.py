"""gDDIM: the factor R_t against its equation, one datum as the exact case, order of convergence, and what a run claims."""

import pytest
import torch
from torch import Tensor

from denoised.diffusion.cld import AT_REST, DRIFT, HALF, apply, covariance, transition
from denoised.worlds.toys import eight_gaussians
from runners.fast_sampling.gddim import (
    Config,
    Eps,
    Kind,
    converted,
    euler,
    factor,
    fourier,
    linear,
    network_rows,
    reproduce,
    sample,
    times,
    train,
)
from tests.runners.pixel_lab import pixel_lab

DATUM = torch.tensor([0.7, -1.2], dtype=torch.float64)


def at(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


def states(n: int) -> Tensor:
    noise = torch.randn(n, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return apply(AT_REST.sqrt(), noise)


def mean(t: float) -> Tensor:
    """Where one datum is expected at time t, (1, 2, 2)."""
    return apply(transition(at(0.0), at(t)), torch.stack([DATUM, torch.zeros(2)], -1)[None])


def one_datum(kind: Kind) -> Eps:
    """The exact ε of data at one point: K⁻¹ (u - mean)."""
    return lambda u, t: apply(torch.linalg.inv(factor(kind, at(t))), u - mean(t))


def gaussian(u: Tensor, t: float) -> Tensor:
    """The exact ε of R_t for data N(0, 0.8²)."""
    psi = transition(at(0.0), at(t))
    total = psi @ torch.tensor([0.64, 0.0], dtype=torch.float64).diag() @ psi.mT + covariance(at(t))
    return apply(factor("R", at(t)).mT @ torch.linalg.inv(total), u)


@pytest.mark.parametrize("kind", ["R", "L"])
def test_both_are_factors_of_the_covariance(kind: Kind) -> None:
    t = torch.tensor([0.0, 1e-3, 0.1, 1.0], dtype=torch.float64)
    k = factor(kind, t)
    torch.testing.assert_close(k @ k.mT, covariance(t))


def test_r_solves_its_equation_and_l_does_not() -> None:
    """R' = F R + ½ G Gᵀ R^{-T}."""
    for t in (0.01, 0.2, 0.9):
        errors = []
        for kind in ("R", "L"):
            step = 1e-3 * t
            change = (factor(kind, at(t + step)) - factor(kind, at(t - step))) / (2 * step)
            k = factor(kind, at(t))
            wanted = DRIFT @ k + HALF @ torch.linalg.inv(k).mT
            errors.append(float((change - wanted).norm() / wanted.norm()))
        assert errors[0] < 1e-3 < 0.05 < errors[1]


@pytest.mark.parametrize("order", [0, 2])
def test_one_datum_is_drawn_exactly_with_r_whatever_the_steps(order: int) -> None:
    u, grid = states(4), times(4)
    eps = one_datum("R")(u, 1.0)
    drawn = sample(one_datum("R"), u, grid, kind="R", order=order)
    end = float(grid[-1])
    torch.testing.assert_close(drawn, mean(end) + apply(factor("R", at(end)), eps), atol=1e-5, rtol=1e-4)


def test_with_l_or_euler_one_datum_is_missed() -> None:
    u, grid = states(50), times(4)
    errors = [
        float((drawn[..., 0] - DATUM).abs().mean())
        for drawn in (
            sample(one_datum("R"), u, grid, kind="R", order=2),
            sample(one_datum("L"), u, grid, kind="L", order=2),
            euler(one_datum("R"), u, grid),
        )
    ]
    assert errors[0] < 0.01 and min(errors[1:]) > 10 * errors[0]


def test_order_of_convergence_on_gaussian_data() -> None:
    """Order q of the extrapolation is order q + 1 of the solver; with L_t it is the same ODE, and a larger error."""
    u = states(8)
    exact = sample(gaussian, u, times(160), order=3)[..., 0]

    def error(eps: Eps, kind: Kind, order: int, steps: int) -> float:
        return float((sample(eps, u, times(steps), kind=kind, order=order)[..., 0] - exact).abs().max())

    for order, low, high in ((0, 1.6, 2.2), (1, 2.8, 4.4), (2, 5.0, 8.8)):
        coarse, fine = (error(gaussian, "R", order, steps) for steps in (40, 80))
        assert low < coarse / fine < high
        turned = error(converted(gaussian), "L", order, 80)
        assert 2 * fine < turned < error(converted(gaussian), "L", order, 40) / 1.6


def test_euler_maruyama_reaches_the_data() -> None:
    drawn = euler(gaussian, states(4000), times(300), torch.Generator().manual_seed(1))
    assert drawn[..., 0].std().item() == pytest.approx(0.8, rel=0.05)


def test_random_features_are_points_on_circles() -> None:
    features = fourier(states(10)[..., 0])
    torch.testing.assert_close(
        features[:, :128].square() + features[:, 128:].square(), torch.ones(10, 128).double()
    )


@pytest.mark.parametrize("kind", ["R", "L"])
def test_the_linear_prediction_is_exact_for_gaussian_data(kind: Kind) -> None:
    """E[ε | u] by regression on draws of (u, ε)."""
    t, n = at(0.2), 40_000
    random = torch.Generator().manual_seed(2)
    x, noise = (torch.randn(n, k, generator=random, dtype=torch.float64) for k in (1, 2))
    u = apply(transition(at(0.0), t), torch.cat([0.8 * x, torch.zeros(n, 1)], 1)) + apply(
        factor(kind, t), noise
    )
    fitted = torch.linalg.lstsq(u, noise).solution.mT
    torch.testing.assert_close(linear(kind, t, 0.8), fitted, atol=0.05, rtol=0)


def test_training_of_l_looks_at_the_velocity_alone() -> None:
    """The output for x gets no gradient with L_t, and one with R_t."""
    config = Config(train_steps=3, train_batch=8, width=8, ema=0.5)
    fresh, moved = [train(kind, eight_gaussians(), config, pixel_lab()) for kind in ("R", "L")]
    biases = [dict(network.named_parameters())["layers.6.bias"].reshape(2, 2) for network in (fresh, moved)]
    start = dict(
        train(
            "L",
            eight_gaussians(),
            Config(train_steps=1, train_batch=8, width=8, learning_rate=1e-30),
            pixel_lab(),
        ).named_parameters()
    )["layers.6.bias"].reshape(2, 2)
    assert torch.equal(biases[1][:, 0], start[:, 0]) and not torch.equal(biases[1][:, 1], start[:, 1])
    assert not torch.equal(biases[0][:, 0], start[:, 0])


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nfe must be a list of numbers of at least 1, not \[0\]"):
        Config(nfe=[0])
    with pytest.raises(ValueError, match="order must be from 0 to 3, not 4"):
        Config(order=4)
    with pytest.raises(ValueError, match="points at least 2"):
        Config(points=1)


def test_reproduce_at_equal_evaluations() -> None:
    lab, config = pixel_lab(), Config(nfe=[3, 20], train_steps=2, train_batch=4, width=8, points=30)
    reproduce(lab, config)
    names = ["gddim", "cholesky", "converted", "euler", "euler-maruyama"]
    assert [(arm.name, arm.settings["nfe"]) for arm in lab.arms] == [(n, k) for k in (3, 20) for n in names]
    assert all(
        (arm.calls, arm.samples) == (arm.settings["nfe"], 30 * arm.settings["nfe"]) for arm in lab.arms
    )
    assert len({arm.parameters_trained for arm in lab.arms}) == 1
    assert [(c.metric, c.arm, c.relation, c.than, c.at) for c in lab.claims] == [
        ("kid[fourier]", "gddim", "<", name, {"nfe": 20}) for name in names[1:]
    ]
    assert network_rows(config, 4) == 6 * 2 * 4 + 5 * 23 * 30

"""Toy densities against scipy, torch.distributions, automatic differentiation and numerical integration."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from denoised.errors import DenoisedError, Exit
from denoised.language import speaking
from denoised.worlds.toys import (
    TOYS,
    Checkerboard,
    GaussianMixture,
    Level,
    along,
    grid_gaussians,
    toy,
    two_modes,
)

NOISES = [(1.0, 0.3), (0.6, 0.8), (1.0, 4.0), (0.0, 1.0)]  # (a, s)


def random_mixture(k: int = 5, d: int = 2) -> GaussianMixture:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(k, d, d, generator=generator, dtype=torch.float64)
    covariances = root @ root.mT + 0.1 * torch.eye(d)
    return GaussianMixture(
        3 * torch.randn(k, d, generator=generator), covariances, torch.rand(k, generator=generator)
    )


def points(n: int, seed: int = 1, spread: float = 3.0, d: int = 2) -> Tensor:
    return spread * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- Gaussian mixtures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "s"), [(1.0, 0.0), *NOISES])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_mixture_has_scipys_density_at_every_level_of_noise(a: float, s: float, d: int) -> None:
    mixture, x = random_mixture(d=d), points(20, d=d)
    p = sum(
        float(weight)
        * stats.multivariate_normal(a * mean, a**2 * covariance + s**2 * np.eye(d)).pdf(x.numpy())
        for weight, mean, covariance in zip(
            mixture.weights, mixture.means.numpy(), mixture.covariances.numpy(), strict=True
        )
    )
    torch.testing.assert_close(mixture.log_prob(x, a, s), torch.from_numpy(np.log(p)), rtol=1e-11, atol=1e-11)


def test_a_mixture_is_the_one_of_torch_distributions() -> None:
    mixture, x = random_mixture(), points(50)
    theirs = MixtureSameFamily(
        Categorical(mixture.weights), MultivariateNormal(mixture.means, mixture.covariances)
    )
    torch.testing.assert_close(mixture.log_prob(x), theirs.log_prob(x))


def test_points_of_a_mixture_have_its_marginals_and_correlations() -> None:
    mixture = random_mixture()
    drawn = mixture.sample(4000, 0)
    for direction in torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]).double():
        means = (mixture.means @ direction).numpy()
        widths = torch.einsum("i,kij,j->k", direction, mixture.covariances, direction).sqrt().numpy()

        def cdf(
            v: np.ndarray[tuple[int], np.dtype[np.float64]], means: object = means, widths: object = widths
        ) -> object:
            return stats.norm.cdf(v[:, None], means, widths) @ mixture.weights.numpy()

        assert stats.kstest((drawn @ direction).numpy(), cdf).pvalue > 0.01


def test_far_from_everything_the_score_still_points_home() -> None:
    mixture = two_modes()
    x = torch.tensor([[1e4, 1e4], [-1e8, 0.0]])
    torch.testing.assert_close(mixture.score(x)[0], torch.tensor([5.0 - 1e4, 5.0 - 1e4]).double())
    assert bool(mixture.log_prob(x).isfinite().all()) and float(mixture.score(x)[1, 0]) > 0.99e8


# --- the checkerboard ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "s"), [(1.0, 0.3), (0.5, 0.02), (0.2, 1.0)])
def test_the_noised_board_is_the_integral_over_its_squares(a: float, s: float) -> None:
    board = Checkerboard(cells=4, half=2.0)
    for x, y in points(6, spread=1.0).tolist():

        def along_axis(at: float, cell: int) -> float:
            left = a * (cell - 2)
            inside = min(max(at, left), left + a)  # where the integrand is largest
            value, _ = integrate.quad(stats.norm(at, s).pdf, left, left + a, points=[inside], epsabs=0)
            return float(value) / a

        p = (
            sum(along_axis(x, i) * along_axis(y, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0)
            / 8
        )
        assert float(board.log_prob(torch.tensor([x, y], dtype=torch.float64), a, s)) == pytest.approx(
            math.log(p), rel=1e-8
        )


@pytest.mark.parametrize("distance", [0.5, 5.0, 30.0, 500.0])
def test_the_boards_tails_keep_their_digits(distance: float) -> None:
    """One square [-0.5, 0.5]², seen from `distance` standard deviations beyond its right edge."""
    s, square = 0.1, Checkerboard(cells=1, half=0.5)
    x = torch.tensor([0.5 + s * distance, 0.0], dtype=torch.float64)
    log, score = square.log_prob(x, 1.0, s), square.score(x, 1.0, s)
    # phi(distance) taken out, what is left of the integral is of moderate size.
    rest, _ = integrate.quad(lambda t: math.exp(-distance * t - t * t / 2), 0, min(10.0, 40 / distance))
    across = math.log(2 * stats.norm.cdf(5) - 1)
    assert float(log) == pytest.approx(stats.norm.logpdf(distance) + math.log(rest) + across, rel=1e-9)
    assert float(score[0]) == pytest.approx(-1 / rest / s, rel=1e-9)
    assert float(score[1]) == pytest.approx(0, abs=1e-12)


def test_a_board_without_noise_is_uniform_on_its_squares() -> None:
    board = Checkerboard(cells=4, half=2.0)
    x = torch.tensor([[-1.5, -1.5], [-0.5, -1.5], [-2.0, -2.0], [-1.0, -1.5], [2.0, 1.9], [7.0, 0.5]])
    on = torch.tensor([True, False, True, False, False, False])  # squares hold their left and lower edges
    expected = torch.where(on, -math.log(8.0), -math.inf).double()
    torch.testing.assert_close(board.log_prob(x), expected)
    torch.testing.assert_close(
        board.log_prob(x / 2, 0.5), torch.where(on, -math.log(2.0), -math.inf).double()
    )
    assert bool(board.log_prob(board.sample(2000, 0)).isfinite().all())
    squares = (board.sample(8000, 1) + 2).floor().long() @ torch.tensor([1, 4])
    assert stats.chisquare(squares.bincount()[squares.unique()].numpy()).pvalue > 0.01


def test_a_board_that_has_vanished_in_noise_is_a_normal() -> None:
    board, x = Checkerboard(), points(30)
    normal = MultivariateNormal(torch.zeros(2).double(), 4 * torch.eye(2).double())
    torch.testing.assert_close(board.log_prob(x, 0.0, 2.0), normal.log_prob(x))
    torch.testing.assert_close(board.score(x, 0.0, 2.0), -x / 4)
    # The series for squares that are tiny beside the noise goes on where the differences end.
    at = 1e-4 * 2.0
    for values in (board.log_prob, board.score):
        below, above = values(x, at * (1 - 1e-9), 2.0), values(x, at * (1 + 1e-9), 2.0)
        torch.testing.assert_close(below, above, rtol=1e-9, atol=1e-9)


# --- every toy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOYS)
def test_the_score_is_the_gradient_of_the_log_density(name: str) -> None:
    x = points(40, spread=2.0).requires_grad_()
    levels: list[tuple[Level, Level]] = [*NOISES, (torch.rand(40, 1) + 0.1, torch.rand(40, 1) + 0.05)]
    if name != "checkerboard":
        levels.append((1.0, 0.0))
    for a, s in levels:
        (gradient,) = torch.autograd.grad(toy(name).log_prob(x, a, s).sum(), x)
        torch.testing.assert_close(toy(name).score(x.detach(), a, s), gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", TOYS)
def test_densities_integrate_to_one(name: str) -> None:
    """On a lattice as fine as the narrowest Gaussian, sums of Gaussians are integrals to eight digits."""
    extent, step = (10.0, 0.25) if name == "two-modes" else (3.0, 0.05)
    place = torch.arange(-extent + step / 2, extent, step, dtype=torch.float64)
    x = torch.stack(torch.meshgrid(place, place, indexing="ij"), dim=2)
    for a, s in ((1.0, 0.0), (0.8, 0.2)):
        assert float(toy(name).log_prob(x, a, s).exp().sum()) * step**2 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize(("a", "s"), [(1.0, 0.2), (0.5, 0.9)])
def test_noised_points_follow_the_noised_density(name: str, a: float, s: float) -> None:
    """Stein's identity, E[grad log p(x)] = 0 and E[x · grad log p(x)] = -2, over points that were noised."""
    n = 4000
    x = a * toy(name).sample(n, 3) + s * points(n, seed=4, spread=1.0)
    score = toy(name).score(x, a, s)
    for values, expected in ((score[:, 0], 0), (score[:, 1], 0), ((x * score).sum(1), -2)):
        assert float(values.mean()) == pytest.approx(expected, abs=4 * float(values.std()) / n**0.5)


@pytest.mark.parametrize("name", TOYS)
def test_point_i_does_not_depend_on_how_many_are_drawn(name: str) -> None:
    few, many = toy(name).sample(3, 5), toy(name).sample(500, 5)
    assert few.dtype == torch.float64 and few.shape == (3, 2)
    assert torch.equal(few, many[:3]) and not torch.equal(few, toy(name).sample(3, 6))


@pytest.mark.parametrize("name", ["swiss-roll", "checkerboard"])
def test_points_are_taken_in_any_shape_dtype_and_number(name: str) -> None:
    x, a, s = points(5000).float(), torch.rand(5000, 1) + 0.1, torch.rand(5000, 1) + 0.1
    log, score = toy(name).log_prob(x, a, s), toy(name).score(x, a, s)  # more than one block of points
    assert log.dtype == score.dtype == torch.float64
    for i in (0, 2500, 4999):
        torch.testing.assert_close(toy(name).log_prob(x[i], float(a[i]), float(s[i])), log[i])
    folded = toy(name).score(x.reshape(10, 500, 2), a.reshape(10, 500, 1), s.reshape(10, 500, 1))
    torch.testing.assert_close(folded, score.reshape(10, 500, 2))
    assert toy(name).log_prob(x[:0]).shape == (0,) and toy(name).score(x[:0], 1, 1).shape == (0, 2)


def test_a_row_of_gaussians_along_a_curve_has_no_ripple() -> None:
    line = along([lambda t: torch.stack([20 * t, 0 * t], dim=1)], 0.1)
    assert float(line.means[:, 0].diff().max()) < 0.1 + 1e-12
    middle = torch.stack([torch.linspace(5, 15, 1001), torch.zeros(1001)], dim=1).double()
    p = line.log_prob(middle).exp()
    assert float((p.max() - p.min()) / p.mean()) < 2e-8


def test_two_modes_are_those_of_the_paper() -> None:
    mixture = two_modes()
    assert mixture.weights.tolist() == [0.2, 0.8] and mixture.means.tolist() == [[-5, -5], [5, 5]]
    assert torch.equal(mixture.covariances, torch.eye(2).double().expand(2, 2, 2))


def test_the_grid_has_one_mode_for_each_gaussian() -> None:
    grid = grid_gaussians(side=5, spacing=1.0, sigma=0.05)
    assert len(grid.means) == 25 and float(grid.means.abs().max()) == 2
    nearest = torch.cdist(grid.sample(5000, 0), grid.means).argmin(1).bincount(minlength=25)
    assert stats.chisquare(nearest.numpy()).pvalue > 0.01


# --- what is refused -------------------------------------------------------------------------------------

EYE = torch.eye(2).expand(3, 2, 2)
SCALED = torch.tensor([1.0, 1.0, -1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianMixture(torch.zeros(2), EYE), "means must have the shape (k, d), not (2,)"),
        (lambda: GaussianMixture(torch.zeros(2, 2), EYE), "covariances must have the shape (2, 2, 2), not (3, 2, 2)"),
        (lambda: GaussianMixture(torch.zeros(3, 2), EYE, SCALED), "weights must be 3 positive numbers"),
        (lambda: GaussianMixture(torch.full((3, 2), math.nan), EYE), "means and covariances must be finite"),
        (lambda: GaussianMixture(torch.zeros(3, 2), -EYE), "covariances must be positive definite"),
        (lambda: GaussianMixture(torch.zeros(3, 2), torch.ones(3, 2, 2).triu()), "covariances must be symmetric"),
        (lambda: Checkerboard(0), "a board needs cells and a positive half width, not 0 and 2.0"),
        (lambda: Checkerboard(4, -1.0), "a board needs cells and a positive half width, not 4 and -1.0"),
        (lambda: toy("two-moons").sample(-1, 0), "n and seed must be 0 or more, not -1 and 0"),
        (lambda: toy("two-moons").sample(1, -7), "n and seed must be 0 or more, not 1 and -7"),
        (lambda: toy("two-moons").score(torch.zeros(4, 3)), "points must have the shape (..., 2), not (4, 3)"),
        (lambda: toy("checkerboard").log_prob(torch.tensor(1.0)), "points must have the shape (..., 2), not ()"),
        (lambda: toy("two-moons").score(torch.zeros(1, 2), 1.0, -0.5), "s must be finite and 0 or more, not -0.5"),
        (lambda: toy("two-moons").score(torch.zeros(1, 2), math.inf), "a must be finite and 0 or more, not inf"),
        (
            lambda: toy("two-moons").score(torch.zeros(4, 2), torch.ones(4)),
            "a must be a number or have the shape (..., 1) for points (4, 2), not (4,)",
        ),
        (lambda: toy("two-moons").score(torch.zeros(1, 2), 0.0), "a and s are both 0: nothing is left of the points"),
        (lambda: toy("checkerboard").score(torch.zeros(1, 2)), "a checkerboard has edges, so its score needs s > 0"),
    ],
)  # fmt: skip
def test_what_is_no_density_no_point_or_no_noise_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_an_unknown_toy_is_refused_with_the_known_ones() -> None:
    for language, message in (
        ("en", "there is no toy density `moons`"),
        ("ko", "없는 2차원 밀도이다: `moons`"),
    ):
        with speaking(language), pytest.raises(DenoisedError) as caught:  # type: ignore[arg-type]
            toy("moons")
        assert caught.value.message == message and caught.value.code is Exit.USAGE
        assert "two-moons, pinwheel" in (caught.value.help or "")

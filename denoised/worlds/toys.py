"""2-D toy densities whose log-density and score are exact, for clean points and at every level of noise.

Each density answers for the noised variable of the forward process, with signal level a and noise level s,

    x_t = a x_0 + s eps,    eps ~ N(0, I),

so that a sampler can be run with the true score, and a learned score compared with it. Two families have a closed
form under this noise: a mixture of Gaussians stays one, and a mixture of uniform squares becomes a sum of products
of differences of the normal distribution function. Everything that lies along a curve (swiss roll, moons,
pinwheel, spirals) is therefore *defined* as a mixture of Gaussians in a fine row along its curve: samples,
log-density and score all belong to that mixture and are exact for it. The row is no coarser than a Gaussian is
wide, where the ripple of the sum along a straight row is below 1e-8 of its height.

All results are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from denoised.errors import DenoisedError
from denoised.language import Phrase, say

Level = float | Tensor  # a number, or a tensor that multiplies points (..., d) row by row: shape (..., 1)
Curve = Callable[[Tensor], Tensor]  # t (m,) in [0, 1] -> points (m, 2)

_STREAM = 0x70795  # keeps the random stream of a seed apart from other worlds'
_BLOCK = 2**18  # points × components that are worked on at once: few enough for a processor's cache
_SMALL = 1e-4  # width of an interval, in units of s, below which a series is more accurate than a difference
_LOG_2PI = math.log(2 * math.pi)


class Density(Protocol):
    """A density with exact values, also under noise."""

    def sample(self, n: int, seed: int) -> Tensor:
        """(n, d) float64: points of the density without noise. Point i does not depend on n."""
        ...

    def log_prob(self, x: Tensor, a: Level = 1.0, s: Level = 0.0) -> Tensor:
        """(...) float64: the log-density of a x_0 + s eps at points x (..., d)."""
        ...

    def score(self, x: Tensor, a: Level = 1.0, s: Level = 0.0) -> Tensor:
        """(..., d) float64: the gradient of `log_prob` in x."""
        ...


class GaussianMixture:
    """A mixture of k Gaussians in d dimensions, immutable.

    `means` (k, d), `covariances` (k, d, d) symmetric and positive definite, `weights` (k,) positive, scaled to
    sum to one; equal where none are given. ValueError where they are not so.
    """

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor | None = None) -> None:
        if means.ndim != 2 or 0 in means.shape:
            raise ValueError(f"means must have the shape (k, d), not {tuple(means.shape)}")
        k, d = means.shape
        if covariances.shape != (k, d, d):
            raise ValueError(f"covariances must have the shape {(k, d, d)}, not {tuple(covariances.shape)}")
        if weights is None:
            weights = torch.ones(k)
        if weights.shape != (k,) or not bool((weights > 0).all() and weights.isfinite().all()):
            raise ValueError(f"weights must be {k} positive numbers")
        self.means, self.covariances = means.double(), covariances.double()
        if not bool(self.means.isfinite().all() and self.covariances.isfinite().all()):
            raise ValueError("means and covariances must be finite")
        asymmetry = (self.covariances - self.covariances.mT).abs().max()
        if float(asymmetry) > 1e-6 * float(self.covariances.abs().max()):
            raise ValueError("covariances must be symmetric")
        self.weights = weights.double() / weights.double().sum()
        # cov = axes diag(variances) axes^T, so that a² cov + s² I keeps its axes at every level of noise.
        self._variances, self._axes = torch.linalg.eigh(self.covariances)
        if not bool((self._variances > 0).all()):
            raise ValueError("covariances must be positive definite")

    @classmethod
    def isotropic(
        cls, means: Tensor, sigma: float | Tensor, weights: Tensor | None = None
    ) -> GaussianMixture:
        """Round Gaussians: `sigma` is the standard deviation of all, or of each (k,)."""
        k, d = means.shape
        variances = torch.as_tensor(sigma, dtype=torch.float64).expand(k).square()
        return cls(means, variances[:, None, None] * torch.eye(d, dtype=torch.float64), weights)

    def sample(self, n: int, seed: int) -> Tensor:
        """(n, d) float64. Point i does not depend on n."""
        k, d = self.means.shape
        u = _uniforms(n, seed, d + 1)
        chosen = torch.searchsorted(self.weights.cumsum(0), u[:, 0].contiguous()).clamp(max=k - 1)
        z: Tensor = torch.special.ndtri(u[:, 1:]) * self._variances[chosen].sqrt()
        return self.means[chosen] + torch.einsum("ndi,ni->nd", self._axes[chosen], z)

    def log_prob(self, x: Tensor, a: Level = 1.0, s: Level = 0.0) -> Tensor:
        """(...) float64: the log-density of a x_0 + s eps at points x (..., d)."""
        return _in_blocks(lambda *each: self._components(*each)[0].logsumexp(0), x, a, s, *self.means.shape)

    def score(self, x: Tensor, a: Level = 1.0, s: Level = 0.0) -> Tensor:
        """(..., d) float64: the gradient of `log_prob` in x."""
        return _in_blocks(self._score, x, a, s, *self.means.shape)

    def _score(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        log, scaled = self._components(x, a, s)
        gradients: Tensor = -(self._axes.to(x.device) @ scaled)
        return (log.softmax(0)[:, None] * gradients).sum(0)

    def _components(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Of each component and point: the log of weight × density (k, m), and along the component's axes the
        distance to its mean over its variance (k, d, m). x is (d, m), a and s are (m or 1,)."""
        means, axes, variances, weights = (
            each.to(x.device) for each in (self.means, self._axes, self._variances, self.weights)
        )
        variances = a.square() * variances[:, :, None] + s.square()
        distance = axes.mT @ (x - a * means[:, :, None])
        scaled = distance / variances
        squares = (distance * scaled).sum(1) + variances.log().sum(1) + len(x) * _LOG_2PI
        return weights.log()[:, None] - squares / 2, scaled


class Checkerboard:
    """Uniform on every other square of a board, immutable.

    `cells` squares a side, the board reaching from -half to half; squares whose row and column have an even
    sum belong to it, the lower left one first. ValueError where the numbers make no board.

    Between its edges p is constant. So the score without noise is zero where there is density and does not
    exist elsewhere: `score` needs s > 0.
    """

    def __init__(self, cells: int = 4, half: float = 2.0) -> None:
        if cells < 1 or not 0 < half < math.inf:
            raise ValueError(f"a board needs cells and a positive half width, not {cells} and {half}")
        self.cells, self.half = cells, half
        self._width = 2 * half / cells
        self._left = -half + self._width * torch.arange(cells, dtype=torch.float64)
        row, column = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
        self._column, self._row = (each[(row + column) % 2 == 0] for each in (column, row))

    def sample(self, n: int, seed: int) -> Tensor:
        """(n, 2) float64. Point i does not depend on n."""
        u = _uniforms(n, seed, 3)
        chosen = (u[:, 0] * len(self._column)).long()
        corner = torch.stack([self._left[self._column[chosen]], self._left[self._row[chosen]]], dim=1)
        return corner + self._width * u[:, 1:]

    def log_prob(self, x: Tensor, a: Level = 1.0, s: Level = 0.0) -> Tensor:
        """(...) float64: the log-density of a x_0 + s eps at points x (..., 2); -inf off the board at s = 0."""
        return _in_blocks(lambda *each: self._squares(*each)[0].logsumexp(0), x, a, s, len(self._column), 2)

    def score(self, x: Tensor, a: Level = 1.0, s: Level = 0.0) -> Tensor:
        """(..., 2) float64: the gradient of `log_prob` in x. ValueError at s = 0, where there is none."""
        if not bool((torch.as_tensor(s) > 0).all()):
            raise ValueError("a checkerboard has edges, so its score needs s > 0")
        return _in_blocks(self._score, x, a, s, len(self._column), 2)

    def _score(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        log, slope = self._squares(x, a, s)
        return (log.softmax(0)[:, None] * slope).sum(0)

    def _squares(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Of each square and point: the log of weight × density (squares, m), and its gradient
        (squares, 2, m). x is (2, m), a and s are (m or 1,)."""
        left = self._left.to(x.device)[:, None, None]
        # (cells, 2, m): a square is an interval in x times an interval in y.
        log, slope = _noised_interval(x, a * left, a * self._width, s)
        log = log[self._column, 0] + log[self._row, 1] - math.log(len(self._column))
        return log, torch.stack([slope[self._column, 0], slope[self._row, 1]], dim=1)


def _noised_interval(x: Tensor, left: Tensor, width: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The log-density at x of a uniform variable on [left, left + width) plus s eps, and its derivative.

    With the ends v < u in units of s, seen from x, it is (Phi(u) - Phi(v)) / width, and its derivative
    (phi(v) - phi(u)) / (s width). Both are taken in logarithms on the side where Phi is small, so that far
    tails keep their digits; a width that is nothing beside s (a -> 0) takes the first terms of a series in it.
    The derivative means nothing where s = 0.
    """
    clean = s == 0
    s_ = torch.where(clean, 1.0, s)
    middle, delta = (left + width / 2 - x) / s_, (width / s_).expand_as(x - left)
    small = delta < _SMALL
    span = torch.where(small, 1.0, delta)
    near = -middle.abs()  # by symmetry, with the middle of the interval below 0
    upper, lower = torch.special.log_ndtr(near + span / 2), torch.special.log_ndtr(near - span / 2)
    log = upper + _log1mexp(upper - lower) - span.log()
    # phi(u) - phi(v) = phi(u) (1 - exp((u² - v²) / 2)), where u² - v² = 2 near span
    falls = _log_phi(near + span / 2) + _log1mexp(-near * span) - span.log()
    slope = torch.where(middle > 0, 1, -1) * (falls - log).exp()
    series = _log_phi(middle) + torch.log1p((middle.square() - 1) * delta.square() / 24)
    log = torch.where(small, series, log) - s_.log()
    slope = torch.where(small, middle * (1 - delta.square() / 12), slope) / s_
    inside = (x >= left) & (x < left + width)
    uniform = torch.where(inside, -torch.where(clean, width, 1.0).log(), -math.inf)
    return torch.where(clean, uniform, log), slope


def _log_phi(x: Tensor) -> Tensor:
    return -(x.square() + _LOG_2PI) / 2


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(-x)) for x >= 0, accurate at both ends."""
    return torch.where(x < math.log(2), (-torch.expm1(-x)).log(), torch.log1p(-(-x).exp()))


# --- the named ones --------------------------------------------------------------------------------------


def eight_gaussians(radius: float = 2.0, sigma: float = 0.15) -> GaussianMixture:
    """Eight equal Gaussians on a circle."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return GaussianMixture.isotropic(radius * torch.stack([angle.cos(), angle.sin()], dim=1), sigma)


def grid_gaussians(side: int = 5, spacing: float = 1.0, sigma: float = 0.05) -> GaussianMixture:
    """side × side equal Gaussians: 25 of them are what papers count covered modes on."""
    place = spacing * (torch.arange(side, dtype=torch.float64) - (side - 1) / 2)
    return GaussianMixture.isotropic(torch.cartesian_prod(place, place), sigma)


def two_modes(distance: float = 5.0, sigma: float = 1.0, weight: float = 0.2) -> GaussianMixture:
    """weight N((-distance, -distance), sigma² I) + (1 - weight) N((distance, distance), sigma² I).

    With these numbers, the density on which Langevin dynamics finds the wrong weights: Song & Ermon 2019,
    arXiv:1907.05600, section 3.2.2.
    """
    means = torch.tensor([[-distance, -distance], [distance, distance]], dtype=torch.float64)
    return GaussianMixture.isotropic(means, sigma, torch.tensor([weight, 1 - weight], dtype=torch.float64))


def swiss_roll(turns: float = 1.5, radius: float = 2.0, sigma: float = 0.06) -> GaussianMixture:
    """A spiral that starts 0.75 turns out and winds `turns` times more, to `radius`."""

    def curve(t: Tensor) -> Tensor:
        turn = 0.75 + turns * t
        angle = 2 * math.pi * turn
        return (radius * turn / (0.75 + turns))[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)

    return along([curve], sigma)


def two_moons(scale: float = 1.5, sigma: float = 0.1) -> GaussianMixture:
    """Two half circles of radius `scale`, each reaching into the other."""

    def moon(t: Tensor, sign: int) -> Tensor:
        angle = math.pi * t
        return sign * scale * torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)

    return along([partial(moon, sign=1), partial(moon, sign=-1)], sigma)


def pinwheel(arms: int = 5, radius: float = 2.2, twist: float = 0.2) -> GaussianMixture:
    """Arms that bend by `twist` of a turn on their way out, and widen."""

    def arm(t: Tensor, start: float) -> Tensor:
        out = 0.15 + 0.85 * t
        angle = 2 * math.pi * (start + twist * out)
        return (radius * out)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)

    return along([partial(arm, start=i / arms) for i in range(arms)], 0.04 * radius, grow=2.0)


def two_spirals(turns: float = 1.5, radius: float = 2.2, sigma: float = 0.07) -> GaussianMixture:
    """Two spirals from near the middle, half a turn apart."""

    def spiral(t: Tensor, sign: int) -> Tensor:
        out = 0.08 + 0.92 * t
        angle = 2 * math.pi * turns * out
        return (sign * radius * out)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)

    return along([partial(spiral, sign=1), partial(spiral, sign=-1)], sigma)


def along(curves: Sequence[Curve], sigma: float, grow: float = 1.0) -> GaussianMixture:
    """Equal round Gaussians along curves at equal distances of at most `sigma`.

    Their standard deviation is `sigma` where a curve starts and becomes `grow` × sigma (grow >= 1) at its end.
    """
    means, sigmas = [], []
    for curve in curves:
        t = torch.linspace(0, 1, 4097, dtype=torch.float64)
        length = torch.cat([torch.zeros(1), curve(t).diff(dim=0).norm(dim=1).cumsum(0)])
        count = math.ceil(float(length[-1]) / sigma) + 1
        even = np.interp(np.linspace(0, float(length[-1]), count), length.numpy(), t.numpy())
        means.append(curve(torch.from_numpy(even)))
        sigmas.append(sigma * torch.linspace(1, grow, count, dtype=torch.float64))
    return GaussianMixture.isotropic(torch.cat(means), torch.cat(sigmas))


@dataclass(frozen=True)
class Toy:
    """A named density: what it is in both languages, and how it is made with its usual numbers."""

    name: Phrase
    make: Callable[[], Density]


TOYS: dict[str, Toy] = {
    "two-modes": Toy(Phrase(ko="가중치가 다른 두 봉우리", en="two modes of unequal weight"), two_modes),
    "eight-gaussians": Toy(
        Phrase(ko="원 위의 가우시안 여덟 개", en="eight Gaussians on a circle"), eight_gaussians
    ),
    "grid-25": Toy(Phrase(ko="격자 위의 가우시안 25개", en="25 Gaussians on a grid"), grid_gaussians),
    "checkerboard": Toy(Phrase(ko="체커보드", en="a checkerboard"), Checkerboard),
    "swiss-roll": Toy(Phrase(ko="스위스 롤", en="a swiss roll"), swiss_roll),
    "two-moons": Toy(Phrase(ko="맞물린 두 반달", en="two moons"), two_moons),
    "pinwheel": Toy(Phrase(ko="바람개비", en="a pinwheel"), pinwheel),
    "two-spirals": Toy(Phrase(ko="두 줄 나선", en="two spirals"), two_spirals),
}


@lru_cache(maxsize=len(TOYS))
def toy(name: str) -> Density:
    """The density of that name. DenoisedError (USAGE) with the known names where there is none."""
    if name not in TOYS:
        listed = ", ".join(TOYS)
        raise DenoisedError(
            say(ko=f"없는 2차원 밀도이다: `{name}`", en=f"there is no toy density `{name}`"),
            help=say(ko=f"있는 것: {listed}", en=f"one of {listed}"),
        )
    return TOYS[name].make()


# --- points and levels -----------------------------------------------------------------------------------


def _uniforms(n: int, seed: int, columns: int) -> Tensor:
    """(n, columns) float64 strictly between 0 and 1; one row a point keeps point i independent of n."""
    if n < 0 or seed < 0:
        raise ValueError(f"n and seed must be 0 or more, not {n} and {seed}")
    stream = np.random.SeedSequence([seed, _STREAM]).generate_state(1, np.uint64)[0]
    rows = np.random.Generator(np.random.PCG64(stream)).random((n, columns))
    return torch.from_numpy(rows).clamp(min=2.0**-54)  # zero would be a normal at -inf


def _in_blocks(
    values: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, a: Level, s: Level, components: int, d: int
) -> Tensor:
    """`values` (m,) or (d, m) of points (d, m) and levels (m or 1,), block by block, as (...) or (..., d)."""
    if x.ndim < 1 or x.shape[-1] != d:
        raise ValueError(f"points must have the shape (..., {d}), not {tuple(x.shape)}")
    points = x.double().reshape(-1, d).mT  # points last: sums over d and over components are then contiguous
    levels = _level("a", a, x), _level("s", s, x)
    if bool(((levels[0] == 0) & (levels[1] == 0)).any()):
        raise ValueError("a and s are both 0: nothing is left of the points")
    width = max(1, _BLOCK // components)
    blocks = []
    for start in range(0, max(points.shape[1], 1), width):
        block = slice(start, start + width)
        blocks.append(values(points[:, block], *(each if len(each) == 1 else each[block] for each in levels)))
    return torch.cat([each.mT if each.ndim == 2 else each for each in blocks]).reshape(
        x.shape if blocks[0].ndim == 2 else x.shape[:-1]
    )


def _level(name: str, value: Level, x: Tensor) -> Tensor:
    """A checked level as (m or 1,) for m points."""
    level = torch.as_tensor(value, dtype=torch.float64, device=x.device)
    if level.ndim and (level.shape[-1] != 1 or level.ndim != x.ndim):
        raise ValueError(
            f"{name} must be a number or have the shape (..., 1) for points {tuple(x.shape)}, "
            f"not {tuple(level.shape)}"
        )
    wrong = ~(level.isfinite() & (level >= 0))
    if bool(wrong.any()):
        raise ValueError(f"{name} must be finite and 0 or more, not {level[wrong][0].item():g}")
    return level.reshape(1) if level.numel() == 1 else level.expand(*x.shape[:-1], 1).reshape(-1)

"""Linear operators A of inverse problems y = A x, each with its transpose, pseudo-inverse and singular values.

    A = average_pooling((3, 32, 32), 4)
    y = A(x)                              # (n, 3, 32, 32) -> (n, 3, 8, 8)
    A.pinv(y), A.T(y)                     # back to (n, 3, 32, 32)
    A.spectral(x, lambda s: s > 0)        # V f(s) Vᵀ x: here A⁺A x, the part of x that y knows

No matrix is ever built. With A = U diag(s) Vᵀ, the orthogonal V is a mask's identity, a reflection of every
block of pixels (or of the channels), or the Hartley transform, which costs two FFTs at most. Coordinates Vᵀx
are laid out as a picture, and so are the singular values, (c, h, w), with zeros where A sees nothing: that is
the form in which DDRM, DDNM and their kin need the decomposition (Kawar et al. 2022, arXiv:2201.11793, § 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

Shape = tuple[int, int, int]  # channels, height and width of the pictures
Map = Callable[[Tensor], Tensor]

VANISHING = 0.03  # gain of a blur below which a frequency counts as lost


@dataclass(frozen=True)
class Operator:
    """A = U diag(s) Vᵀ on pictures of one shape.

    `singular`: s, float64 and of the pictures' `shape`, at least 0. `to_coordinates` is Vᵀ, `to_picture` is V,
    both on (n, c, h, w) of that shape. `observe` is Uᵀ, from measurements to coordinates, 0 wherever s = 0;
    `emit` is U, from coordinates (those with s = 0 are ignored) to measurements.
    """

    name: str
    shape: Shape
    singular: Tensor
    to_coordinates: Map
    to_picture: Map
    observe: Map
    emit: Map

    def __call__(self, x: Tensor) -> Tensor:
        """A x of pictures (n, c, h, w). ValueError for pictures of another shape than `shape`."""
        return self.emit(self._s(x) * self.to_coordinates(self._fitting(x)))

    def T(self, y: Tensor) -> Tensor:
        """Aᵀ y: pictures (n, c, h, w)."""
        return self.to_picture(self._s(y) * self.observe(y))

    def pinv(self, y: Tensor) -> Tensor:
        """A⁺ y, the Moore-Penrose pseudo-inverse: pictures (n, c, h, w)."""
        s = self._s(y)
        return self.to_picture(torch.where(s > 0, self.observe(y) / s.where(s > 0, torch.ones_like(s)), 0))

    def spectral(self, x: Tensor, f: Map) -> Tensor:
        """V diag(f(s)) Vᵀ x. `f` maps the singular values (c, h, w), in the dtype of x, to factors (c, h, w).

        f = (s > 0) gives A⁺A x, what y determines of x; f = (s == 0) gives the rest, (I - A⁺A) x.
        """
        return self.scaled(x, f(self._s(x)))

    def scaled(self, x: Tensor, factors: Tensor) -> Tensor:
        """V diag(factors) Vᵀ x, for a factor (c, h, w) to each singular direction."""
        return self.to_picture(factors * self.to_coordinates(self._fitting(x)))

    def _s(self, like: Tensor) -> Tensor:
        return self.singular.to(like)

    def _fitting(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"{self.name} was made for pictures of shape {self.shape}, not {tuple(x.shape[1:])}"
            )
        return x


def inpainting(shape: Shape, keep: Tensor) -> Operator:
    """Pixels that are kept, the others set to 0: y has the pictures' own shape.

    `keep`: 0 or 1, broadcastable to (c, h, w). ValueError where it is neither, keeps nothing or does not fit.
    """
    try:
        mask = keep.double().expand(shape)
    except RuntimeError as error:
        raise ValueError(f"keep must fit pictures of shape {shape}, not {tuple(keep.shape)}") from error
    if not bool(((mask == 0) | (mask == 1)).all()) or not bool(mask.any()):
        raise ValueError("keep must consist of 0 and 1, with a 1 at least once")

    def masked(x: Tensor) -> Tensor:
        return x * mask.to(x)

    return Operator("inpainting", shape, mask.contiguous(), _same, _same, masked, masked)


def average_pooling(shape: Shape, factor: int) -> Operator:
    """The mean of every block of factor × factor pixels: y is (n, c, h / factor, w / factor).

    All its singular values are 1 / factor. ValueError unless `factor` divides both sides.
    """
    c, h, w = shape
    if not 1 <= factor <= min(h, w) or h % factor or w % factor:
        raise ValueError(
            f"factor must be from 1 to {min(h, w)} and divide the picture's sides {h} and {w}, not {factor}"
        )
    rows, columns = h // factor, w // factor

    def reflected(x: Tensor) -> Tensor:
        blocks = x.reshape(-1, c, rows, factor, columns, factor).transpose(3, 4)
        blocks = reflect(blocks.reshape(-1, c, rows, columns, factor**2))
        return blocks.reshape(-1, c, rows, columns, factor, factor).transpose(3, 4).reshape(-1, c, h, w)

    def observe(y: Tensor) -> Tensor:
        z = y.new_zeros(len(y), *shape)
        z[:, :, ::factor, ::factor] = y
        return z

    singular = observe(torch.full((1, c, rows, columns), 1 / factor, dtype=torch.float64))[0]
    return Operator(
        "average pooling",
        shape,
        singular,
        reflected,
        reflected,
        observe,
        lambda z: z[:, :, ::factor, ::factor],
    )


def grey(shape: Shape) -> Operator:
    """The mean over channels, whose inversion is colourisation: y is (n, 1, h, w).

    All its singular values are 1 / sqrt(c). ValueError for pictures of one channel.
    """
    c, h, w = shape
    if c < 2:
        raise ValueError(f"grey needs pictures of 2 channels or more, not {c}")

    def reflected(x: Tensor) -> Tensor:
        return reflect(x.movedim(1, -1)).movedim(-1, 1)

    def observe(y: Tensor) -> Tensor:
        return torch.cat([y, y.new_zeros(len(y), c - 1, h, w)], dim=1)

    singular = observe(torch.full((1, 1, h, w), 1 / sqrt(c), dtype=torch.float64))[0]
    return Operator("grey", shape, singular, reflected, reflected, observe, lambda z: z[:, :1])


def blur(shape: Shape, line: Sequence[float], *, vanishing: float = VANISHING) -> Operator:
    """Convolution of rows and columns with one symmetric kernel, the picture continued periodically.

    `line`: the kernel along one axis, an odd number of weights, the same from both ends; see `box_line` and
    `gaussian_line`. Frequencies whose gain is below `vanishing` are lost: A maps them to 0, so that no
    pseudo-inverse has to divide by almost nothing. ValueError for a kernel that is longer than a side.
    """
    _, h, w = shape
    weights = torch.tensor(list(line), dtype=torch.float64)
    if len(weights) % 2 == 0 or not torch.equal(weights, weights.flip(0)):
        raise ValueError("line must have an odd number of weights, the same from both ends")
    if len(weights) > min(h, w):
        raise ValueError(
            f"the kernel's width must be from 1 to {min(h, w)}, the picture's side, not {len(weights)}"
        )
    if not vanishing > 0:
        raise ValueError(f"vanishing must be above 0, not {vanishing}")

    def gains(size: int) -> Tensor:
        # The Fourier transform of a symmetric kernel is real: its eigenvalues on the circle.
        offset = torch.arange(len(weights), dtype=torch.float64) - len(weights) // 2
        angle = 2 * torch.pi / size * torch.outer(torch.arange(size, dtype=torch.float64), offset)
        return angle.cos() @ weights

    gain = torch.outer(gains(h), gains(w))
    gain = torch.where(gain.abs() < vanishing, torch.zeros_like(gain), gain)
    # Where the gain is negative, U is the Hartley transform with its sign turned.
    sign = torch.where(gain < 0, -1.0, 1.0).double() * (gain != 0)

    def emit(z: Tensor) -> Tensor:
        return hartley(sign.to(z) * z)

    return Operator(
        "blur",
        shape,
        gain.abs().expand(shape).contiguous(),
        hartley,
        hartley,
        lambda y: sign.to(y) * hartley(y),
        emit,
    )


def box_line(width: int) -> list[float]:
    """The kernel of a mean over `width` pixels, for `blur`. ValueError for an even width."""
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width must be an odd number of at least 1, not {width}")
    return [1 / width] * width


def gaussian_line(sigma: float, width: int) -> list[float]:
    """A Gaussian of `sigma` pixels, cut at `width` pixels and summing to 1, for `blur`."""
    if not sigma > 0 or width < 1 or width % 2 == 0:
        raise ValueError(f"sigma must be above 0 and width odd, not {sigma} and {width}")
    offset = torch.arange(width, dtype=torch.float64) - width // 2
    weights = torch.exp(-offset.square() / (2 * sigma**2))
    return [float(weight) for weight in weights / weights.sum()]


def reflect(x: Tensor) -> Tensor:
    """The Householder reflection of the last axis that swaps its first unit vector with (1, …, 1) / sqrt(m).

    Its own inverse and transpose. The first coordinate of the result is sqrt(m) times the mean.
    """
    m = x.shape[-1]
    if m == 1:
        return x
    # With e₁ and the mean's direction u, H = I - 2 w wᵀ / |w|², w = e₁ - u, and |w|² = 2 - 2 / sqrt(m).
    along = x[..., 0] - x.sum(dim=-1) / sqrt(m)
    factor = along / (1 - 1 / sqrt(m))
    result = x + factor.unsqueeze(-1) / sqrt(m)
    result[..., 0] -= factor
    return result


def hartley(x: Tensor) -> Tensor:
    """The orthonormal Hartley transform of the last two axes: a real Fourier transform, its own inverse."""
    transformed = torch.fft.fft2(x, norm="ortho")
    result: Tensor = transformed.real - transformed.imag
    return result


def _same(x: Tensor) -> Tensor:
    return x

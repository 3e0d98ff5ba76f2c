"""Operators of inverse problems: against dense matrices of their own, Moore and Penrose, and plain torch."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from denoised.diffusion.operators import (
    Operator,
    average_pooling,
    blur,
    box_line,
    gaussian_line,
    grey,
    hartley,
    inpainting,
    reflect,
)

SHAPE = (3, 6, 8)
RANDOM = torch.Generator().manual_seed(0)
KEEP = (torch.rand(6, 8, generator=RANDOM) < 0.4).double()
OPERATORS = {
    "inpainting": inpainting(SHAPE, KEEP),
    "average pooling": average_pooling(SHAPE, 2),
    "grey": grey(SHAPE),
    "box blur": blur(SHAPE, box_line(3)),
    "wide box blur, some gains negative": blur(SHAPE, box_line(5)),
    "gaussian blur": blur(SHAPE, gaussian_line(1.5, 5)),
}
every_operator = pytest.mark.parametrize("A", OPERATORS.values(), ids=OPERATORS.keys())


def matrix(A: Operator) -> Tensor:
    """A as a dense matrix: at this size it can be had."""
    size = 3 * 6 * 8
    return A(torch.eye(size, dtype=torch.float64).reshape(size, *SHAPE)).flatten(1).T


def pictures(n: int = 2) -> Tensor:
    return torch.randn(n, *SHAPE, generator=RANDOM, dtype=torch.float64)


@every_operator
def test_the_transpose_is_the_adjoint(A: Operator) -> None:
    x = pictures()
    y = torch.randn(A(x).shape, generator=RANDOM, dtype=torch.float64)
    torch.testing.assert_close((A(x) * y).flatten(1).sum(dim=1), (x * A.T(y)).flatten(1).sum(dim=1))


@every_operator
def test_moore_and_penrose(A: Operator) -> None:
    """The four conditions that only the pseudo-inverse meets, the two on symmetry as inner products."""
    x, u = pictures(), pictures()
    y = torch.randn(A(x).shape, generator=RANDOM, dtype=torch.float64)
    v = torch.randn(y.shape, generator=RANDOM, dtype=torch.float64)
    torch.testing.assert_close(A(A.pinv(A(x))), A(x))
    torch.testing.assert_close(A.pinv(A(A.pinv(y))), A.pinv(y))
    torch.testing.assert_close((A.pinv(A(x)) * u).sum(), (x * A.pinv(A(u))).sum())
    torch.testing.assert_close((A(A.pinv(y)) * v).sum(), (y * A(A.pinv(v))).sum())


@every_operator
def test_the_singular_values_are_those_of_the_matrix(A: Operator) -> None:
    dense = torch.linalg.svdvals(matrix(A))
    ours = A.singular.flatten().sort(descending=True).values
    torch.testing.assert_close(ours[: len(dense)], dense, atol=1e-12, rtol=1e-9)
    assert not bool(ours[len(dense) :].any())


@every_operator
def test_the_parts_of_the_decomposition(A: Operator) -> None:
    x = pictures()
    z = A.to_coordinates(x)
    torch.testing.assert_close(A.to_picture(z), x)  # V is orthogonal
    torch.testing.assert_close(z.square().sum(), x.square().sum())
    torch.testing.assert_close(A.spectral(x, lambda s: s.square()), A.T(A(x)))
    torch.testing.assert_close(A.spectral(x, lambda s: s > 0), A.pinv(A(x)))
    torch.testing.assert_close(A(A.spectral(x, lambda s: s == 0)), torch.zeros_like(A(x)), atol=1e-12, rtol=0)
    torch.testing.assert_close(A.observe(A(x)), A.singular * z)


def test_the_operators_are_what_they_are_called() -> None:
    x = pictures()
    torch.testing.assert_close(OPERATORS["inpainting"](x), x * KEEP)
    torch.testing.assert_close(OPERATORS["average pooling"](x), F.avg_pool2d(x, 2))
    torch.testing.assert_close(OPERATORS["grey"](x), x.mean(dim=1, keepdim=True))
    line = torch.tensor(box_line(3), dtype=torch.float64)
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), kernel, groups=3)
    torch.testing.assert_close(blur(SHAPE, box_line(3), vanishing=1e-9)(x), blurred)


def test_a_blur_drops_the_frequencies_that_vanish() -> None:
    A = blur(SHAPE, box_line(3), vanishing=0.2)
    assert 0 < int((A.singular == 0).sum()) < A.singular.numel()
    assert float(A.singular[A.singular > 0].min()) >= 0.2


def test_the_transforms_are_their_own_inverses() -> None:
    x = pictures()
    torch.testing.assert_close(reflect(reflect(x)), x)
    torch.testing.assert_close(reflect(x)[..., 0], x.mean(dim=-1) * 8**0.5)
    torch.testing.assert_close(hartley(hartley(x)), x)
    assert torch.equal(reflect(x[..., :1]), x[..., :1])  # one number is its own mean


def test_float32_pictures_stay_float32() -> None:
    x = pictures().float()
    for A in OPERATORS.values():
        assert A(x).dtype == A.pinv(A(x)).dtype == A.T(A(x)).dtype == torch.float32


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"factor must be from 1 to 6 and divide .* 6 and 8, not 4"):
        average_pooling(SHAPE, 4)
    with pytest.raises(ValueError, match="grey needs pictures of 2 channels or more, not 1"):
        grey((1, 4, 4))
    with pytest.raises(ValueError, match=r"keep must fit pictures of shape \(3, 6, 8\), not \(5, 5\)"):
        inpainting(SHAPE, torch.ones(5, 5))
    for keep in (torch.full((6, 8), 0.5), torch.zeros(6, 8)):
        with pytest.raises(ValueError, match="keep must consist of 0 and 1, with a 1 at least once"):
            inpainting(SHAPE, keep)
    with pytest.raises(ValueError, match=r"the kernel's width must be from 1 to 6, .* not 7"):
        blur(SHAPE, box_line(7))
    with pytest.raises(ValueError, match="odd number of weights, the same from both ends"):
        blur(SHAPE, [0.5, 0.3, 0.2])
    with pytest.raises(ValueError, match="vanishing must be above 0"):
        blur(SHAPE, box_line(3), vanishing=0.0)
    with pytest.raises(ValueError, match="width must be an odd number of at least 1, not 4"):
        box_line(4)
    with pytest.raises(ValueError, match="sigma must be above 0"):
        gaussian_line(0.0, 3)
    with pytest.raises(ValueError, match=r"grey was made for pictures of shape \(3, 6, 8\), not \(3, 5, 5\)"):
        OPERATORS["grey"](torch.zeros(1, 3, 5, 5))

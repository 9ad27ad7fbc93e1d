"""Nearly the inverse of ``M = T^-2 + F^T A^T S^-1 A F``, for conjugate gradients.

``V = F T^2 F^T`` is the covariance, diagonal but for the scale T, with variances v.  Everywhere it
is ``1 / (mean T^-2 + v g)`` with g the diagonal of ``B A^T S^-1 A B^T``.  Where pixels are measured
one by one, as by a mask, data say much about some places and nothing about others; that mixes the
lowest frequencies, whose variance is the largest, and for them a block of M is inverted.  Without
it a mask with a hole took three times the iterations; worse, residuals within the hole seemed small
where errors were not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Basis, Cosines, Pixels, cosine_matrix

# Frequencies along each axis that a block has, and images of one channel that it may be as large
# as: for small images it has fewer.
_LOW, _IMAGES = 16, 16


class Preconditioner(NamedTuple):
    """A diagonal, and a block for the lowest frequencies of each channel."""

    diagonal: Tensor  # broadcasts against the coefficients (walkers, *shape)
    factor: Tensor | None  # (walkers, channels, n, n), n low frequencies; Cholesky
    size: tuple[int, int]  # rows and columns of low frequencies

    def apply(self, r: Tensor) -> Tensor:
        """Nearly ``M^-1 r``."""
        s = r * self.diagonal
        if self.factor is not None:
            h, w = self.size
            low = r[..., :h, :w]
            solved = torch.cholesky_solve(low.flatten(2)[..., None], self.factor)
            s[..., :h, :w] = solved.reshape_as(low)
        return s


def preconditioner(problem: Problem, covariance: Covariance, like: Tensor) -> Preconditioner:
    """That of a covariance, for coefficients ``(walkers, *shape)`` like `like`.

    Secants are left out, so that the two solves of a level share it.
    """
    key = covariance.basis, covariance.variance, covariance.scale
    kept, found = problem.kept.get("preconditioner", (None, None))
    if found is None or any(old is not new for old, new in zip(kept, key, strict=True)):
        found = _made(problem, covariance, like)
        problem.kept["preconditioner"] = key, found
    return found


def _made(problem: Problem, covariance: Covariance, like: Tensor) -> Preconditioner:
    v = resident(covariance.variance, like)
    precision = resident(covariance.mean_precision(), like)
    diagonal = 1 / (precision + v * problem.curvature(covariance.basis))
    gram = _gram(problem, covariance.basis)
    if gram is None:
        return Preconditioner(diagonal, None, (0, 0))
    h, w = size = _size(like.shape)
    v, precision = (values.expand_as(like)[..., :h, :w].flatten(2) for values in (v, precision))
    deviation = v.sqrt()
    block = deviation[..., :, None] * gram * deviation[..., None, :]
    block.diagonal(dim1=-2, dim2=-1).add_(precision)
    # Without a look at whether it failed, for which Python would wait: it is positive definite.
    return Preconditioner(diagonal, torch.linalg.cholesky_ex(block).L, size)


def _size(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of low frequencies, for images of this shape."""
    low = min(_LOW, int((_IMAGES * shape[-2] * shape[-1]) ** 0.25))
    return min(low, shape[-2]), min(low, shape[-1])


def _gram(problem: Problem, basis: Basis) -> Tensor | None:
    """The block of ``B A^T S^-1 A B^T``, ``(n, n)``, the same for all channels; None if unknown.

    With ``h`` the information about each pixel, the mean over the channels, it is ``sum_yx h(y, x)
    c_a(y) c_a'(y) c_b(x) c_b'(x)`` for cosines c.
    """
    if not (isinstance(basis, Cosines) and basis.axes == 2 and problem.is_diagonal(Pixels())):
        return None
    if "gram" not in problem.kept:
        shape = problem.operator.domain_shape
        information = problem.response.square().expand(shape).mean(0)
        h, w = _size(shape)
        rows, columns = _products(shape[1], h, information), _products(shape[2], w, information)
        gram = (rows @ information @ columns.mT).reshape(h, h, w, w)
        problem.kept["gram"] = gram.permute(0, 2, 1, 3).reshape(h * w, h * w)
    return problem.kept["gram"]


def _products(side: int, count: int, like: Tensor) -> Tensor:
    """Of every two of so many lowest cosines, ``(count count, side)``."""
    low = cosine_matrix(side, like.dtype, like.device)[:count]
    return (low[:, None] * low).flatten(0, 1)

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
from tweedie_inverse.numerics.spectral import Basis, Cosines, Fourier, Pixels, cosine_matrix

# Frequencies along each axis that a block has, where each walker needs one of its own and where one
# is for all of them, and images of one channel that it may be as large as: for small images it has
# fewer.
_LOW, _LOW_OF_ALL, _IMAGES = 16, 24, 16


class Block(NamedTuple):
    """What is inverted together: the lowest frequencies of each channel.

    Attributes:
        factor: Cholesky's L, ``(channels, n, n)`` for all walkers, or ``(walkers, channels, n,
            n)``; on an accelerator ``L^-1``, because it multiplies fast and substitutes slowly, and
            ``L^-T L^-1`` is positive definite whatever the rounding.
        rows, columns: places of the n frequencies among the coefficients of a channel.
    """

    factor: Tensor
    rows: Tensor
    columns: Tensor

    def solve(self, low: Tensor, walker: Tensor, channel: Tensor, walkers: int) -> Tensor:
        """The frequencies ``(planes, n)`` of these walkers' channels, solved for."""
        if self.factor.ndim == 4:
            return self._solved(low[..., None], self.factor[walker, channel])[..., 0]
        together = low.new_zeros((len(self.factor), walkers, low.shape[1]))
        together[channel, walker] = low
        return self._solved(together.mT, self.factor).mT[channel, walker]

    @staticmethod
    def _solved(right: Tensor, factor: Tensor) -> Tensor:
        if _substitutes(right):
            return torch.cholesky_solve(right, factor)
        return factor.mT @ (factor @ right)


class Preconditioner(NamedTuple):
    """A diagonal, and a block.

    Attributes:
        diagonal: broadcasts against the coefficients ``(walkers, *shape)``.
    """

    diagonal: Tensor
    block: Block | None

    def apply(self, r: Tensor) -> Tensor:
        """Nearly ``M^-1 r``, ``(walkers, *shape)``."""
        if self.block is None:
            return r * self.diagonal
        planes = self.of_planes(*all_planes(r), len(r))
        return planes.apply(r.flatten(0, 1)[:, None]).reshape_as(r)

    def of_planes(self, walker: Tensor, channel: Tensor, walkers: int) -> "OfPlanes":
        """That of some channels of some of so many walkers, ``(planes,)`` both."""
        diagonal = self.diagonal.expand(walkers, *self.diagonal.shape[1:])
        return OfPlanes(diagonal[walker, channel][:, None], self.block, walker, channel, walkers)


class OfPlanes(NamedTuple):
    """A `Preconditioner` of single channels; ``diagonal (planes, 1, height, width)``."""

    diagonal: Tensor
    block: Block | None
    walker: Tensor
    channel: Tensor
    walkers: int

    def apply(self, r: Tensor) -> Tensor:
        """Nearly ``M^-1 r``, ``(planes, 1, height, width)``."""
        s = r * self.diagonal
        if self.block is not None:
            rows, columns = self.block.rows, self.block.columns
            low = r[:, 0, rows, columns]
            solved = self.block.solve(low, self.walker, self.channel, self.walkers)
            s[:, 0, rows, columns] = solved
        return s

    def of(self, kept: Tensor) -> "OfPlanes":
        """That of some of the planes, by their indices."""
        block, channel = self.block, self.channel[kept]
        if block is not None and block.factor.ndim == 3:
            present, channel = channel.unique(return_inverse=True)
            block = block._replace(factor=block.factor[present])
        return self._replace(
            diagonal=self.diagonal[kept], block=block, walker=self.walker[kept], channel=channel
        )


def all_planes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Walker and channel of every ``(height, width)`` of ``(walkers, channels, height, width)``."""
    walkers, channels = x.shape[:2]
    index = torch.arange(walkers * channels, device=x.device)
    return index // channels, index % channels


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
    diagonal = diagonal.expand(*diagonal.shape[: diagonal.ndim - like.ndim + 1], *like.shape[1:])
    diagonal = diagonal if diagonal.ndim == like.ndim else diagonal[None]
    return Preconditioner(diagonal, _block(problem, covariance, v, like))


def _block(problem: Problem, covariance: Covariance, v: Tensor, like: Tensor) -> Block | None:
    is_for_all = covariance.variance.ndim < like.ndim
    low = _lowest(problem, covariance.basis, _LOW_OF_ALL if is_for_all else _LOW)
    if low is None:
        return None
    v = v.expand(like.shape[is_for_all:])[..., low.rows, low.columns]
    deviation = v.sqrt()
    block = deviation[..., :, None] * low.gram * deviation[..., None, :]
    if is_for_all:
        # Each walker has a precision of its own, near 1.
        block.diagonal(dim1=-2, dim2=-1).add_(1)
    else:
        precision = resident(covariance.mean_precision(), like).expand(len(like), 1, 1, 1)
        block.diagonal(dim1=-2, dim2=-1).add_(precision[..., 0])
    # Without a look at whether it failed, for which Python would wait: it is positive definite.
    factor = torch.linalg.cholesky_ex(block).L
    if not _substitutes(factor):
        one = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        factor = torch.linalg.solve_triangular(factor, one, upper=False)
    return Block(factor, low.rows, low.columns)


def _substitutes(like: Tensor) -> bool:
    """Whether triangular systems are solved by substitution, and not by the inverse factor."""
    return like.device.type == "cpu"


class _Low(NamedTuple):
    """The lowest frequencies, and the block ``(n, n)`` of ``B A^T S^-1 A B^T`` for them."""

    gram: Tensor
    rows: Tensor
    columns: Tensor


def _lowest(problem: Problem, basis: Basis, along: int) -> _Low | None:
    """So many along each axis, the same for all channels; None if the block is unknown."""
    basis = basis.unmixed()
    if not (basis.is_planar and isinstance(basis, Cosines | Fourier)):
        return None
    if not problem.is_diagonal(Pixels()):
        return None
    key = f"the lowest {along} of {type(basis).__name__}"
    if key not in problem.kept:
        # The information about each pixel, the mean over the channels.
        shape = problem.operator.domain_shape
        information = problem.response.square().expand(shape).mean(0)
        make = _of_cosines if isinstance(basis, Cosines) else _of_waves
        problem.kept[key] = make(information, _size(shape, along))
    return problem.kept[key]


def _size(shape: Sequence[int], along: int) -> tuple[int, int]:
    """Rows and columns of low frequencies, for images of this shape."""
    low = min(along, int((_IMAGES * shape[-2] * shape[-1]) ** 0.25))
    return min(low, shape[-2]), min(low, shape[-1])


def _of_cosines(information: Tensor, size: tuple[int, int]) -> _Low:
    """``sum_yx h(y, x) c_a(y) c_a'(y) c_b(x) c_b'(x)`` for cosines c and information h."""
    (height, width), (h, w) = information.shape, size
    along_rows = _products(height, h, information)
    along_columns = _products(width, w, information)
    gram = (along_rows @ information @ along_columns.mT).reshape(h, h, w, w)
    rows, columns = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    places = (index.flatten().to(information.device) for index in (rows, columns))
    return _Low(gram.permute(0, 2, 1, 3).reshape(h * w, h * w), *places)


def _products(side: int, count: int, like: Tensor) -> Tensor:
    """Of every two of so many lowest cosines, ``(count count, side)``."""
    low = cosine_matrix(side, like.dtype, like.device)[:count]
    return (low[:, None] * low).flatten(0, 1)


def _of_waves(information: Tensor, size: tuple[int, int]) -> _Low:
    """``sum_x h(x) cas(a.x) cas(b.x)``: the product is ``cos((a - b).x) + sin((a + b).x)``."""
    frequencies = (torch.arange(count) - count // 2 for count in size)
    rows, columns = (index.flatten() for index in torch.meshgrid(*frequencies, indexing="ij"))
    (height, width), transform = information.shape, torch.fft.fft2(information)

    def at(sign: int) -> Tensor:
        """The transform at the sum, or the difference, of every two frequencies."""
        row, column = (index[:, None] + sign * index for index in (rows, columns))
        device = transform.device
        return transform[row.remainder(height).to(device), column.remainder(width).to(device)]

    gram = (at(-1).real - at(1).imag) / (height * width)
    places = rows.remainder(height), columns.remainder(width)
    return _Low(gram, *(place.to(information.device) for place in places))

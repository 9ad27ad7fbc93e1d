"""Covariances that are diagonal in an orthonormal basis: pixels, cosines, Fourier, or any matrix.

A denoising error, a Gaussian random field and a plain ``sigma^2 I`` are all of this kind.  The
variances depend on the frequency alone (``(height, width)``), or on channel and frequency; for
colour images an orthogonal mixing of the channels can come first.  A scale lets the size differ
from place to place: it multiplies white noise, which the variances then filter, so that a frequency
without variance stays without variance.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tweedie_inverse.numerics.residence import derived, resident
from tweedie_inverse.numerics.secant import Secant
from tweedie_inverse.numerics.spectral import Basis, Pixels


@dataclass(frozen=True)
class Covariance:
    """``L L^T`` with ``L = E basis^T diag(sqrt(variance)) basis diag(scale) basis^T``.

    `variance` is non-negative, in squared data units, and broadcasts against the coefficients of
    one image, or of a batch of them; `scale` is positive, without unit, and broadcasts against
    ``(batch, *shape)``: each image of a batch may have its own; it stands between `unturned` bases,
    so that a size of what a basis turns at each place is meant.  E is the product of `secants`,
    the latest on the left; it is the identity without any.
    """

    basis: Basis
    variance: Tensor
    scale: Tensor | None = None
    secants: tuple[Secant, ...] = ()

    def deviation(self, like: Tensor) -> Tensor:
        """Square root of the variance, in the number type and on the device of `like`."""
        return derived(resident(self.variance, like), torch.sqrt)

    def is_diagonal_for(self, shape: Sequence[int]) -> bool:
        """Whether it is diagonal in its basis, and for all images of this many axes the same."""
        if self.scale is not None or self.secants or self.variance.ndim > len(shape):
            return False
        if self.variance.ndim < 2:
            return True
        # Some bases flatten an image, so that two axes may be a batch of spectra.
        coefficients = self.basis.transform(self.variance.new_zeros((1, *shape)))
        return self.variance.ndim < coefficients.ndim

    def factor(self, coefficients: Tensor) -> Tensor:
        """``L`` times coefficients."""
        return self.filter(self.scaled(coefficients))

    def factor_transposed(self, x: Tensor) -> Tensor:
        """``L^T x``, coefficients."""
        return self.scaled(self.filter_transposed(x))

    def filter(self, coefficients: Tensor) -> Tensor:
        """``F = E basis^T diag(sqrt(variance))`` times coefficients; ``L = F T``."""
        return self.changed(self.basis.inverse(coefficients * self.deviation(coefficients)))

    def filter_transposed(self, x: Tensor) -> Tensor:
        """``F^T x``, coefficients."""
        for secant in reversed(self.secants):
            x = secant.transposed(x)
        return self.basis.transform(x) * self.deviation(x)

    def changed(self, x: Tensor) -> Tensor:
        """``E x``."""
        for secant in self.secants:
            x = secant.apply(x)
        return x

    def with_secant(self, secant: Secant) -> "Covariance":
        """``E V E^T``."""
        return replace(self, secants=(*self.secants, secant))

    def scaled(self, coefficients: Tensor) -> Tensor:
        """``T = basis diag(scale) basis^T`` times coefficients."""
        return self._multiplied(coefficients, self.scale)

    def unscaled(self, coefficients: Tensor) -> Tensor:
        """``T^-1`` times coefficients."""
        return self._multiplied(coefficients, self._of_scale(_inverse))

    def precision(self, coefficients: Tensor) -> Tensor:
        """``T^-2`` times coefficients: the precision of c where ``F c`` has this covariance."""
        return self._multiplied(coefficients, self._of_scale(_inverse_square))

    def mean_precision(self) -> Tensor:
        """Mean of the diagonal of `precision` for each image; it broadcasts as `scale` does."""
        if self.scale is None:
            return torch.ones((), dtype=self.variance.dtype)
        return derived(self.scale, _mean_inverse_square)

    def factor_inverse(self, x: Tensor) -> Tensor:
        """``L^-1 x``, coefficients; 0 along directions without variance."""
        for secant in reversed(self.secants):
            x = secant.inverse(x)
        coloured = self.basis.transform(x)
        deviation = self.deviation(coloured).expand_as(coloured)
        return self.unscaled(
            torch.where(deviation > 0, coloured / deviation, torch.zeros_like(coloured))
        )

    def apply(self, x: Tensor) -> Tensor:
        """Covariance times x, ``(batch, *shape)``."""
        return self.factor(self.factor_transposed(x))

    def colour(self, noise: Tensor) -> Tensor:
        """White noise ``(batch, *shape)`` turned into noise of this covariance."""
        basis, scaled = self.basis, noise
        if self.scale is not None:  # the noise is white in either
            basis, scaled = basis.unturned(), self.scale * noise
        coefficients = basis.transform(scaled) * self.deviation(noise)
        return self.changed(self.basis.inverse(coefficients))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Covariance":
        """The same basis, scale and secants with other variances."""
        return replace(self, variance=function(self.variance))

    def _of_scale(self, function: Callable[[Tensor], Tensor]) -> Tensor | None:
        return None if self.scale is None else derived(self.scale, function)

    def _multiplied(self, coefficients: Tensor, scale: Tensor | None) -> Tensor:
        if scale is None:
            return coefficients
        # What is the same for all channels does not care how they are mixed.
        alike = scale.ndim == coefficients.ndim and scale.shape[1] == 1
        basis = self.basis.unmixed() if alike else self.basis.unturned()
        return basis.transform(resident(scale, coefficients) * basis.inverse(coefficients))


def _inverse(scale: Tensor) -> Tensor:
    return 1 / scale


def _inverse_square(scale: Tensor) -> Tensor:
    return scale**-2


def _mean_inverse_square(scale: Tensor) -> Tensor:
    return scale.pow(-2).mean(dim=tuple(range(2, scale.ndim)), keepdim=True)


def isotropic(variance: float) -> Covariance:
    """``variance * I``, a single number: diagonal in every basis."""
    return Covariance(Pixels(), torch.tensor(float(variance), dtype=torch.float64))


# Images of up to this many numbers have their covariance written in another basis by a matrix.
_LARGEST_DENSE = 4096


def common_basis(
    first: Covariance, second: Covariance, preferred: Basis, shape: tuple[int, ...]
) -> Basis:
    """A basis for both: `preferred` if both are isotropic, else that of the first that is not.

    Raises:
        ValueError: they differ, and images of `shape` are too large for `along`.
    """
    if first.variance.ndim == 0:
        return preferred if second.variance.ndim == 0 else second.basis
    if second.variance.ndim and second.basis != first.basis and math.prod(shape) > _LARGEST_DENSE:
        raise ValueError(
            f"two covariances of images of shape {tuple(shape)} are diagonal in different bases "
            f"({first.basis!r}, {second.basis!r}), which needs matrices of that size squared; up "
            f"to {_LARGEST_DENSE} numbers an image will do. Write both in one basis"
        )
    return first.basis


def along(covariance: Covariance, basis: Basis, shape: tuple[int, ...]) -> Tensor:
    """Variances of images of `shape` along the vectors of `basis`, like one image's coefficients.

    Correlations between them are left out; where the bases are the same there are none.
    """
    if covariance.variance.ndim == 0 or covariance.basis == basis:
        return covariance.variance
    size = math.prod(shape)
    units = torch.eye(size, dtype=torch.float64, device=covariance.variance.device).reshape(
        size, *shape
    )
    coefficients = basis.transform(units)
    vectors = coefficients.flatten(1).mT.reshape(size, *shape)
    variance = covariance.factor_transposed(vectors).flatten(1).square().sum(1)
    return variance.reshape(coefficients.shape[1:])

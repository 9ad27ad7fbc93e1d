"""What the noised phases say about the image: one number a pixel; the rest is independent noise.

``z_t | x0 ~ N(psi x0, C)`` with ``C = L L^T`` per pixel.  In the whitened state ``L^-1 z`` the
image moves along one direction only, the unit vector ``u = sigma L^-1 psi``:

    statistic    x = sigma u . (L^-1 z) = x0 + sigma n,    sigma^2 = 1 / (psi^T C^-1 psi)
    the rest     w = P^T L^-1 z ~ N(0, 1),  P orthogonal to u, independent of x and of x0

So the phases are an ordinary noisy image at level sigma, plus auxiliary noise w; ``E[x0 | z] =
D(x, sigma)`` for the best denoiser, and of the whitened noise ``epsilon = L^-1 (z - psi x0)`` only
``u . epsilon`` is unknown: ``P^T epsilon = w``.  (Derived here; the paper does not use it.)
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Least share of a variance that may be left after the other phases are accounted for, in units of
# the number type's rounding; below, the factor has lost its digits.
_LOST = 100.0


class Observation(NamedTuple):
    """``p(z_t | x0)`` of one pixel, and what follows from it; float64.

    Attributes:
        direction: psi ``(..., k)``.
        factor: L ``(..., k, k)``, lower triangular.
        whiten: ``L^-1``.
        sigma: ``(...)``, the effective noise level.
        unit: u ``(..., k)``.
    """

    direction: Tensor
    factor: Tensor
    whiten: Tensor
    sigma: Tensor
    unit: Tensor

    @property
    def covariance(self) -> Tensor:
        """C ``(..., k, k)``."""
        return self.factor @ self.factor.mT

    @property
    def rest(self) -> Tensor:
        """P ``(..., k, k - 1)``, orthonormal and orthogonal to u: columns of a reflection."""
        sign = torch.where(self.unit[..., :1] < 0, -1.0, 1.0).to(self.unit)
        first = torch.zeros_like(self.unit)
        first[..., :1] = sign
        v = self.unit + first
        v = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        eye = torch.eye(v.shape[-1], dtype=v.dtype)
        return (eye - 2 * v[..., :, None] * v[..., None, :])[..., 1:]


def observation(direction: Tensor, covariance: Tensor, t: Tensor) -> Observation:
    """The observation with mean ``direction x0`` and `covariance`, at time t (for messages)."""
    factor = cholesky(covariance, t)
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype)
    whiten = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
    white = (whiten @ direction[..., None])[..., 0]
    sigma = 1 / torch.linalg.vector_norm(white, dim=-1)
    return Observation(direction, factor, whiten, sigma, white * sigma[..., None])


def cholesky(covariance: Tensor, t: Tensor) -> Tensor:
    """The lower factor of ``(..., k, k)``.

    Raises:
        ValueError: the matrix is not positive definite to the precision of its number type, as
            happens in float32 at small times.
    """
    factor, info = torch.linalg.cholesky_ex(covariance)
    own = covariance.diagonal(dim1=-2, dim2=-1)
    left = (factor.diagonal(dim1=-2, dim2=-1) ** 2 / own).amin(-1)
    lost = (info > 0) | ~(left > _LOST * torch.finfo(covariance.dtype).eps)
    if bool(lost.any()):
        where = torch.as_tensor(t).expand(lost.shape)[lost].flatten()
        raise ValueError(
            f"the covariance of the phases at t = {float(where[0]):.3g} is not positive definite "
            f"to the precision of {covariance.dtype}: its Cholesky factor has lost its digits. "
            "Compute kernels in float64 (LinearProcess always does), or stay at larger times"
        )
    return factor

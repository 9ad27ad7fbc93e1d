"""Moves of an unknown kernel given y, in which the image is integrated out.

With ``x0 ~ N(m, V)`` and a circular blur, whose transfer function is K, the data have

    log p(y | K, m) = -1/2 sum_f |y_f - K_f m_f|^2 / S_f + log S_f,    S_f = |K_f|^2 V_f + s^2

where V is diagonal in the Fourier basis.  Elsewhere it is taken to be: by its variances along the
frequencies, and the mean of its scale.  Hamiltonian moves are made in the numbers n that make the
kernel, with the curvature at the middle of the prior as their metric.  It depends on the image and
not on the kernel that is moved, so that the moves leave ``p(n | m, V, y)`` as it is.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Basis, Cosines, Fourier
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.operators.kernel_prior import KernelPrior

# Steps of an integrator, and the acceptance that their size is tuned for.
_STEPS, _WANTED, _GAIN = 12, 0.8, 0.3


class KernelMoves(NamedTuple):
    """The numbers of the kernels after some moves."""

    numbers: Tensor  # (walkers, size^2) float64
    step: Tensor  # (walkers,), size of the steps from now on
    accepted: Tensor  # (walkers,), share of the moves
    trace: Tensor  # (moves, walkers, size^2), the numbers after each of them


def kernel_moves(
    numbers: Tensor,
    step: Tensor,
    mean: Tensor,
    covariance: Covariance,
    y: Tensor,
    noise: Tensor,
    prior: KernelPrior,
    streams: Streams,
    moves: int,
) -> KernelMoves:
    """Move the kernel of each walker.

    Args:
        numbers, step: ``(walkers, size^2)`` and ``(walkers,)``, float64.
        mean, covariance: m ``(walkers, channels, height, width)`` and V.
        y: like `mean`.
        noise: s, ``(walkers,)``.
    """
    target = _Target(prior, *_in_fourier(mean, covariance, y), noise.double())
    root = target.metric_root()
    here = target.at(numbers)
    accepted, visited = torch.zeros_like(step), []
    for _ in range(moves):
        white = streams.normal(numbers.shape[1:], like=y).double()
        jitter = 0.8 + 0.4 * streams.uniform((1,), like=y).double()
        there, momentum = _flight(here, white, step[:, None] * jitter, root, target)
        gain = there.value - here.value + 0.5 * (white.square() - momentum.square()).sum(1)
        gain = gain.nan_to_num(nan=-math.inf)
        taken = streams.uniform((1,), like=y)[:, 0].double().log() < gain
        here = _Place(*(_where(taken, a, b) for a, b in zip(there, here, strict=True)))
        step = step * torch.exp(_GAIN * (gain.exp().clamp(max=1) - _WANTED))
        accepted = accepted + taken.double() / moves
        visited.append(here.numbers)
    return KernelMoves(here.numbers, step, accepted, torch.stack(visited))


class _Place(NamedTuple):
    numbers: Tensor
    value: Tensor  # logarithm of the density
    gradient: Tensor


def _flight(
    here: _Place, white: Tensor, step: Tensor, root: Tensor, target: "_Target"
) -> tuple[_Place, Tensor]:
    """Leapfrog steps with the metric ``root root^T``, in momenta that are white beforehand."""
    momentum = white
    for _ in range(_STEPS):
        momentum = momentum + 0.5 * step * _solved(root, here.gradient)
        place = here.numbers + step * _solved(root, momentum, transposed=True)
        here = target.at(place)
        momentum = momentum + 0.5 * step * _solved(root, here.gradient)
    return here, momentum


def _solved(root: Tensor, b: Tensor, *, transposed: bool = False) -> Tensor:
    matrix = root.mT if transposed else root
    return torch.linalg.solve_triangular(matrix, b[..., None], upper=transposed)[..., 0]


class _Target(NamedTuple):
    """``log p(n | m, V, y)``; transforms are those of `torch.fft.rfft2`, orthonormal, of images."""

    prior: KernelPrior
    mean: Tensor  # (walkers, channels, height, width // 2 + 1), complex
    variance: Tensor  # the same, real
    y: Tensor
    size: tuple[int, int]
    noise: Tensor  # (walkers,)

    @property
    def _noise_variance(self) -> Tensor:
        return self.noise.square().reshape(-1, 1, 1, 1)

    @property
    def _counts(self) -> Tensor:
        """How many frequencies each of the half plane stands for, ``(width // 2 + 1,)``."""
        width = self.size[1]
        counts = torch.full((width // 2 + 1,), 2.0, dtype=torch.float64, device=self.noise.device)
        counts[0] = 1
        if width % 2 == 0:
            counts[-1] = 1
        return counts

    def transfer(self, kernels: Tensor) -> Tensor:
        """``(walkers, 1, height, width // 2 + 1)`` of kernels ``(walkers, size, size)``."""
        size, (height, width) = self.prior.size, self.size
        padded = F.pad(kernels[:, None], (0, width - size, 0, height - size))
        return torch.fft.rfft2(padded.roll((-(size // 2), -(size // 2)), (-2, -1)))

    def at(self, numbers: Tensor) -> _Place:
        with torch.enable_grad():
            numbers = numbers.detach().requires_grad_()
            value = self._value(numbers)
            (gradient,) = torch.autograd.grad(value.sum(), numbers)
        return _Place(numbers.detach(), value.detach(), gradient)

    def _value(self, numbers: Tensor) -> Tensor:
        kernels = self.prior.kernels(numbers)
        transfer = self.transfer(kernels)
        spread = _power(transfer) * self.variance + self._noise_variance
        left = _power(self.y - transfer * self.mean)
        likelihood = -0.5 * ((left / spread + spread.log()) * self._counts).flatten(1).sum(1)
        return likelihood - 0.5 * numbers.square().sum(1) + self.prior.log_centring(kernels)

    def metric_root(self) -> Tensor:
        """Cholesky factor of the information about n at n = 0, prior included."""
        kernel = self.prior.kernels(self.noise.new_zeros(self.prior.size**2))
        transfer = self.transfer(kernel[None])
        spread = _power(transfer) * self.variance + self._noise_variance
        information = ((_power(self.mean) + self.variance) / spread).sum(1)
        # sum_f F_f exp(2 pi i f (p - q)) is a correlation at the offset p - q.
        correlation = torch.fft.irfft2(information, s=self.size) * math.prod(self.size)
        places = self.prior.offsets.long().to(information.device)
        apart = places[:, None] - places
        rows, columns = (apart[..., axis].remainder(self.size[axis]) for axis in (0, 1))
        k = kernel.flatten()
        change = (k.diag() - k[:, None] * k) @ self.prior.root.to(k)  # of the kernel with n
        metric = change.mT @ correlation[:, rows, columns] @ change
        centre = change.mT @ self.prior.offsets.to(k) / self.prior.centring
        metric = metric + centre @ centre.mT
        metric.diagonal(dim1=-2, dim2=-1).add_(1)
        return torch.linalg.cholesky(metric)


def _in_fourier(
    mean: Tensor, covariance: Covariance, y: Tensor
) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    """m, V and y at the frequencies of the half plane, in the channels that V does not mix."""
    size = (int(mean.shape[-2]), int(mean.shape[-1]))
    mix = _mixing(covariance.basis)
    variance = resident(covariance.variance, mean).double().expand(mean.shape)
    kind = covariance.basis.unmixed()
    if isinstance(kind, Cosines):
        # A cosine of index k is a wave of k / 2 periods.
        rows, columns = (
            (2 * (torch.fft.fftfreq(side) * side).abs().round().long()).clamp(max=side - 1)
            for side in size
        )
        variance = variance[..., rows.to(mean.device)[:, None], columns.to(mean.device)]
    elif not isinstance(kind, Fourier):
        variance = variance.mean((-2, -1), keepdim=True).expand(mean.shape)
    if covariance.scale is not None:
        scale = covariance.scale.double().square().mean((-2, -1), keepdim=True)
        variance = variance * scale.mean(1, keepdim=True)
    half = variance[..., : size[1] // 2 + 1]
    waves, seen = (torch.fft.rfft2(mix(x.double()), norm="ortho") for x in (mean, y))
    return waves, half, seen, size


def _mixing(basis: Basis) -> Callable[[Tensor], Tensor]:
    """The change of the channels alone."""
    plain = basis.unmixed()
    if plain is basis:
        return lambda x: x
    return lambda x: plain.inverse(basis.transform(x))


def _power(z: Tensor) -> Tensor:
    return z.real.square() + z.imag.square()


def _where(taken: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(taken.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)

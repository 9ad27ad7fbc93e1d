"""Orthonormal bases of images, and operators that are diagonal between two of them.

A covariance is diagonal in a `Basis`; an operator with a `Spectrum` is ``A = U diag(s) W`` with W
such a basis.  Where both share the basis, the posterior of a Gaussian is known coefficient by
coefficient, and no linear system has to be solved.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.numerics.cosine_transform import cosines, is_fast_for, of_cosines
from tweedie_inverse.numerics.residence import resident


class Basis(ABC):
    """An orthonormal real change of coordinates for tensors ``(batch, *shape)``."""

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """Coefficients of x, as many as x has numbers."""

    @abstractmethod
    def inverse(self, coefficients: Tensor) -> Tensor:
        """The image with these coefficients."""

    def smooth(self, spectrum: Tensor) -> Tensor:
        """Spectra ``(batch, ...)`` averaged over neighbours, where coefficients have neighbours."""
        return spectrum

    def unmixed(self) -> "Basis":
        """The same change of coordinates of each channel, without a mixing of the channels."""
        return self

    def unturned(self) -> "Basis":
        """The same without a turn of the channels that differs from place to place."""
        return self

    @property
    def is_planar(self) -> bool:
        """Whether every ``(height, width)`` is transformed by itself, and all of them alike."""
        return False


@dataclass(frozen=True)
class Pixels(Basis):
    """The standard basis."""

    def transform(self, x: Tensor) -> Tensor:
        return x

    def inverse(self, coefficients: Tensor) -> Tensor:
        return coefficients

    @property
    def is_planar(self) -> bool:
        return True


@lru_cache(maxsize=32)
def cosine_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II matrix; rows are frequencies."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * k[:, None] * (k[None, :] + 0.5))
    matrix *= math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(dtype=dtype, device=device)


@dataclass(frozen=True, eq=False)
class Cosines(Basis):
    """Orthonormal DCT-II of the last axes, after an optional orthogonal `mixing` of the channels.

    Coefficients are ``(batch, channels, *size)``; for images rows are vertical frequencies.  The
    transform is a matrix product for each axis, which is faster than an FFT for images of up to a
    few hundred pixels a side; longer axes are transformed by one (`cosine_transform`).

    Attributes:
        mixing: ``(channels, channels)``.
        axes: how many axes `size` has: 2 for images, 3 for volumes.
    """

    mixing: Tensor | None = None
    axes: int = 2

    def transform(self, x: Tensor) -> Tensor:
        if self.mixing is not None:
            x = torch.einsum("kc,bc...->bk...", resident(self.mixing, x), x)
        for axis in range(-self.axes, 0):
            if is_fast_for(x, axis):
                x = cosines(x, axis)
                continue
            matrix = cosine_matrix(x.shape[axis], x.dtype, x.device)
            x = _along_axis(matrix, x, axis)
        return x

    def inverse(self, coefficients: Tensor) -> Tensor:
        x = coefficients
        for axis in range(-self.axes, 0):
            if is_fast_for(x, axis):
                x = of_cosines(x, axis)
                continue
            matrix = cosine_matrix(x.shape[axis], x.dtype, x.device)
            x = _along_axis(matrix.mT, x, axis)
        if self.mixing is not None:
            x = torch.einsum("kc,bk...->bc...", resident(self.mixing, x), x)
        return x

    def unmixed(self) -> Basis:
        return Cosines(axes=self.axes)

    @property
    def is_planar(self) -> bool:
        return self.mixing is None and self.axes == 2

    def smooth(self, spectrum: Tensor) -> Tensor:
        # It averages 5 neighbours along each axis, or fewer where the image itself is smaller.
        if self.axes not in _AVERAGES:
            return spectrum
        reach = min(2, *(n - 1 for n in spectrum.shape[-self.axes :]))
        padded = F.pad(spectrum, (reach,) * (2 * self.axes), mode="reflect")
        return _AVERAGES[self.axes](padded, 2 * reach + 1, stride=1)


_AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def along_axes(matrices: Sequence[Tensor], x: Tensor) -> Tensor:
    """One matrix along each of the last axes of x."""
    for axis, matrix in enumerate(matrices, -len(matrices)):
        x = _along_axis(matrix, x, axis)
    return x


def _along_axis(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """The matrix times x along one axis, counted from the end."""
    if axis == -1:
        return x @ matrix.mT
    return (matrix @ x.movedim(axis, -2)).movedim(-2, axis)


@dataclass(frozen=True)
class Fourier(Basis):
    """Orthonormal Hartley transform, ``Re F x - Im F x``: the Fourier basis, kept real.

    A periodic field whose spectrum is even in frequency is diagonal here, in the layout of
    ``torch.fft.fft2``; the transform is its own inverse.

    Attributes:
        axes: how many of the last axes are transformed: 2 for images, 3 for volumes.
    """

    axes: int = 2

    def transform(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fftn(x, dim=tuple(range(-self.axes, 0)), norm="ortho")
        return spectrum.real - spectrum.imag

    def inverse(self, coefficients: Tensor) -> Tensor:
        return self.transform(coefficients)

    @property
    def is_planar(self) -> bool:
        return self.axes == 2


@dataclass(frozen=True, eq=False)
class Separable(Basis):
    """An orthogonal matrix along each of the last axes, such as height and width.

    The rows of the matrices are the basis vectors.
    """

    matrices: tuple[Tensor, ...]

    def transform(self, x: Tensor) -> Tensor:
        return along_axes([resident(matrix, x) for matrix in self.matrices], x)

    def inverse(self, coefficients: Tensor) -> Tensor:
        matrices = [resident(matrix, coefficients).mT for matrix in self.matrices]
        return along_axes(matrices, coefficients)

    @property
    def is_planar(self) -> bool:
        return len(self.matrices) == 2


@dataclass(frozen=True, eq=False)
class Channels(Basis):
    """An orthogonal ``(channels, channels)`` mixing of an image's channels.

    A vector ``(n,)`` is n channels of one place.
    """

    mixing: Tensor

    def transform(self, x: Tensor) -> Tensor:
        return torch.einsum("kc,bc...->bk...", resident(self.mixing, x), x)

    def inverse(self, coefficients: Tensor) -> Tensor:
        return torch.einsum("kc,bk...->bc...", resident(self.mixing, coefficients), coefficients)

    def unmixed(self) -> Basis:
        return Pixels()


@dataclass(frozen=True, eq=False)
class Chained(Basis):
    """One change of coordinates after the other; both keep the shape of images."""

    first: Basis
    second: Basis

    def transform(self, x: Tensor) -> Tensor:
        return self.second.transform(self.first.transform(x))

    def inverse(self, coefficients: Tensor) -> Tensor:
        return self.first.inverse(self.second.inverse(coefficients))

    def smooth(self, spectrum: Tensor) -> Tensor:
        return self.second.smooth(spectrum)

    def unmixed(self) -> Basis:
        return self.second.unmixed() if isinstance(self.first, Channels) else self

    @property
    def is_planar(self) -> bool:
        return self.first.is_planar and self.second.is_planar


@dataclass(frozen=True, eq=False)
class Scrambled(Basis):
    """The Fourier basis of an image whose pixels are first multiplied by `signs` of +-1."""

    signs: Tensor

    def transform(self, x: Tensor) -> Tensor:
        return Fourier().transform(x * resident(self.signs, x))

    def inverse(self, coefficients: Tensor) -> Tensor:
        return Fourier().inverse(coefficients) * resident(self.signs, coefficients)


@dataclass(frozen=True)
class ComplexFourier(Basis):
    """Unitary, centred Fourier transform of a complex image held as two channels.

    Attributes:
        axes: 2 for images, 3 for volumes.
    """

    axes: int = 2

    def transform(self, x: Tensor) -> Tensor:
        return from_complex(centred_fft(to_complex(x), self.axes))

    def inverse(self, coefficients: Tensor) -> Tensor:
        return from_complex(centred_ifft(to_complex(coefficients), self.axes))


@dataclass(frozen=True, eq=False)
class Dense(Basis):
    """Columns of an orthogonal matrix `vectors` ``(n, n)``, for flattened images of `shape`."""

    vectors: Tensor
    shape: tuple[int, ...]

    def transform(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ resident(self.vectors, x)

    def inverse(self, coefficients: Tensor) -> Tensor:
        flat = coefficients @ resident(self.vectors, coefficients).mT
        return flat.reshape(len(coefficients), *self.shape)


@dataclass(frozen=True, eq=False)
class Completed(Basis):
    """A few orthonormal vectors, completed to a basis by reflections; flattened images of `shape`.

    The first coefficients belong to the columns of the `vectors` that it was made from, up to
    signs.  Applying it takes as many products as there are such vectors, and no ``(n, n)`` matrix.

    Attributes:
        reflectors, scales: as `torch.geqrf` returns them.
    """

    reflectors: Tensor
    scales: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, vectors: Tensor, shape: tuple[int, ...]) -> "Completed":
        """From orthonormal columns ``(n, count)``, not more than n."""
        return cls(*torch.geqrf(vectors), shape)

    def transform(self, x: Tensor) -> Tensor:
        a, tau = resident(self.reflectors, x), resident(self.scales, x)
        return torch.ormqr(a, tau, x.flatten(1), left=False)

    def inverse(self, coefficients: Tensor) -> Tensor:
        a, tau = resident(self.reflectors, coefficients), resident(self.scales, coefficients)
        flat = torch.ormqr(a, tau, coefficients, left=False, transpose=True)
        return flat.reshape(len(coefficients), *self.shape)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular value decomposition ``A = U diag(singular) W`` of a linear operator.

    Attributes:
        basis: W; its coefficients are the modes of the image.
        singular: like the coefficients of one image (or broadcasting to them), not negative; 0
            where a mode is not measured.
        to_modes: ``U^T`` on measurements ``(batch, *range_shape)``; 0 where `singular` is.
        from_modes: ``U``; ignores modes where `singular` is 0.
    """

    basis: Basis
    singular: Tensor
    to_modes: Callable[[Tensor], Tensor]
    from_modes: Callable[[Tensor], Tensor]


def to_complex(x: Tensor) -> Tensor:
    """``(batch, 2, ...)`` real and imaginary part to complex ``(batch, ...)``."""
    return torch.complex(x[:, 0], x[:, 1])


def from_complex(z: Tensor) -> Tensor:
    """Complex ``(batch, ...)`` to ``(batch, 2, ...)``."""
    return torch.stack([z.real, z.imag], 1)


def centred_fft(z: Tensor, axes: int = 2) -> Tensor:
    """Unitary Fourier transform of the last axes; the origin is in the centre of both spaces."""
    last = tuple(range(-axes, 0))
    shifted = torch.fft.ifftshift(z, dim=last)
    return torch.fft.fftshift(torch.fft.fftn(shifted, dim=last, norm="ortho"), dim=last)


def centred_ifft(z: Tensor, axes: int = 2) -> Tensor:
    """Inverse, and adjoint, of `centred_fft`."""
    last = tuple(range(-axes, 0))
    shifted = torch.fft.ifftshift(z, dim=last)
    return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=last, norm="ortho"), dim=last)

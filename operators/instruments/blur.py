"""Convolution with a known kernel; the border is treated in one of five ways."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.boundary.arguments import choice, volume_sizes
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.residence import derived, resident, resident_on
from tweedie_inverse.numerics.spectral import Fourier, Spectrum
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.noise.base import NoiseModel

_PADDINGS = ("circular", "valid", "zero", "reflect", "replicate")


class Blur(LinearOperator):
    """``y = kernel * x``, a convolution by FFT.

    Args:
        kernel: ``(h, w)`` or ``(1, 1, h, w)`` for all channels, or ``(channels, h, w)``; no larger
            than the image; its centre is the pixel ``(h // 2, w // 2)``.  It is used as given:
            normalize it to keep the brightness.  For volumes ``(d, h, w)`` or ``(channels, d, h,
            w)``.
        image_shape: ``(channels, height, width)``, or ``(channels, depth, height, width)``.
        padding: what lies beyond the border: ``"circular"`` the other side, ``"zero"`` nothing,
            ``"reflect"`` the image mirrored about its last pixel, ``"replicate"`` the last pixel;
            ``"valid"`` keeps only the part that sees no border, ``(height - h + 1, width - w +
            1)``.

    Examples:
        >>> blur = ops.Blur(ops.gaussian_kernel(1.0), (1, 8, 8), padding="reflect")
        >>> blur.forward(x[None]).shape
        torch.Size([1, 1, 8, 8])
    """

    def __init__(
        self,
        kernel: Tensor,
        image_shape: tuple[int, ...],
        *,
        padding: str = "circular",
        noise: NoiseModel | None = None,
    ):
        kernel = real_tensor("Blur", "kernel", kernel)
        channels, *size = image_shape = volume_sizes("Blur", image_shape)
        if kernel.ndim == 4 and kernel.shape[:2] == (1, 1) and len(size) == 2:
            kernel = kernel[0, 0]
        if not bool((kernel != 0).any()):
            raise ValueError("Blur(kernel=): has no entry other than 0, so that nothing is seen")
        if not _fits(kernel, image_shape):
            own = "h, w" if len(size) == 2 else "d, h, w"
            raise ValueError(
                f"Blur: needs a kernel ({own}){', (1, 1, h, w)' * (len(size) == 2)} or (channels, "
                f"{own}) no larger than image_shape (channels, "
                f"{'depth, ' * (len(size) == 3)}height, width); got {tuple(kernel.shape)} and "
                f"{tuple(image_shape)}"
            )
        choice("Blur", "padding", padding, _PADDINGS)
        self._axes = tuple(range(-len(size), 0))
        extent = kernel.shape[-len(size) :]
        seen = [n - k + 1 for n, k in zip(size, extent, strict=True)]
        super().__init__(
            domain_shape=image_shape,
            range_shape=(channels, *(seen if padding == "valid" else size)),
            noise=noise,
        )
        self.padding = padding
        # Pixels that the kernel reaches before and after the one it is at, along each axis.
        self._before = tuple(k - 1 - k // 2 for k in extent)
        self._after = tuple(k // 2 for k in extent)
        extended = tuple(size)
        if padding not in ("circular", "valid"):
            extended = tuple(n + k - 1 for n, k in zip(size, extent, strict=True))
        self._sources = [
            _sources(n, before, after, padding)
            for n, before, after in zip(size, self._before, self._after, strict=True)
        ]
        self.transfer = torch.fft.rfftn(_padded(kernel, extended), dim=self._axes)
        # Only the kernel of what has a spectrum: that of all frequencies is large.
        self._periodic_kernel = kernel.clone() if padding == "circular" else None

    def forward(self, x: Tensor) -> Tensor:
        return self._crop(self._filter(self._extend(x), self.transfer))

    def adjoint(self, y: Tensor) -> Tensor:
        return self._extend_transposed(self._filter(self._embed(y), self.transfer, conjugate=True))

    def normal(self, x: Tensor) -> Tensor:
        if self.padding != "circular" or type(self) is not Blur:
            return super().normal(x)  # a subclass may have another forward
        return self._filter(x, derived(self.transfer, _power))

    @property
    def treats_channels_alike(self) -> bool:
        # A subclass may have another forward.
        return super().treats_channels_alike or (
            type(self) is Blur and self.transfer.ndim == len(self._axes)
        )

    @property
    def spectrum(self) -> Spectrum | None:
        if self._periodic_kernel is None:
            return None
        basis, size = Fourier(len(self._axes)), tuple(self.domain_shape[1:])
        transfer = torch.fft.fftn(_padded(self._periodic_kernel, size), dim=self._axes)
        magnitude = transfer.abs()
        # Frequencies that the kernel does not pass are not measured; rounding leaves 1e-17 of them.
        magnitude = torch.where(magnitude > 1e-14 * magnitude.max(), magnitude, 0.0)
        phase = torch.where(magnitude > 0, transfer / magnitude, 0.0)[
            ..., : self.transfer.shape[-1]
        ]
        return Spectrum(
            basis,
            magnitude,
            to_modes=lambda y: basis.transform(self._filter(y, phase, conjugate=True)),
            from_modes=lambda c: self._filter(basis.inverse(c), phase),
        )

    def _filter(self, x: Tensor, transfer: Tensor, *, conjugate: bool = False) -> Tensor:
        spectrum = torch.fft.rfftn(x, dim=self._axes)
        transfer = resident(transfer, spectrum if transfer.is_complex() else x)
        # Not a conjugate that is kept: for large images there are copies enough.
        product = spectrum * (transfer.conj() if conjugate else transfer)
        del spectrum
        size = x.shape[-len(self._axes) :]
        return torch.fft.irfftn(product, s=size, dim=self._axes)

    def _extend(self, x: Tensor) -> Tensor:
        if self.padding in ("circular", "valid"):
            return x
        if self.padding == "zero":
            return F.pad(x, self._border)
        for axis, sources in zip(self._axes, self._sources, strict=True):
            x = x.index_select(axis, resident_on(sources, x.device))
        return x

    def _extend_transposed(self, x: Tensor) -> Tensor:
        if self.padding in ("circular", "valid"):
            return x
        if self.padding == "zero":
            return x[self._inside(self.domain_shape)]
        for axis, sources in zip(self._axes, self._sources, strict=True):
            shape = list(x.shape)
            shape[axis] = self.domain_shape[axis]
            x = x.new_zeros(shape).index_add_(axis, resident_on(sources, x.device), x)
        return x

    def _crop(self, x: Tensor) -> Tensor:
        if self.padding == "circular":
            return x
        return x[self._inside(self.range_shape)]

    def _embed(self, y: Tensor) -> Tensor:
        return y if self.padding == "circular" else F.pad(y, self._border)

    @property
    def _border(self) -> list[int]:
        """What is added round an image, as torch takes it: the last axis first."""
        pairs = zip(self._before[::-1], self._after[::-1], strict=True)
        return [pixels for pair in pairs for pixels in pair]

    def _inside(self, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """The places of an image or a measurement in what was extended."""
        sizes = shape[1:]
        return (..., *(slice(b, b + n) for b, n in zip(self._before, sizes, strict=True)))


def stacked_blurs(blurs: Sequence[Blur]) -> Blur | None:
    """One blur for a batch of as many images, each with a kernel of its own.

    None where their borders or the sizes of their kernels differ in a way that matters.
    """
    first = blurs[0]
    for other in blurs:
        same_reach = (other._before, other._after) == (first._before, first._after)
        same = other.transfer.shape == first.transfer.shape and other.padding == first.padding
        if not same or not (same_reach or first.padding == "circular"):
            return None
    together = copy.copy(first)
    size = first.transfer.shape[-len(first._axes) :]
    together.transfer = torch.stack(
        [blur.transfer.reshape(-1, *size) for blur in blurs]
    )  # (batch, 1 or channels, height, width // 2 + 1)
    together._periodic_kernel = None
    return together


def _padded(kernel: Tensor, size: tuple[int, ...]) -> Tensor:
    """A kernel in an image of zeros, float64, with its centre at the first pixel."""
    axes = tuple(range(-len(size), 0))
    extent = kernel.shape[-len(size) :]
    padded = torch.zeros((*kernel.shape[: -len(size)], *size), dtype=torch.float64)
    place: tuple[Any, ...] = (..., *(slice(k) for k in extent))
    padded[place] = kernel
    return padded.roll([-(k // 2) for k in extent], axes)


def _power(transfer: Tensor) -> Tensor:
    return transfer.abs().square()


def _sources(size: int, before: int, after: int, padding: str) -> Tensor:
    """Which pixel of a line stands at each place of the extended line."""
    place = torch.arange(-before, size + after)
    if padding != "reflect":
        return place.clamp(0, size - 1)
    if size == 1:
        return torch.zeros_like(place)
    return (size - 1) - (place.remainder(2 * size - 2) - (size - 1)).abs()


def _fits(kernel: Tensor, image_shape: tuple[int, ...]) -> bool:
    channels, *size = image_shape
    if kernel.ndim == len(image_shape) and kernel.shape[0] != channels:
        return False
    if kernel.ndim not in (len(size), len(image_shape)):
        return False
    return all(k <= n for k, n in zip(kernel.shape[-len(size) :], size, strict=True))

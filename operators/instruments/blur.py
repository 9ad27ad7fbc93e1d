"""Convolution with a known kernel; the border is treated in one of five ways."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.boundary.arguments import choice, image_sizes
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
            normalize it to keep the brightness.
        image_shape: ``(channels, height, width)``.
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
        image_shape: tuple[int, int, int],
        *,
        padding: str = "circular",
        noise: NoiseModel | None = None,
    ):
        kernel = real_tensor("Blur", "kernel", kernel)
        image_shape = image_sizes("Blur", image_shape)
        if kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
            kernel = kernel[0, 0]
        if not bool((kernel != 0).any()):
            raise ValueError("Blur(kernel=): has no entry other than 0, so that nothing is seen")
        if len(image_shape) != 3 or not _fits(kernel, image_shape):
            raise ValueError(
                "Blur: needs a kernel (h, w), (1, 1, h, w) or (channels, h, w) no larger than "
                "image_shape (channels, height, width); got "
                f"{tuple(kernel.shape)} and {tuple(image_shape)}"
            )
        choice("Blur", "padding", padding, _PADDINGS)
        channels, height, width = image_shape
        h, w = kernel.shape[-2:]
        size = (height - h + 1, width - w + 1) if padding == "valid" else (height, width)
        super().__init__(domain_shape=image_shape, range_shape=(channels, *size), noise=noise)
        self.padding = padding
        # Pixels that the kernel reaches above and left, below and right of the one it is at.
        self._before = (h - 1 - h // 2, w - 1 - w // 2)
        self._after = (h // 2, w // 2)
        extended = (height, width)
        if padding not in ("circular", "valid"):
            extended = (height + h - 1, width + w - 1)
        self._rows = _sources(height, self._before[0], self._after[0], padding)
        self._columns = _sources(width, self._before[1], self._after[1], padding)
        padded = torch.zeros((*kernel.shape[:-2], *extended), dtype=torch.float64)
        padded[..., :h, :w] = kernel
        padded = padded.roll((-(h // 2), -(w // 2)), (-2, -1))
        self.transfer = torch.fft.rfft2(padded)
        self._full_transfer = torch.fft.fft2(padded) if padding == "circular" else None

    def forward(self, x: Tensor) -> Tensor:
        return self._crop(_filter(self._extend(x), self.transfer))

    def adjoint(self, y: Tensor) -> Tensor:
        return self._extend_transposed(
            _filter(self._embed(y), derived(self.transfer, torch.conj_physical))
        )

    def normal(self, x: Tensor) -> Tensor:
        if self.padding != "circular" or type(self) is not Blur:
            return super().normal(x)  # a subclass may have another forward
        return _filter(x, derived(self.transfer, _power))

    @property
    def treats_channels_alike(self) -> bool:
        # A subclass may have another forward.
        return super().treats_channels_alike or (type(self) is Blur and self.transfer.ndim == 2)

    @property
    def spectrum(self) -> Spectrum | None:
        if self._full_transfer is None:
            return None
        transfer, basis = self._full_transfer, Fourier()
        magnitude = transfer.abs()
        # Frequencies that the kernel does not pass are not measured; rounding leaves 1e-17 of them.
        magnitude = torch.where(magnitude > 1e-14 * magnitude.max(), magnitude, 0.0)
        phase = torch.where(magnitude > 0, transfer / magnitude, 0.0)[
            ..., : self.transfer.shape[-1]
        ]
        return Spectrum(
            basis,
            magnitude,
            to_modes=lambda y: basis.transform(_filter(y, derived(phase, torch.conj_physical))),
            from_modes=lambda c: _filter(basis.inverse(c), phase),
        )

    def _extend(self, x: Tensor) -> Tensor:
        if self.padding in ("circular", "valid"):
            return x
        if self.padding == "zero":
            (top, left), (bottom, right) = self._before, self._after
            return F.pad(x, (left, right, top, bottom))
        return x[..., resident_on(self._rows, x.device), :][
            ..., resident_on(self._columns, x.device)
        ]

    def _extend_transposed(self, x: Tensor) -> Tensor:
        if self.padding in ("circular", "valid"):
            return x
        (top, left), (height, width) = self._before, self.domain_shape[1:]
        if self.padding == "zero":
            return x[..., top : top + height, left : left + width]
        folded = x.new_zeros((*x.shape[:-2], height, x.shape[-1]))
        folded.index_add_(-2, resident_on(self._rows, x.device), x)
        image = x.new_zeros((*x.shape[:-2], height, width))
        return image.index_add_(-1, resident_on(self._columns, x.device), folded)

    def _crop(self, x: Tensor) -> Tensor:
        if self.padding == "circular":
            return x
        (top, left), (height, width) = self._before, self.range_shape[1:]
        return x[..., top : top + height, left : left + width]

    def _embed(self, y: Tensor) -> Tensor:
        if self.padding == "circular":
            return y
        (top, left), (bottom, right) = self._before, self._after
        return F.pad(y, (left, right, top, bottom))


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
    height, width = first.transfer.shape[-2:]
    together.transfer = torch.stack(
        [blur.transfer.reshape(-1, height, width) for blur in blurs]
    )  # (batch, 1 or channels, height, width // 2 + 1)
    together._full_transfer = None
    return together


def _power(transfer: Tensor) -> Tensor:
    return transfer.abs().square()


def _filter(x: Tensor, transfer: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(x)
    product = spectrum * resident(transfer, spectrum if transfer.is_complex() else x)
    return torch.fft.irfft2(product, s=x.shape[-2:])


def _sources(size: int, before: int, after: int, padding: str) -> Tensor:
    """Which pixel of a line stands at each place of the extended line."""
    place = torch.arange(-before, size + after)
    if padding != "reflect":
        return place.clamp(0, size - 1)
    if size == 1:
        return torch.zeros_like(place)
    return (size - 1) - (place.remainder(2 * size - 2) - (size - 1)).abs()


def _fits(kernel: Tensor, image_shape: tuple[int, ...]) -> bool:
    if kernel.ndim not in (2, 3) or (kernel.ndim == 3 and kernel.shape[0] != image_shape[0]):
        return False
    return kernel.shape[-2] <= image_shape[1] and kernel.shape[-1] <= image_shape[2]

"""Convolution with a known kernel, circular at the borders."""

import math

import torch
from torch import Tensor

from .base import LinearOperator
from .noise import NoiseModel


class Blur(LinearOperator):
    """``y = kernel * x``, a circular convolution by FFT, the same for every channel.

    Args:
        kernel: ``(h, w)`` or ``(1, 1, h, w)``, no larger than the image; its centre is the
            pixel ``(h // 2, w // 2)``.  Used as given: normalize it to keep the brightness.
        image_shape: ``(channels, height, width)``.
    """

    shift_invariant = True

    def __init__(
        self, kernel: Tensor, image_shape: tuple[int, int, int], *, noise: NoiseModel | None = None
    ):
        kernel = torch.as_tensor(kernel)
        if kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
            kernel = kernel[0, 0]
        if kernel.ndim != 2 or len(image_shape) != 3 or _larger(kernel, image_shape):
            raise ValueError(
                "Blur: needs a kernel (h, w) or (1, 1, h, w) no larger than image_shape "
                f"(channels, height, width); got {tuple(kernel.shape)} and {tuple(image_shape)}"
            )
        super().__init__(domain_shape=image_shape, range_shape=image_shape, noise=noise)
        padded = torch.zeros(image_shape[1:], dtype=torch.float64)
        padded[: kernel.shape[0], : kernel.shape[1]] = kernel
        centre = (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2))
        self.transfer = torch.fft.rfft2(padded.roll(centre, (0, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self._filter(x, self.transfer)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._filter(y, self.transfer.conj())

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x)
        product = spectrum * transfer.to(device=x.device, dtype=spectrum.dtype)
        return torch.fft.irfft2(product, s=x.shape[-2:])


def gaussian_kernel(std: float, size: int | None = None) -> Tensor:
    """A normalized Gaussian ``(size, size)``; `std` in pixels, default size 6 std + 1, odd."""
    if std <= 0:
        raise ValueError(f"gaussian_kernel(std={std}): needs a positive width in pixels")
    size = size or 2 * math.ceil(3 * std) + 1
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-0.5 * (offset / std) ** 2)
    kernel = line[:, None] * line
    return kernel / kernel.sum()


def _larger(kernel: Tensor, image_shape: tuple[int, ...]) -> bool:
    return kernel.shape[0] > image_shape[1] or kernel.shape[1] > image_shape[2]

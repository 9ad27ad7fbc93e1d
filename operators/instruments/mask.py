"""Inpainting: some pixels are measured, the others are not."""

from functools import cached_property

from torch import Tensor

from tweedie_inverse.boundary.arguments import count
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Pixels, Spectrum
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.noise.base import NoiseModel


class Mask(LinearOperator):
    """``y = mask * x``; measurements are images with zeros where nothing was measured.

    Args:
        mask: boolean or 0/1, ``(channels, height, width)``, or ``(height, width)`` for all
            channels alike; ``(channels, depth, height, width)`` for volumes.  Images with masks of
            their own need ``ops.per_image([ops.Mask(m) for m in masks])``.
        channels: number of channels of the image when `mask` is ``(height, width)``.
    """

    def __init__(self, mask: Tensor, *, channels: int = 1, noise: NoiseModel | None = None):
        mask, channels = real_tensor("Mask", "mask", mask), count("Mask", "channels", channels)
        if mask.numel() == 0 or mask.ndim == 0:
            raise ValueError(f"Mask: needs a mask of pixels, got shape {tuple(mask.shape)}")
        if mask.ndim == 2:
            mask = mask.expand(channels, *mask.shape)
        elif channels not in (1, mask.shape[0]):
            raise ValueError(
                f"Mask(channels={channels}): the mask has shape {tuple(mask.shape)}; leave "
                "channels= out, or give one plane (height, width) for all of them"
            )
        if mask.ndim not in (3, 4) or not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(
                "Mask: needs zeros and ones of shape (height, width), (channels, height, width) or "
                f"(channels, depth, height, width), got shape {tuple(mask.shape)} with values "
                f"in [{mask.min()}, {mask.max()}]; for one mask an image use "
                "ops.per_image([ops.Mask(m) for m in masks])"
            )
        if not bool(mask.any()):
            raise ValueError("Mask: no pixel is observed; set some entries of the mask to 1")
        super().__init__(domain_shape=mask.shape, range_shape=mask.shape, noise=noise)
        self.mask = mask.bool()

    @property
    def observed(self) -> Tensor:
        return self.mask

    @cached_property
    def treats_channels_alike(self) -> bool:  # type: ignore[override]
        return type(self) is Mask and bool((self.mask == self.mask[:1]).all())

    @property
    def spectrum(self) -> Spectrum:
        return Spectrum(
            Pixels(), self.mask.double(), to_modes=self.adjoint, from_modes=self.forward
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * resident(self.mask, x)

    def adjoint(self, y: Tensor) -> Tensor:
        return y * resident(self.mask, y)

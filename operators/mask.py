"""Inpainting: some pixels are seen, the others are not."""

import torch
from torch import Tensor

from .base import LinearOperator
from .noise import NoiseModel
from .random import normal


class Mask(LinearOperator):
    """``y = mask * x``; measurements are images with zeros where nothing was seen.

    Args:
        mask: boolean or 0/1, ``(channels, height, width)``, or ``(height, width)`` for all
            channels alike.
        channels: number of channels of the image when `mask` is ``(height, width)``.
    """

    def __init__(self, mask: Tensor, *, channels: int = 1, noise: NoiseModel | None = None):
        mask = torch.as_tensor(mask)
        if mask.ndim == 2:
            mask = mask.expand(channels, *mask.shape)
        if mask.ndim != 3 or not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(
                "Mask: needs zeros and ones of shape (height, width) or (channels, height, width), "
                f"got shape {tuple(mask.shape)} with values in [{mask.min()}, {mask.max()}]"
            )
        if not bool(mask.any()):
            raise ValueError("Mask: no pixel is observed; set some entries of the mask to 1")
        super().__init__(domain_shape=mask.shape, range_shape=mask.shape, noise=noise)
        self.mask = mask.bool()

    @property
    def observed(self) -> Tensor:
        return self.mask

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return y * self.mask.to(y)


def random_mask(image_shape: tuple[int, int, int], keep: float, *, seed: int = 0) -> Tensor:
    """A mask that keeps each pixel (all its channels) with probability `keep`, boolean."""
    if not 0 < keep <= 1:
        raise ValueError(f"random_mask(keep={keep}): needs a share in (0, 1]")
    threshold = torch.special.ndtri(torch.tensor(keep, dtype=torch.float64))
    pixels = normal((seed, 0), image_shape[1:]) < threshold
    return pixels.expand(image_shape).clone()

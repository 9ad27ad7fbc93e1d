"""Colour: a grey image of a coloured one, and a camera's colour filter array."""

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import image_sizes
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Channels, Pixels, Spectrum
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.noise.base import NoiseModel


class Greyscale(LinearOperator):
    """``y = sum_c weights_c x_c``, one grey image ``(1, height, width)``.

    Args:
        image_shape: ``(channels, height, width)``.
        weights: one for each channel; the default is the luma of Rec. 601.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        weights: tuple[float, ...] = (0.299, 0.587, 0.114),
        noise: NoiseModel | None = None,
    ):
        image_shape = image_sizes("Greyscale", image_shape)
        each = real_tensor("Greyscale", "weights", weights, dtype=torch.float64)
        if len(image_shape) != 3 or each.shape != image_shape[:1] or not bool(each.any()):
            raise ValueError(
                "Greyscale: needs image_shape (channels, height, width) and one weight a channel, "
                f"not all zero; got {tuple(image_shape)} and {weights}"
            )
        super().__init__(domain_shape=image_shape, range_shape=(1, *image_shape[1:]), noise=noise)
        self.weights = each

    @property
    def spectrum(self) -> Spectrum:
        channels, strength = len(self.weights), self.weights.norm()
        # The reflection that takes the first unit vector to the weights' direction; symmetric.
        mirror = self.weights / strength
        mirror[0] -= 1
        mixing = torch.eye(channels, dtype=torch.float64)
        if mirror.any():
            mixing -= 2 * torch.outer(mirror, mirror) / mirror.square().sum()
        singular = torch.zeros(channels, 1, 1, dtype=torch.float64)
        singular[0] = strength
        rest = (0, 0, 0, 0, 0, channels - 1)
        return Spectrum(
            Channels(mixing),
            singular,
            to_modes=lambda y: torch.nn.functional.pad(y, rest),
            from_modes=lambda c: c[:, :1],
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("c,bchw->bhw", resident(self.weights, x), x)[:, None]

    def adjoint(self, y: Tensor) -> Tensor:
        return y * resident(self.weights, y)[:, None, None]


class Demosaicing(LinearOperator):
    """A raw camera image ``(1, height, width)``: each pixel measures one of three colours.

    Args:
        image_shape: ``(3, height, width)``.
        pattern: colours of a 2x2 tile, row by row; ``"RGGB"`` is the common Bayer pattern.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        pattern: str = "RGGB",
        noise: NoiseModel | None = None,
    ):
        image_shape = image_sizes("Demosaicing", image_shape)
        if len(image_shape) != 3 or image_shape[0] != 3:
            raise ValueError(f"Demosaicing: needs (3, height, width), got {tuple(image_shape)}")
        if not isinstance(pattern, str) or len(pattern) != 4 or set(pattern) - set("RGB"):
            raise ValueError(
                f"Demosaicing(pattern={pattern!r}): needs four letters out of R, G and B, row by "
                "row of a 2x2 tile, such as 'RGGB'"
            )
        super().__init__(domain_shape=image_shape, range_shape=(1, *image_shape[1:]), noise=noise)
        mask = torch.zeros(image_shape, dtype=torch.bool)
        for place, colour in enumerate(pattern):
            mask["RGB".index(colour), place // 2 :: 2, place % 2 :: 2] = True
        self.mask = mask

    @property
    def spectrum(self) -> Spectrum:
        return Spectrum(
            Pixels(), self.mask.double(), to_modes=self.adjoint, from_modes=self.forward
        )

    def forward(self, x: Tensor) -> Tensor:
        return (x * resident(self.mask, x)).sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        return y * resident(self.mask, y)

"""Phase retrieval: only the magnitude of a Fourier transform is measured."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.boundary.arguments import count as whole_number
from tweedie_inverse.boundary.arguments import flag, image_sizes, number, sizes
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import complex_tensor
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.residence import resident_as
from tweedie_inverse.numerics.spectral import centred_fft, to_complex
from tweedie_inverse.operators.base import Operator
from tweedie_inverse.operators.noise.base import NoiseModel


class PhaseRetrieval(Operator):
    """``y = |F (c_l x)|``, or its square: oversampled Fourier magnitudes, or coded diffraction.

    F is unitary, with the origin in the centre; the image is padded with zeros to `oversampling`
    times its sides first.  Every channel of a real image is measured on its own; y is ``(channels *
    codes, height', width')``, the codes of a channel side by side.

    Plain magnitudes, without codes, do not distinguish an image from its shifted copies and its
    point reflection; only the prior does.

    Args:
        image_shape: ``(channels, height, width)``; ``(2, height, width)`` with `complex_image`.
        oversampling: padded side over side, 1 or more; 2 determines a generic image.
        codes: complex ``(codes, height, width)`` masks in front of the object, such as
            `random_codes`; None is none.
        intensity: measure the square, as a detector without further processing does.
        complex_image: the two channels are real and imaginary part.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        oversampling: float = 2.0,
        codes: Tensor | None = None,
        intensity: bool = False,
        complex_image: bool = False,
        noise: NoiseModel | None = None,
    ):
        image_shape = image_sizes("PhaseRetrieval", image_shape)
        oversampling = number("PhaseRetrieval", "oversampling", oversampling)
        if len(image_shape) != 3 or oversampling < 1:
            raise ValueError(
                "PhaseRetrieval: needs image_shape (channels, height, width) and oversampling of 1 "
                f"or more, got {tuple(image_shape)} and {oversampling}"
            )
        complex_image = flag("PhaseRetrieval", "complex_image", complex_image)
        if complex_image and image_shape[0] != 2:
            raise ValueError(
                "PhaseRetrieval(complex_image=True): needs two channels, real and imaginary part, "
                f"got {tuple(image_shape)}"
            )
        channels, height, width = image_shape
        if codes is None:
            codes = torch.ones(1, height, width)
        codes = complex_tensor("PhaseRetrieval", "codes", codes)
        if codes.ndim != 3 or tuple(codes.shape[1:]) != (height, width):
            raise ValueError(
                f"PhaseRetrieval(codes=): needs masks (codes, {height}, {width}), got "
                f"{tuple(codes.shape)}"
            )
        sides = (math.ceil(oversampling * height), math.ceil(oversampling * width))
        planes = (1 if complex_image else channels) * len(codes)
        super().__init__(domain_shape=image_shape, range_shape=(planes, *sides), noise=noise)
        self.codes = codes
        self.intensity = flag("PhaseRetrieval", "intensity", intensity)
        self.complex_image = complex_image
        self.domain_is_complex = self.complex_image

    def forward(self, x: Tensor) -> Tensor:
        image = to_complex(x)[:, None] if self.complex_image else x
        coded = (image[:, :, None] * resident_as(self.codes, _complex(x), x.device)).flatten(1, 2)
        (height, width), (tall, wide) = self.domain_shape[1:], self.range_shape[1:]
        padded = F.pad(coded, (0, wide - width, 0, tall - height))
        field = centred_fft(padded)
        energy = field.real**2 + field.imag**2
        if self.intensity:
            return energy
        # The magnitude has no gradient at 0, where 0 is used for it.
        return torch.where(energy > 0, torch.where(energy > 0, energy, 1.0).sqrt(), 0.0)


def random_codes(count: int, size: tuple[int, int], *, seed: int = 0) -> Tensor:
    """Coded diffraction: `count` masks of random phases, complex ``(count, height, width)``."""
    plane = sizes("random_codes", "size", size, need="height and width, such as (64, 64)")
    if len(plane) != 2:
        raise ValueError(f"random_codes(size={plane}): needs height and width")
    shape = (whole_number("random_codes", "count", count), *plane)
    seed = checked_seed("random_codes", "seed", seed)
    angle = torch.special.ndtr(normal(("random codes", seed), shape)) * (2 * math.pi)
    return torch.polar(torch.ones_like(angle), angle)


def _complex(x: Tensor) -> torch.dtype:
    return torch.complex128 if x.dtype == torch.float64 else torch.complex64

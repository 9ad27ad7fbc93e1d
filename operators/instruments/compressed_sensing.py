"""Compressed sensing without a matrix: random signs, a Fourier transform, a random choice."""

import math

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, image_sizes
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.residence import resident_on
from tweedie_inverse.numerics.spectral import Scrambled, Spectrum
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.noise.base import NoiseModel


class StructuredRandom(LinearOperator):
    """``y = sqrt(n / m) P H diag(signs) x``: m of the n coefficients of a scrambled image.

    H is the orthonormal real Fourier (Hartley) transform of each channel, `signs` are random +-1
    and P picks coefficients at random.  It behaves like a Gaussian random matrix at the cost of one
    FFT (Do et al. 2012).  The scale keeps ``|y|^2`` equal to ``|x|^2`` on average.

    Args:
        image_shape: ``(channels, height, width)``.
        measurements: m, from 1 to the number n of pixels; y is ``(m,)``.
        seed: fixes signs and choice.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        measurements: int,
        *,
        seed: int = 0,
        noise: NoiseModel | None = None,
    ):
        image_shape = image_sizes("StructuredRandom", image_shape)
        measurements = count("StructuredRandom", "measurements", measurements)
        seed = checked_seed("StructuredRandom", "seed", seed)
        pixels = math.prod(image_shape)
        if len(image_shape) != 3 or not 1 <= measurements <= pixels:
            raise ValueError(
                f"StructuredRandom: needs image_shape (channels, height, width) and 1 to {pixels} "
                f"measurements, one a pixel at most; got {tuple(image_shape)} and {measurements}"
            )
        super().__init__(domain_shape=image_shape, range_shape=(measurements,), noise=noise)
        self.basis = Scrambled(normal(("random signs", seed), image_shape).sign())
        self.choice = normal(("random choice", seed), (pixels,)).argsort()[:measurements]
        self.scale = math.sqrt(pixels / measurements)

    @property
    def spectrum(self) -> Spectrum:
        seen = torch.zeros(math.prod(self.domain_shape), dtype=torch.float64)
        seen[self.choice] = self.scale
        singular = seen.reshape(self.domain_shape)
        return Spectrum(self.basis, singular, to_modes=self._spread, from_modes=self._pick)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self._pick(self.basis.transform(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.basis.inverse(self.scale * self._spread(y))

    def _pick(self, coefficients: Tensor) -> Tensor:
        return coefficients.flatten(1)[:, resident_on(self.choice, coefficients.device)]

    def _spread(self, y: Tensor) -> Tensor:
        flat = y.new_zeros((len(y), math.prod(self.domain_shape)))
        flat[:, resident_on(self.choice, y.device)] = y
        return flat.reshape(len(y), *self.domain_shape)

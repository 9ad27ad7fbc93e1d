"""A blur with an unknown kernel, which `solve` draws together with the image."""

from collections.abc import Sequence
from typing import Any

import torch

from tweedie_inverse.boundary.arguments import count, image_sizes, positive
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.instruments.blur import Blur
from tweedie_inverse.operators.kernel_prior import KernelPrior
from tweedie_inverse.operators.noise.base import NoiseModel
from tweedie_inverse.operators.parametric import Parametric
from tweedie_inverse.operators.scalar_prior import ScalarPrior

_LARGEST = 31  # entries along a side: their covariance is a matrix of the square of their number


class BlindBlur(Parametric):
    """Circular convolution with an unknown kernel, not negative, of sum 1, smooth, and centred.

    ``posterior.parameters["kernel"]`` has its samples, ``(batch, num_samples, size, size)``, and
    ``at(kernel=...)`` is the blur by a known one.

    Args:
        image_shape: ``(channels, height, width)``; all channels have the same kernel.
        size: the kernel is ``(size, size)``; odd, 3 to 31.
        contrast: standard deviation of the logarithm of an entry beforehand, about that of a
            Gaussian of a quarter of the size; larger for kernels with holes, such as the paths of
            shaking hands.
        smoothness: correlation length of that logarithm, in pixels.
        centring: standard deviation of the kernel's centre of mass about its middle, in pixels;
            the image would else be free to move.

    Raises:
        ValueError: an even size, or one larger than the image.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        size: int = 15,
        *,
        contrast: float = 2.0,
        smoothness: float = 1.5,
        centring: float = 0.1,
        noise: NoiseModel | None = None,
    ):
        shape, size = image_sizes("BlindBlur", image_shape), count("BlindBlur", "size", size)
        if len(shape) != 3 or size % 2 == 0 or not 3 <= size <= min(_LARGEST, *shape[1:]):
            raise ValueError(
                "BlindBlur: needs image_shape (channels, height, width) and an odd size of the "
                f"kernel from 3 to {_LARGEST}, no larger than the image; got {tuple(shape)} and "
                f"{size}"
            )
        self.prior = KernelPrior(
            size,
            positive("BlindBlur", "contrast", contrast),
            positive("BlindBlur", "smoothness", smoothness),
            positive("BlindBlur", "centring", centring),
        )
        self._image_shape = shape
        numbers = [f"kernel {place}" for place in range(size**2)]
        super().__init__(self._blur, {name: ScalarPrior.normal(0, 1) for name in numbers}, noise)

    def __repr__(self) -> str:
        return f"BlindBlur({tuple(self._image_shape)}, size={self.prior.size})"

    def at(self, *, kernel: Any) -> LinearOperator:  # type: ignore[override]
        """The blur by a known kernel, ``(size, size)`` or not, with this one's noise."""
        return Blur(kernel, self._image_shape, noise=self.noise)

    @property
    def _asked(self) -> str:
        return "kernel=..."

    def member(self, values: Sequence[float]) -> LinearOperator:
        return self._made(tuple(values))

    def _blur(self, **numbers: float) -> LinearOperator:
        values = torch.tensor(list(numbers.values()), dtype=torch.float64)
        return Blur(self.prior.kernels(values), self._image_shape)

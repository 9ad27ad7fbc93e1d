"""What a detector does to each value: it saturates, rounds, or counts what gets through.

These operators are for noise that comes after rounding or saturation.  For noise that is there
*before*, as in a real converter, use `DigitizedNoise` on a linear operator.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number, positive
from tweedie_inverse.boundary.arrays import real_tensor, refuse_spread
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.operators.base import LinearOperator, Operator, linear_operator
from tweedie_inverse.operators.noise.base import NoiseModel, refuse_flag


class Clipping(Operator):
    """``y = min(max(x, low), high)``, value by value; flat, with zero gradient, outside.

    Args:
        shape: of one image, without the batch axis.
        low, high: the range that is kept.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        low: float = 0.0,
        high: float = 1.0,
        noise: NoiseModel | None = None,
    ):
        low, high = (
            number("Clipping", name, end, finite=False)
            for name, end in (("low", low), ("high", high))
        )
        if not low < high:
            raise ValueError(f"Clipping(low={low}, high={high}): needs low < high")
        super().__init__(domain_shape=shape, range_shape=shape, noise=noise)
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


class Quantization(Operator):
    """``y = step * round(x / step)``, value by value.

    Its gradient is that of ``y = x``, because the true one is zero almost everywhere.  Walks that
    accept or refuse their moves by the likelihood itself stay exact with it.

    Args:
        shape: of one image, without the batch axis.
        step: distance between the values that y can have.
    """

    def __init__(self, shape: Sequence[int], step: float, *, noise: NoiseModel | None = None):
        step = positive("Quantization", "step", step, need="a positive step, in units of x")
        super().__init__(domain_shape=shape, range_shape=shape, noise=noise)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        rounded = (x.detach() / self.step).round() * self.step
        return x + (rounded - x.detach())


class Transmission(Operator):
    """Expected counts behind an object, ``photons * exp(-A x)`` (Beer and Lambert).

    With ``noise=PoissonNoise(1.0)`` it is low-dose X-ray tomography with its true statistics; data
    that are already ``log(photons / counts)`` become counts again as ``photons * exp(-data)``.

    Args:
        operator: A, the line integrals; its unit times that of the image has to be a pure number.
        photons: counts without an object, a number or a tensor that broadcasts to y.
    """

    def __init__(
        self,
        operator: LinearOperator,
        photons: float | Tensor,
        *,
        noise: NoiseModel | None = None,
    ):
        refuse_flag("Transmission", "photons", photons)
        self.photons = real_tensor("Transmission", "photons", photons, dtype=torch.float64)
        if not bool((self.photons > 0).all()):
            raise ValueError(f"Transmission(photons={photons}): needs positive counts")
        linear_operator("Transmission", operator)
        refuse_spread(
            "Transmission", "photons", self.photons.shape, operator.range_shape, "measurement"
        )
        super().__init__(
            domain_shape=operator.domain_shape, range_shape=operator.range_shape, noise=noise
        )
        self.operator, self.images = operator, operator.images
        self.domain_is_complex = operator.domain_is_complex

    def select(self, index: int) -> Operator:
        if self.images is None:
            return self
        part = self.operator.select(index)
        assert isinstance(part, LinearOperator)
        return Transmission(part, self.photons, noise=self.noise)

    def forward(self, x: Tensor) -> Tensor:
        return resident(self.photons, x) * torch.exp(-self.operator.forward(x))

"""An instrument of complex images whose smooth phase `solve` draws together with the image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, positive
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.operators.base import LinearOperator, linear_operator
from tweedie_inverse.operators.calibration_maps import smoothed_adjoint
from tweedie_inverse.operators.noise.base import NoiseModel
from tweedie_inverse.operators.parametric import Parametric
from tweedie_inverse.operators.phase_prior import PhasePrior
from tweedie_inverse.operators.scalar_prior import ScalarPrior

# Window of the first guess: about so many pixels of an image are one, 2 pi samples of k-space.
_SAMPLES = 24
_MOST = 64  # numbers of a phase: moves of more are too short


class UnknownPhase(Parametric):
    """``A exp(i phase)`` with an unknown smooth phase: a polynomial of low degree.

    Images are then those without their phase, ``(2, *size)``: magnitude in the first channel, and
    what the polynomial cannot say in the second.  `ti.priors.Complex(prior, imaginary=...)` is
    their prior.  ``posterior.parameters["phase"]`` has samples of the phase in radians, ``(batch,
    num_samples, *size)``, and `turned` puts it back.

    Args:
        operator: linear, of complex images ``(2, height, width)``, or with a depth.
        degree: of the polynomial: 3 has 10 numbers in two dimensions, 5 has 21.
        spread: standard deviation of its coefficients beforehand, in radians at the edges of the
            image; the constant is uniform.

    Raises:
        TypeError, ValueError: an operator that is not linear, of real images, or with unknown
            numbers of its own; a degree of more than 64 numbers.
    """

    def __init__(
        self,
        operator: LinearOperator,
        *,
        degree: int = 3,
        spread: float = 2.0,
        noise: NoiseModel | None = None,
    ):
        self.operator = linear_operator("UnknownPhase", operator)
        if not operator.domain_is_complex or isinstance(operator, Parametric):
            raise ValueError(
                "UnknownPhase(operator=): needs an operator of complex images (2, height, width) "
                f"without unknown numbers, got {operator!r}"
            )
        if operator.images is not None:
            raise ValueError(
                "UnknownPhase(operator=): needs one operator for all images; solve measurements "
                "with operators of their own one by one"
            )
        self.prior = PhasePrior(
            tuple(operator.domain_shape[1:]),
            count("UnknownPhase", "degree", degree, least=0),
            positive("UnknownPhase", "spread", spread),
        )
        if len(self.prior.powers) > _MOST:
            raise ValueError(
                f"UnknownPhase(degree={degree}): has {len(self.prior.powers)} numbers, and at most "
                f"{_MOST} can be drawn; take a lower degree"
            )
        priors = [ScalarPrior.normal(0, 1)] * (len(self.prior.powers) - 1)
        unknowns = [ScalarPrior.uniform(*self.prior.turns), *priors]
        super().__init__(self._of, dict(zip(self.prior, unknowns, strict=True)), noise)
        self.range_name = operator.range_name
        if noise is None:
            self.noise = operator.noise

    def __repr__(self) -> str:
        return f"UnknownPhase({self.operator!r}, degree={self.prior.degree})"

    def at(self, *, phase: Any) -> LinearOperator:  # type: ignore[override]
        """That of a known phase in radians, one number or ``(*size)``, with this one's noise."""
        known = real_tensor("UnknownPhase.at", "phase", phase).double()
        if known.ndim and tuple(known.shape) != self.prior.size:
            raise ValueError(
                f"UnknownPhase.at(phase=): needs one number or shape {self.prior.size}, got "
                f"{tuple(known.shape)}"
            )
        found = Turned(self.operator, known.expand(self.prior.size))
        found.noise = self.noise
        return found

    @property
    def _asked(self) -> str:
        return "phase=..."

    def member(self, values: Sequence[float]) -> LinearOperator:
        return self.members(torch.tensor(tuple(values), dtype=torch.float64))

    def members(self, values: Tensor) -> LinearOperator:
        return Turned(self.operator, self.prior.maps(values))

    def guess(self, y: Tensor) -> Tensor:
        """Numbers ``(count,)`` of the phase of the middle of k-space, for moves to begin with.

        Args:
            y: one measurement, ``(*range_shape)``.
        """
        width = min(self.prior.size) / _SAMPLES
        return self.prior.fitted(smoothed_adjoint(y, self.operator, width))

    def turned(self, images: Tensor, phase: Tensor) -> Tensor:
        """``exp(i phase)`` times images, as samples of `solve` are.

        Args:
            images: ``(..., 2, *size)``.
            phase: ``(..., *size)``, in radians.

        Raises:
            ValueError: of other sizes.
        """
        size = self.prior.size
        if (
            tuple(images.shape[self._axis :]) != (2, *size)
            or tuple(phase.shape[-len(size) :]) != size
        ):
            raise ValueError(
                f"UnknownPhase.turned: needs images (..., {', '.join(map(str, (2, *size)))}) and "
                f"phases of shape {size} each, got {tuple(images.shape)} and {tuple(phase.shape)}"
            )
        return _turned(images, phase.cos().to(images), phase.sin().to(images), self._axis)

    @property
    def _axis(self) -> int:
        return -1 - len(self.prior.size)

    def _of(self, **numbers: float) -> LinearOperator:
        return self.member(list(numbers.values()))


class Turned(LinearOperator):
    """``A exp(i phase)``.

    Args:
        operator: A.
        phase: in radians, ``(*size)``, or ``(batch, *size)`` for a batch of as many images.
    """

    def __init__(self, operator: LinearOperator, phase: Tensor):
        super().__init__(
            domain_shape=operator.domain_shape,
            range_shape=operator.range_shape,
            noise=operator.noise,
        )
        self.operator = operator
        self.domain_is_complex, self.range_is_complex = True, operator.range_is_complex
        self.range_name = operator.range_name
        self._cosine, self._sine = phase.cos(), phase.sin()
        self._axis = 1 - len(operator.domain_shape) - 1

    @property
    def observed(self) -> Tensor | None:
        return self.operator.observed

    @property
    def treats_channels_alike(self) -> bool:
        return False

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.forward(self._turn(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self._back(self.operator.adjoint(y))

    def normal(self, x: Tensor) -> Tensor:
        return self._back(self.operator.normal(self._turn(x)))

    def _turn(self, x: Tensor) -> Tensor:
        return _turned(x, resident(self._cosine, x), resident(self._sine, x), self._axis)

    def _back(self, x: Tensor) -> Tensor:
        return _turned(x, resident(self._cosine, x), -resident(self._sine, x), self._axis)


def _turned(x: Tensor, cosine: Tensor, sine: Tensor, axis: int) -> Tensor:
    real, imaginary = x.unbind(axis)
    return torch.stack([cosine * real - sine * imaginary, sine * real + cosine * imaginary], axis)

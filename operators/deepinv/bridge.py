"""Operators of this package as deepinv physics, and the other way round (Tachella et al. 2025).

deepinv is imported inside the functions, so that the package does not need it.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.numerics.autograd import linear_map
from tweedie_inverse.operators.base import LinearOperator, Operator
from tweedie_inverse.operators.checks import adjoint_error
from tweedie_inverse.operators.deepinv.copies import FAILURES, Copies
from tweedie_inverse.operators.deepinv.layout import Layout, Part
from tweedie_inverse.operators.deepinv.noise import (
    MappedNoise,
    noise_from_deepinv,
    noise_to_deepinv,
)
from tweedie_inverse.operators.deepinv.shapes import image_shape, observed_entries, runnable_copies
from tweedie_inverse.operators.noise.base import NoiseModel

# Relative errors of a dot test.  Below the first, deepinv's own adjoint is used.  Above the second,
# the derived one is not used either.
_EXACT = {torch.float64: 1e-10, torch.float32: 1e-5}
_WRONG = {torch.float64: 1e-7, torch.float32: 1e-3}


def from_deepinv(
    physics: Any,
    *,
    domain_shape: Sequence[int] | None = None,
    noise: NoiseModel | None = None,
) -> Operator:
    """A deepinv physics as an operator; a `LinearOperator` if it is a `LinearPhysics`.

    ``forward`` is ``physics.A``; divided by the gain where deepinv's Poisson noise makes y counts,
    so that it is the mean of y.  The adjoint of a linear one is ``physics.A_adjoint`` where that
    passes a dot test, otherwise the automatic derivative of ``A``.  The operator works on copies:
    `physics` stays as it is, and later changes to it are not seen.

    Complex images and measurements are real tensors with twice the size along the first axis, real
    parts before imaginary parts; measurements of a stacked physics are one vector ``(m,)``.  Real
    images are the default also for a physics of complex ones (their imaginary part is zero).

    Args:
        physics: `deepinv.physics.Physics`; per-image parameters with a batch axis of 1.
        domain_shape: shape of one image, without the batch axis; needed where the physics does not
            know it, as a `Blur`.  Twice ``physics.img_size[0]`` channels ask for complex images.
        noise: instead of the physics' own noise model (table in `bridge_noise`).

    Raises:
        TypeError: not a deepinv physics.
        ValueError: no image shape, ``A`` fails on such images, a noise model without counterpart
            (pass `noise`), or no exact adjoint.
    """
    from deepinv.physics import LinearPhysics, Physics

    from tweedie_inverse.operators.deepinv.physics import WrappedOperator

    if not isinstance(physics, Physics):
        raise TypeError(f"from_deepinv: needs a deepinv.physics.Physics, got {physics!r}")
    if isinstance(physics, WrappedOperator):
        return _unwrapped(physics, domain_shape, noise)
    copies = runnable_copies(physics, domain_shape)
    mapped = noise_from_deepinv(physics, copies.range) if noise is None else MappedNoise(noise)
    if isinstance(physics, LinearPhysics):
        return _linear(physics, copies, mapped, noise is None)
    return _Deepinv(physics, copies, mapped, noise is None)


def to_deepinv(operator: Operator) -> Any:
    """An operator as a deepinv physics; a `LinearPhysics` if it is a `LinearOperator`.

    One with a `spectrum` becomes a `DecomposablePhysics`, as `DDRM` needs it.

    ``physics.A`` and ``physics.A_adjoint`` are ``forward`` and ``adjoint``, differentiable to any
    order (through a linear operator even if it leaves torch), and ``physics(x)`` adds noise from a
    generator of its own, with zeros where nothing is observed.

    An operator made by `from_deepinv` gives back its physics, and the other way round, unless the
    noise was replaced in between.
    """
    from tweedie_inverse.operators.deepinv.physics import (
        DecomposableOperatorPhysics,
        LinearOperatorPhysics,
        OperatorPhysics,
    )

    if isinstance(operator, _Deepinv) and operator.is_unchanged:
        return operator.physics
    if not isinstance(operator, Operator):
        raise TypeError(f"to_deepinv: needs an Operator of this package, got {operator!r}")
    noise_model = noise_to_deepinv(operator.noise)
    if isinstance(operator, LinearOperator):
        spectrum = operator.spectrum
        if spectrum is not None:
            return DecomposableOperatorPhysics(operator, spectrum, noise_model)
        return LinearOperatorPhysics(operator, noise_model)
    return OperatorPhysics(operator, noise_model)


def measurement_of(operator: Operator, y: Any) -> Any:
    """Measurements as deepinv makes them, as the operator of their physics has them.

    Complex ones become channels, and the list of a stacked physics becomes vectors ``(batch, m)``;
    those of an operator that does not come from deepinv stay as they are.
    """
    return operator.copies.range.to_real(y) if isinstance(operator, _Deepinv) else y


def shape_if_unknown(physics: Any, shape: Sequence[int]) -> Sequence[int] | None:
    """`shape` for the images of a physics that does not know theirs; None where it does."""
    from tweedie_inverse.operators.deepinv.physics import WrappedOperator

    if isinstance(physics, WrappedOperator) or image_shape(physics) is not None:
        return None
    return shape


def _unwrapped(
    physics: Any, domain_shape: Sequence[int] | None, noise: NoiseModel | None
) -> Operator:
    """The operator inside a physics that `to_deepinv` made; a copy if its noise was replaced."""
    operator = physics.operator
    if domain_shape is not None and tuple(domain_shape) != operator.domain_shape:
        raise ValueError(
            f"from_deepinv(domain_shape={tuple(domain_shape)}): this physics is {operator!r}; "
            "leave domain_shape out"
        )
    if noise is None and physics.is_unchanged:
        return operator
    copied = copy.copy(operator)
    layout = Layout((Part(operator.range_shape, "real"),), False)
    copied.noise = noise or noise_from_deepinv(physics, layout).model
    return copied


class _Deepinv(Operator):
    """``A`` of a deepinv physics, divided by what puts its noise into our units."""

    def __init__(self, physics: Any, copies: Copies, mapped: MappedNoise, has_own_noise: bool):
        super().__init__(
            domain_shape=copies.domain.shape, range_shape=copies.range.shape, noise=mapped.model
        )
        self.physics, self.copies, self.divisor = physics, copies, mapped.divisor
        self._mask = observed_entries(physics, copies.range)
        self._own_noise, self._has_own_noise = mapped.model, has_own_noise

    def forward(self, x: Tensor) -> Tensor:
        return self.copies.forward(x) / self.divisor

    @property
    def observed(self) -> Tensor | None:
        return self._mask

    @property
    def is_unchanged(self) -> bool:
        """Whether the noise is still that of the physics."""
        return self._has_own_noise and self.noise is self._own_noise

    def __repr__(self) -> str:
        name = type(self.physics).__name__
        return f"from_deepinv({name}: {self.domain_shape} -> {self.range_shape})"


class _DeepinvDerived(_Deepinv, LinearOperator):
    """Adjoint by automatic differentiation."""


class _DeepinvLinear(_Deepinv, LinearOperator):
    """Adjoint as in deepinv."""

    def forward(self, x: Tensor) -> Tensor:
        return linear_map(x, super().forward, self._transpose)

    def adjoint(self, y: Tensor) -> Tensor:
        return linear_map(y, self._transpose, super().forward)

    def _transpose(self, y: Tensor) -> Tensor:
        return self.copies.adjoint(y) / self.divisor


def _linear(
    physics: Any, copies: Copies, mapped: MappedNoise, has_own_noise: bool
) -> LinearOperator:
    """An operator with deepinv's adjoint if that is exact, else with a derived one."""
    own = _DeepinvLinear(physics, copies, mapped, has_own_noise)
    error = _dot_error(own, copies)
    if error < _EXACT[copies.dtype]:
        return own
    derived = _DeepinvDerived(physics, copies, mapped, has_own_noise)
    derived_error = _dot_error(derived, copies)
    if derived_error < _WRONG[copies.dtype]:
        return derived
    raise ValueError(
        f"from_deepinv: {type(physics).__name__} needs an exact adjoint; A_adjoint is off by "
        f"{error:.1e}, relative, and the automatic derivative of A by {derived_error:.1e} (inf: it "
        "failed). Build it with an exact one (Tomography: adjoint_via_backprop=True), or, if A is "
        "not linear, wrap it by ops.Operator.from_function(physics.A, domain_shape)"
    )


def _dot_error(operator: LinearOperator, copies: Copies) -> float:
    """`adjoint_error` in the dtype and on the device of the physics; inf if it raises."""
    try:
        return adjoint_error(operator, seed=20250612, dtype=copies.dtype, device=copies.device)
    except FAILURES:
        return float("inf")

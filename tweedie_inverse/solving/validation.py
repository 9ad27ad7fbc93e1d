"""Checks of a measurement, its noise and its operator, before a walk sees them."""

import torch
from torch import Tensor

from tweedie_inverse.numerics.spectral import Pixels
from tweedie_inverse.operators import (
    GaussianNoise,
    LinearOperator,
    NoiseModel,
    Operator,
    estimate_noise,
)
from tweedie_inverse.operators.checks import deviation_from_linear, dot_test

# Above this the adjoint is not the adjoint; rounding stays far below.
_ADJOINT_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}


def check_measurement(y: Tensor, operator: Operator) -> tuple[Tensor, bool]:
    """y with a batch axis and without junk in unobserved entries; whether it came without one."""
    if not isinstance(y, Tensor) or not y.is_floating_point():
        kind = f"dtype {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"solve: y must be a float32 or float64 tensor, got {kind}")
    if y.dtype not in _ADJOINT_TOLERANCE:
        raise TypeError(f"solve: y must be float32 or float64, got {y.dtype}; use y.float()")
    single = tuple(y.shape) == operator.range_shape
    if not single and (tuple(y.shape[1:]) != operator.range_shape or y.shape[0] == 0):
        raise ValueError(
            f"solve: {operator!r} gives measurements of shape {operator.range_shape}; y must be "
            f"one of them or (batch, {', '.join(map(str, operator.range_shape))}), got "
            f"{tuple(y.shape)}"
        )
    y = y[None] if single else y
    if operator.images not in (None, len(y)):
        raise ValueError(
            f"solve: {operator!r} holds an operator for each of {operator.images} images, but y "
            f"has {len(y)} measurements"
        )
    if operator.observed is not None:
        y = torch.where(operator.observed.to(y.device), y, torch.zeros_like(y))
    bad = ~y.isfinite()
    if bool(bad.any()):
        raise ValueError(
            f"solve: y holds {int(bad.sum())} NaN or infinite entries of {y.numel()}, the first at "
            f"index {tuple(bad.nonzero()[0].tolist())}. Leave missing data out with ops.Mask, or "
            "repair them"
        )
    return y, single


def resolve_noise(noise: NoiseModel | float | None, operator: Operator, y: Tensor) -> NoiseModel:
    """The noise model of a solve: the argument, else the operator's; refused if it cannot be."""
    if isinstance(noise, int | float) and not isinstance(noise, bool):
        noise = GaussianNoise(float(noise))
    chosen = noise if noise is not None else operator.noise
    if chosen is None:
        raise ValueError(
            f"solve: the noise level is unknown. {type(operator).__name__} has no noise model; "
            "build it with noise=ops.GaussianNoise(std), or pass noise=std to solve (std in units "
            f"of y){_suggestion(y)}"
        )
    if not isinstance(chosen, NoiseModel):
        raise TypeError(
            f"solve(noise=): needs a number or a noise model such as ops.GaussianNoise(0.1), got "
            f"{chosen!r}"
        )
    if (
        isinstance(chosen, GaussianNoise)
        and not isinstance(chosen.basis, Pixels)
        and operator.observed is not None
    ):
        raise ValueError(
            f"solve: {operator!r} leaves entries of y unobserved, and {chosen!r} is correlated "
            "across them. Write an operator that returns the observed entries only, with noise on "
            "these"
        )
    chosen.refuse(y)
    return chosen


def _suggestion(y: Tensor) -> str:
    """An estimate for the message, where y allows one."""
    try:
        return f". If the noise is white, y suggests noise={estimate_noise(y):.3g}"
    except ValueError:
        return ""


@torch.no_grad()
def check_operator(operator: Operator, like: Tensor) -> None:
    """Refuse an operator with wrong shapes, or a linear one that is not, or whose adjoint is not.

    One forward and one adjoint on random numbers, in the dtype and on the device of `like`.
    """
    if operator.images is not None:
        for index in range(operator.images):
            check_operator(operator.select(index), like)
        return
    generator = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn((1, *shape), generator=generator, dtype=torch.float64).to(like)

    def forward(x: Tensor) -> Tensor:
        return _of_shape(operator, "forward", operator.forward(x), operator.range_shape)

    x, z, noise = (draw(shape) for shape in (*[operator.domain_shape] * 2, operator.range_shape))
    if not isinstance(operator, LinearOperator):
        forward(x)
        return
    tolerance, name = _ADJOINT_TOLERANCE[like.dtype], type(operator).__name__
    bend = deviation_from_linear(forward, x, z)
    if not bend <= tolerance:
        raise ValueError(
            f"solve: {name} is declared linear, but A(a x + b z) differs from a A x + b A z by "
            f"{bend:.1e}, relative. Subtract a constant offset from y instead of adding it in "
            "forward(), or derive from ops.Operator"
        )

    def adjoint(y: Tensor) -> Tensor:
        return _of_shape(operator, "adjoint", operator.adjoint(y), operator.domain_shape)

    found = dot_test(forward, adjoint, x, noise)
    if not found.error <= tolerance:
        raise ValueError(
            f"solve: adjoint() of {name} is not the adjoint of forward(): on random x and y, "
            f"<A x, y> = {found.of_measurements:.6g} but <x, A^T y> = {found.of_images:.6g}, off "
            f"by {found.error:.1e}, relative (allowed {tolerance:.0e}). Mend adjoint(), or leave "
            "it out: it is then derived from forward() by automatic differentiation"
        )


def _of_shape(operator: Operator, method: str, got: Tensor, wanted: tuple[int, ...]) -> Tensor:
    """What a method returned for one image or measurement, if it has the declared shape."""
    if tuple(got.shape) != (1, *wanted):
        raise ValueError(
            f"solve: {type(operator).__name__}.{method}() of a batch of one must return shape "
            f"{(1, *wanted)}, as declared; it returned {tuple(got.shape)}"
        )
    return got

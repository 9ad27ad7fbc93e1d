"""Checks of a measurement, its noise and its operator, before a walk sees them."""

from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.boundary.arrays import batch_of, refuse_spread
from tweedie_inverse.boundary.contracts import Contract, hold, refuse_not_finite
from tweedie_inverse.boundary.modes import with_gradients
from tweedie_inverse.numerics.spectral import Pixels
from tweedie_inverse.operators import (
    GaussianNoise,
    LinearOperator,
    NoiseModel,
    Operator,
    Parametric,
    PoissonGaussianNoise,
    PoissonNoise,
    UnknownGaussianNoise,
    UnknownNoise,
    estimate_noise,
)
from tweedie_inverse.operators.checks import deviation_from_linear, dot_test

# Above this the adjoint is not the adjoint; rounding stays far below.
_ADJOINT_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}


def check_measurement(y: Any, operator: Operator) -> tuple[Tensor, bool]:
    """y with a batch axis and without junk in unobserved entries; whether it came without one."""
    shape = operator.range_shape
    need = (
        f"{operator!r} gives measurements of shape {shape}; y must be one of them or (batch, "
        f"{', '.join(map(str, shape))})"
    )
    y = batch_of(
        "solve", "y", y, shape, is_complex=operator.range_is_complex, single=True, need=need
    )
    single = tuple(y.shape) == shape
    y = y[None] if single else y
    if len(y) == 0:
        raise ValueError(f"solve: {need}, got {tuple(y.shape)}, a batch of none")
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


def resolve_noise(
    noise: NoiseModel | float | str | None, operator: Operator, y: Tensor
) -> NoiseModel:
    """The noise model of a solve: the argument, else the operator's; refused if it cannot be."""
    if isinstance(noise, str):
        noise = _estimated(noise, operator)
    if noise is not None and not isinstance(noise, NoiseModel):
        need = "a number or a noise model such as ops.GaussianNoise(0.1), or 'estimate'"
        noise = GaussianNoise(number("solve", "noise", noise, finite=False, need=need))
    chosen = noise if noise is not None else operator.noise
    if chosen is None:
        raise ValueError(
            f"solve: the noise level is unknown. {type(operator).__name__} has no noise model; "
            "build it with noise=ops.GaussianNoise(std), or pass noise=std to solve (std in units "
            f"of y), or noise='estimate' to draw it with the samples{_suggestion(y)}"
        )
    chosen.refuse_shape("solve", operator.range_shape)
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


def _estimated(given: str, operator: Operator) -> UnknownGaussianNoise:
    """The noise model that ``noise="estimate"`` stands for."""
    if given != "estimate":
        raise ValueError(
            f"solve(noise={given!r}): needs a number or a noise model such as "
            "ops.GaussianNoise(0.1), or 'estimate'"
        )
    if operator.noise is not None and not isinstance(
        operator.noise, GaussianNoise | UnknownGaussianNoise
    ):
        kind = type(operator.noise)
        counts = kind if issubclass(kind, PoissonNoise | PoissonGaussianNoise) else PoissonNoise
        raise ValueError(
            f"solve(noise='estimate'): draws the level of white Gaussian noise, and {operator!r} "
            f"has {operator.noise!r}; pass noise=ops.{counts.__name__}.unknown() for counts, or "
            "ops.GaussianNoise.unknown() to take the noise as Gaussian all the same"
        )
    return GaussianNoise.unknown()


def _suggestion(y: Tensor) -> str:
    """An estimate for the message, where y allows one."""
    try:
        return f". If the noise is white, y suggests noise={estimate_noise(y):.3g}"
    except ValueError:
        return ""


def check_noise(noise: NoiseModel, y: Tensor, ax: Tensor) -> None:
    """Refuse a noise model that breaks its contract: ``log p(y | Ax)`` and what follows from it.

    Args:
        y, ax: two measurements each, ``(2, *range_shape)``.
    """
    if isinstance(noise, UnknownNoise):
        return
    name, shape = type(noise).__name__, tuple(ax.shape[1:])
    hold(Contract(f"log_prob() of {name}", noise.log_prob, (y, ax), (), precision=y.dtype))
    hold(Contract(f"gradient() of {name}", noise.gradient, (y, ax), shape, precision=y.dtype))
    variance = noise.variance(ax.clone())
    if not isinstance(variance, Tensor) or not bool((variance > 0).all()):
        raise ValueError(f"solve: variance() of {name} must return a tensor of positive numbers")
    refuse_spread("solve", f"variance() of {name}", variance.shape[-ax.ndim :], ax.shape, "batch")


@torch.no_grad()
def check_operator(operator: Operator, like: Tensor, images: Tensor) -> Tensor:
    """Refuse an operator that breaks its contract, is not linear though it says so, and the like.

    Some forwards and adjoints of two images, in the dtype and on the device of `like`.

    Args:
        images: ``(2, *domain_shape)``, such as the prior has: forward() must be finite there.

    Returns:
        ``A(images)``, ``(2, *range_shape)``; of the first operator, where each image has its own.
    """
    if operator.images is not None:
        parts = [operator.select(index) for index in range(operator.images)]
        return torch.stack([check_operator(part, like, images) for part in parts])[0]
    if isinstance(operator, Parametric):
        return [check_operator(part, like, images) for part in operator.examples][1]
    name = type(operator).__name__.lstrip("_")

    def promise(method: str, call: Any, given: Tensor, shape: tuple[int, ...]) -> Tensor:
        contract = Contract(f"{method}() of {name}", call, (given,), shape, precision=like.dtype)
        return hold(contract)

    seen = promise("forward", operator.forward, images, operator.range_shape)
    if not isinstance(operator, LinearOperator):
        _check_gradient(operator, images)
        return seen
    generator = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...], count: int = 1) -> Tensor:
        numbers = torch.randn((count, *shape), generator=generator, dtype=torch.float64)
        return numbers.to(like)

    x, z, noise = (draw(shape) for shape in (*[operator.domain_shape] * 2, operator.range_shape))
    tolerance = _ADJOINT_TOLERANCE[like.dtype]
    bend = deviation_from_linear(operator.forward, x, z)
    if not bend <= tolerance:
        raise ValueError(
            f"solve: {name} is declared linear, but A(a x + b z) differs from a A x + b A z by "
            f"{bend:.1e}, relative. Subtract a constant offset from y instead of adding it in "
            "forward(), or derive from ops.Operator"
        )
    promise("adjoint", operator.adjoint, draw(operator.range_shape, 2), operator.domain_shape)
    found = dot_test(operator.forward, operator.adjoint, x, noise)
    if not found.error <= tolerance:
        raise ValueError(
            f"solve: adjoint() of {name} is not the adjoint of forward(): on random x and y, "
            f"<A x, y> = {found.of_measurements:.6g} but <x, A^T y> = {found.of_images:.6g}, off "
            f"by {found.error:.1e}, relative (allowed {tolerance:.0e}). Mend adjoint(), or leave "
            "it out: it is then derived from forward() by automatic differentiation"
        )
    return seen


def _check_gradient(operator: Operator, images: Tensor) -> None:
    """Refuse a forward map whose gradient is not finite; whether it has one, the walk asks."""
    with with_gradients():
        x = images.clone().requires_grad_()
        ax = operator.forward(x)
        if not ax.requires_grad:
            return
        (gradient,) = torch.autograd.grad(ax.sum(), x)
    name = type(operator).__name__.lstrip("_")
    refuse_not_finite(f"the gradient of forward() of {name}", images, gradient)

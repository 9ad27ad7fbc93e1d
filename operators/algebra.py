"""Operators made of operators: one after another, side by side, scaled, transposed."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance, number
from tweedie_inverse.numerics.spectral import Spectrum
from tweedie_inverse.operators.base import LinearOperator, Operator, linear_operator
from tweedie_inverse.operators.noise.base import NoiseModel, refuse_flag
from tweedie_inverse.operators.noise.stacked import stacked_noise
from tweedie_inverse.operators.notation import Notation


def compose(*operators: Operator, noise: NoiseModel | None = None) -> Operator:
    """``compose(A, B, C)`` is ``x -> A(B(C(x)))``; linear where all of them are.

    Args:
        operators: the outermost, which makes the measurement, first.
        noise: None takes the outermost operator's.

    Raises:
        ValueError: shapes that do not follow on each other, or `per_image` operators of different
            numbers of images.
    """
    if not operators:
        raise ValueError("compose: needs at least one operator")
    _refuse_others("compose", operators)
    for outer, inner in pairwise(operators):
        if outer.domain_shape != inner.range_shape:
            raise ValueError(
                f"compose: {outer!r} cannot follow {inner!r}: it takes {outer.domain_shape}, but "
                f"is given {inner.range_shape}. The operator applied last is named first"
            )
    noise = operators[0].noise if noise is None else noise
    linear = [operator for operator in operators if isinstance(operator, LinearOperator)]
    if len(linear) == len(operators):
        return _LinearChain(linear, noise)
    return _Chain(operators, noise)


def stack(*operators: Operator, noise: NoiseModel | None = None) -> "Stack":
    """Several instruments that look at the same image; y is all their measurements, flattened.

    ``split(y)`` and ``join(parts)`` of the result go between the flat y and the parts in their own
    shapes.  It is linear where all of them are.

    Args:
        noise: of the flat y; None takes the noise models of the parts, each for its part.

    Raises:
        ValueError: different image shapes, or `per_image` operators of different numbers of images.
    """
    _refuse_others("stack", operators)
    shapes = {operator.domain_shape for operator in operators}
    if len(shapes) != 1:
        raise ValueError(
            f"stack: all operators must act on images of one shape; got {sorted(shapes)}"
        )
    linear = [operator for operator in operators if isinstance(operator, LinearOperator)]
    if len(linear) == len(operators):
        return _LinearStack(linear, noise)
    return Stack(operators, noise)


def scale(operator: LinearOperator, factor: float) -> LinearOperator:
    """``factor * A``, for data in other units; the noise is scaled with it.

    Raises:
        ValueError: factor 0, or noise that has no scaled form.
    """
    return _Scaled(linear_operator("scale", operator), factor)


def transpose(operator: LinearOperator, *, noise: NoiseModel | None = None) -> LinearOperator:
    """``A^T`` as an operator, from measurements to images."""
    return _Transposed(linear_operator("transpose", operator), noise)


def _refuse_others(caller: str, operators: Sequence[Any]) -> None:
    """Raise a `TypeError` where one is no operator, as in compose([A, B]) for compose(A, B)."""
    for operator in operators:
        instance(caller, "operators", operator, Operator, need=f"operators, as in {caller}(A, B)")


def common_images(caller: str, operators: Sequence[Operator]) -> int | None:
    """How many images operators that work together are made for; None is any number.

    Raises:
        ValueError: they are made for different numbers of images.
    """
    counts = {operator.images for operator in operators if operator.images is not None}
    if len(counts) > 1:
        raise ValueError(
            f"{caller}: the operators hold one operator for each of {sorted(counts)} images; they "
            "need one number of images"
        )
    return counts.pop() if counts else None


class _Chain(Operator):
    """Operators one after another."""

    def __init__(self, operators: Sequence[Operator], noise: NoiseModel | None):
        super().__init__(
            domain_shape=operators[-1].domain_shape,
            range_shape=operators[0].range_shape,
            noise=noise,
        )
        self.operators = tuple(operators)
        self.images = common_images("compose", operators)
        self.domain_is_complex = operators[-1].domain_is_complex
        self.range_is_complex = operators[0].range_is_complex

    def select(self, index: int) -> Operator:
        if self.images is None:
            return self
        return compose(*(part.select(index) for part in self.operators), noise=self.noise)

    @property
    def observed(self) -> Tensor | None:
        return self.operators[0].observed

    def forward(self, x: Tensor) -> Tensor:
        for operator in reversed(self.operators):
            x = operator.forward(x)
        return x


class _LinearChain(_Chain, LinearOperator):
    """Linear operators one after another; the adjoints in the other order."""

    operators: tuple[LinearOperator, ...]

    @property
    def treats_channels_alike(self) -> bool:
        alike = (operator.treats_channels_alike for operator in self.operators)
        return super().treats_channels_alike or all(alike)

    def adjoint(self, y: Tensor) -> Tensor:
        for operator in self.operators:
            y = operator.adjoint(y)
        return y


class Stack(Operator):
    """Operators side by side; made by `stack`."""

    def __init__(self, operators: Sequence[Operator], noise: NoiseModel | None):
        self.operators = tuple(operators)
        self._sizes = [math.prod(operator.range_shape) for operator in operators]
        if noise is None:
            noise = stacked_noise(
                [operator.noise for operator in operators],
                [operator.range_shape for operator in operators],
            )
        super().__init__(
            domain_shape=operators[0].domain_shape, range_shape=(sum(self._sizes),), noise=noise
        )
        self.images = common_images("stack", operators)
        self.domain_is_complex = operators[0].domain_is_complex

    def select(self, index: int) -> Operator:
        if self.images is None:
            return self
        return stack(*(part.select(index) for part in self.operators), noise=self.noise)

    @property
    def observed(self) -> Tensor | None:
        parts = [operator.observed for operator in self.operators]
        if all(part is None for part in parts):
            return None
        batch = () if self.images is None else (self.images,)
        return torch.cat(
            [
                torch.ones((*batch, size), dtype=torch.bool)
                if part is None
                else part.expand(*batch, *operator.range_shape).reshape(*batch, size)
                for operator, part, size in zip(self.operators, parts, self._sizes, strict=True)
            ],
            dim=-1,
        )

    def split(self, y: Tensor) -> list[Tensor]:
        """The measurements ``(batch, *range_shape)`` of each operator."""
        parts = y.split(self._sizes, dim=1)
        return [
            part.reshape(len(y), *operator.range_shape)
            for part, operator in zip(parts, self.operators, strict=True)
        ]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """One flat measurement ``(batch, m)`` of the operators' own."""
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join([operator.forward(x) for operator in self.operators])


class _LinearStack(Stack, LinearOperator):
    """Linear operators side by side; their adjoints are added up."""

    operators: tuple[LinearOperator, ...]

    @property
    def treats_channels_alike(self) -> bool:
        return all(operator.treats_channels_alike for operator in self.operators)

    def adjoint(self, y: Tensor) -> Tensor:
        pairs = zip(self.operators, self.split(y), strict=True)
        return sum((operator.adjoint(part) for operator, part in pairs), y.new_zeros(()))


class _Scaled(LinearOperator):
    """``factor * A``."""

    def __init__(self, operator: LinearOperator, factor: float):
        refuse_flag("scale", "factor", factor)
        factor = number("scale", "factor", factor, need="a finite factor other than 0")
        if factor == 0:
            raise ValueError(f"scale(factor={factor}): needs a finite factor other than 0")
        noise = None if operator.noise is None else operator.noise.scaled(factor)
        super().__init__(
            domain_shape=operator.domain_shape, range_shape=operator.range_shape, noise=noise
        )
        self.operator, self.factor, self.images = operator, factor, operator.images
        self.domain_is_complex = operator.domain_is_complex
        self.range_is_complex = operator.range_is_complex

    def select(self, index: int) -> Operator:
        if self.images is None:
            return self
        part = self.operator.select(index)
        assert isinstance(part, LinearOperator)
        return _Scaled(part, self.factor)

    @property
    def observed(self) -> Tensor | None:
        return self.operator.observed

    @property
    def spectrum(self) -> Spectrum | None:
        inner = self.operator.spectrum
        if inner is None:
            return None
        sign = math.copysign(1.0, self.factor)
        return Spectrum(
            inner.basis,
            abs(self.factor) * inner.singular,
            to_modes=lambda y: sign * inner.to_modes(y),
            from_modes=lambda c: sign * inner.from_modes(c),
        )

    @property
    def treats_channels_alike(self) -> bool:
        return self.operator.treats_channels_alike

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.operator.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.factor * self.operator.adjoint(y)


class _Transposed(LinearOperator):
    """``A^T``."""

    def __init__(self, operator: LinearOperator, noise: NoiseModel | None):
        super().__init__(
            domain_shape=operator.range_shape, range_shape=operator.domain_shape, noise=noise
        )
        self.operator, self.images = operator, operator.images
        self.domain_is_complex = operator.range_is_complex
        self.range_is_complex = operator.domain_is_complex

    def select(self, index: int) -> Operator:
        if self.images is None:
            return self
        part = self.operator.select(index)
        assert isinstance(part, LinearOperator)
        return _Transposed(part, self.noise)

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.forward(y)


# An operator's own signs, ``A @ B`` and ``A.T``, know these rules from here.
Notation.algebra.update(compose=compose, scale=scale, transpose=transpose)

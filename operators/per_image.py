"""One operator for each image of a batch: different masks, kernels or angles."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance
from tweedie_inverse.operators.base import LinearOperator, Operator
from tweedie_inverse.operators.noise.base import NoiseModel


def per_image(operators: Sequence[Operator], *, noise: NoiseModel | None = None) -> "PerImage":
    """An operator whose i-th image is seen by the i-th of `operators`; linear where all are.

    Args:
        operators: as many as the batch has images, of the same shapes.
        noise: None takes the noise of the operators, which must then be one and the same object.

    Raises:
        ValueError: different shapes, or different noise models.
    """
    if not isinstance(operators, Sequence) or not operators:
        raise ValueError("per_image: needs one operator or more")
    for operator in operators:
        instance("per_image", "operators", operator, Operator, need="a list of operators")
    shapes = {(operator.domain_shape, operator.range_shape) for operator in operators}
    if len(shapes) != 1:
        raise ValueError(
            "per_image: needs operators with the same domain_shape and range_shape, got "
            f"{sorted(shapes)}; solve measurements of different shapes one by one"
        )
    if noise is None:
        noise = operators[0].noise
        if any(operator.noise is not noise for operator in operators):
            raise ValueError(
                "per_image: the operators have noise models of their own; pass noise= for all, or "
                "solve the measurements one by one"
            )
    linear = [operator for operator in operators if isinstance(operator, LinearOperator)]
    if len(linear) == len(operators):
        return _LinearPerImage(linear, noise)
    return PerImage(operators, noise)


class PerImage(Operator):
    """Made by `per_image`; takes batches of exactly ``images`` images."""

    def __init__(self, operators: Sequence[Operator], noise: NoiseModel | None):
        super().__init__(
            domain_shape=operators[0].domain_shape,
            range_shape=operators[0].range_shape,
            noise=noise,
        )
        self.operators = tuple(operators)
        self.images = len(operators)
        self.domain_is_complex = operators[0].domain_is_complex
        self.range_is_complex = operators[0].range_is_complex

    def select(self, index: int) -> Operator:
        return self.operators[index]

    @property
    def observed(self) -> Tensor | None:
        parts = [operator.observed for operator in self.operators]
        if all(part is None for part in parts):
            return None
        everything = torch.ones(self.range_shape, dtype=torch.bool)
        return torch.stack([everything if part is None else part for part in parts])

    def forward(self, x: Tensor) -> Tensor:
        self._refuse(x)
        pairs = zip(self.operators, x.split(1), strict=True)
        return torch.cat([operator.forward(image) for operator, image in pairs])

    def _refuse(self, batch: Tensor) -> None:
        if len(batch) != self.images:
            raise ValueError(
                f"{self!r} holds an operator for each of {self.images} images; got a batch of "
                f"{len(batch)}. Use select(i) for one of them"
            )


class _LinearPerImage(PerImage, LinearOperator):
    """Made by `per_image` from linear operators."""

    operators: tuple[LinearOperator, ...]

    def adjoint(self, y: Tensor) -> Tensor:
        self._refuse(y)
        pairs = zip(self.operators, y.split(1), strict=True)
        return torch.cat([operator.adjoint(part) for operator, part in pairs])

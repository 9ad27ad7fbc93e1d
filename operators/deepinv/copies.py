"""A deepinv physics is run on copies of itself, one for each number type and device.

The user's object is never called, because some physics cache or overwrite parts of themselves when
they are.  deepinv keeps its constants in float32; in a copy they are as precise as the images.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal
from tweedie_inverse.operators.deepinv.duplicate import duplicate
from tweedie_inverse.operators.deepinv.layout import Layout, layout_of

# What a foreign `A` may raise on an image of the wrong type or shape.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Copy(NamedTuple):
    """One copy of a physics.

    Attributes:
        physics: the copy.
        dtype: the number type that it computes in.
        image_by_image: whether it mixes up the images of a batch, or refuses a batch.
    """

    physics: Any
    dtype: torch.dtype
    image_by_image: bool


class Copies:
    """``A`` and ``A_adjoint`` of a deepinv physics, on real tensors of any dtype and device.

    Args:
        physics: `deepinv.physics.Physics`.
        domain: layout of an image.

    Raises:
        ValueError: ``A`` fails on such an image, in single and in double precision.
    """

    def __init__(self, physics: Any, domain: Layout):
        self.physics, self.domain = physics, domain
        self.device = _device(physics)
        self._copies: dict[tuple[torch.dtype, torch.device], Copy] = {}
        best = self.copy(torch.float64, self.device)
        self.dtype = best.dtype  # the most precise that works
        with torch.no_grad():
            probe = probe_image(domain.shape)[:1].to(self.device, best.dtype)
            self.range = layout_of(best.physics.A(domain.from_real(probe)))

    def forward(self, x: Tensor) -> Tensor:
        """``A(x)``; x ``(batch, *domain.shape)``."""
        physics, dtype, image_by_image = self.copy(x.dtype, x.device)
        batches = x.split(1) if image_by_image else [x]
        values = [physics.A(self.domain.from_real(part.to(dtype))) for part in batches]
        return torch.cat([self.range.to_real(value) for value in values]).to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A_adjoint(y)``; y ``(batch, *range.shape)``."""
        physics, dtype, image_by_image = self.copy(y.dtype, y.device)
        batches = y.split(1) if image_by_image else [y]
        values = [physics.A_adjoint(self.range.from_real(part.to(dtype))) for part in batches]
        return torch.cat([self.domain.to_real(value) for value in values]).to(y.dtype)

    def copy(self, dtype: torch.dtype, device: torch.device) -> Copy:
        """The copy that works on images of this dtype and device, made on first use."""
        key = (dtype, device)
        if key not in self._copies:
            self._copies[key] = self._make(dtype, device)
        return self._copies[key]

    def _duplicate(self, dtype: torch.dtype, device: torch.device) -> Any:
        try:
            return duplicate(self.physics, dtype, device)
        except FAILURES:  # it holds handles of a foreign library: use it as it is
            return self.physics

    @torch.no_grad()
    def _make(self, dtype: torch.dtype, device: torch.device) -> Copy:
        other = torch.float64 if dtype == torch.float32 else torch.float32
        failure: Exception | None = None
        for candidate in (dtype, other):
            try:
                physics = self._duplicate(candidate, device)
                two = probe_image(self.domain.shape).to(device, candidate)
                one = physics.A(self.domain.from_real(two[1:]))
                layout = layout_of(one)
                value = layout.to_real(one)
            except FAILURES as error:
                failure = failure or error
                continue
            if value.dtype == candidate:  # others compute in a type of their own
                return Copy(physics, candidate, _mixes(physics, self.domain, layout, two, value))
        raise ValueError(
            f"from_deepinv: {type(self.physics).__name__}.A failed on an image of shape "
            f"{(1, *self.domain.shape)}: {failure or 'it changes the number type'}. Pass "
            "domain_shape=, the shape of one image without the batch axis. Parameters need a "
            "batch axis of 1: where they differ, bridge one physics an image and join them with "
            "ops.per_image"
        ) from failure


def probe_image(shape: tuple[int, ...]) -> Tensor:
    """Two different images with values in (0, 1), as a nonlinear physics may need."""
    return torch.special.ndtr(normal((20250611,), (2, *shape)))


def _mixes(physics: Any, domain: Layout, layout: Layout, two: Tensor, second: Tensor) -> bool:
    """Whether a batch of two differs from two batches of one."""
    try:
        both = layout.to_real(physics.A(domain.from_real(two)))
    except FAILURES:
        return True
    tolerance = torch.finfo(two.dtype).eps ** 0.5
    return both.shape[0] != 2 or not torch.allclose(both[1:], second, tolerance, tolerance)


def _device(physics: Any) -> torch.device:
    first = next((tensor for tensor in (*physics.parameters(), *physics.buffers())), None)
    return torch.device("cpu") if first is None else first.device

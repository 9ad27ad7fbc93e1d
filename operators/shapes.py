"""Images and measurements of a wrong shape or type are refused, since many would broadcast."""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor


def checked_shape(method: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """An operator's method `name` that first compares its argument with what is declared."""

    @functools.wraps(method)
    def checked(self: Any, values: Tensor) -> Tensor:
        wanted = self.domain_shape if name == "forward" else self.range_shape
        if tuple(values.shape[1:]) != wanted:
            raise ValueError(
                f"{type(self).__name__}.{name}: needs shape (batch, {', '.join(map(str, wanted))})"
                f", got {tuple(values.shape)}; a single one needs a batch axis too, such as x[None]"
            )
        if not values.is_floating_point():
            raise TypeError(
                f"{type(self).__name__}.{name}: needs float32 or float64, got {values.dtype}; "
                "convert it first (complex numbers are two channels)"
            )
        return method(self, values)

    return checked

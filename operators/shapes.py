"""What goes into an operator's method and comes out of it: arrays become tensors, shapes are held.

Images and measurements of a wrong shape or type are refused, since many would broadcast.
"""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from tweedie_inverse.boundary.arrays import batch_of
from tweedie_inverse.boundary.contracts import checked_result
from tweedie_inverse.boundary.modes import without_autocast


def checked_shape(method: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """An operator's method `name` that compares argument and result with what is declared."""

    @functools.wraps(method)
    def checked(self: Any, values: Any, *rest: Any, **settings: Any) -> Tensor:
        images = (self.domain_shape, self.domain_is_complex)
        measurements = (self.range_shape, self.range_is_complex)
        given, wanted = (images, measurements) if name == "forward" else (measurements, images)
        caller = f"{type(self).__name__.lstrip('_')}.{name}"
        values = batch_of(caller, "x", values, given[0], is_complex=given[1])
        with without_autocast(values.device):
            result = method(self, values, *rest, **settings)
        return checked_result(f"{caller}()", result, (len(values), *wanted[0]), None)

    return checked

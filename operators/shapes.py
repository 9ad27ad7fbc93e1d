"""What goes into an operator's method and comes out of it: arrays become tensors, shapes are held.

Images and measurements of a wrong shape or type are refused, since many would broadcast.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arrays import batch_of, is_plain, refuse_type
from tweedie_inverse.boundary.contracts import checked_result
from tweedie_inverse.boundary.modes import without_autocast

_EXACT = (torch.float32, torch.float64)


def checked_shape(method: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """An operator's method `name` that compares argument and result with what is declared."""

    @functools.wraps(method)
    def checked(self: Any, values: Any, *rest: Any, **settings: Any) -> Tensor:
        is_forward = name == "forward"
        shape, other = self.domain_shape, self.range_shape
        if not is_forward:
            shape, other = other, shape
        if not _fits(values, shape):
            is_complex = self.domain_is_complex if is_forward else self.range_is_complex
            caller = f"{type(self).__name__.lstrip('_')}.{name}"
            values = batch_of(caller, "x", values, shape, is_complex=is_complex)
        with without_autocast(values.device):
            result = method(self, values, *rest, **settings)
        if not _fits(result, other) or len(result) != len(values):
            called = f"{type(self).__name__.lstrip('_')}.{name}()"
            result = checked_result(called, result, (len(values), *other), None)
            refuse_type(called, result)
        return result

    return checked


def _fits(values: Any, shape: tuple[int, ...]) -> bool:
    """Whether nothing need be said or done: this is asked thousands of times in a walk."""
    return (
        isinstance(values, Tensor)
        and values.dtype in _EXACT
        and is_plain(values)
        and values.shape[1:] == shape
        and not values.is_inference()
    )

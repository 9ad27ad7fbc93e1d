"""One measurement of a batch: by its number, with its truth and its data."""

import operator as arithmetic
from typing import Any

from torch import Tensor

from tweedie_inverse.boundary.arrays import (
    advice_on_shape,
    batch_of,
    refuse_type,
    tensor_of,
    truth_tensor,
)
from tweedie_inverse.solving.origin import Origin


def place_of(index: Any, count: int, has_batch: bool) -> int | slice:
    """The number of a measurement, or a slice of them, checked.

    Raises:
        TypeError: neither of them.
        IndexError: there is no such measurement, or a slice of one without a batch axis.
    """
    if isinstance(index, slice):
        if not has_batch:
            raise IndexError(
                f"posterior[{index}]: y came without a batch axis, so that there is one "
                "measurement; its samples are posterior.samples"
            )
        return index
    if isinstance(index, bool) or not hasattr(type(index), "__index__"):
        raise TypeError(
            f"posterior[{index!r}]: needs the number of a measurement, or a slice of them"
        )
    place = arithmetic.index(index)
    if not -count <= place < count:
        raise IndexError(f"posterior[{place}]: it holds {count} measurement(s)")
    return place


def truth_shown(truth: Any, shape: tuple[int, ...], index: int, batch: int) -> Tensor:
    """That of one measurement, ``(*shape)``, from one or a batch of them."""
    found = truth_tensor("plot", truth, shape)
    refuse_type("plot(truth=)", found)
    return _member("truth", found, shape, index, batch)


def measurement_shown(measurement: Any, origin: Origin | None, index: int, batch: int) -> Tensor:
    """One of them, ``(*range_shape)``, from what `solve` took; as it is without an origin."""
    found = tensor_of("plot", "measurement", measurement)
    if origin is None:
        return found
    known = origin.range_shape  # as `solve` took it, complex or without its first axis
    found = batch_of(
        "plot(measurement=)",
        "measurement",
        found,
        known,
        is_complex=known[0] % 2 == 0,
        single=True,
        need=f"needs shape {known}, as solve took it",
    )
    return _member("measurement", found, known, index, batch)


def _member(name: str, given: Tensor, shape: tuple[int, ...], index: int, batch: int) -> Tensor:
    """One of a batch, or the only one; a `ValueError` where the shape is neither."""
    if tuple(given.shape) == shape:
        return given
    if tuple(given.shape) != (batch, *shape):
        raise ValueError(
            f"plot({name}=): needs shape {shape}, or a batch of {batch}, got {tuple(given.shape)}"
            f"{advice_on_shape(given.shape, shape)}"
        )
    return given[index]

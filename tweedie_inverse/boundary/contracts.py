"""What a function that a user wrote must keep to, found by calling it once before it is trusted.

A map of batches gets a batch of two, and then each of the two (or one of them) alone.  It must
leave its arguments as they are, and return a tensor of the right shape, type and device, finite,
whose rows do not depend on each other, on chance or on earlier calls.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Relative difference between a row of a batch and the same row alone: rounding, which depends on
# the size of the batch, stays below.  Accelerators convolve float32 with ten bits by default.
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-2, torch.bfloat16: 0.1, torch.float16: 0.05}


class Contract(NamedTuple):
    """A map of batches, and what it must return.

    Attributes:
        name: for messages, such as "forward() of Blur".
        call: the map.
        inputs: two rows of each argument.
        shape: of one row of the result.
        alone: which of the two rows are computed alone as well.
        precision: the number type that the map computes in.
        hint: the end of the message about rows that depend on each other, on chance or on state.
    """

    name: str
    call: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    shape: tuple[int, ...]
    alone: Sequence[int] = (0, 1)
    precision: torch.dtype = torch.float32
    hint: str = ""


def hold(contract: Contract) -> Tensor:
    """The result of the batch of two.

    Raises:
        TypeError: no tensor of floating-point numbers came back.
        ValueError: anything else that is broken.
    """
    together = _called(contract, contract.inputs)
    for row in contract.alone:
        found = _called(contract, tuple(given[row : row + 1] for given in contract.inputs))
        if not _same(together[row], found[0], contract.precision):
            again = _called(contract, contract.inputs)
            raise ValueError(_why_different(contract, _same(together, again, contract.precision)))
    return together


def checked_result(name: str, result: Any, shape: Sequence[int], like: Tensor | None) -> Tensor:
    """What a map returned, if it is a tensor of that shape; cheap enough for every call.

    Args:
        shape: of the whole result, batch axis included.
        like: the result must be on the same device; None is not asked.

    Raises:
        TypeError: no tensor of floating-point numbers.
        ValueError: another shape or device.
    """
    if not isinstance(result, Tensor):
        raise TypeError(
            f"{name} returned {type(result).__name__}; it must return a tensor of shape "
            f"{tuple(shape)}"
        )
    if not result.is_floating_point():
        raise TypeError(
            f"{name} returned {result.dtype}; it must return floating-point numbers"
            f"{' (real and imaginary part as two channels)' if result.is_complex() else ''}"
        )
    if tuple(result.shape) != tuple(shape):
        raise ValueError(
            f"{name} must return shape {tuple(shape)} for a batch of {shape[0]}; it returned "
            f"{tuple(result.shape)}"
        )
    if like is not None and result.device != like.device:
        raise ValueError(
            f"{name} returned a tensor on {result.device} for one on {like.device}; it must stay "
            "on the device of its argument"
        )
    return result


def called(name: str, function: Callable[..., Any], *given: Tensor) -> Any:
    """What a function of the user returns; to an error of its own a note is added that names it."""
    try:
        return function(*given)
    except Exception as error:
        shapes = ", ".join(str(tuple(values.shape)) for values in given)
        error.add_note(f"This came from {name}, called with tensors of shape {shapes}.")
        raise


def _called(contract: Contract, inputs: tuple[Tensor, ...]) -> Tensor:
    """One guarded call, on copies."""
    given = tuple(values.clone() for values in inputs)
    result = called(contract.name, contract.call, *given)
    found = checked_result(contract.name, result, (len(inputs[0]), *contract.shape), inputs[0])
    for index, (before, after) in enumerate(zip(inputs, given, strict=True)):
        if before.shape != after.shape or not torch.equal(before, after):
            which = "its argument" if len(inputs) == 1 else f"argument {index + 1}"
            raise ValueError(
                f"{contract.name} changes {which} in place; write x = x.clone() first, or use "
                "operations without a trailing underscore or an assignment to x[...]"
            )
    refuse_not_finite(contract.name, inputs[0], found)
    return found


def refuse_not_finite(name: str, given: Tensor, result: Tensor) -> None:
    """Raise a `ValueError` where a map of finite numbers gave NaN or infinity."""
    bad = ~result.isfinite()
    if not bool(bad.any()):
        return
    kinds = " and ".join(
        kind
        for kind, there in (("NaN", result.isnan().any()), ("infinity", result.isinf().any()))
        if bool(there)
    )
    place = tuple(bad.nonzero()[0].tolist())
    where = f"{int(bad.sum())} of {bad.numel()} entries, the first at index {place}"
    if given.shape == result.shape:
        where += f", where its argument is {float(given[place]):.3g}"
    cause = "look for NaN in what it is made of: weights, a kernel, a matrix"
    if not bool(bad.all()):
        low, high = float(given.min()), float(given.max())
        cause = (
            f"its argument went from {low:.3g} to {high:.3g}. Walks go there and beyond: continue "
            "the map smoothly"
        )
    raise ValueError(f"{name} is not finite: it gave {kinds} at {where}; {cause}")


def _same(first: Tensor, second: Tensor, precision: torch.dtype) -> bool:
    coarsest = max(_ROUNDING.get(dtype, 1e-2) for dtype in (first.dtype, precision))
    # On the CPU, because not every device has float64.
    first, second = first.detach().cpu().double(), second.detach().cpu().double()
    return float((first - second).norm()) <= coarsest * float(first.norm())


def _why_different(contract: Contract, repeats: bool) -> str:
    hint = f" {contract.hint}" if contract.hint else ""
    if not repeats:
        return (
            f"{contract.name} is random or keeps state: the same arguments gave another answer the "
            f"second time. It must depend on its arguments alone.{hint}"
        )
    return (
        f"{contract.name} mixes the batch: an image gave another answer alone than in a batch of "
        f"two. The first axis is the batch, and its rows must not know each other.{hint}"
    )

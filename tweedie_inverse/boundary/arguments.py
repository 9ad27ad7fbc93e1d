"""Single arguments: counts, numbers, shares, seeds, names.  Each is honoured or refused.

Every function takes who is called and the argument's name for its message, and returns the value
as plain Python has it, so that NumPy's numbers and tensors of one number are welcome everywhere.
"""

import math
import operator
import os
from collections.abc import Collection, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Seeds are words of 64 bits.
_SEEDS = 2**64
# The most numbers of one image: a petabyte in float64.
_NUMBERS = 2**47


def count(
    caller: str, name: str, value: Any, *, least: int = 1, most: int | None = None, need: str = ""
) -> int:
    """A whole number from `least` to `most`.

    Args:
        need: what the message asks for, such as "at least one sample".

    Raises:
        TypeError: no whole number; 2.0 and True are none.
        ValueError: outside the range.
    """
    ends = f"from {least} to {most}" if most is not None else f"of at least {least}"
    number = _whole(value)
    if number is None:
        wanted = f"{need}, a whole number" if need else f"a whole number {ends}"
        raise TypeError(f"{caller}({name}={_shown(value)}): needs {wanted}")
    if number < least or (most is not None and number > most):
        raise ValueError(f"{caller}({name}={number}): needs {need or f'a whole number {ends}'}")
    return number


def seed(caller: str, name: str, value: Any, *, least: int = 0) -> int:
    """A seed: a whole number from 0 to ``2**64 - 1``.

    Args:
        least: the smallest one, for keys that are not a user's.

    Raises:
        TypeError: no whole number.
        ValueError: outside the range, where two seeds would give the same random numbers.
    """
    number = _whole(value)
    if number is not None and least <= number < _SEEDS:
        return number
    where = f"{caller}({name}={_shown(value)})" if caller else f"{name}={_shown(value)}"
    kind = TypeError if number is None else ValueError
    raise kind(f"{where}: needs a whole number from 0 to 2**64 - 1")


def number(
    caller: str,
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float | None = None,
    finite: bool = True,
    need: str = "",
) -> float:
    """A real number in ``[low, high]``, larger than `above`.

    Args:
        finite: refuse infinity.
        need: what the message asks for, such as "a positive step, in units of x".

    Raises:
        TypeError: no real number: a truth value, text, None, a complex number, several numbers.
        ValueError: NaN, or outside the range.
    """
    real = _real(value)
    if real is None:
        raise TypeError(f"{caller}({name}={_shown(value)}): needs {need or 'a number'}")
    inside = low <= real <= high and (above is None or real > above)
    if not inside or (finite and math.isinf(real)):
        raise ValueError(
            f"{caller}({name}={real:g}): needs {need or _range(low, high, above, finite)}"
        )
    return real


def positive(caller: str, name: str, value: Any, *, need: str = "") -> float:
    """A positive, finite number; raises as `number` does."""
    return number(caller, name, value, above=0.0, need=need or "a positive, finite number")


def share(caller: str, name: str, value: Any, *, need: str = "") -> float:
    """A probability, from 0 to 1, both included; raises as `number` does."""
    return number(caller, name, value, low=0.0, high=1.0, need=need or "a number from 0 to 1")


def flag(caller: str, name: str, value: Any) -> bool:
    """True or False.

    Raises:
        TypeError: anything else, which Python would take for one of them.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{caller}({name}={_shown(value)}): needs True or False")
    return bool(value)


def pair(
    caller: str, name: str, value: Any, *, need: str, low: float = -math.inf
) -> tuple[float, float]:
    """Two numbers, each as of `number`; raises as it does."""
    if isinstance(value, np.ndarray | Tensor) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{caller}({name}={_shown(value)}): needs {need}")
    first, second = (number(caller, name, one, low=low, need=need) for one in value)
    return first, second


def instance(caller: str, name: str, value: Any, kind: Any, *, need: str) -> Any:
    """An object of a class, or of one of several.

    Raises:
        TypeError: anything else, the class itself included.
    """
    if not isinstance(value, kind):
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{caller}({name}=): needs {need}, got {got}")
    return value


def function(caller: str, name: str, value: Any, *, need: str = "a function") -> Any:
    """Something that can be called.

    Raises:
        TypeError: anything else.
    """
    if not callable(value):
        raise TypeError(f"{caller}({name}={_shown(value)}): needs {need}")
    return value


def choice(caller: str, name: str, value: Any, names: Collection[str]) -> str:
    """One of some names.

    Raises:
        ValueError: another one.
    """
    if not isinstance(value, str) or value not in names:
        *most, last = map(repr, names)
        listed = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(f"{caller}({name}={_shown(value)}): choose one of {listed}")
    return value


def sizes(caller: str, name: str, value: Any, *, need: str = "") -> tuple[int, ...]:
    """A shape without the batch axis.

    Raises:
        TypeError: no sequence of whole numbers.
        ValueError: empty, or a size below 1.
    """
    is_list = isinstance(value, Sequence | np.ndarray | Tensor) and not isinstance(value, str)
    found = [_whole(size) for size in value] if is_list else [None]
    need = need or "positive sizes, without the batch axis, such as (1, 64, 64)"
    if None in found:
        raise TypeError(f"{caller}({name}={_shown(value)}): needs {need}")
    numbers = tuple(size for size in found if size is not None)
    if math.prod(numbers) > _NUMBERS:
        raise ValueError(f"{caller}({name}={numbers}): more numbers than any memory holds")
    if not numbers or min(numbers) < 1:
        raise ValueError(f"{caller}({name}={numbers}): needs {need}")
    return numbers


def image_sizes(caller: str, value: Any) -> tuple[int, int, int]:
    """An ``image_shape``, three sizes; raises as `sizes` does."""
    need = "(channels, height, width), positive sizes without the batch axis"
    found = sizes(caller, "image_shape", value, need=need)
    if len(found) != 3:
        raise ValueError(f"{caller}: needs image_shape {need}, got {found}")
    return found[0], found[1], found[2]


def volume_sizes(caller: str, value: Any) -> tuple[int, ...]:
    """An ``image_shape`` of images or of volumes, three or four sizes."""
    need = (
        "(channels, height, width) or (channels, depth, height, width), positive sizes without "
        "the batch axis"
    )
    found = sizes(caller, "image_shape", value, need=need)
    if len(found) not in (3, 4):
        raise ValueError(f"{caller}: needs image_shape {need}, got {found}")
    return found


def path(caller: str, name: str, value: Any) -> Path:
    """The path of a file or folder.

    Raises:
        TypeError: neither text nor a path.
        ValueError: empty text.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{caller}({name}={_shown(value)}): needs a path")
    if not os.fspath(value):
        raise ValueError(f"{caller}({name}={_shown(value)}): needs a path, got an empty text")
    return Path(value)


def _whole(value: Any) -> int | None:
    """A whole number as Python has it; None for anything else."""
    if type(value) is int:  # nearly always
        return value
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, np.ndarray | Tensor):
        if value.ndim > 0 or value.dtype in (torch.bool, np.bool_):
            return None
        value = value.item()
    return operator.index(value) if isinstance(value, Integral) else None


def _real(value: Any) -> float | None:
    """A real number as Python has it; None for anything else."""
    if isinstance(value, np.ndarray | Tensor):
        if value.ndim > 0:
            return None
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, float | Integral | np.floating):
        return None
    return float(value)


def _range(low: float, high: float, above: float | None, finite: bool) -> str:
    ends = [
        f"above {above:g}" if above is not None else "",
        f"from {low:g}" if low > -math.inf else "",
        f"to {high:g}" if high < math.inf else "",
    ]
    kind = "a finite number" if finite else "a number"
    return " ".join([kind, *filter(None, ends)])


def _shown(value: Any) -> str:
    """A value for a message: in full where it is short, else its type."""
    if isinstance(value, np.ndarray | Tensor) and value.ndim > 0:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else type(value).__name__

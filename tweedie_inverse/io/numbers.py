"""Numbers of files as tensors, and back: no digit is lost on the way."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.io.guarded import Refused

# Whole numbers up to this size are the same in float32.
_EXACT = 2**24


def as_tensor(array: Any) -> Tensor:
    """A file's array as float32, or float64 where it has that or its whole numbers need it.

    Complex numbers stay complex; half precision becomes float32, truth values 0 and 1.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":
        raise Refused(f"holds {array.dtype.name} and no numbers")
    if array.size == 0:
        raise Refused(f"holds no numbers: its shape is {array.shape}")
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "c":
        wanted: Any = np.complex64 if size <= 8 else np.complex128
    elif kind == "f":
        wanted = np.float32 if size <= 4 else np.float64
    elif size <= 2:
        wanted = np.float32
    else:
        large = max(abs(int(array.min())), abs(int(array.max())))
        wanted = np.float32 if large <= _EXACT else np.float64
        if large > 2**53:
            raise Refused(f"holds whole numbers up to {large}, which no float64 holds exactly")
    return torch.from_numpy(np.array(array, dtype=wanted, order="C"))


def scaled(array: Any, slope: Any, intercept: Any) -> np.ndarray[Any, Any]:
    """``slope array + intercept`` in float64, rounded to float32 where float32 holds the array."""
    found = np.asarray(array, np.float64) * slope + intercept
    is_double = array.dtype.kind == "f" and array.dtype.itemsize > 4
    large = array.dtype.kind != "f" and array.dtype.itemsize > 2
    return found if is_double or large else found.astype(np.float32)


def as_array(values: Tensor) -> np.ndarray[Any, Any]:
    """The numbers to write, in their own type; half precision as float32."""
    values = values.detach().cpu()
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    if values.dtype == torch.bool:
        values = values.to(torch.uint8)
    return np.ascontiguousarray(values.resolve_conj().resolve_neg().numpy())


def to_whole(array: np.ndarray[Any, Any], black: float, white: float, top: int) -> Any:
    """Whole numbers from 0 to `top` for values from `black` to `white`, rounded."""
    share = (np.asarray(array, np.float64) - black) / (white - black)
    return np.rint(share * top).astype(np.uint8 if top < 256 else np.uint16)

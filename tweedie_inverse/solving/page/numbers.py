"""Arrays as text in a page: whole numbers of 16 bits where these are fine enough, else floats."""

import base64
from typing import Any

import numpy as np
from torch import Tensor

# Codes from 0 to this; the one above stands for what is not finite.
_LARGEST, _NOT_FINITE = 65534, 65535
# The error of a code is at most this share of the range that is shown.
FINEST = 1 / 2000


def encoded(values: Tensor, shown: float | None = None) -> dict[str, Any]:
    """``low + step * code``, codes in base64, little-endian; floats of 32 bits where `bits` is 32.

    Args:
        values: of any shape, in row-major order; NaN and infinity become NaN.
        shown: width of the range of colours, or of the values themselves.
    """
    array = values.detach().cpu().double().numpy().ravel()
    finite = np.isfinite(array)
    low = float(array[finite].min()) if finite.any() else 0.0
    high = float(array[finite].max()) if finite.any() else 0.0
    step = (high - low) / _LARGEST
    if not np.isfinite(step) or (shown is not None and step / 2 > FINEST * shown):
        floats = np.where(finite, array, np.nan).astype("<f4")
        return {"bits": 32, "data": base64.b64encode(floats.tobytes()).decode()}
    codes = np.full(array.shape, _NOT_FINITE, dtype="<u2")
    codes[finite] = np.rint((array[finite] - low) / step) if step else 0
    text = base64.b64encode(codes.tobytes()).decode()
    return {"bits": 16, "low": low, "step": step, "data": text}


def decoded(block: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The numbers of `encoded`, flat, float64."""
    raw = base64.b64decode(block["data"])
    if block["bits"] == 32:
        return np.frombuffer(raw, dtype="<f4").astype(np.float64)
    codes = np.frombuffer(raw, dtype="<u2")
    values = block["low"] + block["step"] * codes.astype(np.float64)
    return np.where(codes == _NOT_FINITE, np.nan, values)

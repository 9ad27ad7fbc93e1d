"""Pictures as the images of this package: ``(channels, height, width)``, float32, in data units."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import choice, pair
from tweedie_inverse.boundary.arrays import refuse_infinite, tensor_of
from tweedie_inverse.boundary.data import Data

_CHANNELS = (1, 3, 4)
# Modes of PIL whose numbers are brightnesses, and none of them an opacity or a palette's index.
_MODES = ("1", "L", "RGB", "I;16", "F")
# Kinds of files whose pictures are read with their channels first.
_LAID_OUT = ("dicom", "nifti", "fits", "tiff", "png", "jpeg")


def as_complex(image: Any, *, axis: int = -3) -> Tensor:
    """Complex numbers from their real and imaginary parts, such as ``posterior.samples``.

    Args:
        image: ``(..., 2, height, width)``, a tensor or an array of real numbers.
        axis: of the two parts; -4 for volumes.

    Raises:
        TypeError: not real floating-point numbers.
        ValueError: an axis without two entries.
    """
    parts = tensor_of("as_complex", "image", image)
    if not parts.is_floating_point():
        raise TypeError(f"as_complex: needs real and imaginary parts, got {parts.dtype}")
    if not -parts.ndim <= axis < parts.ndim or parts.shape[axis] != 2:
        raise ValueError(
            f"as_complex(axis={axis}): needs two entries along that axis, real and imaginary part, "
            f"got shape {tuple(parts.shape)}; volumes have axis=-4"
        )
    real, imaginary = parts.unbind(axis)
    return torch.complex(real, imaginary)


def as_image(
    array: Any,
    *,
    value_range: tuple[float, float],
    input_range: tuple[float, float] | None = None,
    channels: str | None = None,
) -> Tensor:
    """A picture as an image ``(channels, height, width)``, float32, in the range of the data.

    Args:
        array: a NumPy array, a tensor, a picture of PIL, or `Data` of a file that was read,
            ``(height, width)``, ``(height, width, channels)`` or ``(channels, height, width)``; 1,
            3 or 4 channels, the last of four included as it is.
        value_range: what black and white become: ``(0, 1)`` for the shipped priors of photographs.
        input_range: black and white of the picture; default that of its type, 0 to 255 for uint8,
            0 to 65535 for uint16, False and True, and that of a file.  Floating-point pictures
            need it.
        channels: ``"last"`` or ``"first"``, where the shape leaves it open.

    Raises:
        TypeError: no picture, or one whose range is not known.
        ValueError: a shape that is none of these or fits two of them, an empty range, or values
            outside `input_range`.
    """
    low, high = _ends("value_range", value_range)
    if isinstance(array, Data):  # it knows its black and white, and its layout
        input_range = array.value_range if input_range is None else input_range
        channels = "first" if channels is None and array.kind in _LAID_OUT else channels
    picture = tensor_of("as_image", "array", _pixels(array))
    if picture.is_complex():
        raise TypeError(
            "as_image(array=): got complex numbers, which have no black and white; give their real "
            "and imaginary parts as two channels"
        )
    black, white = _ends("input_range", _range_of(picture, input_range))
    exact = _first(picture, channels).double()
    refuse_infinite("as_image", "array", exact)
    if float(exact.min()) < black or float(exact.max()) > white:
        raise ValueError(
            f"as_image(input_range=({black:g}, {white:g})): the picture goes from "
            f"{float(exact.min()):g} to {float(exact.max()):g}, outside that range"
        )
    return (low + (exact - black) * ((high - low) / (white - black))).float().contiguous()


def _pixels(array: Any) -> Any:
    """The numbers of a picture of PIL; anything else as it is."""
    if type(array).__module__.partition(".")[0] != "PIL":
        return array
    if array.mode not in _MODES:
        raise ValueError(
            f"as_image: a picture of mode {array.mode!r} holds more than brightnesses (opacity, a "
            "palette); convert it first, such as picture.convert('RGB')"
        )
    return np.array(array)


def _range_of(picture: Tensor, given: tuple[float, float] | None) -> tuple[float, float]:
    if given is not None:
        return given
    whites = {torch.bool: 1.0, torch.uint8: 255.0, torch.uint16: 65535.0}
    if picture.dtype not in whites:
        raise TypeError(
            f"as_image: black and white of {picture.dtype} are not known; give input_range=, such "
            "as (0, 1)"
        )
    return 0.0, whites[picture.dtype]


def _ends(name: str, given: Any) -> tuple[float, float]:
    low, high = pair("as_image", name, given, need="two numbers, black and white")
    if low == high:
        raise ValueError(f"as_image({name}=({low:g}, {high:g})): black and white must differ")
    return low, high


def _first(picture: Tensor, channels: str | None) -> Tensor:
    """The picture with its channels first."""
    if channels is not None:
        choice("as_image", "channels", channels, ("first", "last"))
    shape = tuple(picture.shape)
    if len(shape) == 2 and channels is None and min(shape) > 0:
        return picture[None]
    first, last = (len(shape) == 3 and shape[end] in _CHANNELS for end in (0, -1))
    if channels == "first" or (channels is None and first and not last):
        fits = first
    elif channels == "last" or (channels is None and last and not first):
        fits, picture = last, picture.movedim(-1, 0) if len(shape) == 3 else picture
    elif first and last:
        raise ValueError(
            f"as_image: {shape} may have its channels first or last; say channels='first' or "
            "channels='last'"
        )
    else:
        fits = False
    if not fits or min(shape) < 1:
        raise ValueError(
            "as_image: needs one picture (height, width), (height, width, channels) or (channels, "
            f"height, width) of 1, 3 or 4 channels, got {shape}; several are "
            "torch.stack([ti.as_image(...), ...])"
        )
    return picture

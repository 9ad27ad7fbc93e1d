"""Which axes of an array are images, channels, rows and columns: by the kind of file, no guess."""

from typing import Any

from torch import Tensor

from tweedie_inverse.boundary.data import Data

_COLOURS = 3


def images_of_file(data: Data) -> Tensor:
    """The images of a file, ``(count, channels, height, width)``.

    Pictures are one image; stacks and volumes one for each slice; arrays of npy, npz and HDF5 as
    of `images_of_array`.

    Raises:
        ValueError: the array is none of these, or complex.
    """
    values = data.values
    if values.is_complex():
        raise ValueError("holds complex numbers; save their magnitude, or two channels")
    if data.kind in ("png", "jpeg"):
        return values[None]
    if data.kind in ("npy", "npz", "hdf5"):
        return images_of_array(values)
    if values.ndim < 2:
        raise ValueError(f"holds {tuple(values.shape)}, no image")
    if _in_colour(data) and values.shape[-3] == _COLOURS:
        return values.reshape(-1, *values.shape[-3:])
    return values.reshape(-1, 1, *values.shape[-2:])


def _in_colour(data: Data) -> bool:
    """Whether the axis before the rows is that of colours."""
    if data.kind == "tiff":
        return bool((data.header or {}).get("is_colour"))
    if data.kind == "dicom":  # only its colours have a white
        return data.value_range is not None
    return False


def images_of_array(values: Any) -> Tensor:
    """``(h, w)``, ``(1, h, w)``, ``(3, h, w)``, ``(n, h, w)``, ``(n, 1, h, w)``, ``(n, 3, h, w)``.

    Returns:
        ``(n, channels, height, width)``.

    Raises:
        ValueError: another shape, or channels last.
    """
    shape = tuple(values.shape)
    if len(shape) == 2:
        return values[None, None]
    if len(shape) == 3 and shape[0] in (1, _COLOURS):
        return values[None]
    if len(shape) in (3, 4) and shape[-1] in (1, _COLOURS) and min(shape[-3:-1]) > _COLOURS:
        raise ValueError(f"has shape {shape}, its channels last; np.moveaxis(x, -1, -3) first")
    if len(shape) == 3:
        return values[:, None]
    if len(shape) == 4 and shape[1] in (1, _COLOURS):
        return values
    raise ValueError(
        f"has shape {shape}; needs (height, width), (1 or 3, height, width), (n, height, width) or "
        "(n, 1 or 3, height, width)"
    )

"""A measurement's file for `solve`: its numbers, and what was done to them, said in lines."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from tweedie_inverse import io as files
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.boundary.images import as_image
from tweedie_inverse.priors.base import Prior

# Kinds whose numbers mean brightness and nothing else.
_PICTURES = ("png", "jpeg")


def refuse_what_is_no_file(path: str | Path) -> None:
    """Raise a `ValueError` for a pipe, which would be waited for, a device or a folder."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file, or it is a folder, a pipe or a device")


def load(path: str | Path, key: str | None = None) -> Data:
    """What a file holds.

    Raises:
        ValueError: it is none, cannot be read, or holds several arrays and no key says which.
    """
    refuse_what_is_no_file(path)
    try:
        return files.read(path, key=key)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("io.read: ")) from error


def in_units_of(prior: Prior, data: Data, name: str, tell: Callable[[str], None]) -> Tensor:
    """The numbers for `solve`: pictures in the prior's value range, all others as they are.

    Args:
        name: of the file, for the lines and messages.
        tell: is given a line for everything that one should know.

    Raises:
        ValueError: a picture, and a prior whose value range is not known.
    """
    for note in data.notes:
        tell(f"{name}: {note}")
    if data.kind not in _PICTURES or data.value_range is None:
        if data.value_range is not None:
            low, high = float(data.values.min()), float(data.values.max())
            tell(f"{name}: whole numbers from {low:g} to {high:g}, taken as they are")
        return data.values
    if prior.value_range is None:
        raise ValueError(
            f"{name}: is a picture of whole numbers, and the prior does not say what black and "
            "white are in its units; make y of it with ti.as_image(..., value_range=) and np.save"
        )
    (black, white), (low, high) = data.value_range, prior.value_range
    tell(f"{name}: {black:g} to {white:g} become {low:g} to {high:g}, the prior's value range")
    return as_image(data, value_range=(low, high))

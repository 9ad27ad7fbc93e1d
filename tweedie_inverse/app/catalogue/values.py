"""Kinds of values that options take: how a text of the command line or a problem file is read.

A kind is called with the text and gives the value, or raises a `ValueError` that says what it
needs; the caller puts the name of the option in front.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse import io as files

# An unknown number is written as its range.
UNKNOWN_MARK = ".."


class Unknown(NamedTuple):
    """A number that is drawn with each sample, uniform from `low` to `high`."""

    low: float
    high: float


@dataclass(frozen=True)
class Stored:
    """An array in a file, ``FILE`` or ``FILE:KEY``, read when it is asked for."""

    path: Path
    key: str | None

    def tensor(self) -> Tensor:
        """The numbers of the file; those of a text file row by row."""
        if self.path.suffix.lower() in (".txt", ".csv"):
            delimiter = "," if self.path.suffix.lower() == ".csv" else None
            return torch.from_numpy(np.loadtxt(self.path, delimiter=delimiter))
        return files.read(self.path, key=self.key).values

    def picture(self) -> Tensor:
        """The same where black is 0 and white is 1, as for a mask that was drawn."""
        if self.path.suffix.lower() in (".txt", ".csv"):
            return self.tensor()
        data = files.read(self.path, key=self.key)
        if data.value_range is None:
            return data.values
        black, white = data.value_range
        return (data.values - black) / (white - black)


@dataclass(frozen=True)
class Kind:
    """How a value is written, and how it is read.

    Attributes:
        metavar: what stands for it in the help.
        read: text to value.
        is_file: whether the text names a file.
        is_flag: whether the option stands alone, without a value.
    """

    metavar: str
    read: Callable[[str], Any]
    is_file: bool = False
    is_flag: bool = False


def _number(text: str, need: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"needs {need}, got {text!r}")
    return value


def _whole(text: str, least: int, need: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ValueError(f"needs {need} of at least {least}, got {text!r}")
    return value


def whole(least: int = 1) -> Kind:
    """A whole number of at least `least`."""
    return Kind("N", lambda text: _whole(text, least, "a whole number"))


def number(*, above: float | None = None, least: float | None = None) -> Kind:
    """A number, `least` or more, or above `above`; a range ``LOW..HIGH`` of such where unknown."""
    bound = f" above {above:g}" if above is not None else ""
    bound = f" of at least {least:g}" if least is not None else bound
    need = f"a number{bound}"

    def one(text: str) -> float:
        value = _number(text, need)
        if (above is not None and value <= above) or (least is not None and value < least):
            raise ValueError(f"needs {need}, got {text!r}")
        return value

    def read(text: str) -> float | Unknown:
        if UNKNOWN_MARK not in text:
            return one(text)
        low, high = map(one, text.split(UNKNOWN_MARK, 1))
        if not low < high:
            raise ValueError(f"needs LOW..HIGH with LOW below HIGH, got {text!r}")
        return Unknown(low, high)

    return Kind("NUMBER", read)


def choice(*names: str) -> Kind:
    """One of some names."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"needs one of {', '.join(names)}, got {text!r}")
        return text

    return Kind("{" + ",".join(names) + "}", read)


def numbers(count: int | None = None) -> Kind:
    """Several numbers, divided by commas; `count` of them where that is given."""
    many = "" if count is None else f"{count} "
    need = f"{many}numbers divided by commas"

    def read(text: str) -> tuple[float, ...]:
        found = tuple(_number(part.strip(), need) for part in text.split(","))
        if count is not None and len(found) != count:
            raise ValueError(f"needs {need}, got {text!r}")
        return found

    return Kind(",".join(["NUMBER"] * count) if count else "NUMBER,...", read)


def sides(text: str) -> tuple[int, int]:
    """Height and width: ``128`` for both, or ``128,96``."""
    found = [_whole(part.strip(), 1, "height,width in pixels") for part in text.split(",")]
    if len(found) not in (1, 2):
        raise ValueError(f"needs HEIGHT,WIDTH in pixels, or one number for both, got {text!r}")
    return found[0], found[-1]


def stored(text: str) -> Stored:
    """An array in a file, which must be there."""
    path, key = Path(text), None
    if not path.exists() and ":" in path.name:
        name, key = text.rsplit(":", 1)
        path = Path(name)
    if not path.is_file():
        raise ValueError(f"{text}: there is no such file (FILE, or FILE:KEY for npz and HDF5)")
    return Stored(path, key)


def _count_list_or_file(text: str) -> int | tuple[float, ...] | Stored:
    if Path(text.rsplit(":", 1)[0]).is_file() or Path(text).is_file():
        return stored(text)
    try:
        return _whole(text, 1, "a count")
    except ValueError:
        pass
    try:
        if "," in text:
            return numbers().read(text)
    except ValueError:
        pass
    raise ValueError(
        f"needs a count, angles in degrees divided by commas, or a file of them, got {text!r}"
    )


def _text(text: str) -> str:
    return text


SIDES = Kind("HEIGHT,WIDTH", sides)
FILE = Kind("FILE", stored, is_file=True)
FLAG = Kind("", lambda text: text == "true", is_flag=True)
COUNT_OR_LIST = Kind("N|DEG,DEG,...|FILE", _count_list_or_file, is_file=True)
TEXT = Kind("TEXT", _text)

"""What goes along with new numbers: the units, spacing and place in space of a file like them.

On the same grid everything is kept.  On a finer or coarser grid of the same field, the spacing is
scaled, and with it the affine map: the outer edge of the field stays where it is,

    A' = A R,  b' = b + A (r - 1) / 2

for an image whose pixels are `r` times as wide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tweedie_inverse.boundary.arguments import positive
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.boundary.warn import warn_user

# Millimetres in a unit of length, as files spell it.
MILLIMETRES = {
    "mm": 1.0,
    "millimeter": 1.0,
    "um": 1e-3,
    "µm": 1e-3,
    "\u03bcm": 1e-3,
    "micron": 1e-3,
    "micrometer": 1e-3,
    "nm": 1e-6,
    "cm": 10.0,
    "m": 1e3,
    "inch": 25.4,
}
# Two fields of view are the same if their sides differ by less than this share.
_SAME = 1e-4


@dataclass(frozen=True)
class Meaning:
    """What is written beside the numbers.

    Attributes:
        like: the file whose header is kept; None where there is none.
        ratio: by which the pixels of `like` are widened, along ``(..., row, column)``; None where
            the two grids have nothing to do with each other.
        black_and_white: of pictures, in the units of the values.
        name: of the array, in kinds that name it.
    """

    units: str = ""
    spacing: tuple[float, ...] | None = None
    spacing_unit: str = ""
    affine: Any = None
    like: Data | None = None
    ratio: tuple[float, ...] | None = None
    black_and_white: tuple[float, float] | None = None
    name: str | None = None

    def header_of(self, kind: str) -> Any:
        """The header to keep, where `like` is of the same kind."""
        return self.like.header if self.like is not None and self.like.kind == kind else None

    @property
    def is_same_grid(self) -> bool:
        return self.ratio is not None and all(one == 1 for one in self.ratio)

    def matrix(self) -> np.ndarray[Any, Any] | None:
        """The affine map ``(4, 4)``, where there is one."""
        return self.affine if isinstance(self.affine, np.ndarray) else None

    def key(self, default: str) -> str:
        if self.name is not None:
            return self.name
        header = self.like.header if self.like is not None else None
        return header.get("key", default) if isinstance(header, dict) else default

    def in_millimetres(self) -> tuple[float, ...] | None:
        """The spacing in mm; None where it is not known."""
        factor = MILLIMETRES.get(self.spacing_unit)
        if self.spacing is None or factor is None:
            return None
        return tuple(step * factor for step in self.spacing)

    def plain(self) -> dict[str, Any]:
        """As JSON has it; `meaning_of` reads it."""
        matrix = self.matrix()
        return {
            "units": self.units,
            "spacing": None if self.spacing is None else list(self.spacing),
            "spacing_unit": self.spacing_unit,
            "affine": None if matrix is None else matrix.tolist(),
        }


def meaning_of(plain: dict[str, Any]) -> dict[str, Any]:
    """Fields of `Data` from what `Meaning.plain` says."""
    spacing, affine = plain.get("spacing"), plain.get("affine")
    return {
        "units": str(plain.get("units") or ""),
        "spacing": None if spacing is None else tuple(float(step) for step in spacing),
        "spacing_unit": str(plain.get("spacing_unit") or ""),
        "affine": None if affine is None else np.array(affine, dtype=np.float64).reshape(4, 4),
    }


def accompany(
    shape: Sequence[int], like: Data | None, units: str | None, spacing: Sequence[float] | None
) -> Meaning:
    """The meaning of values of a shape, from a file like them and what is given instead.

    Warns where something of the file is scaled or left out.
    """
    given = None if spacing is None else _steps(spacing)
    if like is None:
        return Meaning(units or "", given, "mm" if given else "")
    own = replace(_BARE, units=like.units if units is None else units, like=like)
    ratio = _ratio(tuple(shape), like, given)
    unit = like.spacing_unit or "mm"
    if ratio is None:
        left = "spacing and place in space" if _has_place(like) else ""
        if left and given is None:
            _warn(
                f"values of shape {tuple(shape)} are on another grid than {like.shape}: the {left} "
                "of like= are left out; give spacing=, in mm"
            )
        elif like.affine is not None:
            _warn("the place in space of like= is left out: the field of view is another one")
        return replace(own, spacing=given, spacing_unit=unit if given else "")
    steps = given
    if steps is None and like.spacing is not None:
        many = len(like.spacing)
        steps = tuple(s * r for s, r in zip(like.spacing, ratio[-many:], strict=True))
        if any(one != 1 for one in ratio):
            _warn(
                f"values of shape {tuple(shape)} are taken for the field of view of {like.shape}: "
                f"spacing {', '.join(f'{step:.6g}' for step in steps)} {unit}; spacing= says "
                "another one"
            )
    affine = like.affine
    if isinstance(affine, np.ndarray):
        affine = _widened(affine, ratio)
    return replace(
        own,
        spacing=steps,
        spacing_unit=unit if steps and like.spacing_unit else ("mm" if given else ""),
        affine=affine,
        ratio=ratio,
    )


_BARE = Meaning()


def _steps(spacing: Sequence[float]) -> tuple[float, ...]:
    need = "positive distances between neighbours, one for each of the last axes"
    if (
        isinstance(spacing, str)
        or not isinstance(spacing, Sequence | np.ndarray)
        or not len(spacing)
    ):
        raise TypeError(f"io.write(spacing=): needs {need}, such as (0.5, 0.5)")
    return tuple(positive("io.write", "spacing", step, need=need) for step in spacing)


def _has_place(like: Data) -> bool:
    return like.spacing is not None or like.affine is not None


def _ratio(
    shape: tuple[int, ...], like: Data, given: tuple[float, ...] | None
) -> tuple[float, ...] | None:
    """How much wider a pixel is than one of `like`, for the axes of space; None if not known."""
    many = len(like.spacing) if like.spacing is not None else min(2, len(like.shape))
    mine, theirs = shape[-many:], like.shape[-many:]
    if len(mine) != many:
        return None
    ratio = tuple(their / my for my, their in zip(mine, theirs, strict=True))
    if given is not None and like.spacing is not None:
        if len(given) != many:
            return None
        fits = (
            abs(my * step - their * old) <= _SAME * their * old
            for my, their, step, old in zip(mine, theirs, given, like.spacing, strict=True)
        )
        return ratio if all(fits) else None
    for my, their in zip(mine, theirs, strict=True):
        if my != their and (min(my, their) == 1 or max(my, their) % min(my, their)):
            return None
    return ratio


def _widened(affine: np.ndarray[Any, Any], ratio: tuple[float, ...]) -> np.ndarray[Any, Any]:
    if all(one == 1 for one in ratio):
        return affine.copy()
    along = np.ones(3)
    along[: len(ratio)] = ratio[::-1][:3]  # columns first
    found = affine.copy()
    found[:3, :3] = affine[:3, :3] * along
    found[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((along - 1) / 2)
    return found


def _warn(text: str) -> None:
    warn_user(f"io.write: {text}")

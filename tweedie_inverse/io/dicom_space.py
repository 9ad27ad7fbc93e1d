"""Where the pixels of DICOM images lie: spacing, and the affine map to mm in the patient.

DICOM counts towards left, posterior and superior (PS3.3 C.7.6.2); the map here is NIfTI's, towards
right, anterior and superior.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tweedie_inverse.io.guarded import Refused

# From left, posterior, superior to right, anterior, superior, and back.
_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])
# Positions of slices are equal up to this share of their distance, and this many mm.
_SHARE, _ROUNDING = 0.01, 0.01
_COINCIDENT = 1e-3  # mm


def group(dataset: Any, name: str, frame: int = 0) -> Any:
    """The first item of a functional group of a multi-frame file, of one frame or of all."""
    for source in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        items = dataset.get(source) or []
        place = frame if source.startswith("Per") else 0
        if len(items) > place and items[place].get(name):
            return items[place].get(name)[0]
    return None


def measures(dataset: Any, name: str) -> Any:
    """A pixel measure of a file, wherever it stands."""
    if dataset.get(name) is not None:
        return dataset.get(name)
    found = group(dataset, "PixelMeasuresSequence")
    return None if found is None else found.get(name)


def pixel_spacing(dataset: Any) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Distances of rows and of columns in mm, and what is to be said about them."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = measures(dataset, name)
        if found is not None and len(found) == 2 and min(map(float, found)) > 0:
            note = ("spacing is that on the detector, not in the body",)
            return (float(found[0]), float(found[1])), note * (name == "ImagerPixelSpacing")
    return None, ()


def position(dataset: Any, frame: int = 0) -> np.ndarray[Any, Any] | None:
    """Where the centre of the first pixel lies, ``(3,)``, in DICOM's frame."""
    found = dataset.get("ImagePositionPatient")
    if found is None:
        item = group(dataset, "PlanePositionSequence", frame)
        found = None if item is None else item.get("ImagePositionPatient")
    return None if found is None or len(found) != 3 else np.array(found, np.float64)


def orientation(dataset: Any) -> np.ndarray[Any, Any] | None:
    """Unit vectors along a row and down a column, ``(2, 3)``."""
    found = dataset.get("ImageOrientationPatient")
    if found is None:
        item = group(dataset, "PlaneOrientationSequence")
        found = None if item is None else item.get("ImageOrientationPatient")
    if found is None or len(found) != 6:
        return None
    return np.array(found, np.float64).reshape(2, 3)


def affine_of(
    first: np.ndarray[Any, Any] | None,
    axes: np.ndarray[Any, Any] | None,
    spacing: tuple[float, float] | None,
    step: np.ndarray[Any, Any] | float,
) -> np.ndarray[Any, Any] | None:
    """The map of ``(column, row, slice)``, ``(4, 4)``; None where the file does not say all of it.

    Args:
        step: from one slice to the next, ``(3,)``, or its length along the normal.
    """
    if first is None or axes is None or spacing is None:
        return None
    found = np.eye(4)
    found[:3, 0], found[:3, 1] = axes[0] * spacing[1], axes[1] * spacing[0]
    normal = np.cross(axes[0], axes[1])
    found[:3, 2] = step if isinstance(step, np.ndarray) else normal * step
    found[:3, 3] = first
    return _TURN @ found


def first_pixel(affine: np.ndarray[Any, Any]) -> list[float]:
    """DICOM's position of the first pixel, from the map."""
    return [float(one) for one in (_TURN @ affine)[:3, 3]]


def equal_step(
    positions: Sequence[np.ndarray[Any, Any]], names: Sequence[str]
) -> np.ndarray[Any, Any]:
    """From one slice to the next, the same for all, ``(3,)``.

    Raises:
        Refused: slices coincide, are missing, or are unequally spaced.
    """
    steps = np.diff(np.array(positions), axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    usual, median = float(np.median(lengths)), np.median(steps, axis=0)
    pairs = [f"{one} and {other}" for one, other in pairwise(names)]
    for length, pair in zip(lengths, pairs, strict=True):
        if length <= _COINCIDENT:
            raise Refused(
                f"{pair} lie at the same place: several echoes, times or reconstructions in one "
                "series; put one of them into a folder of its own"
            )
    for step, length, pair in zip(steps, lengths, pairs, strict=True):
        if np.abs(step - median).max() > _SHARE * usual + _ROUNDING:
            raise Refused(
                f"slices are missing, or unequally spaced: {length:.6g} mm between {pair}, "
                f"{usual:.6g} mm between most"
            )
    return steps.mean(axis=0)

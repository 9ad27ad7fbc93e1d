"""A folder of DICOM slices as one volume, in the order in which they lie in the patient."""

from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io import dicom
from tweedie_inverse.io.dicom_space import (
    affine_of,
    equal_step,
    orientation,
    pixel_spacing,
    position,
)
from tweedie_inverse.io.guarded import Refused, listed, reading, refuse_size
from tweedie_inverse.io.kinds import SUFFIXES
from tweedie_inverse.io.numbers import as_tensor

_TOLERANCE = 1e-3  # of unit vectors, and of spacings as a share


def read(folder: Path, key: str | int | None) -> Data:
    """The slices of one series, ``(slice, row, column)``.

    Raises:
        Refused: no DICOM file, several series, or slices that are no regular volume.
    """
    series = _series(folder)
    chosen = _chosen(series, key)
    if len(chosen) == 1:
        with reading(chosen[0][0], "dicom"):
            return dicom.read(chosen[0][0], None)
    ordered = _in_space(chosen)
    names = [path.name for path, _ in ordered]
    places = [place for _, header in ordered if (place := position(header)) is not None]
    step = equal_step(places, names)
    header = ordered[0][1]
    refuse_size((len(ordered), int(header.Rows), int(header.Columns)), 4)
    slices: list[Any] = []
    headers: list[Any] = []
    notes: list[str] = []
    for path, _ in ordered:
        with reading(path, "dicom"):
            dataset = dicom.opened(path)
            stored, in_units = dicom.pixels(dataset)
            if in_units.ndim != 2:
                raise Refused(f"is no slice: its image has shape {in_units.shape}")
            notes += dicom.remarks(dataset, stored)
            slices.append(in_units)
            headers.append(dicom.stripped(dataset))
    spacing, said = pixel_spacing(headers[0])
    depth = float(np.linalg.norm(step))
    return Data(
        as_tensor(np.stack(slices)),
        "dicom",
        units=dicom.units_of(headers[0]),
        spacing=None if spacing is None else (depth, *spacing),
        spacing_unit="" if spacing is None else "mm",
        affine=affine_of(places[0], orientation(headers[0]), spacing, step),
        notes=(*said, *dict.fromkeys(note for note in notes if note.startswith("MONO"))),
        header=tuple(headers),
    )


def _series(folder: Path) -> dict[str, list[tuple[Path, Any]]]:
    """Files with images, by their series."""
    found: dict[str, list[tuple[Path, Any]]] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.name == "DICOMDIR":
            continue
        named = path.suffix.lower() in SUFFIXES["dicom"]
        with open(path, "rb") as file:
            if not named and file.read(132)[128:] != b"DICM":
                continue
        with reading(path, "dicom"):
            header = dicom.opened(path, header_only=True)
        if header.get("Rows") and header.get("Columns"):
            found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((path, header))
    if not found:
        raise Refused("is a folder without DICOM images; name a file, or a folder of DICOM slices")
    return found


def _chosen(
    series: dict[str, list[tuple[Path, Any]]], key: str | int | None
) -> list[tuple[Path, Any]]:
    names = list(series)
    shown = [
        f"{number}: {series[uid][0][1].get('SeriesDescription') or 'no description'}, "
        f"{len(series[uid])} files, {uid}"
        for number, uid in enumerate(names)
    ]
    if key is None and len(names) == 1:
        return series[names[0]]
    if key in series:
        return series[str(key)]
    if key is not None and str(key).isdigit() and int(key) < len(names):
        return series[names[int(key)]]
    said = "holds several series" if key is None else f"key={key!r}: there is no such series"
    raise Refused(f"{said} ({listed(shown)}); choose one by number or UID with key=, --key")


def _in_space(files: list[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """The slices sorted along their normal, after a check that they are of one volume."""
    first_path, first = files[0]
    axes, spacing = orientation(first), pixel_spacing(first)[0]
    along: dict[Path, float] = {}
    for path, header in files:
        mine, place = orientation(header), position(header)
        if mine is None or place is None or axes is None:
            raise Refused(f"{path.name} does not say where it lies, so that slices have no order")
        along[path] = float(place @ np.cross(*axes))
        pair = f"{first_path.name} and {path.name}"
        if (header.Rows, header.Columns) != (first.Rows, first.Columns):
            raise Refused(
                f"{pair} differ in size: {first.Rows} x {first.Columns} and {header.Rows} x "
                f"{header.Columns}"
            )
        if np.abs(mine - axes).max() > _TOLERANCE:
            raise Refused(f"{pair} are not parallel, and no volume")
        other = pixel_spacing(header)[0]
        same = other == spacing or (
            other is not None
            and spacing is not None
            and np.allclose(other, spacing, rtol=_TOLERANCE)
        )
        if not same:
            raise Refused(f"{pair} differ in pixel spacing: {spacing} and {other} mm")
    return sorted(files, key=lambda pair: along[pair[0]])

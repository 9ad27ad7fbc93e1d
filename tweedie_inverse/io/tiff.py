"""TIFF by tifffile: any depth, pages as a stack, colours first; ImageJ's and OME's pixel sizes."""

import io
import json
import warnings
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io.accompany import MILLIMETRES, Meaning, meaning_of
from tweedie_inverse.io.guarded import Refused, listed, refuse_size
from tweedie_inverse.io.kinds import library
from tweedie_inverse.io.numbers import as_tensor

_UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}  # TIFF's codes of resolution, in mm
_WHITE = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}
_OURS = "tweedie_inverse"


def read(path: Path, key: str | int | None) -> Data:
    library_of = library("io.read", "tiff")
    with library_of.TiffFile(path) as file:
        series = _chosen(file, key)
        page = series.keyframe
        _refuse_what_is_more(series, page)
        refuse_size(series.shape, series.dtype.itemsize)
        _refuse_cut_off(path, series)
        try:
            array = series.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error) or "requires" in str(error):
                raise Refused(
                    f"is compressed ({page.compression.name}), for which tifffile needs "
                    "imagecodecs: pip install imagecodecs, or save it without compression"
                ) from error
            raise
        axes, form = series.axes, _form(file)
        said = _meaning(file, page, form)
    white = _WHITE.get(array.dtype.name)
    if int(page.photometric) == 0 and white is not None:  # white is zero
        array = array ^ True if white == 1 else array.dtype.type(white) - array
        said["notes"] = ("0 is white in this file; the values are turned over",)
    array, axes = _colours_first(array, axes)
    return Data(
        as_tensor(array[None] if array.ndim == 2 else array),
        "tiff",
        value_range=None if white is None else (0.0, white),
        header={"form": form, "axes": axes, "is_colour": "S" in axes},
        **_placed(said, axes),
    )


def _chosen(file: Any, key: str | int | None) -> Any:
    names = [f"{number} {one.axes} {one.shape}" for number, one in enumerate(file.series)]
    if key is None and len(names) == 1:
        return file.series[0]
    if key is None or not str(key).isdigit() or int(key) >= len(names):
        said = "holds several images" if key is None else f"key={key!r}: there is no such image"
        raise Refused(f"{said} ({listed(names)}); choose one by its number, with key=, --key")
    return file.series[int(key)]


def _refuse_what_is_more(series: Any, page: Any) -> None:
    if page.extrasamples:
        raise Refused("holds an opacity, or other extra samples; remove them, and save it again")
    if int(page.photometric) == 3:
        raise Refused("is a picture with a palette; convert it to grey or RGB first")
    if int(page.photometric) not in (0, 1, 2, 6, 32803):
        raise Refused(f"is a picture in {page.photometric.name}; convert it to grey or RGB first")
    if series.dtype is None or series.dtype.kind not in "biufc":
        raise Refused(f"holds {series.dtype}, and numbers are needed")


def _refuse_cut_off(path: Path, series: Any) -> None:
    there = path.stat().st_size
    for page in series.pages:
        if page is None:
            raise Refused("a page of it is missing")
        ends = [at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if ends and max(ends) > there:
            raise Refused(f"damaged: its pages end at byte {max(ends)}, it has {there}")


def _form(file: Any) -> str:
    if file.is_ome:
        return "ome"
    return "imagej" if file.is_imagej else ""


def _meaning(file: Any, page: Any, form: str) -> dict[str, Any]:
    """Spacing ``(row, column)`` or ``(depth, row, column)`` and units, as the file says them."""
    said: dict[str, Any] = {}
    if form == "ome":
        return _ome(file.ome_metadata)
    ours = [one[_OURS] for one in file.shaped_metadata or () if _OURS in one]
    if ours:
        return meaning_of(ours[0])
    tags = page.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return said
    across, down = (_number(tags[name].value) for name in ("XResolution", "YResolution"))
    code = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    unit, factor = "mm", _UNITS.get(code)
    metadata = file.imagej_metadata or {} if form == "imagej" else {}
    if form == "imagej" and metadata.get("unit"):
        name = str(metadata["unit"]).replace("\\u00B5", "µ")
        factor = MILLIMETRES.get(name)
        unit, factor = ("mm", factor) if factor else (name, 1.0)
    if across <= 0 or down <= 0 or factor is None:
        return said
    said |= {"spacing": (factor / down, factor / across), "spacing_unit": unit}
    if "spacing" in metadata:
        said["spacing"] = (float(metadata["spacing"]) * factor, *said["spacing"])
    return said


def _number(value: Any) -> float:
    return float(value[0]) / float(value[1]) if isinstance(value, tuple) and value[1] else 0.0


def _ome(text: str) -> dict[str, Any]:
    pixels = next(
        (
            one
            for one in xml.etree.ElementTree.fromstring(text).iter()
            if one.tag.endswith("Pixels")
        ),
        None,
    )
    if pixels is None:
        return {}
    found = []
    for name in ("PhysicalSizeZ", "PhysicalSizeY", "PhysicalSizeX"):
        step, unit = pixels.get(name), pixels.get(f"{name}Unit", "µm")
        if step is not None and unit in MILLIMETRES:
            found.append(float(step) * MILLIMETRES[unit])
    whole = len(found) >= 2 and min(found) > 0
    return {"spacing": tuple(found), "spacing_unit": "mm"} if whole else {}


def _colours_first(array: np.ndarray[Any, Any], axes: str) -> tuple[np.ndarray[Any, Any], str]:
    """Colours of a pixel (``S``) stand before the rows."""
    if "S" not in axes:
        return array, axes
    place = axes.index("S")
    if place == len(axes) - 1:
        array, axes = np.moveaxis(array, -1, -3), axes[:-3] + "S" + axes[-3:-1]
    return array, axes


def _placed(said: dict[str, Any], axes: str) -> dict[str, Any]:
    """The spacing without the depth, where the axis before the rows is none."""
    steps = said.get("spacing")
    if steps is not None and not axes.endswith("ZYX"):
        said["spacing"] = tuple(steps[-2:])
    return said


def write(values: np.ndarray[Any, Any], meaning: Meaning) -> bytes:
    """The bytes of a file: samples and slices are pages; in colour where the file like it is."""
    if np.iscomplexobj(values):
        raise ValueError("a TIFF holds no complex numbers; write an npz or HDF5")
    header = meaning.header_of("tiff") or {}
    array, axes, colour = _pages(values, header)
    steps = meaning.in_millimetres()
    options: dict[str, Any] = {}
    if steps is not None:
        options = {
            "resolution": (10.0 / steps[-1], 10.0 / steps[-2]),
            "resolutionunit": "CENTIMETER",
        }
    form = header.get("form", "")
    content = io.BytesIO()
    if form == "ome":
        options |= {"ome": True, "metadata": _ome_metadata(axes, steps)}
    elif form == "imagej" and array.dtype.name in ("uint8", "uint16", "float32") and not colour:
        depth = {"spacing": steps[0]} if steps is not None and len(steps) == 3 else {}
        options |= {"imagej": True, "metadata": {"axes": axes, "unit": "mm", **depth}}
        if steps is None:
            options["metadata"].pop("unit")
        else:
            options |= {"resolution": (1 / steps[-1], 1 / steps[-2]), "resolutionunit": "NONE"}
    else:
        plain = json.loads(json.dumps(meaning.plain()))
        options["metadata"] = {"axes": axes, _OURS: plain}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library("io.write", "tiff").imwrite(
            content, array, photometric="rgb" if colour else "minisblack", **options
        )
    return content.getvalue()


def _ome_metadata(axes: str, steps: tuple[float, ...] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"axes": axes}
    if steps is not None:
        names = ("X", "Y", "Z")
        for name, step in zip(names, steps[::-1], strict=False):
            found |= {f"PhysicalSize{name}": step, f"PhysicalSize{name}Unit": "mm"}
    return found


def _pages(
    values: np.ndarray[Any, Any], header: dict[str, Any]
) -> tuple[np.ndarray[Any, Any], str, bool]:
    """The array as its pages lie, the names of its axes, and whether it is in colour."""
    colour = bool(header.get("is_colour")) and values.ndim >= 3 and values.shape[-3] in (1, 3)
    array = values
    if array.ndim >= 3 and array.shape[-3] == 1:
        array, colour = array.reshape(*array.shape[:-3], *array.shape[-2:]), False
    if colour:
        return np.moveaxis(array, -3, -1), _lead(array.ndim - 3, "TZ") + "YXS", True
    known = str(header.get("axes", ""))
    if len(known) == array.ndim and "S" not in known and "Q" not in known and "I" not in known:
        return array, known, False
    return array, _lead(array.ndim - 2, "CTZ") + "YX", False


def _lead(count: int, names: str) -> str:
    """Names of the axes before the rows; the innermost is the depth."""
    return ("QRTC" + names)[-count:] if count else ""

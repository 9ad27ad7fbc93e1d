"""FITS by astropy: unit and world coordinates are kept, row 0 is the lowest, as FITS has it."""

import gzip
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.data import Data
from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.io.accompany import Meaning
from tweedie_inverse.io.guarded import Refused, listed, refuse_size
from tweedie_inverse.io.kinds import library
from tweedie_inverse.io.numbers import as_tensor

# Cards that say how the old numbers were stored, or what they summed up to.
_STRUCTURE = (
    *("SIMPLE", "BITPIX", "NAXIS", "EXTEND", "BSCALE", "BZERO", "BLANK", "BUNIT", "XTENSION"),
    *("PCOUNT", "GCOUNT", "GROUPS", "CHECKSUM", "DATASUM", "DATAMIN", "DATAMAX", "END", "TFIELDS"),
    *("ZIMAGE", "ZCMPTYPE", "ZBITPIX", "ZQUANTIZ", "ZDITHER0"),
)
_WORLD = ("CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT", "CROTA", "CD", "PC", "PV", "A_", "B_", "AP_")
_WORLD_NAMES = ("WCSAXES", "LONPOLE", "LATPOLE", "A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER")
_DISTORTED = ("A_ORDER", "B_ORDER", "PV1_1", "PV2_1", "CPDIS1", "CPDIS2", "D2IMDIS1")


def read(path: Path, key: str | int | None) -> Data:
    fits = library("io.read", "fits", "io.fits")
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as file, fits.open(file, memmap=False, lazy_load_hdus=False) as units:
        image = _chosen(units, key)
        refuse_size(image.shape, abs(int(image.header["BITPIX"])) // 8)
        if not isinstance(image, fits.CompImageHDU):
            _refuse_cut_off(path, image)
        array, header = np.asarray(image.data), image.header.copy()
    values = array if array.ndim != 2 else array[None]
    if array.ndim == 1:
        values = array[None, None]
    found = as_tensor(values.astype(values.dtype.newbyteorder("="), copy=False))
    missing = int((~found.isfinite()).sum())
    steps, unit = _steps(header, array.ndim)
    notes = []
    if missing:
        notes.append(f"{missing} pixels are NaN; leave them out with ops.Mask")
    if steps is None and _has_steps(header):
        notes.append("its world coordinates give no one distance between pixels; no spacing")
    has_world = any(name in header for name in ("CTYPE1", "CD1_1", "CDELT1", "CRVAL1"))
    return Data(
        found,
        "fits",
        units=str(header.get("BUNIT", "")).strip(),
        spacing=steps,
        spacing_unit=unit,
        affine=header if has_world else None,
        notes=tuple(notes),
        header=(header, array.ndim),
    )


def _chosen(units: Any, key: str | int | None) -> Any:
    """The one image of a file, or the one named."""
    names = [f"{number} {unit.name or '(no name)'}" for number, unit in enumerate(units)]
    images = [unit for unit in units if unit.is_image and unit.shape]
    if key is not None:
        number = int(key) if isinstance(key, int) or key.lstrip("-").isdigit() else key
        try:
            found = units[number]
        except (KeyError, IndexError):
            raise Refused(
                f"key={key!r}: there is no such unit; there are {listed(names)}"
            ) from None
        if not found.is_image or not found.shape:
            raise Refused(f"key={key!r}: holds no image; there are {listed(names)}")
        return found
    if len(images) != 1:
        shown = [
            f"{name} {unit.shape}" if unit in images else f"{name}, no image"
            for name, unit in zip(names, units, strict=True)
        ]
        said = "several images" if images else "no image"
        raise Refused(f"holds {said} ({listed(shown)}); choose one with key=, --key in a shell")
    return images[0]


def _refuse_cut_off(path: Path, image: Any) -> None:
    info = image.fileinfo()
    if info is None or path.name.lower().endswith(".gz"):
        return
    last = int(info["datLoc"]) + int(image.size)
    if path.stat().st_size < last:
        raise Refused(f"damaged: its header claims {last} bytes, it has {path.stat().st_size}")


def _has_steps(header: Any) -> bool:
    return any(name in header for name in ("CDELT1", "CD1_1"))


def _steps(header: Any, axes: int) -> tuple[tuple[float, ...] | None, str]:
    """Distances between pixels along the last axes that share a unit, and that unit."""
    if not _has_steps(header):
        return None, ""
    world = library("io.read", "fits", "wcs")
    for many in range(min(axes, 3), 1, -1):  # a third axis may be one of time or of colour
        try:
            found = world.WCS(header, naxis=many)
            scales = world.utils.proj_plane_pixel_scales(found)
        except Exception:  # not what astropy understands; `read` says so in the end
            continue
        units = {str(unit) for unit in found.wcs.cunit}
        if len(units) == 1 and all(np.isfinite(scales)) and min(scales) > 0:
            return tuple(float(step) for step in scales[::-1]), units.pop()
    return None, ""


def write(values: np.ndarray[Any, Any], meaning: Meaning) -> bytes:
    """The bytes of a file with one image; samples before ``(row, column)`` are further axes."""
    fits, content = library("io.write", "fits", "io.fits"), io.BytesIO()
    if np.iscomplexobj(values):
        raise ValueError("FITS holds no complex numbers; write their real and imaginary parts")
    kept = meaning.header_of("fits")
    array = _planes(values, None if kept is None else kept[1], meaning)
    header = fits.Header()
    if kept is not None:
        header.extend(_cards(kept[0], meaning), unique=False, update=False)
    if meaning.units:
        header["BUNIT"] = meaning.units
    if kept is None and meaning.spacing is not None:
        for axis, step in enumerate(meaning.spacing[::-1], 1):
            header[f"CDELT{axis}"] = step
            if meaning.spacing_unit:
                header[f"CUNIT{axis}"] = meaning.spacing_unit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.PrimaryHDU(array, header).writeto(content, output_verify="silentfix")
    return content.getvalue()


def _planes(values: np.ndarray[Any, Any], axes: int | None, meaning: Meaning) -> Any:
    """The array without channel axes of length 1, unless the file like it has them."""
    if meaning.like is not None and values.shape == meaning.like.shape and axes not in (None, 2):
        return values
    if values.ndim > 2 and values.shape[-3] == 1:
        return values.reshape(*values.shape[:-3], *values.shape[-2:])
    return values


def _cards(header: Any, meaning: Meaning) -> list[Any]:
    """Those to keep, with the world coordinates of the new pixels."""
    left = {name for name in header if _is_structure(name)}
    if meaning.ratio is None or (not meaning.is_same_grid and _is_distorted(header)):
        left |= {name for name in header if _is_world(name)}
        if meaning.ratio is not None:
            warn_user(
                "io.write: the world coordinates of like= have a distortion, which is not known on "
                "other pixels; they are left out"
            )
    kept = [card for card in header.cards if card.keyword not in left]
    if meaning.ratio is None or meaning.is_same_grid:
        return kept
    return [_widened(card, meaning.ratio) for card in [*kept, *_unsaid(header, meaning.ratio)]]


def _unsaid(header: Any, ratio: tuple[float, ...]) -> list[Any]:
    """Cards of world coordinates that a header leaves to their defaults, 0 and 1."""
    if "CTYPE1" not in header:
        return []
    names = [f"CRPIX{axis}" for axis in range(1, len(ratio) + 1)]
    if not any(name.startswith("CD") and "_" in name for name in header):
        names += [f"CDELT{axis}" for axis in range(1, len(ratio) + 1)]
    card = library("io.write", "fits", "io.fits").Card
    return [card(one, float(one[0:2] == "CD")) for one in names if one not in header]


def _is_structure(name: str) -> bool:
    numbered = name.rstrip("0123456789")
    return name in _STRUCTURE or numbered in ("NAXIS", "ZNAXIS", "ZTILE", "ZNAME", "ZVAL")


def _is_world(name: str) -> bool:
    is_numbered = name.startswith((*_WORLD, "BP_")) and name[-1:].isdigit()
    return is_numbered or name in _WORLD_NAMES


def _is_distorted(header: Any) -> bool:
    return any(name in header for name in _DISTORTED) or "-SIP" in str(header.get("CTYPE1", ""))


def _widened(card: Any, ratio: tuple[float, ...]) -> Any:
    """A card of the world coordinates for pixels that are wider: edges of the field stay."""
    name, value = card.keyword, card.value
    for axis, wider in enumerate(ratio[::-1], 1):
        if name == f"CRPIX{axis}":
            return (name, (value - 0.5) / wider + 0.5, card.comment)
        if name == f"CDELT{axis}" or (name.startswith("CD") and name.endswith(f"_{axis}")):
            return (name, value * wider, card.comment)
    return card

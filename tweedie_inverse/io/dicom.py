"""DICOM by pydicom: one file, with slope and intercept applied: HU for CT, gray for dose.

Frames are a stack ``(frame, row, column)``, colours stand first; a folder of slices is
`dicom_series`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io.dicom_space import (
    affine_of,
    equal_step,
    group,
    measures,
    orientation,
    pixel_spacing,
    position,
)
from tweedie_inverse.io.guarded import Refused, refuse_size
from tweedie_inverse.io.kinds import library
from tweedie_inverse.io.numbers import as_tensor, scaled

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read(path: Path, key: str | int | None) -> Data:
    if key is not None:
        raise Refused(f"key={key!r}: a DICOM file holds one image or stack, without a name")
    dataset = opened(path)
    array, intensity = pixels(dataset)
    return data_of(dataset, array, intensity)


def opened(path: Path, *, header_only: bool = False) -> Any:
    """A dataset; of a file without preamble, too."""
    pydicom = library("io.read", "dicom")
    with open(path, "rb") as file:
        has_preamble = file.read(132)[128:] == b"DICM"
        file.seek(0)
        start = file.read(8)
    if not has_preamble and start[:2] not in (b"\x08\0", b"\0\x08", b"\x02\0"):
        raise Refused("is no DICOM file: neither a preamble nor a first element is there")
    found = pydicom.dcmread(path, force=not has_preamble, stop_before_pixels=header_only)
    if "TransferSyntaxUID" not in found.file_meta:  # as it was recognised while reading
        implicit, little = found.original_encoding
        uid = pydicom.uid
        found.file_meta.TransferSyntaxUID = (
            (uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian)
            if little
            else uid.ExplicitVRBigEndian
        )
    return found


def pixels(dataset: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The numbers as stored, and in the file's units."""
    if not any(name in dataset for name in _PIXELS):
        said = " ".join(str(dataset.get("Modality") or "").split()) or "unknown"
        raise Refused(f"holds no image (modality {said})")
    shape = tuple(int(dataset.get(name) or 0) for name in ("Rows", "Columns"))
    frames, colours = (
        int(dataset.get("NumberOfFrames") or 1),
        int(dataset.get("SamplesPerPixel", 1)),
    )
    refuse_size((frames, *shape, colours), max(1, int(dataset.get("BitsAllocated") or 8) // 8))
    if str(dataset.get("PhotometricInterpretation", "")).startswith("PALETTE"):
        raise Refused(
            "is a picture with a palette; pydicom.pixels.apply_color_lut makes colours of it, and "
            "ti.as_image takes them"
        )
    stored = _decoded(dataset)
    if stored.ndim > 2 and colours == 3:
        stored = np.moveaxis(stored, -1, -3)
    return stored, _in_units(dataset, stored)


def _decoded(dataset: Any) -> np.ndarray[Any, Any]:
    module = library("io.read", "dicom", "pixels")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return module.pixel_array(dataset)
    except Exception as error:
        if not syntax.is_compressed:
            raise
        said = " ".join(str(error).split())[:300]
        raise Refused(
            f"is compressed ({syntax.name}), and could not be decoded: damaged, or a decoder is "
            f"missing (pillow, or pip install pylibjpeg[all]): {said}"
        ) from error


def frames_of(dataset: Any) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _in_units(dataset: Any, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if dataset.get("ModalityLUTSequence"):
        return library("io.read", "dicom", "pixels").apply_modality_lut(stored, dataset)
    if dataset.get("DoseGridScaling") is not None:
        return scaled(stored, float(dataset.DoseGridScaling), 0.0)
    count = frames_of(dataset)
    pairs = [rescale(dataset, frame) for frame in range(count)]
    if set(pairs) == {(1.0, 0.0)}:
        return stored
    if len(set(pairs)) == 1:
        return scaled(stored, *pairs[0])
    each = np.array(pairs).reshape(count, 2, *[1] * (stored.ndim - 1))
    return scaled(stored, each[:, 0], each[:, 1])


def rescale(dataset: Any, frame: int = 0) -> tuple[float, float]:
    """Slope and intercept of a frame; 1 and 0 where none are given."""
    source = dataset if dataset.get("RescaleSlope") is not None else None
    source = source or group(dataset, "PixelValueTransformationSequence", frame)
    if source is None:
        return 1.0, 0.0
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def units_of(dataset: Any) -> str:
    """What the numbers are in, as the file says; HU for CT."""
    item = group(dataset, "PixelValueTransformationSequence")
    kind = str(dataset.get("RescaleType") or (item.get("RescaleType") if item else "") or "")
    modality = str(dataset.get("Modality") or "")
    if dataset.get("DoseGridScaling") is not None:
        return {"GY": "Gy"}.get(str(dataset.get("DoseUnits")), str(dataset.get("DoseUnits") or ""))
    if modality == "PT" and dataset.get("Units"):
        return str(dataset.Units)
    if kind:
        return "" if kind == "US" else kind  # "unspecified"
    is_scaled = dataset.get("RescaleSlope") is not None or item is not None
    return "HU" if modality == "CT" and is_scaled else ""


def data_of(dataset: Any, stored: np.ndarray[Any, Any], in_units: np.ndarray[Any, Any]) -> Data:
    values = as_tensor(in_units[None] if in_units.ndim == 2 else in_units)
    spacing, notes = pixel_spacing(dataset)
    step, depth = _depth(dataset)
    is_stack = stored.ndim == 3 and int(dataset.get("SamplesPerPixel", 1)) == 1
    steps: tuple[float, ...] | None = spacing
    if spacing is not None and is_stack and depth is not None:
        steps = (depth, *spacing)
    is_colour = int(dataset.get("SamplesPerPixel", 1)) == 3
    return Data(
        values,
        "dicom",
        units=units_of(dataset),
        spacing=steps,
        spacing_unit="mm" if steps else "",
        affine=affine_of(position(dataset), orientation(dataset), spacing, step),
        value_range=(0.0, float(2 ** int(dataset.BitsStored) - 1)) if is_colour else None,
        notes=(*notes, *remarks(dataset, stored)),
        header=(stripped(dataset),),
    )


def _depth(dataset: Any) -> tuple[np.ndarray[Any, Any] | float, float | None]:
    """From one frame to the next, and how far apart they are; None where they are no stack."""
    frames = frames_of(dataset)
    thick = measures(dataset, "SpacingBetweenSlices") or measures(dataset, "SliceThickness") or 1.0
    offsets = dataset.get("GridFrameOffsetVector")
    if frames > 1 and offsets is not None and len(offsets) == frames:
        gaps = np.diff(np.array(offsets, np.float64))
        if np.ptp(gaps) <= 0.01 * abs(gaps.mean()) and gaps.mean() != 0:
            return float(gaps.mean()), abs(float(gaps.mean()))
    places = [position(dataset, frame) for frame in range(frames)]
    if frames > 1 and dataset.get("PerFrameFunctionalGroupsSequence"):
        known = [place for place in places if place is not None]
        try:
            if len(known) == frames:
                step = equal_step(known, [f"frame {frame}" for frame in range(frames)])
                return step, float(np.linalg.norm(step))
        except Refused:
            pass  # frames in another order than in space, which the file may have
    return float(thick), None


def remarks(dataset: Any, stored: np.ndarray[Any, Any]) -> tuple[str, ...]:
    """What is to be known before the numbers are used."""
    found = []
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        found.append("MONOCHROME1: low values are meant to be shown bright; they are as stored")
    padding = dataset.get("PixelPaddingValue")
    if isinstance(padding, int):
        count = int((stored == padding).sum())
        if count:
            found.append(f"{count} pixels hold the padding value, outside the field of view")
    return tuple(found)


def stripped(dataset: Any) -> Any:
    """The dataset without its numbers."""
    for name in _PIXELS:
        if name in dataset:
            delattr(dataset, name)
    return dataset

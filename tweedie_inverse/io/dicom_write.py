"""DICOM files of new values: derived from those that were read, or secondary captures.

A derived file keeps patient, study, equipment, orientation and position.  It is a new instance in a
new series, says DERIVED, SECONDARY, and names its source.  Numbers are stored as 16 bits with a
slope and an intercept: those of the source where they hold the values exactly, else such that the
error is at most half of ``(largest - smallest) / 65535``.  Windows, padding values, overlays on
other grids and tables of grey values are left out: they were made for other numbers.
"""

import copy
import io
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tweedie_inverse.io.accompany import Meaning
from tweedie_inverse.io.dicom import rescale
from tweedie_inverse.io.dicom_space import first_pixel
from tweedie_inverse.io.kinds import library
from tweedie_inverse.io.numbers import to_whole
from tweedie_inverse.io.pictures import black_and_white

_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture Image Storage
_CAPTURES = "1.2.840.10008.5.1.4.1.1.7.3"  # its multi-frame form for grey words
_OUTDATED = (
    *("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"),
    *("VOILUTSequence", "VOILUTFunction", "ModalityLUTSequence", "RealWorldValueMappingSequence"),
    *("IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "RescaleSlope", "RescaleIntercept"),
    *("SmallestPixelValueInSeries", "LargestPixelValueInSeries"),
)
_LEVELS = 2**16 - 1
_LONGEST = 16  # characters of a RescaleType


class Stored(NamedTuple):
    """Whole numbers ``slope n + intercept``."""

    numbers: np.ndarray[Any, Any]
    slope: float
    intercept: float


def write(values: np.ndarray[Any, Any], meaning: Meaning) -> bytes:
    """The bytes of one file: a picture, or the frames of the file like it."""
    header = meaning.header_of("dicom")
    _refuse(values, meaning)
    if header is not None and len(header) > 1:
        raise ValueError(
            f"the DICOM series of like= is a folder of {len(header)} slices; write to a folder, a "
            f"path without a suffix, values of shape {meaning.like.shape if meaning.like else ()}"
        )
    if header is None:
        return _bytes(_capture(values, meaning))
    return _bytes(_derived(values, meaning, header[0], _new_uid()))


def write_series(values: np.ndarray[Any, Any], meaning: Meaning) -> list[bytes]:
    """The files of a folder, one for each slice of the series like it."""
    header = meaning.header_of("dicom")
    if header is None or len(header) != len(values) or values.ndim != 3:
        raise ValueError(
            "a folder of DICOM slices needs like=, a folder of as many of them, and values "
            f"(slices, rows, columns); got {values.shape}"
        )
    _refuse(values, meaning)
    if not meaning.is_same_grid:
        raise ValueError("a folder of DICOM slices is written on the grid of like= only; use NIfTI")
    stored, series = _stored(values, meaning, header[0]), _new_uid()
    files = []
    for number, source in enumerate(header):
        one = stored._replace(numbers=stored.numbers[number])
        files.append(_bytes(_with_numbers(_copied(source, series), one, meaning, source)))
    return files


def _refuse(values: np.ndarray[Any, Any], meaning: Meaning) -> None:
    if np.iscomplexobj(values) or not np.isfinite(values).all():
        raise ValueError("DICOM holds no complex, NaN or infinite values; write NIfTI or HDF5")
    if len(meaning.units) > _LONGEST:
        raise ValueError(f"units={meaning.units!r}: DICOM holds {_LONGEST} characters")


def _derived(values: np.ndarray[Any, Any], meaning: Meaning, source: Any, series: str) -> Any:
    """A dataset like the source, with other numbers."""
    frames, colours = int(source.get("NumberOfFrames") or 1), int(source.get("SamplesPerPixel", 1))
    grid = values.shape[-2:]
    lead = (frames,) * (frames > 1) + (3,) * (colours == 3)
    if values.shape not in ((*lead, *grid), *([(1, *grid)] if not lead else [])):
        wanted = (*lead, "rows", "columns") if lead else (1, "rows", "columns")
        raise ValueError(
            f"a DICOM file like this one holds values {wanted}, got {values.shape}; write several "
            "one by one, or all into NIfTI or HDF5"
        )
    dataset = _copied(source, series)
    if not meaning.is_same_grid:
        if source.get("PerFrameFunctionalGroupsSequence"):
            raise ValueError("an enhanced DICOM file is written on the grid of like= only")
        _move(dataset, meaning)
    if colours == 3:
        return _with_colours(dataset, values, meaning)
    image = values[0] if not lead and values.ndim == 3 else values
    return _with_numbers(dataset, _stored(image, meaning, source), meaning, source)


def _copied(source: Any, series: str) -> Any:
    """A new instance, derived from the source."""
    pydicom = library("io.write", "dicom")
    dataset = copy.deepcopy(source)
    for name in _OUTDATED:
        if name in dataset:
            delattr(dataset, name)
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID = source.get("SOPClassUID", _CAPTURE)
    reference.ReferencedSOPInstanceUID = source.get("SOPInstanceUID", pydicom.uid.generate_uid())
    dataset.SourceImageSequence = [reference]
    dataset.SOPClassUID = reference.ReferencedSOPClassUID
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = _new_uid(), series
    kind = list(source.get("ImageType") or [])
    dataset.ImageType = ["DERIVED", "SECONDARY", *kind[2:]]
    return dataset


def _move(dataset: Any, meaning: Meaning) -> None:
    """Spacing and position of other pixels; what is not known is left out."""
    for name in [name for name in dataset.dir() if name.startswith("Overlay")]:
        delattr(dataset, name)
    for element in [one for one in dataset if 0x6000 <= one.tag.group <= 0x60FF]:
        del dataset[element.tag]
    steps = meaning.in_millimetres()
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        if name in dataset:
            delattr(dataset, name)
    if steps is not None:
        dataset.PixelSpacing = [_decimal(step) for step in steps[-2:]]
    matrix = meaning.matrix()
    if matrix is not None and "ImagePositionPatient" in dataset:
        dataset.ImagePositionPatient = [_decimal(one) for one in first_pixel(matrix)]
    elif matrix is None:
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation"):
            if name in dataset:
                delattr(dataset, name)


def _stored(values: np.ndarray[Any, Any], meaning: Meaning, source: Any) -> Stored:
    """Whole numbers for the values, in 16 bits; dose in 32."""
    values = np.asarray(values, np.float64)
    low, high = float(values.min()), float(values.max())
    if source is not None and source.get("DoseGridScaling") is not None:
        if low < 0:
            raise ValueError(f"a DICOM dose holds no values below 0, got {low:g}; write NIfTI")
        slope = _rounded(max(high, 1e-30) / (2**32 - 1) * (1 + 1e-8))
        return Stored(np.rint(values / slope).astype(np.uint32), slope, 0.0)
    if source is not None:
        slope, intercept = rescale(source)
        whole = (values - intercept) / slope if slope else values
        near = float(np.abs(whole - np.rint(whole)).max())
        if near < 1e-3 and whole.min() >= -(2**15) and whole.max() <= _LEVELS:
            kind = np.int16 if whole.min() < 0 else np.uint16
            if kind == np.uint16 or whole.max() < 2**15:
                return Stored(np.rint(whole).astype(kind), slope, intercept)
    if source is not None and source.get("Modality") == "PT":  # whose intercept must be 0
        slope = _rounded(max(abs(low), abs(high), 1e-30) / (2**15 - 1) * (1 + 1e-8))
        return Stored(np.rint(values / slope).astype(np.int16), slope, 0.0)
    intercept = _rounded(low)
    slope = _rounded((high - intercept) / _LEVELS * (1 + 1e-8)) if high > low else 1.0
    whole = np.clip(np.rint((values - intercept) / slope), 0, _LEVELS)  # of rounding alone
    return Stored(whole.astype(np.uint16), slope, intercept)


def _with_numbers(dataset: Any, stored: Stored, meaning: Meaning, source: Any) -> Any:
    numbers = stored.numbers
    bits = 8 * numbers.itemsize
    dataset.SamplesPerPixel = 1
    if dataset.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = numbers.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(numbers.dtype.kind == "i")
    if source is not None and source.get("DoseGridScaling") is not None:
        dataset.DoseGridScaling = _decimal(stored.slope)
    elif source is not None and source.get("PerFrameFunctionalGroupsSequence"):
        _share(dataset, stored, meaning)
    else:
        dataset.RescaleSlope = _decimal(stored.slope)
        dataset.RescaleIntercept = _decimal(stored.intercept)
        dataset.RescaleType = meaning.units or "US"
    dataset.DerivationDescription = (
        f"computed by tweedie-inverse, stored with an error of up to {stored.slope / 2:.3g} "
        f"{meaning.units}".rstrip()
    )
    dataset.PixelData = numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _share(dataset: Any, stored: Stored, meaning: Meaning) -> None:
    """One slope and intercept for all frames of an enhanced file."""
    pydicom = library("io.write", "dicom")
    name = "PixelValueTransformationSequence"
    for item in (
        *dataset.PerFrameFunctionalGroupsSequence,
        *(dataset.get("SharedFunctionalGroupsSequence") or []),
    ):
        if name in item:
            delattr(item, name)
    one = pydicom.Dataset()
    one.RescaleSlope, one.RescaleIntercept = _decimal(stored.slope), _decimal(stored.intercept)
    one.RescaleType = meaning.units or "US"
    if not dataset.get("SharedFunctionalGroupsSequence"):
        dataset.SharedFunctionalGroupsSequence = [pydicom.Dataset()]
    dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [one]


def _with_colours(dataset: Any, values: np.ndarray[Any, Any], meaning: Meaning) -> Any:
    """A picture in colour: whole numbers of 8 bits, or 16 where the source has more."""
    black, white = black_and_white("a DICOM picture in colour", values, meaning)
    bits = 8 if int(dataset.BitsStored) <= 8 else 16
    if int(dataset.BitsStored) > bits and meaning.black_and_white is None:
        raise ValueError("colours of more than 16 bits would be rounded; write a TIFF")
    numbers = to_whole(np.moveaxis(values, -3, -1), black, white, 2**bits - 1)
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.DerivationDescription = "computed by tweedie-inverse"
    content = numbers.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    return dataset


def _capture(values: np.ndarray[Any, Any], meaning: Meaning) -> Any:
    """A secondary capture of one picture, or of a stack of them, of nobody."""
    pydicom = library("io.write", "dicom")
    image = values[0] if values.ndim == 3 and len(values) == 1 else values
    if image.ndim == 4 and image.shape[1] == 1:
        image = image[:, 0]
    if image.ndim not in (2, 3):
        raise ValueError(f"a new DICOM file holds a grey picture or a stack, got {values.shape}")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.SOPClassUID = _CAPTURE if image.ndim == 2 else _CAPTURES
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = _new_uid(), _new_uid()
    dataset.StudyInstanceUID = _new_uid()
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate"):
        setattr(dataset, name, "")
    for name in ("StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"):
        setattr(dataset, name, "")
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.Modality, dataset.ConversionType = "OT", "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    steps = meaning.in_millimetres()
    if steps is not None:
        dataset.PixelSpacing = [_decimal(step) for step in steps[-2:]]
    if image.ndim == 3:
        dataset.NumberOfFrames, dataset.BurnedInAnnotation = len(image), "NO"
        dataset.PresentationLUTShape = "IDENTITY"
        if steps is not None and len(steps) == 3:
            dataset.SpacingBetweenSlices = _decimal(steps[0])
    return _with_numbers(dataset, _stored(image, meaning, None), meaning, None)


def _bytes(dataset: Any) -> bytes:
    pydicom, content = library("io.write", "dicom"), io.BytesIO()
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta = meta
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of elements of the source that break the standard
        try:
            pydicom.dcmwrite(content, dataset, enforce_file_format=True)
        except Exception as error:
            said = " ".join(str(error).split()).partition(" Traceback")[0]
            raise ValueError(
                f"an element of the DICOM file like it cannot be written ({said}); leave out "
                "like=, and give units= and spacing="
            ) from error
    return content.getvalue()


def _new_uid() -> str:
    return library("io.write", "dicom", "uid").generate_uid()


def _decimal(number: float) -> Any:
    """A number in the 16 characters that DICOM has for one."""
    return library("io.write", "dicom", "valuerep").DSfloat(float(number), auto_format=True)


def _rounded(number: float) -> float:
    """The number that 16 characters hold."""
    text = library("io.write", "dicom", "valuerep").format_number_as_ds(float(number))
    return float(text)


def slice_names(count: int) -> Sequence[str]:
    """Names of the files of a folder, in their order in space."""
    return [f"{number:0{len(str(count))}d}.dcm" for number in range(1, count + 1)]

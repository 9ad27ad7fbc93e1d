"""Numbers from a file, with what they mean: units, spacing, place in space, black and white."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """The numbers of a file and what the file says about them (`tweedie_inverse.io.read`).

    It is taken wherever an array is: as ``y`` of `solve`, by ``operator.measure``, ``as_image`` and
    ``np.asarray``.  Two of them are equal if they are the same object.

    Attributes:
        values: the numbers in the file's units, after its slopes and offsets: float32, or float64
            where the file has it or its whole numbers need it; complex where the file is.  A
            picture is ``(1, height, width)``, one in colour ``(3, height, width)``, a stack or a
            volume ``(depth, height, width)``; arrays of npy, npz and HDF5 keep their shape.
        kind: "dicom", "nifti", "fits", "tiff", "png", "jpeg", "hdf5", "npz" or "npy".
        units: of the values, such as "HU"; empty where the file does not say.
        spacing: distances between neighbours along the last axes of `values`, one number for each
            axis of space: ``(row, column)`` for a picture, ``(depth, row, column)`` for a volume.
            None where the file does not say.
        spacing_unit: "mm" for medical files and resolutions of pictures, else the file's.
        affine: ``(4, 4)`` float64 for DICOM and NIfTI, from ``(column, row, slice, 1)`` to mm
            towards right, anterior, superior; the header with the world coordinates for FITS; else
            None.
        value_range: black and white, where the file is a picture of whole numbers: (0, 255).
        notes: what else there is to know before use, in sentences.
        header: what `write` needs to make such a file again; opaque.
    """

    values: Tensor
    kind: str
    units: str = ""
    spacing: tuple[float, ...] | None = None
    spacing_unit: str = ""
    affine: Any = None
    value_range: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    header: Any = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the values."""
        return tuple(self.values.shape)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Tensor:
        """A part of the values, without what the file says about them."""
        return self.values[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.values.detach().cpu().numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        """For ``torch.as_tensor``, which knows no ``__array__``."""
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()

    def __repr__(self) -> str:
        said = [f"{self.shape}, {str(self.values.dtype).removeprefix('torch.')}"]
        if self.units:
            said.append(f"in {self.units}")
        if self.spacing is not None:
            numbers = " x ".join(f"{step:.6g}" for step in self.spacing)
            said.append(f"spacing {numbers} {self.spacing_unit}".rstrip())
        if self.affine is not None:
            said.append("placed in space" if self.kind != "fits" else "with world coordinates")
        if self.value_range is not None:
            said.append("black {:g}, white {:g}".format(*self.value_range))
        return f"Data({self.kind}: {'; '.join([*said, *self.notes])})"

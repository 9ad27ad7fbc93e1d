"""Files of images and measurements, with what they say about their numbers.

DICOM, NIfTI, FITS, TIFF, PNG, JPEG, HDF5, npz and npy: one file a kind, which knows how it is read
and written; `reading` and `writing` choose among them.  Nothing here knows an operator or a prior.
"""

from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io.reading import read
from tweedie_inverse.io.writing import write

__all__ = ["Data", "read", "write"]

"""The options of all instruments: one row each, with its kind, its unit and what it means.

An option means the same for every instrument that takes it.
"""

from typing import NamedTuple

from tweedie_inverse.app.catalogue import values
from tweedie_inverse.app.catalogue.values import Kind


class Option(NamedTuple):
    """``--name`` of the command line, ``name`` in the table [operator] of a problem file."""

    name: str
    kind: Kind
    help: str
    can_be_unknown: bool = False

    @property
    def keyword(self) -> str:
        """Its name as a keyword of Python."""
        return self.name.replace("-", "_")

    @property
    def dest(self) -> str:
        """Its attribute among the parsed options."""
        return f"operator_{self.keyword}"


_DRAWN = "; LOW..HIGH draws it with each sample"


def _unknown(name: str, kind: Kind, help: str) -> Option:
    return Option(name, kind, help + _DRAWN, can_be_unknown=True)


_ROWS = (
    # Scans
    Option("angles", values.COUNT_OR_LIST, "how many, evenly over the half turn (fan: full turn), "
           "or the angles in degrees; default as many as the measurement has rows"),
    Option("detectors", values.whole(), "detector bins; default as the measurement has"),
    Option("geometry", values.choice("parallel", "fan"), "of the beam; default parallel"),
    Option("pixel-size", values.number(above=0), "side of a pixel; its unit is that of all lengths "
           "of the scan; default 1"),
    Option("detector-spacing", values.number(above=0), "from bin to bin, a length; default "
           "pixel-size, for a fan the shadow of the image divided by the bins"),
    Option("source-distance", values.number(above=0), "fan: source to centre of rotation, a "
           "length; default two image diagonals"),
    Option("detector-distance", values.number(least=0), "fan: centre of rotation to detector, a "
           "length; default source-distance"),
    _unknown("detector-offset", values.number(), "shift of the detector's middle, a length"),
    Option("centre", values.numbers(2), "of rotation, row,column in pixels; default the middle"),
    _unknown("angle-offset", values.number(), "degrees that are added to all angles"),
    Option("storage", values.choice("auto", "matrix", "matrix-free"), "of the system matrix; "
           "default auto"),
    Option("photons", values.number(above=0), "counts of a bin without an object"),
    # Blur
    _unknown("width", values.number(above=0), "standard deviation of a Gaussian kernel in pixels"),
    Option("width-across", values.number(above=0), "of a Gaussian that is wider one way, in "
           "pixels; --width is then the one along --angle"),
    _unknown("length", values.number(least=0), "of a straight motion in pixels"),
    _unknown("angle", values.number(), "of the motion or of --width, in degrees "
             "counter-clockwise from the right"),
    Option("shake", values.whole(0), "seed of the kernel of a shaking hand"),
    Option("kernel", values.FILE, "file with the kernel, (height, width); used as it is"),
    Option("kernel-size", values.whole(), "side of the kernel in pixels, odd"),
    Option("padding", values.choice("circular", "zero", "reflect", "replicate", "valid"),
           "what lies beyond the border; default circular"),
    Option("contrast", values.number(above=0), "of an unknown kernel: standard deviation of the "
           "logarithm of its entries beforehand; default 2"),
    Option("smoothness", values.number(above=0), "of an unknown kernel: correlation length in "
           "pixels; default 1.5"),
    Option("centring", values.number(above=0), "of an unknown kernel: standard deviation of its "
           "centre of mass in pixels; default 0.1"),
    # Sampling
    Option("factor", values.number(least=1), "large pixels are so many times as wide"),
    Option("filter", values.choice("bicubic", "lanczos", "block_mean"), "default bicubic"),
    Option("boundary", values.choice("renormalize", "circular"), "default renormalize"),
    Option("mask", values.FILE, "file with 1 (white) where something was measured, 0 elsewhere"),
    Option("keep", values.number(above=0), "share of the pixels that are kept, at random"),
    Option("box", values.SIDES, "sides of a rectangle in the middle that is hidden, in pixels"),
    Option("acceleration", values.number(least=1), "columns of k-space over measured ones"),
    Option("centre-share", values.number(least=0), "share of the columns, around the origin, that "
           "is always measured; default 0.08"),
    Option("spokes", values.whole(), "radial lines through the origin of k-space"),
    Option("coils", values.FILE, "file with complex sensitivities (coils, height, width)"),
    Option("measurements", values.whole(), "how many numbers are measured; default as many as the "
           "measurement has"),
    Option("pattern-seed", values.whole(0), "of a random pattern; default 0"),
    # Colour, detectors, phase
    Option("colour-weights", values.numbers(), "of the channels; default 0.299,0.587,0.114"),
    Option("pattern", values.TEXT, "colours of a tile of 2x2 pixels, row by row; default RGGB"),
    Option("low", values.number(), "smallest value that is recorded; default 0"),
    Option("high", values.number(), "largest value that is recorded; default 1"),
    Option("step", values.number(above=0), "between values that are recorded"),
    Option("oversampling", values.number(least=1), "padded side over side; default 2"),
    Option("codes", values.whole(), "number of random phase masks; default none"),
    Option("intensity", values.FLAG, "the square is measured"),
    Option("matrix", values.FILE, "file with the matrix (measurements, pixels), dense, or sparse "
           "as scipy.sparse.save_npz writes it"),
)  # fmt: skip
OPTIONS = {row.name: row for row in _ROWS}
# Of every instrument: its images.
SIZE = Option("size", values.SIDES, "of the image in pixels; default that of the measurement "
              "where the instrument keeps it, else the prior's")  # fmt: skip

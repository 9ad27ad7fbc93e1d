"""Mean, std, quantiles and samples of a posterior, in files of the measurement's kind or another.

They lie beside the saved posterior, ``scan.mean.nii.gz`` beside ``scan.safetensors``.  Units,
spacing and place in space go along where the image has the measurement's grid, or that of `--like`.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tweedie_inverse import io as files
from tweedie_inverse import operators as ops
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io.kinds import known_suffix, ready
from tweedie_inverse.operators import Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.rescaled import Rescaled
from tweedie_inverse.solving.posterior import Posterior

# What `--as` may be, and the kinds that hold one picture a file.
SUFFIXES = ("npy", "npz", "h5", "dcm", "nii.gz", "nii", "fits", "tif", "png")
_ONE_PICTURE = ("dcm", "png")
_NAMES = ("mean", "std", "samples")
# The end of a result's name, as `Exports` makes it.
RESULT = re.compile(r"(.+)\.(mean|std|samples|q[0-9.]+|sample)(-\d+)?")


def quantity(text: str) -> str:
    """A name that `--write` takes: mean, std, samples, or a quantile's level, checked."""
    if text in _NAMES:
        return text
    try:
        level = float(text)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise ValueError(
            f"solve: --write {text}: needs mean, std, samples, or a quantile such as 0.05"
        )
    return f"q{level:g}"


@dataclass(frozen=True)
class Exports:
    """What to write beside every posterior.

    Attributes:
        what: names as of `quantity`.
        suffix: one of `SUFFIXES`; None for that of the measurement.
        like: a file whose spacing and place the results get, instead of the measurement's.
    """

    what: tuple[str, ...]
    suffix: str | None
    like: Data | None

    def of(self, operator: Operator, prior: Prior) -> "Writer":
        """The same for the images of a prior, seen by an instrument."""
        return Writer(self.what, self.suffix, self.like, operator, prior)

    def paths(self, measurement: Path, result: Path) -> list[Path]:
        """The files of one posterior; of numbered ones the first."""
        suffix = self.suffix or suffix_of(measurement)
        many = suffix in _ONE_PICTURE
        names = ["sample-1" if name == "samples" and many else name for name in self.what]
        return [_beside(result, name, suffix) for name in names]


@dataclass(frozen=True)
class Writer(Exports):
    """Writes what `Exports` says of posteriors of one instrument and one prior."""

    operator: Operator
    prior: Prior

    def write(
        self,
        posterior: Posterior,
        measurement: Path,
        result: Path,
        data: Data,
        tell: Callable[[str], None],
    ) -> list[Path]:
        """Write all of them; what is left out, scaled or cut off is told.  Returns the files."""
        if not self.what:
            return []
        suffix = self.suffix or suffix_of(measurement)
        like, units = self._like(data, tell)
        single = len(self.operator.domain_shape)
        written = []
        for name, values, is_spread in _quantities(posterior, self.what):
            pieces = [(name, values)]
            if suffix in _ONE_PICTURE and values.ndim > single:
                flat = values.reshape(-1, *values.shape[-single:])
                stem = "sample" if name == "samples" else name
                pieces = [(f"{stem}-{number}", one) for number, one in enumerate(flat, 1)]
            for piece, one in pieces:
                path = _beside(result, piece, suffix)
                self._write(path, one, is_spread, like, units, tell)
                written.append(path)
        return written

    def _write(
        self,
        path: Path,
        values: Tensor,
        is_spread: bool,
        like: Data | None,
        units: str | None,
        tell: Callable[[str], None],
    ) -> None:
        ends = None
        if path.suffix == ".png":
            values, ends = self._black_and_white(path, values, is_spread, tell)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            files.write(path, values, like=like, units=units, value_range=ends)
        for warning in said:
            tell(f"{path.name}: {str(warning.message).removeprefix('io.write: ')}")

    def _black_and_white(
        self, path: Path, values: Tensor, is_spread: bool, tell: Callable[[str], None]
    ) -> tuple[Tensor, tuple[float, float]]:
        """The values for a PNG, within the range that black and white stand for."""
        known = self.prior.value_range
        if is_spread or known is None:
            low = 0.0 if is_spread else float(values.min())
            ends = low, max(float(values.max()), low + 1e-30)
        else:
            ends = known
        cut = int(((values < ends[0]) | (values > ends[1])).sum())
        more = f"; {cut} of {values.numel()} values outside are cut off" if cut else ""
        tell(f"{path.name}: black is {ends[0]:.4g}, white {ends[1]:.4g}{more}")
        return values.clamp(*ends), ends

    def _like(self, data: Data, tell: Callable[[str], None]) -> tuple[Data | None, str | None]:
        """The file whose meaning goes along, and the unit of the results."""
        # With --value-range results are in the user's units, which are those of the file.
        own = None if isinstance(self.prior, Rescaled) else self.prior.units
        if self.like is not None:
            return self.like, own
        if shares_grid(self.operator, data):
            return data, own or None
        if data.spacing is not None or data.affine is not None or data.units:
            tell(
                f"units, spacing and place of the {data.kind} file are left out: the image is not "
                "on the measurement's grid; --like FILE names a file that is on it"
            )
        return None, own or None


def shares_grid(operator: Operator, data: Data) -> bool:
    """Whether images lie on the grid of the measurement, or on a finer one of the same field."""
    if isinstance(operator, ops.Tomography | ops.FourierSampling) or operator.range_is_complex:
        return False
    if isinstance(operator, ops.Downsampling):
        return True
    image, there = tuple(operator.domain_shape), data.shape
    return there in (image, image[1:]) or (
        len(there) == len(image) and there[1:] == image[1:] and len(there) > 2
    )


def suffix_of(measurement: Path) -> str:
    """The suffix of results like a measurement: its own, PNG for JPEG, which would round them."""
    known = known_suffix(measurement)
    if known is None:
        return "dcm"  # the only kind that is read without a suffix of its own
    kind, suffix = known
    return {"jpeg": "png", "dicom": "dcm"}.get(kind, suffix.removeprefix("."))


def refuse_early(what: tuple[str, ...], suffixes: set[str], num_samples: int) -> None:
    """Raise where results could not be written after the work: packages, and std of one sample."""
    for suffix in suffixes:
        found = known_suffix(Path(f"x.{suffix}"))
        if found is not None:
            ready(found[0], "solve")
    if num_samples == 1 and "std" in what:
        raise ValueError("solve: --write std: one sample has no standard deviation; --samples 2")


def _quantities(posterior: Posterior, what: tuple[str, ...]) -> Iterator[tuple[str, Tensor, bool]]:
    """Names and values ``(..., *shape)``, and whether they are a spread and no image."""
    for name in what:
        if name.startswith("q"):
            yield name, posterior.quantile(float(name[1:])), False
        else:
            values = {"mean": posterior.mean, "std": posterior.std, "samples": posterior.samples}
            yield name, torch.as_tensor(values[name]), name == "std"


def _beside(result: Path, name: str, suffix: str) -> Path:
    return result.with_name(f"{result.stem}.{name}.{suffix}")

"""Posteriors in files: tensors by name in one safetensors file, notes as JSON in its header."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.io.kinds import known_suffix
from tweedie_inverse.priors.scaling import Scaling
from tweedie_inverse.runtime import tensor_file
from tweedie_inverse.solving import samples_file
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.measured import Measured
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.parameters import InstrumentSamples
from tweedie_inverse.solving.stats import Stats

SUFFIX = ".safetensors"
# What `Posterior.export` writes.
_EXPORTED = (".nc", ".h5", ".hdf5", ".tif", ".tiff")
_FORMAT = "tweedie-inverse-posterior-2"
# Begins the names of a calibration's numbers.
_KEPT = "calibration."
_READING = {"caller": "Posterior.load", "need": "a file of posterior.save"}


class Made(Protocol):
    """What a solve has made: what others ask of a posterior, which is above this file."""

    @property
    def samples(self) -> Tensor: ...
    @property
    def diagnostics(self) -> Diagnostics: ...
    @property
    def stats(self) -> Stats: ...
    @property
    def origin(self) -> Origin | None: ...
    @property
    def instrument(self) -> InstrumentSamples | None: ...
    @property
    def measured(self) -> Measured | None: ...


class Kept(Made, Protocol):
    """What is written of a posterior."""

    @property
    def calibration(self) -> Scaling | None: ...


def refuse_suffix(path: str | Path) -> None:
    """Raise a `ValueError` where a file's name promises another format than it would get."""
    suffix = checked_path("save", "path", path).suffix
    if suffix == SUFFIX:
        return
    ways = []
    if known_suffix(Path(path)) is not None:
        ways.append("ti.io.write(path, posterior.mean, like=data)")
    if suffix == ".npz":
        ways.append("np.savez(path, **posterior.numpy())")
    if suffix in _EXPORTED:
        ways.append("posterior.export(path)")
    other = f"; for other programs, {', or '.join(ways)}" if ways else ""
    raise ValueError(
        f"save({str(path)!r}): posteriors are written as safetensors, and the name must say so: "
        f"{str(Path(path).with_suffix(SUFFIX))!r}{other}"
    )


def save(path: str | Path, posterior: Kept) -> None:
    """Write a posterior; raises as `write` does."""
    tensors, notes = content(posterior)
    write(path, {"samples": posterior.samples, **tensors}, notes)


def content(posterior: Kept) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, without the samples, and notes."""
    diagnostics, origin = posterior.diagnostics, posterior.origin
    calibration, instrument = posterior.calibration, posterior.instrument
    notes = {
        "stats": asdict(posterior.stats),
        "origin": None if origin is None else asdict(origin),
        **diagnostics.notes(),
    }
    tensors = diagnostics.tensors()
    if calibration is not None:
        notes["calibration"] = calibration.notes()
        tensors |= {f"{_KEPT}{name}": one for name, one in calibration.tensors().items()}
    if instrument is not None:
        notes["instrument"] = instrument.notes()
        tensors |= instrument.tensors()
    if posterior.measured is not None:
        notes["measured"] = posterior.measured.notes()
        tensors |= posterior.measured.tensors()
    return tensors, notes


Written = tuple[
    Tensor,
    Diagnostics,
    Stats,
    Origin | None,
    Scaling | None,
    InstrumentSamples | None,
    Measured | None,
]


def load(path: str | Path) -> Written:
    """What `save` wrote, or `solve` to a file of samples; raises as `read` does."""
    path = checked_path("Posterior.load", "path", path)
    is_stream = samples_file.is_named_so(path)
    tensors, notes = samples_file.read(path, "Posterior.load") if is_stream else read(path)
    origin = None if notes["origin"] is None else Origin.from_notes(notes["origin"])
    kept = {name.removeprefix(_KEPT): tensors.pop(name) for name in [*tensors] if _KEPT in name}
    calibration = Scaling.of_file(kept, notes["calibration"]) if kept else None
    diagnostics = Diagnostics.of_file(tensors, notes)
    instrument = InstrumentSamples.of_file(tensors, notes.get("instrument"))
    stats = Stats(**notes["stats"])
    measured = Measured.of_file(tensors, notes.get("measured"))
    return tensors["samples"], diagnostics, stats, origin, calibration, instrument, measured


def write(path: str | Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Write everything in one stroke; the folder is made.

    Raises:
        ValueError: the name has another suffix than ``.safetensors``.
    """
    refuse_suffix(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tensor_file.write(path, _FORMAT, tensors, notes)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and notes of a file.

    Raises:
        ValueError: no posterior, or one of another version of this package.
    """
    path = checked_path("Posterior.load", "path", path)
    return tensor_file.read(path, _FORMAT, **_READING)


def is_consistent(path: str | Path) -> bool:
    """What the posterior in a file says of itself, from its header alone."""
    with tensor_file.opened(path, _READING["caller"]) as file:
        return bool(tensor_file.notes_in(file, path, _FORMAT, **_READING)["is_consistent"])

"""Samples for other programs: named axes (xarray), arviz, netCDF, HDF5, TIFF stacks.

What is optional is imported here when it is asked for; all of it is the extra `export`.
"""

import importlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tweedie_inverse import io as files
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io.kinds import known_suffix, ready
from tweedie_inverse.runtime import atomic
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.parameter import Parameter
from tweedie_inverse.solving.parameters import InstrumentSamples
from tweedie_inverse.solving.stats import Stats

# Axes of an image by their number, and the letters that TIFF has for them.
_AXES = {
    1: ("x",),
    2: ("y", "x"),
    3: ("channel", "y", "x"),
    4: ("channel", "z", "y", "x"),
}
_LETTERS = {"measurement": "R", "sample": "T", "channel": "C", "z": "Z", "y": "Y", "x": "X"}
_SUFFIXES = ".nc, .h5 or .tif"
# Axes of the diagnostics after (measurement, sample) and (measurement).
_LAST_AXES = {
    "expected": "bound",
    "population_weights": "walker",
    "population_effective_sizes": "step",
}


def dataset(
    samples: Tensor,
    diagnostics: Diagnostics,
    stats: Stats,
    origin: Origin | None,
    instrument: InstrumentSamples | None = None,
) -> Any:
    """An `xarray.Dataset` of samples and diagnostics, as `Posterior.to_xarray` describes it."""
    xarray = library("to_xarray", "xarray")
    axis = diagnostics.effective_sample_size.ndim
    axes = axes_of(samples, axis)
    units = "" if origin is None else origin.units
    said = {"long_name": "posterior samples", **({"units": units} if units else {})}
    variables: dict[str, Any] = {"samples": (axes, _array(samples), said)}
    for name, tensor in diagnostics.tensors().items():
        name = name.replace(".", "_")
        variables[name] = (_axes_of_diagnostic(name, tensor, axis), _array(tensor), {})
    for one in [] if instrument is None else instrument.each:
        variables |= _variables_of(one, _name_of(one, variables), axis)
    found = xarray.Dataset(variables, attrs=attributes(diagnostics, stats, origin))
    places: dict[str, Any] = {name: np.arange(found.sizes[name]) for name in axes}
    if places.get("channel") is not None and len(places["channel"]) == 2:
        places["channel"] = np.array(["real", "imaginary"])
    if "bound" in found.sizes:
        places["bound"] = np.array(["lower", "upper"])
    return found.assign_coords(places)


def inference_data(
    samples: Tensor,
    diagnostics: Diagnostics,
    stats: Stats,
    origin: Origin | None,
    instrument: InstrumentSamples | None = None,
) -> Any:
    """One chain of draws, as `Posterior.to_arviz` describes it."""
    arviz = library("to_arviz", "arviz")
    xarray = library("to_arviz", "xarray")
    whole = dataset(samples, diagnostics, stats, origin, instrument)
    draws = whole.rename(sample="draw").expand_dims("chain").assign_coords(chain=[0])
    per_draw = {
        name: values.transpose("chain", "draw", ...)
        for name, values in draws.data_vars.items()
        if "draw" in values.dims
    }
    drawn = {name: per_draw.pop(name) for name in list(per_draw) if _is_drawn(per_draw[name])}
    image = per_draw.pop("samples").to_dataset(name="image").assign(drawn)
    rest = xarray.Dataset(per_draw)
    groups = {"posterior": image.assign_attrs(whole.attrs), "sample_stats": rest}
    if hasattr(arviz, "InferenceData"):
        return arviz.InferenceData(**groups)
    return xarray.DataTree.from_dict(groups)


def write(
    path: str | Path,
    samples: Tensor,
    diagnostics: Diagnostics,
    stats: Stats,
    origin: Origin | None,
    instrument: InstrumentSamples | None = None,
) -> None:
    """A file of the kind that its suffix says, in one stroke; the folder is made.

    Raises:
        ImportError: a package is missing.
        ValueError: another suffix, or an array that the format does not hold.
    """
    path = checked_path("export", "path", path)
    kind = known_suffix(path)
    if path.suffix.lower() == ".nc":
        library("export", "h5netcdf")
        content = _netcdf(dataset(samples, diagnostics, stats, origin, instrument))
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace(path, content)
        return
    if kind is None or kind[0] not in ("hdf5", "tiff"):
        raise ValueError(f"export({str(path)!r}): needs the suffix {_SUFFIXES}{_elsewhere(path)}")
    ready(kind[0], "export")
    axis = diagnostics.effective_sample_size.ndim
    units = "" if origin is None else origin.units
    said = attributes(diagnostics, stats, origin)
    if kind[0] == "hdf5":
        said |= {"axes": ", ".join(axes_of(samples, axis))}
        header: dict[str, Any] = {"key": "samples", "attributes": said}
        values = samples
    else:
        values, names = _pages(samples, axes_of(samples, axis))
        if not {"y", "x"} < set(names):
            raise ValueError(
                f"export({str(path)!r}): a TIFF holds pictures and volumes, got images of shape "
                f"{tuple(samples.shape[axis + 1 :])}; write .nc or .h5"
            )
        header = {"axes": "".join(_LETTERS[name] for name in names)}
    like = Data(values, kind[0], units=units, header=header)
    files.write(path, values, like=like)


def _netcdf(found: Any) -> bytes:
    """The bytes of a file, which not every version of xarray gives without one."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder, "posterior.nc")
        found.to_netcdf(there, engine="h5netcdf")
        return there.read_bytes()


def axes_of(samples: Tensor, axis: int) -> tuple[str, ...]:
    """Names of the axes of samples, from the measurement to the column."""
    lead = ("measurement", "sample")[1 - axis :]
    many = samples.ndim - axis - 1
    return lead + _AXES.get(many, tuple(f"axis_{k}" for k in range(many)))


def attributes(diagnostics: Diagnostics, stats: Stats, origin: Origin | None) -> dict[str, Any]:
    """How samples were made, as texts and numbers, which every format holds."""
    told: dict[str, Any] = {
        "method": stats.method,
        "steps": stats.steps,
        "denoiser_calls": stats.denoiser_calls,
        "verdict": diagnostics.verdict,
    }
    known = {} if origin is None else asdict(origin)
    for name, value in known.items():
        if name == "units" or value is None or value == "":
            continue
        if name == "seed":
            value = str(value)  # up to 2**64 - 1, which few formats hold as a number
        plain = isinstance(value, str | int | float)
        told[name] = value if plain else json.dumps(value)
    return told


def library(caller: str, name: str) -> Any:
    """An optional package, imported now.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"posterior.{caller} needs {name}: pip install {name}, or all of the extra export: "
            f"pip install 'tweedie-inverse[export]' ({error})"
        ) from None


def _axes_of_diagnostic(name: str, tensor: Tensor, axis: int) -> tuple[str, ...]:
    batch = ("measurement",) * axis
    if tensor.ndim == axis:
        return batch
    return (*batch, _LAST_AXES.get(name, "sample"))


def _name_of(one: Parameter, taken: dict[str, Any]) -> str:
    """What an unknown of the instrument is called among the other variables."""
    name = one.name.replace(" ", "_")
    clashes = {name, f"{name}_trace", f"{name}_r_hat"} & {*taken, "image"}
    return f"parameter_{name}" if clashes or name in _LETTERS else name


_LAST_OF_UNKNOWN = {0: (), 1: ("group",), 2: ("y", "x"), 3: ("z", "y", "x")}


def _variables_of(one: Parameter, name: str, axis: int) -> dict[str, Any]:
    """Samples of an unknown, its way through the noise levels, and its R-hat."""
    batch = ("measurement",) * axis
    many = one.samples.ndim - axis - 1
    last = tuple(f"{name}_{part}" for part in _LAST_OF_UNKNOWN[many])
    lowest, highest = _array(one.prior_range.reshape(-1, 2)).T
    said = {
        "long_name": f"posterior samples of {one.name}",
        "prior_low": float(lowest.min()),
        "prior_high": float(highest.max()),
        "is_told": int(one.is_told.all()),
    }
    trace = {"long_name": f"{one.name} after each noise level of the walk"}
    return {
        name: ((*batch, "sample", *last), _array(one.samples), said),
        f"{name}_trace": ((*batch, "sample", "noise_level", *last), _array(one.trace), trace),
        f"{name}_r_hat": ((*batch, *last), _array(one.r_hat), {}),
    }


def _is_drawn(values: Any) -> bool:
    """Whether a variable holds samples of an unknown of the instrument."""
    return "prior_low" in values.attrs


def _pages(samples: Tensor, axes: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Without an axis of one channel, which a TIFF does not count."""
    if len(axes) > 3 and samples.shape[axes.index("channel")] == 1:
        place = axes.index("channel")
        return samples.squeeze(place), axes[:place] + axes[place + 1 :]
    return samples, axes


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().numpy()


def _elsewhere(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return "; posterior.save(path) writes it for this package"
    if suffix == ".npz":
        return "; np.savez(path, **posterior.numpy())"
    if known_suffix(path) is not None:
        return "; one image at a time, ti.io.write(path, posterior.mean, like=data)"
    return ""

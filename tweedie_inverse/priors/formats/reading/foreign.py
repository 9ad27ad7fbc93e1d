"""Weight files of other worlds than PyTorch: JAX, MATLAB, NumPy; read as arrays, nothing is run.

`kind_of` says which format a file is, by its first bytes where they say it and by its suffix where
they do not; `read` returns its arrays by name.  Nothing is unpickled, and no more memory is taken
than the file has room for.
"""

import importlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

_SIGNATURES = {b"\x93NUMPY": "numpy", b"GGUF": "gguf", b"MATLAB": "matlab", b"\x89HDF": "hdf5"}
SUFFIXES = {
    ".eqx": "equinox",
    ".flax": "flax",
    ".gguf": "gguf",
    ".h5": "keras",
    ".hdf5": "keras",
    ".index": "tensorflow checkpoint",
    ".keras": "keras",
    ".mat": "matlab",
    ".meta": "tensorflow checkpoint",
    ".mpk": "flax",
    ".msgpack": "flax",
    ".npy": "numpy",
    ".npz": "numpy",
    ".onnx": "onnx",
    ".pb": "tensorflow checkpoint",
    ".tflite": "tensorflow lite",
}
_WAYS_OUT = {
    "gguf": "it holds quantized weights of a language model; there is no denoiser in it",
    "keras": (
        "load it with Keras where it was made, and save [w.numpy() for w in model.weights] with "
        "numpy.savez under the names of your torch module, for formats.fill"
    ),
    "onnx": "a network and not only weights; load_prior(path, format=formats.ONNX(...)) runs it",
    "tensorflow checkpoint": (
        "read it with tf.train.load_checkpoint where it was made, and save its arrays with "
        "numpy.savez under the names of your torch module, for formats.fill"
    ),
    "tensorflow lite": "export the network to ONNX instead, for formats.ONNX(...)",
}
# More than any network has, and less than would fill a computer: what a header may claim at most.
_MOST_BYTES = 2**34
_MOST_INFLATED = 1000


def kind_of(path: Path) -> str | None:
    """The name of a file's format: "equinox", "flax", "matlab", "numpy", "onnx", "keras",
    "tensorflow checkpoint", "tensorflow lite", "gguf"; None for PyTorch's own and unknown ones.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if ".data-" in path.name and path.name.rpartition("-of-")[2].isdigit():
        return "tensorflow checkpoint"
    with path.open("rb") as file:
        start = file.read(16)
    by_content = next((kind for mark, kind in _SIGNATURES.items() if start.startswith(mark)), None)
    by_suffix = SUFFIXES.get(suffix)
    if by_content == "numpy":
        return "equinox" if by_suffix == "equinox" else "numpy"
    if by_content == "hdf5":
        return "matlab" if by_suffix == "matlab" else "keras"
    if by_content is not None:
        return by_content
    return by_suffix


def read(path: Path) -> dict[str, Tensor]:
    """The arrays of a file, by the names it has for them.

    Names of nested dictionaries, cells and structs are joined by ``/``; the arrays of Equinox have
    none, and are numbered from 0 in their order, single numbers among them.

    Raises:
        ValueError: a format that is not read, with the way out; a broken or oversized file.
        ImportError: flax files need msgpack, MATLAB 7.3 files h5py.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind in _WAYS_OUT:
        raise ValueError(f"load_prior: {path} is a file of {kind}: {_WAYS_OUT[kind]}")
    readers = {"equinox": _equinox, "flax": _flax, "matlab": _matlab, "numpy": _numpy}
    if kind not in readers:
        raise ValueError(f"load_prior: {path} is of no format with weights that is known here")
    try:
        return {name: _tensor(name, array) for name, array in readers[kind](path)}
    except ImportError:
        raise
    except Exception as error:  # whatever the readers make of broken bytes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ValueError(
            f"load_prior: {path} cannot be read as a file of {kind}: {reason}"
        ) from None


def _tensor(name: str, array: Any) -> Tensor:
    array = np.asarray(array)
    if array.dtype == np.dtype("V2"):  # bfloat16, which NumPy has no name for
        return torch.from_numpy(array.copy().view(np.int16)).view(torch.bfloat16)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"{name} holds {array.dtype}, no numbers")
    native = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(native.reshape(array.shape))


def _npy(file: IO[bytes], room: int) -> np.ndarray:
    """One array as of `numpy.save`, if `room` bytes hold what its header claims."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        header = np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which would have to be run")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > room:
        raise ValueError(f"its header claims {size} bytes, and the file has {room}")
    values = np.frombuffer(file.read(size), dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _equinox(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays one after the other, perhaps behind a line of hyperparameters in JSON."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(1) == b"{":
            file.seek(0)
            json.loads(file.readline(2**20))
        else:
            file.seek(0)
        number = 0
        while file.tell() < size:
            yield str(number), _npy(file, size - file.tell())
            number += 1


def _numpy(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield path.stem, _npy(file, size)
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        if total > _MOST_BYTES or total > max(2**28, _MOST_INFLATED * size):
            raise ValueError(f"it would unpack to {total} bytes from {size}")
        for entry in entries:
            with archive.open(entry) as file:
                yield entry.filename.removesuffix(".npy"), _npy(file, entry.file_size)


def _library(name: str, path: Path, kind: str) -> Any:
    """An optional package, imported where it is needed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"load_prior: {path} is {kind}, which needs {name}: "
            "pip install tweedie-inverse[formats]"
        ) from error


def _flax(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """flax.serialization: MessagePack with arrays as extension types; large ones in pieces."""
    msgpack = _library("msgpack", path, "a file of flax")

    def array_of(code: int, data: bytes) -> Any:
        if code not in (1, 3):  # arrays, NumPy's numbers; complex numbers are no weights
            return None
        shape, name, values = msgpack.unpackb(data, raw=False)
        dtype = np.dtype("V2") if name == "bfloat16" else np.dtype(name)
        return np.frombuffer(values, dtype).reshape(shape)

    tree = msgpack.unpackb(path.read_bytes(), raw=False, ext_hook=array_of, strict_map_key=False)
    if not isinstance(tree, dict):
        raise ValueError(f"it holds {type(tree).__name__}, and no tree of weights")
    yield from _leaves_of_flax("", tree)


def _leaves_of_flax(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, dict) and "__msgpack_chunked_array__" in value:
        pieces, shape = (list(value[key].values()) for key in ("chunks", "shape"))
        yield name, np.concatenate([np.ravel(piece) for piece in pieces]).reshape(shape)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves_of_flax(f"{name}/{key}" if name else str(key), part)


def _matlab(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with path.open("rb") as file:
        file.seek(512)
        is_hdf5 = file.read(4) == b"\x89HDF"
    if is_hdf5:
        yield from _matlab_hdf5(path)
        return
    from scipy.io import loadmat

    for name, value in loadmat(path, struct_as_record=False).items():
        if not name.startswith("__"):
            yield from _leaves_of_matlab(name, value)


def _leaves_of_matlab(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Numbers in cells and structs; text and functions are left out."""
    if hasattr(value, "_fieldnames"):
        for field in value._fieldnames:
            yield from _leaves_of_matlab(f"{name}/{field}", getattr(value, field))
    elif isinstance(value, np.ndarray) and value.dtype == object:
        parts = value.ravel(order="F")
        for index, part in enumerate(parts):
            single = len(parts) == 1 and hasattr(part, "_fieldnames")
            yield from _leaves_of_matlab(name if single else f"{name}/{index}", part)
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and value.size:
        yield name, value


def _matlab_hdf5(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    h5py = _library("h5py", path, "of MATLAB 7.3")

    def leaves(name: str, item: Any, depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
        if depth > 32:
            raise ValueError("its cells refer to each other in a circle")
        if isinstance(item, h5py.Group):
            for key in item:
                if not key.startswith("#"):
                    yield from leaves(f"{name}/{key}" if name else key, item[key], depth + 1)
        elif item.dtype == h5py.ref_dtype:
            references = item[()].ravel()  # column by column in MATLAB's order
            for index, reference in enumerate(references):
                yield from leaves(f"{name}/{index}", file[reference], depth + 1)
        elif item.dtype.kind in "biuf" and "MATLAB_empty" not in item.attrs:
            if item.attrs.get("MATLAB_class") in (b"char", b"function_handle", b"cell"):
                return
            if item.nbytes > max(2**28, _MOST_INFLATED * path.stat().st_size):
                raise ValueError(f"{name} would unpack to {item.nbytes} bytes")
            yield name, np.asarray(item[()]).T  # MATLAB's first axis is HDF5's last

    with h5py.File(path, "r") as file:
        yield from leaves("", file)

"""Denoisers in ONNX files, run by onnxruntime on the CPU: a graph of arithmetic, no code.

Inputs are found by their shapes: an image ``(batch, channels, height, width)``, and perhaps the
noise label as a number, one number an image, or a map of it.  There is no gradient through such a
network; the walks need none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tweedie_inverse.priors.formats.base import Format, Source, Target
from tweedie_inverse.priors.formats.denoisers import Module
from tweedie_inverse.priors.labels import LabelFunction
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.parameterizations import Coordinates, Parameterization
from tweedie_inverse.runtime.checksums import checksum

_NUMBERS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


@dataclass(frozen=True)
class ONNX(Format):
    """An ONNX file whose network is as `Module` would be told; the fields are the same.

    Attributes:
        shape: ``(channels, height, width)``; needed where the graph leaves a size open.
        sigma_max, sigma_min: trained range, on the network's own range of images; sigma_max is
            needed unless there are `timesteps`.
        network_range: of the images it takes.
        image_input, label_input: names of the graph's inputs, where there are others, too.
    """

    name: ClassVar[str] = "onnx"
    shape: tuple[int, ...] | None = None
    parameterization: Parameterization = "x0"
    coordinates: Coordinates | None = None
    timesteps: Tensor | None = None
    label: LabelFunction | None = None
    label_scale: float = 1.0
    label_offset: float = 0.0
    sigma_data: float = 0.5
    sigma_min: float | None = None
    sigma_max: float | None = None
    network_range: tuple[float, float] = (0.0, 1.0)
    image_input: str | None = None
    label_input: str | None = None

    def recognises(self, source: Source) -> bool:
        return _path(source) is not None

    def describe(self, source: Source) -> dict[str, Any]:
        graph = _graph(_needed_path(source), self)
        label = "none: blind, or of one level" if graph.label is None else graph.label.describe()
        return {"image": graph.image.describe(), "label": label, "output": graph.output}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        path = _needed_path(source)
        if self.sigma_max is None and self.timesteps is None:
            raise ValueError(
                f"load_prior({source.name!r}): an ONNX file does not say on which noise levels its "
                "network was trained; give format=formats.ONNX(sigma_max=...), or timesteps="
            )
        graph = _graph(path, self)
        network = OnnxNetwork(graph, path)
        shape = self.shape or graph.image_shape()
        if shape is None:
            raise ValueError(
                f"load_prior({source.name!r}): the graph takes images of {graph.image.describe()}; "
                "give format=formats.ONNX(shape=(channels, height, width))"
            )
        graph.refuse(source.name, shape)
        settings = Module(
            shape=shape,
            parameterization=self.parameterization,
            coordinates=self.coordinates,
            timesteps=self.timesteps,
            label=self.label,
            label_scale=self.label_scale,
            label_offset=self.label_offset,
            integer_labels=graph.label is not None and graph.label.number is np.int64,
            sigma_data=self.sigma_data,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            network_range=self.network_range,
        )
        prior = settings.load(Source(source.name, module=network.eval()), target)
        prior.fully_convolutional = graph.any_size
        return prior


class _Input(NamedTuple):
    """An input of a graph; sizes that it leaves open are None."""

    name: str
    sizes: tuple[int | None, ...]
    number: Any

    def describe(self) -> str:
        return f"{self.name} ({', '.join('any' if n is None else str(n) for n in self.sizes)})"


class Graph(NamedTuple):
    """A session of onnxruntime, and which of its inputs is what."""

    session: Any
    image: _Input
    label: _Input | None
    output: str

    @property
    def any_size(self) -> bool:
        return self.image.sizes[2] is None and self.image.sizes[3] is None

    def image_shape(self) -> tuple[int, ...] | None:
        sizes = self.image.sizes[1:]
        return None if None in sizes else tuple(size for size in sizes if size is not None)

    def refuse(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise a `ValueError` where the graph's sizes are others than those of `shape`."""
        fits = len(shape) == 3 and all(
            fixed in (None, size) for fixed, size in zip(self.image.sizes[1:], shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"load_prior({name!r}): the graph takes images of {self.image.describe()}, but "
                f"formats.ONNX(shape={shape}) was given"
            )


class OnnxNetwork(nn.Module):
    """``forward(x, label)`` by onnxruntime, in as many runs as a fixed size of batches needs."""

    def __init__(self, graph: Graph, path: Path):
        super().__init__()
        self.graph, self.path = graph, path
        # Its weights are not torch's; posteriors know the network by this.
        digest = torch.tensor(list(bytes.fromhex(checksum(path))), dtype=torch.uint8)
        self.register_buffer("sha256", digest)

    def __repr__(self) -> str:
        return f"OnnxNetwork({self.path.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(f"{self!r} cannot be copied or pickled; load the file again")

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            raise RuntimeError(
                f"{self!r}: an ONNX network has no gradient; the walks need none, likelihood and "
                "guidance do. For these, build the network in torch and use formats.fill"
            )
        together = self.graph.image.sizes[0] or len(x)
        one_number = self.graph.label is not None and self.graph.label.sizes == ()
        if one_number and bool((label != label[0]).any()):
            together = 1
        parts = zip(x.split(together), label.split(together), strict=True)
        return torch.cat([self._run(part, told) for part, told in parts]).to(x)

    def _run(self, x: Tensor, label: Tensor) -> Tensor:
        graph, count = self.graph, len(x)
        missing = (graph.image.sizes[0] or count) - count
        if missing:  # a batch of fixed size is filled up with its last image
            x = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
            label = torch.cat([label, label[-1:].expand(missing)])
        given = {graph.image.name: _numbers(x, graph.image)}
        if graph.label is not None:
            given[graph.label.name] = _numbers(_laid_out(label, graph.label, x), graph.label)
        (result,) = graph.session.run([graph.output], given)
        return torch.from_numpy(np.array(result))[:count]


def _laid_out(label: Tensor, wanted: _Input, x: Tensor) -> Tensor:
    """The labels ``(batch,)`` as the graph takes them: one, one an image, or a map."""
    if wanted.sizes == ():
        return label[0]
    if len(wanted.sizes) == 1:
        return label[:1] if wanted.sizes[0] == 1 and len(x) == 1 else label
    column = label.reshape(-1, *[1] * (len(wanted.sizes) - 1))
    sizes = list(x.shape[: len(wanted.sizes)])
    for axis, size in enumerate(wanted.sizes[1:], start=1):
        # A map has one channel; open sizes of its other axes are those of the image.
        sizes[axis] = size or (1 if axis == 1 else sizes[axis])
    return column.expand(len(x), *sizes[1:])


def _numbers(values: Tensor, wanted: _Input) -> Any:
    return values.detach().cpu().numpy().astype(wanted.number)


def _path(source: Source) -> Path | None:
    if source.checkpoint is None or source.checkpoint.path.suffix.lower() != ".onnx":
        return None
    return source.checkpoint.path


def _needed_path(source: Source) -> Path:
    path = _path(source)
    if path is None:
        raise ValueError(f"load_prior({source.name!r}): format ONNX needs a file named *.onnx")
    return path


def _graph(path: Path, settings: ONNX) -> Graph:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"load_prior: {path} is an ONNX file, which needs onnxruntime: "
            "pip install tweedie-inverse[onnx]"
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds
        reason = (str(error).strip().splitlines() or [""])[0][:160]
        raise ValueError(f"load_prior: {path} cannot be run by onnxruntime: {reason}") from None
    inputs = [_input(path, given) for given in session.get_inputs()]
    image = _one(path, "image_input", settings.image_input, [i for i in inputs if _is_image(i)])
    if image is None:
        raise ValueError(f"load_prior: {path} has no input of images (batch, channels, h, w)")
    others = [given for given in inputs if given.name != image.name]
    label = _one(path, "label_input", settings.label_input, others)
    if len(others) > 1:
        names = ", ".join(given.name for given in others)
        raise ValueError(f"load_prior: {path} needs more than an image and a noise label: {names}")
    return Graph(session, image, label, session.get_outputs()[0].name)


def _input(path: Path, given: Any) -> _Input:
    if given.type not in _NUMBERS:
        raise ValueError(
            f"load_prior: {path}: input {given.name} is {given.type}; float, double and int64 are "
            "supported"
        )
    sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in given.shape)
    return _Input(given.name, sizes, _NUMBERS[given.type])


def _is_image(given: _Input) -> bool:
    # A map of the noise level has four axes, too, and comes behind the image.
    return len(given.sizes) == 4 and given.number is not np.int64


def _one(path: Path, setting: str, name: str | None, candidates: list[_Input]) -> _Input | None:
    """The candidate of that name; by default the first."""
    if name is None:
        return candidates[0] if candidates else None
    named = [given for given in candidates if given.name == name]
    if not named:
        names = ", ".join(given.name for given in candidates) or "none"
        raise ValueError(f"load_prior: {path}: no such {setting} {name!r}; choose from {names}")
    return named[0]

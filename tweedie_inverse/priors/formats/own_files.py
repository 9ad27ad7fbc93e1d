"""What all prior files of this package hold, and how they are written.

Half-precision weights and a denoising error as tensors; in the header, as JSON, the settings and
how long the file takes to load.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tweedie_inverse.priors.error.denoising_error import DenoisingError, Transform
from tweedie_inverse.priors.error.local_error import LocalError
from tweedie_inverse.priors.formats.base import Format, Source, Target
from tweedie_inverse.priors.formats.files import Checkpoint, load_weights, read_checkpoint, ready
from tweedie_inverse.priors.unet import UNet
from tweedie_inverse.runtime.atomic import replace


def header_of(checkpoint: Checkpoint, kind: str | None = None) -> dict[str, Any]:
    """The settings; empty if the file is none of ours, or of another `kind` than asked for."""
    header = json.loads(checkpoint.metadata.get("prior", "{}"))
    return header if kind in (None, header.get("format")) else {}


class OwnFile(Format):
    """What all formats of our own files share; `kind` is what their header says."""

    def recognises(self, source: Source) -> bool:
        return source.checkpoint is not None and bool(header_of(source.checkpoint, self.kind))

    def describe(self, source: Source) -> dict[str, Any]:
        assert source.checkpoint is not None
        header = header_of(source.checkpoint, self.kind)
        return {name: value for name, value in header.items() if name != "format"}

    def settings_in(self, source: Source, target: Target | None = None) -> dict[str, Any]:
        """The settings of a file of this kind.

        Raises:
            ValueError: the file is of another kind, or `target` asks for another range of values.
        """
        assert source.checkpoint is not None
        settings = header_of(source.checkpoint, self.kind)
        if not settings:
            raise ValueError(
                f"load_prior({source.name!r}): not a file of format {self.name!r}, its header does "
                f"not say {self.kind}"
            )
        own, asked = tuple(settings.get("value_range", ())), target and target.asked_range
        if asked and own and asked != own:
            name = Path(source.name).stem
            raise ValueError(
                f"load_prior({name!r}, value_range={asked}): this prior knows its data's "
                f"range, {own}, and so does the denoising error measured with it; leave "
                "value_range= out and bring measurement, noise and operator to these units"
            )
        return settings

    def network_in(self, source: Source, channels: int, device: torch.device | str) -> nn.Module:
        """The trained `UNet` of a file, in evaluation mode."""
        assert source.checkpoint is not None
        settings = self.settings_in(source)
        with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
            network = UNet(
                channels,
                tuple(settings["widths"]),
                tuple(settings["blocks"]),
                classes=settings.get("classes", 0),
                attention=settings.get("attention", False),
            )
        load_weights(network, weights_in(source.state), source.checkpoint.path)
        return ready(network, device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def write(path: Path, tensors: dict[str, Tensor], header: dict[str, Any], format: Format) -> None:
    """Write a prior file, with the time that loading it takes on this computer in its header.

    `load_seconds` is the least of three times, the file already in the cache, to two digits.
    """
    _write(path, tensors, header)
    seconds = min(_load_seconds(path, format) for _ in range(3))
    _write(path, tensors, {**header, "load_seconds": float(f"{seconds:.2g}")})


def _write(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    from safetensors.torch import save

    replace(path, save(tensors, metadata={"prior": json.dumps(header)}))


def _load_seconds(path: Path, format: Format) -> float:
    start = time.perf_counter()
    format.load(Source(str(path), checkpoint=read_checkpoint(path)), Target())
    return time.perf_counter() - start


def tensors_of(network: nn.Module, error: DenoisingError) -> dict[str, Tensor]:
    """Weights under ``network.``, the denoising error under ``error.``."""
    state = network.state_dict()
    return {
        **{f"network.{name}": value.half().contiguous() for name, value in state.items()},
        "error.sigmas": error.sigmas.double(),
        "error.log_variance": error.variance.log().half(),
        "error.gain": error.gain.half(),
        "error.local.contrast": error.local.contrast.float(),
        "error.local.log_variance": error.local.variance.log().float(),
        "error.mixing": error.mixing.double(),
    }


def weights_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's state dict."""
    return {
        name.removeprefix("network."): value
        for name, value in tensors.items()
        if name.startswith("network.")
    }


def error_in(tensors: Mapping[str, Tensor], transform: Transform) -> DenoisingError:
    """The denoising error; its `transform` is in the header of the file."""
    variance = tensors["error.log_variance"].double().exp()
    local = LocalError(
        tensors["error.local.contrast"].double(),
        tensors["error.local.log_variance"].double().exp(),
    )
    return DenoisingError(
        tensors["error.sigmas"],
        variance,
        tensors["error.gain"].double(),
        local,
        tensors["error.mixing"],
        transform,
    )

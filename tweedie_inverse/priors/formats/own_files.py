"""What all prior files of this package hold, and how they are written.

Half-precision weights and a denoising error as tensors; in the header, as JSON, the settings and
how long the file takes to load.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tweedie_inverse.priors.error.denoising_error import DenoisingError, Transform
from tweedie_inverse.priors.error.local_error import LocalError
from tweedie_inverse.priors.formats.base import Format, Source, Target
from tweedie_inverse.priors.formats.reading.archives import check_finite
from tweedie_inverse.priors.formats.reading.files import (
    Checkpoint,
    load_weights,
    read_checkpoint,
    ready,
)
from tweedie_inverse.priors.unet import UNet
from tweedie_inverse.runtime.atomic import replace


def header_of(checkpoint: Checkpoint, kind: str | None = None) -> dict[str, Any]:
    """The settings; empty if the file is none of ours, or of another `kind` than asked for."""
    try:
        header = json.loads(checkpoint.metadata.get("prior", "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"load_prior: {checkpoint.path}: its header is no JSON ({error})"
        ) from None
    if not isinstance(header, dict):
        raise ValueError(f"load_prior: {checkpoint.path}: its header holds no settings")
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
        _refuse_broken(settings, source)
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
        settings, weights = self.settings_in(source), weights_in(source.state)
        widths, blocks = tuple(settings["widths"]), tuple(settings["blocks"])
        classes = settings.get("classes", 0)
        _refuse_larger_than_its_weights(widths, blocks, (channels, classes + 1), weights, source)
        with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
            network = UNet(
                channels,
                widths,
                blocks,
                classes=classes,
                attention=settings.get("attention", False),
            )
        load_weights(network, weights, source.checkpoint.path)
        return ready(network, device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


# Tensors of a residual block of the `UNet`, and numbers in it for each pair of channels.
_PER_BLOCK, _PER_PAIR = 10, 18


def _refuse_larger_than_its_weights(
    widths: tuple[Any, ...],
    blocks: tuple[Any, ...],
    others: tuple[Any, ...],
    weights: Mapping[str, Tensor],
    source: Source,
) -> None:
    """Before anything is built: a header must not ask for more than its file has weights."""
    numbers, there = [*widths, *blocks, *others], sum(value.numel() for value in weights.values())
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
    fits = (
        whole
        and len(widths) == len(blocks)
        and _PER_BLOCK * sum(blocks) <= len(weights)
        and _PER_PAIR * sum(b * w**2 for b, w in zip(blocks, widths, strict=True)) <= there
        and max(others) <= there
    )
    if not fits:
        raise ValueError(
            f"load_prior({source.name!r}): the header describes another network than the file has "
            f"weights of: widths {str(widths)[:60]} and blocks {str(blocks)[:60]}, but "
            f"{len(weights)} weights of {there} numbers"
        )


def _refuse_broken(settings: Mapping[str, Any], source: Source) -> None:
    """NaN and infinity, in the numbers of the header and in the error's tables."""
    assert source.checkpoint is not None
    names = ("offset", "scale", "sigma_data", "sigma_min", "sigma_max", "centre")
    broken = [
        f"{name} {settings[name]}"
        for name in names
        if isinstance(settings.get(name), float) and not math.isfinite(settings[name])
    ]
    if broken:
        raise ValueError(
            f"load_prior({source.name!r}): the header is damaged, it says {', '.join(broken)}"
        )
    tables = {n: v for n, v in source.state.items() if n.startswith(("error.", "timesteps"))}
    check_finite(tables, source.checkpoint.path)


def write(path: Path, tensors: dict[str, Tensor], header: dict[str, Any], format: Format) -> None:
    """Write a prior file, with the time that loading it takes on this computer in its header.

    `load_seconds` is the least of three times, the file already in the cache, to two digits.
    """
    rewrite(path, tensors, header)
    seconds = min(_load_seconds(path, format) for _ in range(3))
    rewrite(path, tensors, {**header, "load_seconds": float(f"{seconds:.2g}")})


def rewrite(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write a prior file with this header as it is."""
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
        **{f"network.{name}": _short(value).contiguous() for name, value in state.items()},
        "error.sigmas": error.sigmas.double(),
        "error.log_variance": _short(error.variance.log()),
        "error.gain": _short(error.gain),
        "error.local.contrast": error.local.contrast.float(),
        "error.local.log_variance": error.local.variance.log().float(),
        "error.mixing": error.mixing.double(),
    }


def _short(value: Tensor) -> Tensor:
    """In half precision, or in single where half would make infinities of large numbers."""
    half = value.half()
    return half if bool(half.isfinite().all()) else value.float()


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

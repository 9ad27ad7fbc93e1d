"""The package's own prior files: weights, measured denoising error and settings in one file.

One safetensors file: half-precision weights under ``network.``, the denoising error under
``error.``, and the settings as JSON in the header.  Nothing in it is code.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from tweedie_inverse.priors.formats.base import Format, Source, Target
from tweedie_inverse.priors.formats.files import load_weights, ready
from tweedie_inverse.priors.formats.own_files import error_in, header_of, weights_in
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.unet import UNet

FORMAT = "tweedie-inverse-prior-1"


@dataclass(frozen=True)
class Native(Format):
    """A file written by `save_prior`; it holds everything, units included."""

    name: ClassVar[str] = "tweedie-inverse"
    kind: ClassVar[str] = FORMAT

    def recognises(self, source: Source) -> bool:
        return source.checkpoint is not None and bool(header_of(source.checkpoint, FORMAT))

    def describe(self, source: Source) -> dict[str, Any]:
        assert source.checkpoint is not None
        return {k: v for k, v in header_of(source.checkpoint, FORMAT).items() if k != "format"}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        assert source.checkpoint is not None
        settings, tensors = header_of(source.checkpoint, FORMAT), source.state
        if not settings:
            raise ValueError(
                f"load_prior({source.name!r}): not a prior file of this package, its header does "
                f"not say {FORMAT}"
            )
        with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
            network = UNet(
                settings["shape"][0],
                tuple(settings["widths"]),
                tuple(settings["blocks"]),
                classes=settings.get("classes", 0),
                attention=settings.get("attention", False),
            )
        load_weights(network, weights_in(tensors), source.checkpoint.path)
        return NetworkPrior(
            ready(network, target.device).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            settings["parameterization"],
            shape=tuple(settings["shape"]),
            timesteps=tensors.get("timesteps"),
            offset=settings["offset"],
            scale=settings["scale"],
            sigma_data=settings["sigma_data"],
            sigma_min=settings["sigma_min"],
            sigma_max=settings["sigma_max"],
            centre=settings["centre"],
            error=error_in(tensors, settings.get("transform", "cosine")),
            fully_convolutional=settings["fully_convolutional"],
            name=settings["name"],
        )

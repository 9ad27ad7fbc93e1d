"""The package's own prior files: weights, measured denoising error and settings in one file.

One safetensors file: half-precision weights under ``network.``, the denoising error under
``error.``, and the settings as JSON in the header.  Nothing in it is code.
"""

from dataclasses import dataclass
from typing import ClassVar

from tweedie_inverse.priors.formats.base import Source, Target
from tweedie_inverse.priors.formats.kept import with_kept
from tweedie_inverse.priors.formats.own_files import OwnFile, error_in
from tweedie_inverse.priors.network import NetworkPrior

FORMAT = "tweedie-inverse-prior-1"


@dataclass(frozen=True)
class Native(OwnFile):
    """A file written by `save_prior`; it holds everything, units included."""

    name: ClassVar[str] = "tweedie-inverse"
    kind: ClassVar[str] = FORMAT

    def load(self, source: Source, target: Target) -> NetworkPrior:
        settings, tensors = self.settings_in(source, target), source.state
        prior = NetworkPrior(
            self.network_in(source, settings["shape"][0], target.device),
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
        prior.value_range = tuple(settings.get("value_range", target.value_range))
        prior.units = settings.get("units", "")
        return with_kept(prior, source)

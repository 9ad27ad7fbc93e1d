"""The package's own files of phase-space priors: weights, denoising error, process and settings.

One safetensors file, as those of ordinary priors (`native`); the header also says which process
the network was trained on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tweedie_inverse.phase_space.prior import PhaseSpaceNetwork
from tweedie_inverse.phase_space.processes.instances import from_settings, settings_of
from tweedie_inverse.priors.formats import kept
from tweedie_inverse.priors.formats.base import Source, Target
from tweedie_inverse.priors.formats.own_files import OwnFile, error_in, tensors_of, write

FORMAT = "tweedie-inverse-phase-prior-1"
# Attributes of the prior that the header holds as they are.
_PLAIN = (
    "shape",
    "label",
    "objective",
    "offset",
    "scale",
    "time_min",
    "sigma_min",
    "sigma_max",
    "centre",
    "consistent",
    "name",
)


@dataclass(frozen=True)
class PhaseNative(OwnFile):
    """A file written by `save_phase_prior`; it holds everything, units included."""

    name: ClassVar[str] = "tweedie-inverse-phase"
    kind: ClassVar[str] = FORMAT

    def load(self, source: Source, target: Target) -> PhaseSpaceNetwork:
        settings, tensors = self.settings_in(source, target), source.state
        process, shape = from_settings(settings["process"]), tuple(settings["shape"])
        prior = PhaseSpaceNetwork(
            self.network_in(source, process.phases * shape[0], target.device),
            process,
            shape=shape,
            label=settings["label"],
            objective=settings["objective"],
            offset=settings["offset"],
            scale=settings["scale"],
            time_min=settings["time_min"],
            sigma_max=settings["sigma_max"],
            centre=settings["centre"],
            consistent=settings["consistent"],
            error=error_in(tensors, settings["transform"]),
            name=settings["name"],
        )
        prior.value_range = tuple(settings.get("value_range", target.value_range))
        return kept.with_kept(prior, source)


def save_phase_prior(path: str | Path, prior: PhaseSpaceNetwork, settings: dict[str, Any]) -> None:
    """Write a trained phase-space prior with its denoising error.

    `settings` completes the header: `widths`, `blocks` and `classes` of the `UNet`, `data`,
    `licence` and `value_range`.  The file is loaded again, to note how long that takes.
    """
    if prior.error is None:
        raise ValueError(
            "save_phase_prior: measure the denoising error first (measure_denoising_error)"
        )
    tensors = tensors_of(prior.module, prior.error) | kept.tensors_of(prior.calibration)
    header = {
        "format": FORMAT,
        **{name: getattr(prior, name) for name in _PLAIN},
        "transform": prior.error.transform,
        "process": settings_of(prior.process),
        "fully_convolutional": False,
        "parameters": sum(value.numel() for value in prior.module.state_dict().values()),
        **kept.notes_of(prior.calibration),
        **settings,
    }
    write(Path(path), tensors, header, PhaseNative())

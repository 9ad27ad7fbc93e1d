"""Phase space: processes, priors, walks, guidance, training and file formats with momentum.

Everything that knows of momentum lives here, and nothing outside imports it: it enters itself in
the registries of formats and of training.  To take it out, delete the folder and its line in
`tweedie_inverse/__init__`.
"""

from tweedie_inverse.phase_space import grids, processes
from tweedie_inverse.phase_space.guidance import (
    ClassifierGuided,
    PhaseClassifierFree,
    classifier_free,
)
from tweedie_inverse.phase_space.inpainting import Known
from tweedie_inverse.phase_space.native import PhaseNative
from tweedie_inverse.phase_space.prior import ExactPhaseSpace, PhaseSpaceNetwork, PhaseSpacePrior
from tweedie_inverse.phase_space.psld import PSLD
from tweedie_inverse.phase_space.sampling import PhaseStep, sample, trajectory
from tweedie_inverse.phase_space.steps import (
    GDDIM,
    SAMPLERS,
    AdaptiveFlow,
    Conjugate,
    EulerMaruyama,
    Sampler,
    SymmetricSplitting,
)
from tweedie_inverse.phase_space.training import PROCESS_NAMES, PhaseSpaceTask
from tweedie_inverse.priors import formats
from tweedie_inverse.sampling.sampling import ELSEWHERE
from tweedie_inverse.training.tasks import PROCESSES

__all__ = [
    "GDDIM",
    "PSLD",
    "SAMPLERS",
    "AdaptiveFlow",
    "ClassifierGuided",
    "Conjugate",
    "EulerMaruyama",
    "ExactPhaseSpace",
    "Known",
    "PhaseClassifierFree",
    "PhaseNative",
    "PhaseSpaceNetwork",
    "PhaseSpacePrior",
    "PhaseStep",
    "Sampler",
    "SymmetricSplitting",
    "classifier_free",
    "grids",
    "processes",
    "sample",
    "trajectory",
]

for _format in (PSLD(), PhaseNative()):
    formats.register(_format)
PROCESSES.update(dict.fromkeys(PROCESS_NAMES, PhaseSpaceTask))
ELSEWHERE.update(
    {
        name: "this sampler walks in phase space; call ti.phase_space.sample(prior, num_samples, "
        f"sampler={name!r})"
        for name in SAMPLERS
    }
)

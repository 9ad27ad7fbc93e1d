"""Posterior samples of inverse problems by conditional random walks with Tweedie's formula.

The public names live here, and nothing else: what computes has a folder of its own.
"""

# Ctrl-C during the imports of the command line, which take seconds: it must come first.
from tweedie_inverse.app import interrupts as _interrupts  # noqa: F401  # isort: skip

from tweedie_inverse import io, operators, priors, walks
from tweedie_inverse.boundary.images import as_complex, as_image
from tweedie_inverse.density.bound import Bound
from tweedie_inverse.density.likelihood import Likelihood, likelihood
from tweedie_inverse.density.probability_flow import ProbabilityFlow
from tweedie_inverse.evaluation import calibration
from tweedie_inverse.evaluation.calibrate.result import Calibration
from tweedie_inverse.evaluation.calibrate.run import calibrate
from tweedie_inverse.evaluation.check_prior import check_prior
from tweedie_inverse.evaluation.compare.result import Comparison
from tweedie_inverse.evaluation.compare.run import compare
from tweedie_inverse.evaluation.fit.reference import FitReference, fit_reference
from tweedie_inverse.evaluation.fit.report import FitReport
from tweedie_inverse.evaluation.fit.run import check_fit
from tweedie_inverse.evaluation.prior_check.report import PriorReport
from tweedie_inverse.numerics import chains, schedules
from tweedie_inverse.priors import guidance, measure_denoising_error, tweedie
from tweedie_inverse.priors.zoo import list_priors, load_prior
from tweedie_inverse.sampling.own_samples import estimate_denoising_error
from tweedie_inverse.sampling.sampling import SampleStep, sample, trajectory
from tweedie_inverse.solving.diagnostics import Diagnostics, PosteriorWarning
from tweedie_inverse.solving.loop import Step
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.solver import iterate, solve
from tweedie_inverse.solving.stats import Stats
from tweedie_inverse.walks.base import WalkDivergedError

# Phase space enters itself in the registries; delete its folder and this line to take it out.
from tweedie_inverse import phase_space as phase_space  # isort: skip

__version__ = "0.1.0"

__all__ = [
    "Bound",
    "Calibration",
    "Comparison",
    "Diagnostics",
    "FitReference",
    "FitReport",
    "Likelihood",
    "Posterior",
    "PosteriorWarning",
    "PriorReport",
    "ProbabilityFlow",
    "SampleStep",
    "Stats",
    "Step",
    "WalkDivergedError",
    "as_complex",
    "as_image",
    "calibrate",
    "calibration",
    "chains",
    "check_fit",
    "check_prior",
    "compare",
    "estimate_denoising_error",
    "fit_reference",
    "guidance",
    "io",
    "iterate",
    "likelihood",
    "list_priors",
    "load_prior",
    "measure_denoising_error",
    "operators",
    "priors",
    "sample",
    "schedules",
    "solve",
    "trajectory",
    "tweedie",
    "walks",
]


def __dir__() -> list[str]:
    """Public names only."""
    return sorted([*__all__, *(name for name in ("phase_space",) if name in globals())])

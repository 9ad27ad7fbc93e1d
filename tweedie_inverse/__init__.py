"""Posterior samples of inverse problems by conditional random walks with Tweedie's formula."""

from . import (
    calibration,
    guidance,
    phase_space,
    priors,
    processes,
    schedules,
    tweedie,
    walks,
)
from .check import PriorReport, check_prior
from .density import Likelihood, likelihood
from .elbo import Bound
from .own_samples import estimate_denoising_error
from .posterior import Diagnostics, Posterior, Stats
from .priors import measure_denoising_error
from .priors.zoo import list_priors, load_prior
from .probability_flow import ProbabilityFlow
from .sampling import SampleStep, sample, trajectory
from .solver import Step, WalkDivergedError, iterate, solve

__version__ = "0.1.0"

__all__ = [
    "Bound",
    "Diagnostics",
    "Likelihood",
    "Posterior",
    "PriorReport",
    "ProbabilityFlow",
    "SampleStep",
    "Stats",
    "Step",
    "WalkDivergedError",
    "calibration",
    "check_prior",
    "estimate_denoising_error",
    "guidance",
    "iterate",
    "likelihood",
    "list_priors",
    "load_prior",
    "measure_denoising_error",
    "phase_space",
    "priors",
    "processes",
    "sample",
    "schedules",
    "solve",
    "trajectory",
    "tweedie",
    "walks",
]

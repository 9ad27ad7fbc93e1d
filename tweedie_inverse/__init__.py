"""Posterior samples of inverse problems by conditional random walks with Tweedie's formula."""

from . import calibration, priors, schedules, tweedie, walks
from .check import PriorReport, check_prior
from .posterior import Diagnostics, Posterior, Stats
from .priors import measure_denoising_error
from .priors.zoo import list_priors, load_prior
from .sampling import SampleStep, sample, trajectory
from .solver import Step, WalkDivergedError, iterate, solve

__version__ = "0.1.0"

__all__ = [
    "Diagnostics",
    "Posterior",
    "PriorReport",
    "SampleStep",
    "Stats",
    "Step",
    "WalkDivergedError",
    "calibration",
    "check_prior",
    "iterate",
    "list_priors",
    "load_prior",
    "measure_denoising_error",
    "priors",
    "sample",
    "schedules",
    "solve",
    "trajectory",
    "tweedie",
    "walks",
]

"""Priors: a denoiser in data units, with the covariance of its own error."""

from . import formats
from .analytic import Empirical, Gaussian, GaussianMixture
from .base import Prior
from .denoising_error import DenoisingError
from .measure_error import measure_denoising_error
from .network import NetworkPrior
from .phase_space import ExactPhaseSpace, PhaseSpaceNetwork, PhaseSpacePrior

__all__ = [
    "DenoisingError",
    "Empirical",
    "ExactPhaseSpace",
    "Gaussian",
    "GaussianMixture",
    "NetworkPrior",
    "PhaseSpaceNetwork",
    "PhaseSpacePrior",
    "Prior",
    "formats",
    "measure_denoising_error",
]

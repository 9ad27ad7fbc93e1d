"""Priors: a denoiser in data units, with the covariance of its own error.

They know nothing of operators, measurements or walks.
"""

from tweedie_inverse.priors import formats
from tweedie_inverse.priors.analytic import Empirical, Gaussian, GaussianMixture
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.error.denoising_error import DenoisingError
from tweedie_inverse.priors.error.measure import measure_denoising_error
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.zoo import store_calibration

__all__ = [
    "DenoisingError",
    "Empirical",
    "Gaussian",
    "GaussianMixture",
    "NetworkPrior",
    "Prior",
    "formats",
    "measure_denoising_error",
    "store_calibration",
]

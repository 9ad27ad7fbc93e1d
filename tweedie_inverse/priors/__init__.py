"""Priors: a denoiser in data units, with the covariance of its own error.

They know nothing of operators, measurements or walks.
"""

from tweedie_inverse.priors import formats
from tweedie_inverse.priors.analytic import Empirical, Gaussian, GaussianMixture
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.complex import Complex
from tweedie_inverse.priors.error import DenoisingError, measure_denoising_error
from tweedie_inverse.priors.measured_slices import measure_slice_correlation
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.slice_correlation import SliceCorrelation
from tweedie_inverse.priors.slices import Slices
from tweedie_inverse.priors.zoo import store_calibration

__all__ = [
    "Complex",
    "DenoisingError",
    "Empirical",
    "Gaussian",
    "GaussianMixture",
    "NetworkPrior",
    "Prior",
    "SliceCorrelation",
    "Slices",
    "formats",
    "measure_denoising_error",
    "measure_slice_correlation",
    "store_calibration",
]

"""The denoising error of a prior: its tables, how they are measured, and how they vary by place.

Nothing here knows a walk or an operator; the covariances it makes are `numerics.covariance`.
"""

from tweedie_inverse.priors.error.denoising_error import DenoisingError, Transform
from tweedie_inverse.priors.error.forms import Form
from tweedie_inverse.priors.error.measure import measure_denoising_error

__all__ = ["DenoisingError", "Form", "Transform", "measure_denoising_error"]

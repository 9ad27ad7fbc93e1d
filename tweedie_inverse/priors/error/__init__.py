"""The denoising error of a prior: its tables, how they are measured, and how they vary by place.

The measurement (`measure`) takes priors by name, and so stands above the priors' formats.

Nothing here knows a walk or an operator; the covariances it makes are `numerics.covariance`.
"""

from tweedie_inverse.priors.error.denoising_error import DenoisingError, Transform
from tweedie_inverse.priors.error.forms import Form

__all__ = ["DenoisingError", "Form", "Transform"]

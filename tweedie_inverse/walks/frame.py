"""What all levels of a particle walk share: the measurement in a basis, and the prior's moments.

In this basis the prior's covariance, its denoising error and every law of a step are diagonal.
"""

from typing import NamedTuple

from torch import Tensor

from tweedie_inverse.conditional.linear_gaussian import measurement_in
from tweedie_inverse.conditional.measurement import Measurement, Solved
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance, along, common_basis
from tweedie_inverse.numerics.spectral import Basis
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.bridge import Joint
from tweedie_inverse.walks.paths import Moments


class Likelihood(NamedTuple):
    """``log integral N(x0; mean, variance) p(y | x0)``, split so that no precision is lost."""

    relative: Tensor  # (walkers,), float64: the part that differs between walkers
    scale: Tensor  # the part that is the same for all of them
    error: float  # of the linear solves, in posterior standard deviations


class Frame(NamedTuple):
    """The measurement in a basis, and the prior's moments there."""

    measurement: Measurement
    moments: Moments

    @property
    def basis(self) -> Basis:
        return self.measurement.basis

    def covariance(self, variance: Tensor) -> Covariance:
        """The covariance with these variances in the basis."""
        return Covariance(self.basis, variance)

    def likelihood(self, mean: Tensor, variance: Tensor) -> Likelihood:
        """The likelihood of y for walkers that expect ``x0 ~ N(mean, variance)``."""
        covariance = self.covariance(variance)
        found = self.measurement.log_marginal(mean, covariance)
        return Likelihood(found.value, self.measurement.log_scale(covariance), found.error)

    def draw_clean(self, joint: Joint, white: Tensor, streams: Streams) -> Solved:
        """Draw x0 given x and y; `white` is standard normal, like x."""
        data_white = streams.normal(self.measurement.noise_shape, like=white)
        covariance = self.covariance(joint.clean_variance)
        return self.measurement.draw(joint.clean_mean, covariance, white, data_white)


def frame_of(
    problem: Problem, prior: Prior, moments: tuple[Tensor, Covariance], error: Covariance | None
) -> Frame:
    """The frame of a walk, from the prior's mean and covariance.

    Args:
        error: the denoising error where the walk begins, if it is known before.
    """
    mean, covariance = moments
    basis = basis_of(problem, prior, covariance, error)
    found = Moments(
        basis.transform(mean.to(problem.y)[None]),
        along(covariance, basis, prior.shape).to(problem.y),
    )
    return Frame(measurement_in(basis, problem), found)


def basis_of(
    problem: Problem, prior: Prior, covariance: Covariance, error: Covariance | None
) -> Basis:
    """The basis in which the prior's covariance and its error are diagonal.

    Raises:
        ValueError: there is no such basis, and the images are too large for matrices.
    """
    second = covariance if error is None else error
    return common_basis(covariance, second, problem.basis, prior.shape)

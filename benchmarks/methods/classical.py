"""Methods without a network: the pseudo-inverse and samples under a Gaussian model."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.methods.base import Method, Seeds
from tweedie_inverse.benchmarks.problems.gaussian import gaussian_samples
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.priors.base import Prior


@dataclass(frozen=True)
class PseudoInverse(Method):
    """Filtered backprojection for CT; least squares by conjugate gradients for the others."""

    source: ClassVar[str] = "no settings"
    needs: ClassVar[tuple[str, ...]] = ("linear",)
    samples_posterior: ClassVar[bool] = False

    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        assert isinstance(task.operator, ops.LinearOperator)
        return task.operator.pseudo_inverse(y)[:, None]


@dataclass(frozen=True)
class Wiener(Method):
    """Samples under a Gaussian model of the images: their mean is the Wiener estimate.

    The covariance is that of the prior, or for a network its denoising error at the largest noise
    level, where it knows nothing but the statistics.  Exact where the prior is Gaussian.
    """

    source: ClassVar[str] = "no settings"
    needs: ClassVar[tuple[str, ...]] = ("linear", "gaussian")

    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        return gaussian_samples(y, task, prior, seeds)

"""The methods: frozen records of their settings and of where these come from.

Ours and the classical ones are here, deepinv's in `baselines`.  A line in `METHODS` adds one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

import operators as ops
import tweedie_inverse as ti
from tweedie_inverse.gaussian import conditional_draw
from tweedie_inverse.priors.analytic import Gaussian
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.problem import Problem

from .suites import Task


@dataclass(frozen=True)
class Method(ABC):
    """Settings of a method.

    Attributes:
        evaluations: budget of network evaluations a sample; 0 where there is no network.
        source: where the settings are from.
        needs: what a task must be: "linear", "gaussian" (white Gaussian noise), "spectrum".
        samples_posterior: whether several samples differ; a point estimate is run once.
    """

    evaluations: int = 0

    source: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    samples_posterior: ClassVar[bool] = True

    def refuse(self, task: Task) -> str | None:
        """Why the method does not apply to a task; None if it does."""
        if "linear" in self.needs and not task.is_linear:
            return "needs a linear operator"
        if "gaussian" in self.needs and task.std is None:
            return "needs white Gaussian noise"
        if "spectrum" in self.needs:
            operator = task.operator
            if not isinstance(operator, ops.LinearOperator) or operator.spectrum is None:
                return "needs an operator with a known singular value decomposition"
        return None

    def within(self, cap: int) -> "Method":
        """The method with no more than `cap` evaluations."""
        return replace(self, evaluations=min(self.evaluations, cap))

    @abstractmethod
    def draw(
        self, y: Tensor, task: Task, prior: Prior, seeds: Sequence[int], together: int
    ) -> Tensor:
        """Samples ``(len(seeds), *shape)`` for one measurement ``(*range_shape)``.

        `together` of them run at a time, which changes memory and speed, and not the samples.
        """


@dataclass(frozen=True)
class Decoupled(Method):
    """Ours: the exact conditional draw around the denoised image, then the next noise level."""

    evaluations: int = 50
    error: str = "measured"
    source: ClassVar[str] = "defaults of the package; isotropic is DAPS-type (Zhang et al. 2025)"

    def draw(
        self, y: Tensor, task: Task, prior: Prior, seeds: Sequence[int], together: int
    ) -> Tensor:
        walk = ti.walks.Decoupled(error=self.error)
        return _solve(y, task, prior, seeds, walk, self.evaluations, together)


@dataclass(frozen=True)
class Langevin(Method):
    """The conditional walk of Park et al. 2024."""

    evaluations: int = 1000
    step_size: float = 0.38
    source: ClassVar[str] = "Park et al. 2024, version 1; 1000 evaluations there"
    needs: ClassVar[tuple[str, ...]] = ("linear", "gaussian")

    def draw(
        self, y: Tensor, task: Task, prior: Prior, seeds: Sequence[int], together: int
    ) -> Tensor:
        walk = ti.walks.Langevin(step_size=self.step_size)
        return _solve(y, task, prior, seeds, walk, self.evaluations, together)


def _solve(
    y: Tensor,
    task: Task,
    prior: Prior,
    seeds: Sequence[int],
    walk: ti.walks.Walk,
    steps: int,
    together: int,
) -> Tensor:
    posterior = ti.solve(
        y,
        task.operator,
        prior,
        method=walk,
        num_samples=len(seeds),
        steps=steps,
        batch_size=together,
        seed=seeds[0],  # from which every sample gets a stream of its own
    )
    return posterior.samples


@dataclass(frozen=True)
class PseudoInverse(Method):
    """Filtered backprojection for CT; least squares by conjugate gradients for the others."""

    source: ClassVar[str] = "no settings"
    needs: ClassVar[tuple[str, ...]] = ("linear",)
    samples_posterior: ClassVar[bool] = False

    def draw(
        self, y: Tensor, task: Task, prior: Prior, seeds: Sequence[int], together: int
    ) -> Tensor:
        assert isinstance(task.operator, ops.LinearOperator)
        return task.operator.pseudo_inverse(y[None])


@dataclass(frozen=True)
class Wiener(Method):
    """Samples under a Gaussian model of the images: their mean is the Wiener estimate.

    The covariance is that of the prior, or for a network its denoising error at the largest noise
    level, where it knows nothing but the statistics.  Exact where the prior is Gaussian.
    """

    source: ClassVar[str] = "no settings"
    needs: ClassVar[tuple[str, ...]] = ("linear", "gaussian")

    def draw(
        self, y: Tensor, task: Task, prior: Prior, seeds: Sequence[int], together: int
    ) -> Tensor:
        return gaussian_samples(y, task, prior, seeds)


def gaussian_samples(
    y: Tensor, task: Task, prior: Prior, seeds: Sequence[int], *, noise: float = 1.0
) -> Tensor:
    """Exact draws ``(len(seeds), *shape)`` under the Gaussian model; their mean with `noise` 0."""
    from operators.random import Streams

    assert task.operator.noise is not None
    count, inner = len(seeds), getattr(prior, "prior", prior)
    covariance = (
        inner.covariance if isinstance(inner, Gaussian) else prior.denoising_error(prior.sigma_max)
    )
    problem = Problem(y.expand(count, *y.shape), task.operator, task.operator.noise)
    streams = Streams([("gaussian model", seed) for seed in seeds])
    centre = torch.as_tensor(prior.centre).to(y).expand(count, *prior.shape)
    white = noise * streams.normal(prior.shape, like=y)
    error = noise * streams.normal(task.operator.range_shape, like=y)
    return conditional_draw(centre, covariance, problem, white, error).x


def methods() -> dict[str, Method]:
    """All methods by name."""
    from . import baselines

    return {
        "decoupled": Decoupled(),
        "decoupled-20": Decoupled(evaluations=20),
        "isotropic": Decoupled(error="isotropic"),
        "langevin": Langevin(),
        "dps": baselines.DPS(),
        "pigdm": baselines.PiGDM(),
        "moment-matching": baselines.MomentMatching(),
        "diffpir": baselines.DiffPIR(),
        "ddrm": baselines.DDRM(),
        "ula": baselines.ULA(),
        "pnp-hqs": baselines.PnP(),
        "tv": baselines.TotalVariation(),
        "wiener": Wiener(),
        "pseudo-inverse": PseudoInverse(),
    }

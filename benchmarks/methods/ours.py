"""The methods: frozen records of their settings and of where these come from.

Ours and the classical ones are here, deepinv's in `baselines`.  A line in `METHODS` adds one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.harness.suites import Task
from tweedie_inverse.conditional.linear_gaussian import conditional_draw
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.random import Streams, normal
from tweedie_inverse.numerics.resampling import systematic
from tweedie_inverse.priors.analytic import Gaussian
from tweedie_inverse.priors.base import Prior

# Of every sample of every measurement.
Seeds = Sequence[Sequence[int]]


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
    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        """Samples ``(measurements, samples, *shape)`` of measurements ``(measurements, ...)``.

        Args:
            y: measurements of the task's operator.
            seeds: of every sample of every measurement, as many of each.
            together: samples that run at a time, fewer where memory is short; changes memory and
                speed, not the samples.
        """


@dataclass(frozen=True)
class Decoupled(Method):
    """Ours: the exact conditional draw around the denoised image, then the next noise level."""

    evaluations: int = 50
    error: str = "measured"
    rho: float = 7.0
    source: ClassVar[str] = "defaults of the package; isotropic is DAPS-type (Zhang et al. 2025)"

    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        walk = ti.walks.Decoupled(error=self.error, rho=self.rho)
        return _posterior(y, task, prior, seeds, walk, self.evaluations, together).samples


@dataclass(frozen=True)
class Langevin(Method):
    """The conditional walk of Park et al. 2024."""

    evaluations: int = 1000
    step_size: float = 0.38
    source: ClassVar[str] = "Park et al. 2024, version 1; 1000 evaluations there"
    needs: ClassVar[tuple[str, ...]] = ("linear", "gaussian")

    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        walk = ti.walks.Langevin(step_size=self.step_size)
        return _posterior(y, task, prior, seeds, walk, self.evaluations, together).samples


@dataclass(frozen=True)
class Particle(Method):
    """Ours: a weighted population, resampled to equal weights; the larger, the better."""

    evaluations: int = 100
    path: str = "tweedie"
    correctors: int = 0
    source: ClassVar[str] = "defaults of the package"
    needs: ClassVar[tuple[str, ...]] = ("linear", "gaussian")

    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        walk = ti.walks.Particle(path=self.path, correctors=self.correctors)
        posterior = _posterior(y, task, prior, seeds, walk, self.evaluations, together)
        # By the measurement's own seed, whatever it runs beside.
        numbers = [normal(("equally weighted", mine[0]), ()) for mine in seeds]
        uniform = torch.special.ndtr(torch.stack(numbers)).to(y.device)
        chosen = systematic(posterior.weights.double(), uniform)
        return posterior.samples[torch.arange(len(y), device=y.device)[:, None], chosen]


def _posterior(
    y: Tensor,
    task: Task,
    prior: Prior,
    seeds: Seeds,
    walk: ti.walks.Walk,
    steps: int,
    together: int,
) -> ti.Posterior:
    return ti.solve(
        y,
        task.operator,
        prior,
        method=walk,
        num_samples=len(seeds[0]),
        steps=steps,
        batch_size=together,
        seed=[mine[0] for mine in seeds],  # from which every sample gets a stream of its own
    )


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


def gaussian_samples(
    y: Tensor, task: Task, prior: Prior, seeds: Seeds, *, noise: float = 1.0
) -> Tensor:
    """Exact draws as `Method.draw` has them, of the Gaussian model; its mean with `noise` 0."""
    assert task.operator.noise is not None
    each, inner = len(seeds[0]), getattr(prior, "prior", prior)
    covariance = (
        inner.covariance if isinstance(inner, Gaussian) else prior.denoising_error(prior.sigma_max)
    )
    problem = Problem(y.repeat_interleave(each, 0), task.operator, task.operator.noise)
    streams = Streams([("gaussian model", seed) for mine in seeds for seed in mine])
    centre = torch.as_tensor(prior.centre).to(y).expand(len(streams), *prior.shape)
    white = noise * streams.normal(prior.shape, like=y)
    error = noise * streams.normal(task.operator.range_shape, like=y)
    draws = conditional_draw(centre, covariance, problem, white, error).x
    return draws.reshape(len(y), each, *prior.shape)


def methods() -> dict[str, Method]:
    """All methods by name."""
    from tweedie_inverse.benchmarks.methods import baselines

    return {
        "decoupled": Decoupled(),
        "decoupled-20": Decoupled(evaluations=20),
        "isotropic": Decoupled(error="isotropic"),
        "langevin": Langevin(),
        "particle": Particle(),
        "dps": baselines.DPS(),
        "pigdm": baselines.PiGDM(),
        "moment-matching": baselines.MomentMatching(),
        "diffpir": baselines.DiffPIR(),
        "ddrm": baselines.DDRM(),
        "ula": baselines.ULA(),
        "pnp-hqs": baselines.PnP(),
        "pnp-admm": baselines.PnPADMM(),
        "tv": baselines.TotalVariation(),
        "wiener": Wiener(),
        "pseudo-inverse": PseudoInverse(),
    }


# What `tune` may change in a method, eight settings or more; one without a line has no choice.
SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "decoupled": {"rho": (3.0, 5.0, 7.0, 10.0), "error": ("measured", "average")},
    "decoupled-20": {"rho": (3.0, 5.0, 7.0, 10.0), "error": ("measured", "average")},
    "isotropic": {"rho": (1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0)},
    "langevin": {"step_size": (0.02, 0.05, 0.1, 0.2, 0.38, 0.5, 0.65, 0.8)},
    "particle": {"path": ("tweedie", "wiener"), "correctors": (0, 1, 2, 3)},
    "dps": {"weight": (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)},
    "pigdm": {"weight": (0.1, 0.3, 0.6, 1.0), "conjugate_gradients": (3, 20)},
    "moment-matching": {"conjugate_gradients": (1, 2, 3, 5), "weight": (0.5, 1.0)},
    "diffpir": {"zeta": (0.0, 0.1, 0.3, 0.6, 1.0), "lambda_": (1.0, 3.0, 7.0, 15.0, 25.0)},
    "ddrm": {"eta": (0.5, 0.7, 0.85, 1.0), "etab": (0.5, 0.8, 1.0)},
    "ula": {"sigma": (0.01, 0.02, 0.05, 0.1), "step": (0.25, 0.5, 0.9)},
    "pnp-hqs": {"noise_factor": (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)},
    "pnp-admm": {"noise_factor": (0.35, 0.7, 1.0, 2.0), "first_sigma": (0.1, 49 / 255, 0.4)},
    "tv": {"weight": (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)},
}

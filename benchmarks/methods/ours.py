"""The walks of this package as methods."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tweedie_inverse.benchmarks.methods.base import Method, Seeds
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.solver import solve
from tweedie_inverse.walks import Decoupled as DecoupledWalk
from tweedie_inverse.walks import Langevin as LangevinWalk
from tweedie_inverse.walks import Particle as ParticleWalk
from tweedie_inverse.walks import Walk


@dataclass(frozen=True)
class Decoupled(Method):
    """Ours: the exact conditional draw around the denoised image, then the next noise level."""

    evaluations: int = 50
    error: str = "auto"
    rho: float = 7.0
    source: ClassVar[str] = "defaults of the package; isotropic is DAPS-type (Zhang et al. 2025)"

    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        walk = DecoupledWalk(error=self.error, rho=self.rho)
        return _posterior(y, task, prior, seeds, walk, self.evaluations, together).samples


@dataclass(frozen=True)
class Langevin(Method):
    """The conditional walk of Park et al. 2024."""

    evaluations: int = 1000
    step_size: float = 0.38
    source: ClassVar[str] = "Park et al. 2024, version 1; 1000 evaluations there"
    needs: ClassVar[tuple[str, ...]] = ("linear", "gaussian")

    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        walk = LangevinWalk(step_size=self.step_size)
        return _posterior(y, task, prior, seeds, walk, self.evaluations, together).samples


@dataclass(frozen=True)
class Particle(Method):
    """Ours: a population of walkers; the larger, the better."""

    evaluations: int = 100
    path: str = "tweedie"
    correctors: int = 0
    source: ClassVar[str] = "defaults of the package"
    needs: ClassVar[tuple[str, ...]] = ("linear", "gaussian")

    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        walk = ParticleWalk(path=self.path, correctors=self.correctors)
        return _posterior(y, task, prior, seeds, walk, self.evaluations, together).samples


def _posterior(
    y: Tensor,
    task: Task,
    prior: Prior,
    seeds: Seeds,
    walk: Walk,
    steps: int,
    together: int,
) -> Posterior:
    return solve(
        y,
        task.operator,
        prior,
        method=walk,
        num_samples=len(seeds[0]),
        steps=steps,
        batch_size=together,
        seed=[mine[0] for mine in seeds],  # `solve` gives each sample a stream of its own
    )

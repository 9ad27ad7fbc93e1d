"""What a method is: a frozen record of its settings that draws posterior samples of a task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.priors.base import Prior

# The seeds of all samples, a sequence for each measurement.
Seeds = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Method(ABC):
    """Settings of a method; a subclass adds its own as fields and writes `draw`.

    Attributes:
        evaluations: budget of network evaluations per sample; 0 where there is no network.
        source: where the settings are from, for the report.
        needs: what a task must be: "linear", "gaussian" (white Gaussian noise), "spectrum".
        packages: third-party packages that `draw` imports.
        samples_posterior: whether several samples differ; a point estimate is run once.
        space: the values of each setting that ``tune`` may try.
    """

    evaluations: int = 0

    source: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    samples_posterior: ClassVar[bool] = True
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

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
            seeds: for each measurement, the seeds of its samples; as many for each.
            together: how many samples run at a time, fewer where memory is short; it changes
                memory and speed, not the samples.
        """

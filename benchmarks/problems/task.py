"""A task is an instrument with test images and a prior; a suite is a set of tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tweedie_inverse import operators as ops
from tweedie_inverse.priors.base import Prior


@dataclass(frozen=True)
class Task:
    """An instrument, a prior and test images ``(images, *shape)``.

    Attributes:
        name: what tables and ``--tasks`` call it.
        title: the instrument and its noise in a few words, without a semicolon.
        prior: ``field-<size>``, what `ti.load_prior` takes, or a prior itself.
        operator: with its noise model.
        truths: the test images, in [0, 1].
    """

    name: str
    title: str
    prior: str | Path | Prior
    operator: ops.Operator
    truths: Tensor

    @property
    def is_linear(self) -> bool:
        return isinstance(self.operator, ops.LinearOperator)

    @property
    def std(self) -> float | None:
        """The standard deviation of white Gaussian noise; None where the noise is another."""
        noise = self.operator.noise
        return float(noise.std) if isinstance(noise, ops.GaussianNoise) and noise.is_white else None


@dataclass(frozen=True)
class Suite:
    """A named set of tasks.

    Attributes:
        name: what records, reports and the command line call it.
        title: one line for the report.
        make: ``(size, images, split) -> tasks``, with so many test images of a split: "test" is
            for reporting, "validation" for tuning the methods' settings.
        size, smoke_size: side of the images, and that of a run with ``--smoke``.
        cap: the largest budget of network evaluations per sample.
        file: name and checksum of the user's file that it was read from; none for our own.
    """

    name: str
    title: str
    make: Callable[[int, int, str], list[Task]]
    size: int = 64
    smoke_size: int = 64
    cap: int = 100
    file: str = ""

    def tasks(self, size: int, images: int, split: str) -> list[Task]:
        """What `make` gives, checked.

        Raises:
            ValueError: it is no list of tasks, or a task lacks images, noise or a fitting operator.
        """
        found = self.make(size, images, split)
        where = f"suite {self.name}: make({size}, {images}, {split!r})"
        is_list = isinstance(found, list | tuple) and len(found) > 0
        if not is_list or not all(isinstance(task, Task) for task in found):
            raise ValueError(f"{where} must give a list of Task, got {found!r:.200}")
        for task in found:
            _check(task, images, where)
        names = [task.name for task in found]
        if len(set(names)) < len(names):
            raise ValueError(f"{where} gave tasks of equal names: {', '.join(names)}")
        return list(found)


def _check(task: Task, images: int, where: str) -> None:
    shape = tuple(task.operator.domain_shape)
    if tuple(task.truths.shape[1:]) != shape or len(task.truths) < images:
        raise ValueError(
            f"{where}: task {task.name} needs {images} test images of the operator's domain_shape, "
            f"{(images, *shape)}; its truths have shape {tuple(task.truths.shape)}"
        )
    if task.operator.noise is None:
        raise ValueError(
            f"{where}: the operator of task {task.name} has no noise model; give it one, such as "
            "noise=ops.GaussianNoise(0.05)"
        )

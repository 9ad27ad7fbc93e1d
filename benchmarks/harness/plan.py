"""What to run: a plan, and the packs of units that it consists of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import torch

from tweedie_inverse.benchmarks.harness.records import Unit
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.problems.priors import checksum, load, name_of
from tweedie_inverse.benchmarks.problems.task import Suite, Task
from tweedie_inverse.boundary.arguments import count, seed

# How many samples run at a time on an accelerator, unless the user says otherwise; a CPU gains
# nothing by more than the samples of one measurement.
_TOGETHER = 256
# The setting of a method that was read from a user's file; no field of a class can have this name.
READ_FROM = "read from"


@dataclass(frozen=True)
class Plan:
    """The settings of a run.

    Attributes:
        images, samples: how many test images, and how many posterior samples of each.
        cap: network evaluations per sample, at most; None is the suite's own.
        size: of the images; None is the suite's own.
        tasks: names of the suite's tasks; none means all.
        together: samples at a time, of several measurements if they fit; None is those of one
            measurement on a CPU, 256 on an accelerator.
        pictures: pictures are kept of so many images, the first ones.
        prior: replaces the prior of every task; None leaves the suite's own.
        files: name and checksum of the file that a user's method was read from, by method.
    """

    suite: Suite
    images: int = 8
    samples: int = 16
    cap: int | None = None
    size: int | None = None
    seed: int = 0
    split: str = "test"
    device: str = "cpu"
    keep_samples: bool = False
    tasks: tuple[str, ...] = ()
    together: int | None = None
    pictures: int = 1
    prior: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("images", "samples"):
            count("benchmarks", name, getattr(self, name))
        for name in ("cap", "size", "together"):
            if getattr(self, name) is not None:
                count("benchmarks", name, getattr(self, name))
        count("benchmarks", "pictures", self.pictures, least=0)
        seed("benchmarks", "seed", self.seed)

    @property
    def limit(self) -> int:
        """How many samples run at a time."""
        default = self.samples if torch.device(self.device).type == "cpu" else _TOGETHER
        return default if self.together is None else self.together

    @property
    def pack(self) -> int:
        """How many images a pack has."""
        return max(1, self.limit // self.samples)

    @property
    def budget(self) -> int:
        """The largest number of network evaluations per sample."""
        return self.suite.cap if self.cap is None else self.cap


class Pack(NamedTuple):
    """Units of one method and task that run together, one unit for each image."""

    units: tuple[Unit, ...]
    task: Task
    method: Method
    together: int  # samples at a time, at most


# (suite, task, method) -> settings that replace the published ones, and where they are from.
Tuned = Mapping[tuple[str, str, str], tuple[Method, str]]


def packs(plan: Plan, chosen: Mapping[str, Method], tuned: Tuned | None = None) -> Iterator[Pack]:
    """All units in a fixed order, image by image as far as they are not packed.

    Raises:
        ValueError: the suite has none of the tasks, or the prior does not fit one of them.
    """
    tasks = _tasks(plan)
    for first in range(0, plan.images, plan.pack):
        images = range(first, min(first + plan.pack, plan.images))
        for task in tasks:
            for name, published in chosen.items():
                key = (plan.suite.name, task.name, name)
                method, note = (tuned or {}).get(key, (published, ""))
                method = method.within(plan.budget)
                units = tuple(_unit(plan, task, image, name, method, note) for image in images)
                yield Pack(units, task, method, plan.limit)


def refuse_unknown_tasks(suite: str, known: Sequence[str], asked: Sequence[str]) -> None:
    """Raise a `ValueError` where a suite lacks any of the tasks that are asked for."""
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ValueError(f"--tasks: {suite} has {', '.join(known)}; got {', '.join(unknown)}")


def _tasks(plan: Plan) -> list[Task]:
    """The tasks that are asked for, with the prior that is asked for."""
    size = plan.suite.size if plan.size is None else plan.size
    tasks = plan.suite.tasks(size, plan.images, plan.split)
    if plan.tasks:
        refuse_unknown_tasks(plan.suite.name, [task.name for task in tasks], plan.tasks)
        tasks = [task for task in tasks if task.name in plan.tasks]
    if plan.prior is None:
        return tasks
    prior = load(plan.prior)
    for task in tasks:
        try:
            prior.for_shape(tuple(task.operator.domain_shape))
        except ValueError as error:
            raise ValueError(
                f"--prior {plan.prior}: does not fit task {task.name} of suite {plan.suite.name}: "
                f"{error} --tasks chooses the tasks that it fits"
            ) from error
    return [replace(task, prior=plan.prior) for task in tasks]


def _unit(plan: Plan, task: Task, image: int, name: str, method: Method, note: str) -> Unit:
    source = f"{method.source}; {note}" if note else method.source
    settings = {**asdict(method), "source": source}
    if name in plan.files:
        settings[READ_FROM] = plan.files[name]
    problem = [task.title, repr(task.operator), name_of(task.prior), plan.split]
    if plan.suite.file:
        problem.insert(2, plan.suite.file)
    return Unit(
        suite=plan.suite.name,
        task=task.name,
        problem="; ".join(problem),
        image=image,
        method=name,
        settings=settings,
        samples=plan.samples if method.samples_posterior else 1,
        seed=plan.seed,
        weights=checksum(task.prior),
    )

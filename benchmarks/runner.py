"""Run a suite: every measurement with every method, one finished unit after the other."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from operators.random import generator
from tweedie_inverse.distributed import Place, shard

from . import metrics
from .counting import CountedPrior
from .methods import Method, gaussian_samples
from .records import Store, Unit, provenance
from .suites import SUITES, Task, checksum, load

# Exact draws that samples are compared with, where the posterior is known.
_EXACT = 256


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        images, samples: how many test images, and posterior samples of each.
        cap: evaluations a sample at most; None is the suite's own.
        size: of the images; None is the suite's own.
        tasks: names of the suite's tasks; none means all.
    """

    suite: str
    images: int = 8
    samples: int = 16
    cap: int | None = None
    size: int | None = None
    seed: int = 0
    split: str = "test"
    device: str = "cpu"
    keep_samples: bool = False
    tasks: tuple[str, ...] = ()


class Job(NamedTuple):
    unit: Unit
    task: Task
    method: Method


def jobs(plan: Plan, chosen: dict[str, Method]) -> Iterator[Job]:
    """All units in a fixed order, image by image."""
    suite = SUITES[plan.suite]
    tasks = suite.make(plan.size or suite.size, plan.images, plan.split)
    if plan.tasks:
        tasks = [task for task in tasks if task.name in plan.tasks]
    for image in range(plan.images):
        for task in tasks:
            for name, method in chosen.items():
                capped = method.within(plan.cap or suite.cap)
                unit = Unit(
                    suite=plan.suite,
                    task=task.name,
                    problem=f"{task.title}; {task.operator!r}; {task.prior}; {plan.split}",
                    image=image,
                    method=name,
                    settings={**asdict(capped), "source": capped.source},
                    samples=plan.samples if method.samples_posterior else 1,
                    seed=plan.seed,
                    weights=checksum(task.prior),
                )
                yield Job(unit, task, capped)


def run(
    plan: Plan,
    chosen: dict[str, Method],
    store: Store,
    *,
    place: Place | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Finish this process's share of a plan; what is finished is left alone."""
    mine = shard(list(jobs(plan, chosen)), place or Place(0, 1))
    origin = provenance(plan.device)
    for number, job in enumerate(mine, 1):
        if store.is_finished(job.unit):
            continue
        reason = job.method.refuse(job.task)
        if reason is not None:
            store.write(job.unit, {"skipped": reason})
            continue
        outcome, samples = work(job, plan.device, tell)
        outcome["run"] = {**outcome["run"], **origin}
        store.write(job.unit, outcome, samples if plan.keep_samples else None)
        seconds = outcome["run"]["seconds"]
        unit = job.unit
        tell(
            f"{number}/{len(mine)} {unit.task}, image {unit.image}: {unit.method}, {seconds:.1f} s"
        )


def work(
    job: Job, device: str = "cpu", tell: Callable[[str], None] = print
) -> tuple[dict[str, Any], Tensor]:
    """Samples of one unit with everything that is known about them."""
    unit, task = job.unit, job.task
    truth = task.truths[unit.image].to(device)
    key = (unit.seed, unit.suite, unit.task, unit.image)
    y = task.operator.measure(truth, seed=number(("measurement", *key)))
    prior = CountedPrior(load(task.prior, device).for_shape(tuple(truth.shape)))
    seeds = [number(("sample", *key, index)) for index in range(unit.samples)]
    if truth.is_cuda:
        torch.cuda.reset_peak_memory_stats(truth.device)
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            samples = draw(job.method, y, task, prior, seeds, tell)
    except (ArithmeticError, ValueError) as error:
        return {"failed": str(error), "run": {"seconds": time.perf_counter() - begin}}, y
    if truth.is_cuda:
        torch.cuda.synchronize(truth.device)
    seconds = time.perf_counter() - begin
    peak = torch.cuda.max_memory_allocated(truth.device) if truth.is_cuda else None
    if not bool(samples.isfinite().all()):
        return {"failed": "samples are not finite", "run": {"seconds": seconds}}, samples
    found: dict[str, Any] = dict(metrics.evaluate(samples, truth, y, task.operator))
    if task.prior.startswith("field-"):
        exact = gaussian_samples(y, task, prior, range(_EXACT))
        mean = gaussian_samples(y, task, prior, [0], noise=0.0)[0]
        found |= metrics.against_exact(samples, exact, mean)
    outcome = {
        "metrics": found,
        "cost": {
            "evaluations": prior.calls / unit.samples,
            "vector_jacobian_products": prior.vjps / unit.samples,
        },
        "warnings": sorted({str(entry.message).splitlines()[0][:200] for entry in caught}),
        "run": {
            "seconds": seconds,
            "samples_per_second": unit.samples / seconds,
            "peak_memory": peak,
        },
    }
    return outcome, samples


def draw(
    method: Method,
    y: Tensor,
    task: Task,
    prior: CountedPrior,
    seeds: Sequence[int],
    tell: Callable[[str], None],
) -> Tensor:
    """Samples, all at once; half as many at a time as often as the accelerator is full."""
    together = len(seeds)
    while True:
        try:
            return method.draw(y, task, prior, seeds, together)
        except torch.OutOfMemoryError:
            if together == 1:
                raise
        tell(f"out of memory with {together} samples at once; going on with {together // 2}")
        together //= 2
        torch.cuda.empty_cache()
        prior.calls = prior.vjps = 0


def number(key: tuple[int | str, ...]) -> int:
    """A seed from a name."""
    return int(generator(key).integers(2**62))

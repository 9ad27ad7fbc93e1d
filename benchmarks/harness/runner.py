"""Run a suite: every measurement with every method, one finished unit after the other.

Measurements of one task go through a method together, in packs of fixed members, so that results
do not depend on the number of processes, nor on what was finished before.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.app.distributed import Place
from tweedie_inverse.benchmarks.harness import metrics
from tweedie_inverse.benchmarks.harness.pictures import take
from tweedie_inverse.benchmarks.harness.records import Store, Unit
from tweedie_inverse.benchmarks.harness.suites import SUITES, Task, checksum, load
from tweedie_inverse.benchmarks.harness.work_loop import FAILURES, Result, finish
from tweedie_inverse.benchmarks.methods.ours import Method, gaussian_samples
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.runtime.memory import SmallerParts

# Exact draws that samples are compared with, where the posterior is known.
_EXACT = 256
# Samples at a time on an accelerator, unless the user says otherwise; a CPU gains nothing by more
# than those of one measurement.
_TOGETHER = 256


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        images, samples: how many test images, and posterior samples of each.
        cap: evaluations a sample at most; None is the suite's own.
        size: of the images; None is the suite's own.
        tasks: names of the suite's tasks; none means all.
        together: samples at a time, of several measurements if they fit; None is those of one
            measurement on a CPU, 256 on an accelerator.
        pictures: images, the first ones, of which pictures are kept.
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
    together: int | None = None
    pictures: int = 1

    @property
    def limit(self) -> int:
        """Samples at a time."""
        default = self.samples if torch.device(self.device).type == "cpu" else _TOGETHER
        return self.together or default

    @property
    def pack(self) -> int:
        """Images of a pack."""
        return max(1, self.limit // self.samples)


class Pack(NamedTuple):
    """Units of one method and task that run together, one an image."""

    units: tuple[Unit, ...]
    task: Task
    method: Method
    together: int  # samples at a time, at most


# (suite, task, method) -> settings that replace the published ones, and where they are from.
Tuned = Mapping[tuple[str, str, str], tuple[Method, str]]


def packs(plan: Plan, chosen: Mapping[str, Method], tuned: Tuned | None = None) -> Iterator[Pack]:
    """All units in a fixed order, image by image as far as they are not packed."""
    suite = SUITES[plan.suite]
    tasks = suite.make(plan.size or suite.size, plan.images, plan.split)
    if plan.tasks:
        known = ", ".join(task.name for task in tasks)
        tasks = [task for task in tasks if task.name in plan.tasks]
        if not tasks:
            raise ValueError(f"--tasks: {plan.suite} has {known}; got {', '.join(plan.tasks)}")
    for first in range(0, plan.images, plan.pack):
        images = range(first, min(first + plan.pack, plan.images))
        for task in tasks:
            for name, published in chosen.items():
                method, note = (tuned or {}).get((plan.suite, task.name, name), (published, ""))
                method = method.within(plan.cap or suite.cap)
                units = tuple(_unit(plan, task, image, name, method, note) for image in images)
                yield Pack(units, task, method, plan.limit)


def _unit(plan: Plan, task: Task, image: int, name: str, method: Method, note: str) -> Unit:
    source = f"{method.source}; {note}" if note else method.source
    return Unit(
        suite=plan.suite,
        task=task.name,
        problem=f"{task.title}; {task.operator!r}; {task.prior}; {plan.split}",
        image=image,
        method=name,
        settings={**asdict(method), "source": source},
        samples=plan.samples if method.samples_posterior else 1,
        seed=plan.seed,
        weights=checksum(task.prior),
    )


def run(
    plan: Plan,
    chosen: Mapping[str, Method],
    store: Store,
    *,
    tuned: Tuned | None = None,
    place: Place | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Finish this process's share of a plan; what is finished is left alone."""
    work_off(list(packs(plan, chosen, tuned)), plan, store, place=place, tell=tell)


def work_off(
    all_packs: Sequence[Pack],
    plan: Plan,
    store: Store,
    *,
    place: Place | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Run this process's share of the packs, each of which anything is missing as a whole."""
    limits: Limits = {}

    def act(pack: Pack) -> list[Result]:
        reason = pack.method.refuse(pack.task)
        if reason is not None:
            return [Result({"skipped": reason})] * len(pack.units)
        return [
            result._replace(
                samples=result.samples if plan.keep_samples else None,
                pictures=result.pictures if unit.image < plan.pictures else None,
            )
            for unit, result in zip(pack.units, work(pack, plan.device, tell, limits), strict=True)
        ]

    finish(all_packs, act, store, plan.device, place=place, tell=tell)


class Given(NamedTuple):
    """What a method gets, and the images behind it: a measurement for each unit of a pack."""

    truths: Tensor  # (units, *shape)
    y: Tensor  # (units, *range_shape)
    seeds: list[list[int]]  # of every sample


def given(pack: Pack, device: str) -> Given:
    """Fixed by the names of the units, whatever they are packed with."""
    keys = [(unit.seed, unit.suite, unit.task, unit.image) for unit in pack.units]
    truths = torch.stack([pack.task.truths[unit.image] for unit in pack.units]).to(device)
    y = [
        pack.task.operator.measure(truth, seed=number(("measurement", *key)))
        for truth, key in zip(truths, keys, strict=True)
    ]
    seeds = [
        [number(("sample", *key, index)) for index in range(unit.samples)]
        for unit, key in zip(pack.units, keys, strict=True)
    ]
    return Given(truths, torch.stack(y), seeds)


# (task, method) -> samples that memory holds, where they are fewer than were asked for.
Limits = dict[tuple[str, str], int]


def work(
    pack: Pack,
    device: str = "cpu",
    tell: Callable[[str], None] = print,
    limits: Limits | None = None,
) -> list[Result]:
    """Samples of every unit of a pack with everything that is known about them.

    Args:
        limits: found before, and where one that is found here is noted.
    """
    limits = {} if limits is None else limits
    key = (pack.units[0].task, pack.units[0].method)
    together = min(pack.together, limits.get(key, pack.together))
    truths, y, seeds = given(pack, device)
    prior = CountedPrior(load(pack.task.prior, device).for_shape(tuple(truths.shape[1:])))
    begin = _now(truths)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            samples = pack.method.draw(y, pack.task, prior, seeds, together)
    except FAILURES as error:
        if len(pack.units) > 1:
            tell(f"{pack.units[0].method} failed on a pack ({error}); image by image now")
            alone = [pack._replace(units=(unit,)) for unit in pack.units]
            return [result for one in alone for result in work(one, device, tell, limits)]
        return [Result({"failed": str(error), "run": {"seconds": _now(truths) - begin}})]
    peak = torch.cuda.max_memory_allocated(truths.device) if truths.is_cuda else None
    seconds, count = (_now(truths) - begin) / len(y), samples.shape[0] * samples.shape[1]
    for entry in caught:
        if isinstance(entry.message, SmallerParts):
            together = limits[key] = entry.message.size
    told = sorted({str(entry.message).splitlines()[0][:200] for entry in caught})
    for line in told:
        if "out of memory" in line:
            tell(line)
    shared = {
        "cost": {
            "evaluations": prior.calls / count,
            "vector_jacobian_products": prior.vjps / count,
        },
        "warnings": told,
        "run": {
            "seconds": seconds,
            "samples_per_second": samples.shape[1] / seconds,
            "peak_memory": peak,
            "measurements_together": len(y),
            "samples_together": min(together, count),
        },
    }
    return [
        judge(mine, truth, one, pack.task, prior, shared)
        for mine, truth, one in zip(samples, truths, y, strict=True)
    ]


def _now(like: Tensor) -> float:
    """The time when the accelerator has done all its work; its memory is watched from here on."""
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
        torch.cuda.reset_peak_memory_stats(like.device)
    return time.perf_counter()


def judge(
    samples: Tensor, truth: Tensor, y: Tensor, task: Task, prior: CountedPrior, shared: dict
) -> Result:
    """Metrics of the samples of one measurement."""
    if not bool(samples.isfinite().all()):
        return Result({"failed": "samples are not finite", "run": shared["run"]}, samples)
    found: dict[str, Any] = dict(metrics.evaluate(samples, truth, y, task.operator))
    if task.prior.startswith("field-"):
        exact = gaussian_samples(y[None], task, prior, [range(_EXACT)])[0]
        mean = gaussian_samples(y[None], task, prior, [[0]], noise=0.0)[0, 0]
        found |= metrics.against_exact(samples, exact, mean)
    return Result({"metrics": found, **shared}, samples, take(samples, truth))


def number(key: tuple[int | str, ...]) -> int:
    """A seed from a name."""
    return int(generator(key).integers(2**62))

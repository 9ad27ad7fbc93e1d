"""Run a suite: every measurement with every method, one finished unit after the other.

Measurements of one task go through a method together, in packs of fixed members, so that results
do not depend on the number of processes, nor on what was finished before.
"""

import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.app.distributed import Place
from tweedie_inverse.benchmarks.harness import metrics
from tweedie_inverse.benchmarks.harness.pictures import take
from tweedie_inverse.benchmarks.harness.plan import Pack, Plan, Tuned, packs
from tweedie_inverse.benchmarks.harness.records import Store
from tweedie_inverse.benchmarks.harness.work_loop import Result, failure, finish
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.problems.gaussian import gaussian_samples, posterior_is_known
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.runtime.memory import SmallerParts

# How many exact draws the samples are compared with, where the posterior is known.
_EXACT = 256


def run(
    plan: Plan,
    chosen: Mapping[str, Method],
    store: Store,
    *,
    tuned: Tuned | None = None,
    place: Place | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Finish this process's share of a plan; what is finished is left alone."""
    work_off(list(packs(plan, chosen, tuned)), plan, store, place=place, log=log)


def work_off(
    all_packs: Sequence[Pack],
    plan: Plan,
    store: Store,
    *,
    place: Place | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Run this process's share of the packs; one of which any unit is missing runs as a whole."""
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
            for unit, result in zip(pack.units, work(pack, plan.device, log, limits), strict=True)
        ]

    finish(all_packs, act, store, plan.device, place=place, log=log)


class Given(NamedTuple):
    """What a method gets, and the images behind it: a measurement for each unit of a pack."""

    truths: Tensor  # (units, *shape)
    y: Tensor  # (units, *range_shape)
    seeds: list[list[int]]  # for each unit, those of its samples


def given(pack: Pack, device: str) -> Given:
    """Measurements and seeds, which follow from the units alone, whatever is packed together."""
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


# (task, method) -> how many samples fit in memory, where they are fewer than were asked for.
Limits = dict[tuple[str, str], int]


def work(
    pack: Pack,
    device: str = "cpu",
    log: Callable[[str], None] = print,
    limits: Limits | None = None,
) -> list[Result]:
    """Draw the samples of every unit of a pack, and judge them.

    Args:
        limits: what earlier packs found to fit in memory; what this one finds is added.
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
    except Exception as error:
        if len(pack.units) > 1:
            log(f"{pack.units[0].method} failed on a pack ({error}); image by image now")
            alone = [pack._replace(units=(unit,)) for unit in pack.units]
            return [result for one in alone for result in work(one, device, log, limits)]
        return [failure(error, seconds=_now(truths) - begin)]
    peak = torch.cuda.max_memory_allocated(truths.device) if truths.is_cuda else None
    seconds, count = (_now(truths) - begin) / len(y), samples.shape[0] * samples.shape[1]
    for entry in caught:
        if isinstance(entry.message, SmallerParts):
            together = limits[key] = entry.message.size
    messages = sorted({str(entry.message).splitlines()[0][:200] for entry in caught})
    for line in messages:
        if "out of memory" in line:
            log(line)
    shared = {
        "cost": {
            "evaluations": prior.calls / count,
            "vector_jacobian_products": prior.vjps / count,
        },
        "warnings": messages,
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
    """Wait for the accelerator, reset its memory peak, and read the clock."""
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
        torch.cuda.reset_peak_memory_stats(like.device)
    return time.perf_counter()


def judge(
    samples: Tensor, truth: Tensor, y: Tensor, task: Task, prior: CountedPrior, shared: dict
) -> Result:
    """Metrics of the samples of one measurement."""
    if not bool(samples.isfinite().all()):
        outcome = {"failed": "samples are not finite", "diverged": True, "run": shared["run"]}
        return Result(outcome, samples)
    found: dict[str, Any] = dict(metrics.evaluate(samples, truth, y, task.operator))
    if posterior_is_known(task, prior):
        exact = gaussian_samples(y[None], task, prior, [range(_EXACT)])[0]
        mean = gaussian_samples(y[None], task, prior, [[0]], noise=0.0)[0, 0]
        found |= metrics.against_exact(samples, exact, mean)
    return Result({"metrics": found, **shared}, samples, take(samples, truth))


def number(key: tuple[int | str, ...]) -> int:
    """A seed made of a name."""
    # A stream's key is numbers but for its first word.
    numbers = (zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key)
    return int(generator(tuple(numbers)).integers(2**62))

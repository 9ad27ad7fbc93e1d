"""What a run will cost, before it is made: units, evaluations, time and memory on this machine.

Each prior is timed on one evaluation of as many images as will run together, after one that is not
timed; nothing is written.  The time is that of the network alone: linear solves, operators and
metrics come beside it (the suite `speed` measures them).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from tweedie_inverse.app.distributed import Place, shard
from tweedie_inverse.benchmarks.harness.plan import Pack, Plan, Tuned, packs
from tweedie_inverse.benchmarks.harness.records import Store
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.batches import kept_numbers
from tweedie_inverse.runtime.live_memory import peak_bytes


class Share(NamedTuple):
    """What one method on one task will need.

    Attributes:
        units, finished, refused: images; those with a record; those the method does not apply to.
        evaluations: of the network, for all units that are left.
        seconds: of these evaluations; NaN where the prior could not be timed.
        memory: bytes of a batch: the network's peak and what a walk keeps; NaN likewise.
    """

    task: str
    method: str
    units: int
    finished: int
    refused: int
    evaluations: int
    seconds: float
    memory: float

    @property
    def left(self) -> int:
        return self.units - self.finished - self.refused


class Timing(NamedTuple):
    """One evaluation of a batch."""

    images: int
    seconds: float
    peak: float


def shares(
    plan: Plan,
    chosen: Mapping[str, Method],
    store: Store,
    *,
    tuned: Tuned | None = None,
    place: Place | None = None,
) -> list[Share]:
    """This process's share of a plan, by task and method, in the order of the run."""
    timings: dict[tuple[str, tuple[int, ...], int], Timing] = {}
    found: dict[tuple[str, str], Share] = {}
    for pack in shard(list(packs(plan, chosen, tuned)), place or Place(0, 1)):
        one = _share(pack, plan.device, store, timings)
        key = (one.task, one.method)
        found[key] = _added(found[key], one) if key in found else one
    return list(found.values())


def _share(
    pack: Pack,
    device: str,
    store: Store,
    timings: dict[tuple[str, tuple[int, ...], int], Timing],
) -> Share:
    units, task = pack.units, pack.task
    empty = Share(task.name, units[0].method, len(units), 0, 0, 0, 0.0, 0.0)
    if pack.method.refuse(task) is not None:
        return empty._replace(refused=len(units))
    if all(store.is_finished(unit) for unit in units):  # else the pack runs as a whole
        return empty._replace(finished=len(units))
    images = sum(unit.samples for unit in units)
    evaluations = images * pack.method.evaluations
    together = max(1, min(pack.together, images))
    if pack.method.evaluations == 0:
        return empty
    key = (str(task.prior), tuple(task.operator.domain_shape), together)
    if key not in timings:
        prior = load(task.prior, device).for_shape(tuple(task.operator.domain_shape))
        timings[key] = timed(prior, together, device)
    timing = timings[key]
    kept = kept_numbers(tuple(task.operator.domain_shape)) * 4 * together
    return empty._replace(
        evaluations=evaluations,
        seconds=evaluations / timing.images * timing.seconds,
        memory=timing.peak + kept,
    )


def _added(first: Share, second: Share) -> Share:
    return Share(
        first.task,
        first.method,
        first.units + second.units,
        first.finished + second.finished,
        first.refused + second.refused,
        first.evaluations + second.evaluations,
        first.seconds + second.seconds,
        max(first.memory, second.memory),
    )


@torch.no_grad()
def timed(prior: Prior, together: int, device: str) -> Timing:
    """One evaluation of a batch of the prior's images, after one that is not timed."""
    sigma = min(max(prior.unit, prior.sigma_min), prior.sigma_max)
    like = torch.zeros((), device=device)
    x = torch.as_tensor(prior.centre).to(like).expand(together, *prior.shape).contiguous()
    evaluate: Callable[[], object] = lambda: prior.denoise(x, sigma)  # noqa: E731
    peak = float(peak_bytes(evaluate, like.device))
    _wait(like)
    begin = time.perf_counter()
    evaluate()
    _wait(like)
    return Timing(together, time.perf_counter() - begin, peak)


def _wait(like: torch.Tensor) -> None:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)


def in_words(plan: Plan, found: Sequence[Share]) -> list[str]:
    """A line for each method and task, and the sum."""
    lines = [f"{plan.suite.name}: nothing is run or written"]
    for one in found:
        notes = []
        if one.finished:
            notes.append(f"{one.finished} finished already")
        if one.refused:
            notes.append(f"{one.refused} refused by the method")
        need = "without a network"
        if one.evaluations:
            need = f"{one.evaluations:,} evaluations, {duration(one.seconds)}, {size(one.memory)}"
        note = f" ({', '.join(notes)})" if notes else ""
        lines.append(f"  {one.task}: {one.method}: {_units(one.left)}{note}, {need}")
    left = sum(one.left for one in found)
    evaluations = sum(one.evaluations for one in found)
    seconds = sum(one.seconds for one in found)
    memory = max((one.memory for one in found), default=0.0)
    lines.append(
        f"  in all {_units(left)}, {evaluations:,} evaluations, {duration(seconds)} of the network "
        f"alone on {plan.device}, at most {size(memory)} at a time"
    )
    lines.append(
        "  beside it: linear solves, operators, gradients of methods that take them (a VJP costs "
        "one to two evaluations) and metrics"
    )
    return lines


def _units(number: int) -> str:
    return f"{number} unit{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, with two digits."""
    for unit, factor in (("h", 3600), ("min", 60)):
        if seconds >= factor:
            return f"{seconds / factor:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(number: float) -> str:
    """Bytes in MiB or GiB."""
    if math.isnan(number):
        return "memory not known"
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"

"""What a solve will cost, found before it is made: a few of its steps are tried on this machine.

The steps are those of the solve itself with its own batch: the first two, two in the middle and the
last two of its levels, each going on to the level of the next.  What a step takes beside the
network's evaluations (linear solves, Hamiltonian moves) is interpolated between them.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from tweedie_inverse.boundary.modes import of_a_walk
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.batches import default_batch
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.runtime.peak_memory import peak_memory, reset_peak_memory
from tweedie_inverse.solving.loop import end_of_part, problem_of
from tweedie_inverse.solving.setup import Run
from tweedie_inverse.walks.base import Level

# The tried steps: so many at the beginning, in the middle and at the end.
_EACH = 2


class Cost(NamedTuple):
    """What a solve will take.

    Attributes:
        walkers: samples of all measurements.
        together: of them, how many walk at once.
        levels: noise levels of the walk.
        evaluations: network evaluations a sample, at most.
        seconds: of the whole solve.
        evaluation_seconds: of one evaluation of all walkers that run at once.
        beside: the share of the time that is not the network's.
        peak_memory: bytes that the process holds at most; on an accelerator those of its allocator.
            None where the system does not say.
        tried_seconds: what finding out took.
    """

    walkers: int
    together: int
    levels: int
    evaluations: int
    seconds: float
    evaluation_seconds: float
    beside: float
    peak_memory: int | None
    tried_seconds: float


def cost(run: Run, *, steps: int | None, batch_size: int | None) -> Cost:
    """The cost of a checked call of `solve` with this budget of steps and batch size."""
    begin = time.monotonic()
    reset_peak_memory(run.y.device)
    chunk = batch_size or default_batch(run.prior, run.y, run.total)
    together = min(end_of_part(run, 0, chunk), run.total)
    prior = CountedPrior(run.prior, chunk=chunk if run.walk.is_population else None)
    budget = run.walk.default_steps if steps is None else steps
    one = _evaluation(run, prior, together)
    start, beside = _beside(run, prior, together, one)
    parts = run.total / together
    network = budget * one
    seconds = parts * (network + start + float(beside.sum()))
    return Cost(
        walkers=run.total,
        together=together,
        levels=len(run.sigmas) - 1,
        evaluations=budget,
        seconds=seconds,
        evaluation_seconds=one,
        beside=1 - parts * network / seconds,
        peak_memory=peak_memory(run.y.device),
        tried_seconds=time.monotonic() - begin,
    )


def _evaluation(run: Run, prior: CountedPrior, together: int) -> float:
    """Seconds of an evaluation of all walkers that run at once; the second one, which is warm."""
    x = torch.as_tensor(prior.centre).to(run.y).expand(together, *prior.shape).contiguous()
    sigma = float(run.sigmas[(len(run.sigmas) - 1) // 2])
    with of_a_walk(run.y.device):
        return [_timed(run, lambda: prior.denoise(x, sigma)) for _ in range(2)][-1]


def _beside(run: Run, prior: CountedPrior, together: int, one: float) -> tuple[float, np.ndarray]:
    """Seconds beside the network's evaluations: of the start, and of every level."""
    values, steps = run.sigmas.tolist(), len(run.sigmas) - 1
    middle = max(0, steps // 2 - 1)
    tried = sorted(
        {
            index
            for first in (0, middle, steps - _EACH)
            for index in range(first, first + _EACH)
            if 0 <= index < steps
        }
    )
    problem = problem_of(run, 0, together)
    pairs = [divmod(index, run.num_samples) for index in range(together)]
    streams = Streams([run.key(*pair) for pair in pairs])
    state = None

    def begin() -> None:
        nonlocal state
        state = run.walk.start(problem, prior, values[0], streams)

    def go_on(index: int, sigma_next: float) -> None:
        nonlocal state
        level = Level(index, steps, values[index], sigma_next)
        state, _ = run.walk.step(state, level, problem, prior, streams.at(index + 1))

    def rest(act: Callable[[], None]) -> float:
        before = prior.calls
        seconds = _timed(run, act)
        return max(0.0, seconds - one * (prior.calls - before) / together)

    with of_a_walk(run.y.device):
        start = rest(begin)
        found = []
        for place, index in enumerate(tried):
            after = tried[place + 1] if place + 1 < len(tried) else steps
            found.append(rest(partial(go_on, index, values[after])))
    if len(found) > 1:  # the first step prepares what the others use
        start, found[0] = start + max(0.0, found[0] - found[1]), min(found[:2])
    return start, np.interp(np.arange(steps), tried, found)


def _timed(run: Run, act: Callable[[], object]) -> float:
    if run.y.is_cuda:
        torch.cuda.synchronize(run.y.device)
    begin = time.perf_counter()
    act()
    if run.y.is_cuda:
        torch.cuda.synchronize(run.y.device)
    return time.perf_counter() - begin

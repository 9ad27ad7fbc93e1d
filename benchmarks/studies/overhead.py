"""What a solve costs beside its network evaluations, for each instrument, and where it goes.

    python -m tweedie_inverse.benchmarks.studies.overhead
    python -m tweedie_inverse.benchmarks.studies.overhead --device cuda --samples 64
    python -m tweedie_inverse.benchmarks.studies.overhead --tasks mask CT --turns 5
    python -m tweedie_inverse.benchmarks run speed --out results
        the same as records, beside the table over methods and batches

The ratio is that of a solve to its network evaluations alone: as many calls of the same prior on
batches of the same size and at the same noise levels.  Both take turns, and of each the fastest
turn counts; on one thread of a CPU processor time is taken, so that a busy machine falsifies
neither.  A further solve is profiled
(`harness.profile`); parts are percentages of the network's time in it.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.harness.profile import NETWORK, PARTS, profiled
from tweedie_inverse.benchmarks.harness.records import Unit, provenance
from tweedie_inverse.benchmarks.harness.standalone import Request, of_tasks, show
from tweedie_inverse.benchmarks.harness.work_loop import Result, finish
from tweedie_inverse.benchmarks.problems.instruments import Case, cases
from tweedie_inverse.benchmarks.problems.priors import checksum
from tweedie_inverse.operators import Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.solving.solver import solve

SAMPLES, STEPS, TURNS = 4, 20, 3
METHOD = "decoupled"


class Overhead(NamedTuple):
    """A solve beside its network evaluations alone.

    Attributes:
        seconds, bare: of the fastest turn, the solve's and the evaluations'.
        evaluations: a sample.
        parts: seconds of a profiled solve by part.
    """

    seconds: float
    bare: float
    evaluations: float
    parts: dict[str, float]

    @property
    def ratio(self) -> float:
        return self.seconds / self.bare

    @property
    def shares(self) -> dict[str, float]:
        """Percentages of the network's time."""
        network = self.parts[NETWORK]
        return {part: 100 * self.parts[part] / network for part in PARTS if part != NETWORK}


class _Recorded(CountedPrior):
    """Remembers with what it was called: the number of images and the level."""

    def __init__(self, prior: Prior):
        super().__init__(prior)
        self.asked: list[tuple[int, Any]] = []

    def _in_parts(self, x: Tensor, sigma: float | Tensor, evaluate: Any) -> Tensor:
        self.asked.append((len(x), sigma))
        return super()._in_parts(x, sigma, evaluate)


def measured(
    operator: Operator, y: Tensor, prior: Prior, *, samples: int, steps: int, turns: int
) -> Overhead:
    """Solve one measurement ``(1, *range_shape)``, and make its evaluations alone."""
    recorded = _Recorded(prior)

    def solved(given: Prior) -> None:
        with torch.no_grad():
            solve(y, operator, given, method=METHOD, num_samples=samples, steps=steps, seed=0,
                  batch_size=samples)  # fmt: skip

    solved(recorded)
    asked = recorded.asked
    images = {count: torch.zeros(count, *prior.shape).to(y) for count, _ in asked}

    def bare() -> None:
        with torch.no_grad():
            for count, sigma in asked:
                prior.denoise(images[count], sigma)

    runs = partial(solved, prior), bare
    times = [[_seconds(run, y) for run in runs] for _ in range(turns)]
    whole, alone = (min(column) for column in zip(*times, strict=True))
    parts = profiled(partial(solved, prior))
    return Overhead(whole, alone, sum(count for count, _ in asked) / samples, parts)


def _seconds(run: Callable[[], None], like: Tensor) -> float:
    clock = time.perf_counter
    if like.device.type == "cpu" and torch.get_num_threads() == 1:
        clock = time.process_time  # the same, but for what other processes take
    begin = clock()
    run()
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
    return clock() - begin


class Row(NamedTuple):
    """One instrument, as a work item."""

    units: tuple[Unit, ...]
    case: Case
    samples: int
    steps: int
    turns: int
    device: str


def rows(
    request: Request, samples: int = SAMPLES, steps: int = STEPS, turns: int = TURNS
) -> list[Row]:
    """One row for each instrument."""
    samples, steps = request.samples or samples, min(steps, request.cap or steps)
    size = 128
    if request.smoke:
        samples, steps, turns, size = 2, 3, 1, 64
    machine = provenance(request.device)["machine"]
    found = []
    for name, case in cases(size).items():
        settings = {
            "evaluations": steps,
            "turns": turns,
            "threads": torch.get_num_threads(),
            "source": "the whole solve; parts are percentages of the network's time",
        }
        unit = Unit(
            suite="speed",
            task=name,
            problem=f"{case.title}, the fastest of the turns; {machine}",
            image=0,
            method=METHOD,
            settings=settings,
            samples=samples,
            seed=0,
            weights=checksum(case.prior),
        )
        found.append(Row((unit,), case, samples, steps, turns, request.device))
    return found


def result(row: Row) -> list[Result]:
    """A row's numbers."""
    operator, y, prior = row.case.given(row.device)
    found = measured(operator, y, prior, samples=row.samples, steps=row.steps, turns=row.turns)
    run = {
        "seconds": found.seconds,
        "ratio_to_network": found.ratio,
        "samples_per_second": row.samples / found.seconds,
        **{part: round(share, 1) for part, share in found.shares.items()},
    }
    return [Result({"metrics": {}, "cost": {"evaluations": found.evaluations}, "run": run})]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--tasks", nargs="+", default=[], help="instruments by name; default all")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="walkers of one measurement")
    parser.add_argument("--steps", type=int, default=STEPS, help="network evaluations a sample")
    parser.add_argument("--turns", type=int, default=TURNS, help="of each row")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--out", help="folder for the records; they go on there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    request = Request(device=options.device, smoke=options.smoke, tasks=tuple(options.tasks))
    chosen = of_tasks(rows(request, options.samples, options.steps, options.turns), request.tasks)
    show("speed", partial(finish, chosen, result, device=options.device), options.out)


if __name__ == "__main__":
    with endings():
        main()

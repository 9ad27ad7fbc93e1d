"""Wall time at equal quality: our walk with few evaluations beside deepinv's DPS and DiffPIR.

    python -m tweedie_inverse.benchmarks.studies.equal_quality
        two tasks of `images`, three images, 4 samples each; half an hour on a CPU, because of DPS
    python -m tweedie_inverse.benchmarks.studies.equal_quality --methods diffpir --images 1
    python -m tweedie_inverse.benchmarks.studies.equal_quality --smoke

All methods have the same operator object, measurement, prior and seeds, and one thread unless
``--threads`` says otherwise.  A walk of ours is *equal* to a competitor on a task where its CRPS,
averaged over the images, is no higher; of those the fastest one is compared.  Each method makes two
evaluations before, so that nobody pays for what is made at first use; runs of a few seconds are
repeated, and the median counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.harness.metrics import as_posterior
from tweedie_inverse.benchmarks.harness.packages import require
from tweedie_inverse.benchmarks.harness.runner import number
from tweedie_inverse.benchmarks.methods import baselines
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.methods.ours import Decoupled
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.suites import images
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.evaluation.calibration import crps
from tweedie_inverse.priors.counting import CountedPrior

TASKS = ("Gaussian blur", "random inpainting")
OURS: dict[str, Method] = {
    **{f"ours, {n}": Decoupled(evaluations=n) for n in (2, 3, 4, 6, 10, 20)},
    # The measured denoising error as it is, without secants, which are for larger budgets.
    **{f"ours, {n}, table": Decoupled(evaluations=n, error="average") for n in (4, 5, 6, 8)},
}
COMPETITORS: dict[str, Method] = {
    "DiffPIR, 100": baselines.DiffPIR(evaluations=100),
    "DDRM, 100": baselines.DDRM(evaluations=100),
    "PiGDM, 100": baselines.PiGDM(evaluations=100),
    "DPS, 1000": baselines.DPS(evaluations=1000),
}
# How many times faster at its CRPS is aimed at; for the others nothing is.
AIMS = {"DiffPIR, 100": 15, "DPS, 1000": 200}
# Short runs are repeated until they took so many seconds, at most so often; the median counts.
_ENOUGH, _TURNS = 4.0, 5


class Run(NamedTuple):
    """One method on one task, averaged over the images."""

    task: str
    method: str
    crps: float
    seconds: float  # of the samples of one image, by the clock
    busy: float  # the same, of the processor by this process: on a busy CPU a fairer measure
    evaluations: float  # of the prior a sample


class Verdict(NamedTuple):
    """A competitor on a task, and the fastest of ours with a CRPS that is no higher."""

    task: str
    competitor: str
    ours: str | None
    speedup: float  # by the clock; 0 for none of ours
    speedup_busy: float  # by processor time
    aim: float | None

    @property
    def reached(self) -> bool:
        return self.ours is not None and self.speedup >= (self.aim or 0)


def measured(
    task: Task, name: str, method: Method, samples: int, device: str, seed: int = 0
) -> Run:
    """Draw the samples of every image of a task by itself, and judge them."""
    prior = CountedPrior(load(task.prior, device).for_shape(tuple(task.operator.domain_shape)))
    within = method.within(2)
    scores, seconds, busy, spent, before = [], 0.0, 0.0, 0.0, 0
    for index, truth in enumerate(task.truths.to(device)):
        key = (seed, task.name, index)
        y = task.operator.measure(truth, seed=number(("measurement", *key)))[None]
        seeds = [[number(("sample", *key, one)) for one in range(samples)]]
        if index == 0:
            within.draw(y, task, prior, seeds, samples)
            before = prior.calls
        turns: list[float] = []
        begun = time.process_time()
        while sum(turns) < _ENOUGH and len(turns) < _TURNS:
            begin = _now(device)
            drawn = method.draw(y, task, prior, seeds, samples)
            turns.append(_now(device) - begin)
        busy += (time.process_time() - begun) / len(turns)
        spent += (prior.calls - before) / (samples * len(turns))
        before = prior.calls
        seconds += statistics.median(turns)
        scores.append(float(crps(as_posterior(drawn[0]), truth)))
    count = len(scores)
    return Run(task.name, name, sum(scores) / count, seconds / count, busy / count, spent / count)


def _now(device: str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def verdicts(runs: Sequence[Run]) -> list[Verdict]:
    """Each competitor beside the fastest of ours whose CRPS is no higher."""
    found = []
    for theirs in (run for run in runs if run.method in COMPETITORS):
        equal = [
            run
            for run in runs
            if run.method in OURS and run.task == theirs.task and run.crps <= theirs.crps
        ]
        best = min(equal, key=lambda run: run.seconds, default=None)
        ratio = 0.0 if best is None else theirs.seconds / best.seconds
        name = None if best is None else best.method
        busy = 0.0 if best is None else theirs.busy / best.busy
        aim = AIMS.get(theirs.method)
        found.append(Verdict(theirs.task, theirs.method, name, ratio, busy, aim))
    return found


def lines(runs: Sequence[Run]) -> list[str]:
    """The tables, in Markdown."""
    table = ["| task | method | CRPS | seconds an image | CPU seconds | evaluations a sample |"]
    table += ["|---|---|---|---|---|---|"]
    for run in runs:
        cells = f"{run.crps:.4f} | {run.seconds:.2f} | {run.busy:.2f} | {run.evaluations:.0f}"
        table.append(f"| {run.task} | {run.method} | {cells} |")
    table += [
        "",
        "| task | competitor | ours at no higher CRPS | times faster | by CPU seconds | aim |",
    ]
    table += ["|---|---|---|---|---|---|"]
    for one in verdicts(runs):
        cells = (
            f"{one.ours or 'none'} | {one.speedup:.0f} | {one.speedup_busy:.0f} | {one.aim or '-'}"
        )
        table.append(f"| {one.task} | {one.competitor} | {cells} |")
    return table


def compare(
    methods: Mapping[str, Method],
    count: int,
    samples: int,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> list[Run]:
    """All methods on all tasks, cheap ones first."""
    tasks = [task for task in images(64, count, "test") if task.name in TASKS]
    found = []
    for name, method in methods.items():
        for task in tasks:
            if method.refuse(task) is not None:
                continue
            found.append(measured(task, name, method, samples, device))
            log(str(found[-1]))
    return sorted(found, key=lambda run: TASKS.index(run.task))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--methods", nargs="+", help="parts of names; default all")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    options = parser.parse_args()
    require(("deepinv",), "studies.equal_quality")
    torch.set_num_threads(options.threads)
    methods, count = {**OURS, **COMPETITORS}, options.images
    if options.methods:
        asked = [part.lower() for part in options.methods]
        methods = {
            name: one
            for name, one in methods.items()
            if name in OURS or any(part in name.lower() for part in asked)
        }
    if options.smoke:
        methods, count = {name: one.within(2) for name, one in methods.items()}, 1
    log = lambda line: print(line, flush=True)  # noqa: E731
    print("\n".join(lines(compare(methods, count, options.samples, options.device, log))))


if __name__ == "__main__":
    with endings():
        main()

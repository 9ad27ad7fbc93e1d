"""The samplers against exact posteriors of a 25-component mixture: distance and evidence.

    python -m tweedie_inverse.benchmarks.studies.mixture                          all tables
    python -m tweedie_inverse.benchmarks.studies.mixture --dimensions 8 --count 5
    python -m tweedie_inverse.benchmarks run mixture --out results
        with records, as the other suites

The protocol is that of Cardoso et al. 2024: 20 problems for each number of dimensions and of
measurements, 2,000 samples of each method against 2,000 exact ones, W1 averaged over 100 random
directions; all methods see the same problems.  Behind +-: 1.96 standard errors over the problems.
Seeds 0 to 19 are the test; settings were chosen on seeds from 1000 on.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple

import tweedie_inverse as ti
from tweedie_inverse.app.distributed import Place
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.harness.records import Store, Unit
from tweedie_inverse.benchmarks.harness.standalone import Request, of_tasks, show
from tweedie_inverse.benchmarks.harness.table import FLOOR
from tweedie_inverse.benchmarks.harness.work_loop import Result, finish
from tweedie_inverse.benchmarks.studies.mixture_problems import (
    MixtureProblem,
    mixture_prior,
    mixture_problem,
)
from tweedie_inverse.priors.counting import CountedPrior

WALKS: dict[str, ti.walks.Walk] = {
    "particle": ti.walks.Particle(),
    "particle, Wiener path": ti.walks.Particle(path="wiener", correctors=1, corrector_time=1.0),
    "decoupled": ti.walks.Decoupled(),
}
DIMENSIONS, MEASUREMENTS, STEPS = (8, 80, 800), (1, 2, 4), (100, 20)
PROBLEMS, SAMPLES = 20, 2000
_FIRST = {"test": 0, "validation": 1000}
# The seeds of two runs lie this far apart, so that their problems share no random streams.
_APART = 10_000


class Cell(NamedTuple):
    """One problem and one walk with its budget; no walk is the posterior itself."""

    units: tuple[Unit]
    dimensions: int
    measurements: int
    problem: int
    walk: ti.walks.Walk | None
    steps: int


@cache
def _problem(dimensions: int, measurements: int, number: int) -> MixtureProblem:
    return mixture_problem(_prior(dimensions), measurements, number)


@cache
def _prior(dimensions: int) -> ti.priors.GaussianMixture:
    return mixture_prior(dimensions)


def cells(
    request: Request,
    dimensions: Sequence[int] = DIMENSIONS,
    budgets: Sequence[int] = STEPS,
    walks: Sequence[str] = tuple(WALKS),
) -> list[Cell]:
    """All cells, problem by problem."""
    if request.methods:  # "particle" is both of its paths
        walks = [name for name in walks if name.split(",")[0] in request.methods]
    budgets = sorted({min(steps, request.cap or steps) for steps in budgets}, reverse=True)
    ways = [(FLOOR, 0), *((name, steps) for steps in budgets for name in walks)]
    found = [
        _cell(request, size, measurements, index, name, steps)
        for index in range(request.images or PROBLEMS)
        for size in dimensions
        for measurements in MEASUREMENTS
        for name, steps in ways
    ]
    return of_tasks(found, request.tasks)


def _cell(
    request: Request, dimensions: int, measurements: int, index: int, name: str, steps: int
) -> Cell:
    walk = WALKS.get(name)
    settings: dict[str, Any] = {"source": "two independent exact sets of samples"}
    if walk is not None:
        assert is_dataclass(walk)  # all walks are, though their base class need not be
        plain = {key: value for key, value in asdict(walk).items() if not isinstance(value, dict)}
        settings = {**plain, "evaluations": steps, "source": "chosen on seeds from 1000 on"}
    prior, plural = f"mixture-{dimensions}", "s" * (measurements > 1)
    unit = Unit(
        suite="mixture",
        task=f"d = {dimensions}, {measurements} measurement{plural}",
        problem=(
            "A random matrix, singular values in [0, 1], noise up to the largest; "
            f"{measurements} x {dimensions}; {prior}; {request.split}"
        ),
        image=index,
        method=name,
        settings=settings,
        samples=request.samples or SAMPLES,
        seed=request.seed,
        weights=prior,
    )
    return Cell((unit,), dimensions, measurements, _FIRST[request.split] + index, walk, steps)


def score(cell: Cell) -> list[Result]:
    """Distance from exact samples, error of the log-evidence (None without one), and cost."""
    (unit,) = cell.units
    problem = _problem(cell.dimensions, cell.measurements, cell.problem)
    exact, seed = problem.exact(unit.samples, seed=1), cell.problem + _APART * unit.seed
    if cell.walk is None:
        again = problem.exact(unit.samples, seed=2 + unit.seed)
        distance = ti.calibration.sliced_wasserstein(exact, again)
        metrics = {"sliced_wasserstein": distance}
        return [Result({"metrics": metrics, "cost": {"evaluations": 0.0}, "run": {}})]
    prior = CountedPrior(problem.prior)
    begin = time.perf_counter()
    posterior = ti.solve(
        problem.y,
        problem.operator,
        prior,
        method=cell.walk,
        num_samples=unit.samples,
        steps=cell.steps,
        seed=seed,
    )
    seconds = time.perf_counter() - begin
    known = posterior.diagnostics.population is not None
    evidence = float(posterior.log_evidence) - problem.log_evidence if known else None
    outcome = {
        "metrics": {
            "sliced_wasserstein": ti.calibration.sliced_wasserstein(posterior.samples, exact),
            "log_evidence_error": evidence,
        },
        "cost": {
            "evaluations": prior.calls / unit.samples,
            "vector_jacobian_products": prior.vjps / unit.samples,
        },
        "run": {"seconds": seconds, "samples_per_second": unit.samples / seconds},
    }
    return [Result(outcome)]


def record(
    request: Request,
    store: Store,
    *,
    place: Place | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """This process's share of all cells, or in a smoke run of a few; on the CPU."""
    some = smoke(request) if request.smoke else cells(request)
    finish(some, score, store, "cpu", place=place, log=log)


def smoke(request: Request) -> list[Cell]:
    return cells(replace(request, images=2, samples=100), [8], [10])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=list(DIMENSIONS))
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--walks", nargs="+", choices=list(WALKS), default=list(WALKS))
    parser.add_argument("--count", type=int, default=PROBLEMS, help="problems of each size")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--out", help="folder for the records; they go on there")
    options = parser.parse_args()
    request = Request(images=options.count, samples=options.samples)
    some = cells(request, options.dimensions, options.steps, options.walks)
    chosen = smoke(request) if options.smoke else some
    show("mixture", partial(finish, chosen, score, device="cpu"), options.out)


if __name__ == "__main__":
    with endings():
        main()

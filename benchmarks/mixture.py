"""The samplers against exact posteriors of a 25-component mixture: distance and evidence.

    python -m benchmarks.mixture                          every row of the table
    python -m benchmarks.mixture --dimensions 8 --count 5

The protocol is that of Cardoso et al. 2024: 20 problems for each number of dimensions and of
measurements, 2,000 samples of each method against 2,000 exact ones, W1 averaged over 100 random
directions; all methods see the same problems.  Brackets: 1.96 standard errors over the problems.
Seeds 0 to 19 are the test; settings were chosen on seeds from 1000 on.
"""

import argparse
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch

import tweedie_inverse as ti
from benchmarks.mixture_problems import MixtureProblem, mixture_prior, mixture_problem

WALKS: dict[str, ti.walks.Walk] = {
    "particle": ti.walks.Particle(),
    "particle, Wiener path": ti.walks.Particle(path="wiener", correctors=1, corrector_time=1.0),
    "decoupled": ti.walks.Decoupled(),
}
DIMENSIONS, MEASUREMENTS, STEPS = (8, 80, 800), (1, 2, 4), (100, 20)
HEAD = (
    "| d | measurements | method | evaluations | sliced W1 | log-evidence error: mean | rms "
    "| seconds |\n|---|---|---|---|---|---|---|---|"
)


class Score(NamedTuple):
    """Of one solve: distance, error of the log-evidence (NaN where there is none), seconds."""

    distance: float
    evidence: float
    seconds: float


def floor(problem: MixtureProblem, samples: int) -> Score:
    """Two independent exact sets: what a perfect sampler gets."""
    sets = (problem.exact(samples, seed=seed) for seed in (1, 2))
    return Score(ti.calibration.sliced_wasserstein(*sets), math.nan, 0.0)


def score(
    problem: MixtureProblem, walk: ti.walks.Walk, samples: int, steps: int, seed: int
) -> Score:
    """Solve and compare."""
    begin = time.monotonic()
    posterior = ti.solve(
        problem.y,
        problem.operator,
        problem.prior,
        method=walk,
        num_samples=samples,
        steps=steps,
        seed=seed,
    )
    seconds = time.monotonic() - begin
    drawn = posterior.equally_weighted()
    distance = ti.calibration.sliced_wasserstein(drawn, problem.exact(samples, seed=1))
    known = posterior.diagnostics.population is not None
    evidence = float(posterior.log_evidence) - problem.log_evidence if known else math.nan
    return Score(distance, evidence, seconds)


def compare(
    dimensions: list[int], budgets: list[int], walks: list[str], count: int, samples: int
) -> Iterator[str]:
    """A table; problems 0 to `count` - 1 of each size."""
    yield HEAD
    for size in dimensions:
        prior = mixture_prior(size)
        for measurements in MEASUREMENTS:
            problems = [mixture_problem(prior, measurements, seed) for seed in range(count)]
            exact = [floor(problem, samples) for problem in problems]
            yield _row(size, measurements, "exact against exact", "", exact)
            for steps in budgets:
                for name in walks:
                    scores = [
                        score(problem, WALKS[name], samples, steps, seed)
                        for seed, problem in enumerate(problems)
                    ]
                    yield _row(size, measurements, name, str(steps), scores)


def _row(size: int, measurements: int, name: str, steps: str, scores: list[Score]) -> str:
    distance, evidence, seconds = torch.tensor(scores, dtype=torch.float64).mT
    error = 1.96 * float(distance.std()) / len(scores) ** 0.5
    cells = [
        f"{size} | {measurements} | {name} | {steps} | {float(distance.mean()):.3f} [{error:.3f}]",
        *(
            "" if bool(evidence.isnan().any()) else f"{value:{form}}"
            for value, form in (
                (float(evidence.mean()), "+.3f"),
                (float(evidence.square().mean().sqrt()), ".3f"),
            )
        ),
        f"{float(seconds.mean()):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=list(DIMENSIONS))
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--walks", nargs="+", choices=list(WALKS), default=list(WALKS))
    parser.add_argument("--count", type=int, default=20, help="problems of each size")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    options = parser.parse_args()
    if options.smoke:
        options.dimensions, options.steps, options.count, options.samples = [8], [10], 2, 100
    for line in compare(
        options.dimensions, options.steps, options.walks, options.count, options.samples
    ):
        print(line, flush=True)


if __name__ == "__main__":
    main()

"""Where the covariance of the decoupled draw comes from: the ways beside each other.

    python -m tweedie_inverse.benchmarks.studies.covariances
    python -m tweedie_inverse.benchmarks.studies.covariances --split validation --steps 50
    python -m tweedie_inverse.benchmarks.studies.covariances --suites field --ways exact network

The tasks of the suites with the shipped priors.  "table" is the measured error without secants,
"measured" the same with them, "network" has neither table nor measured correction.  All rows of a
task see the same measurements; behind +-: standard errors over images and seeds.  The last columns
are the CRPS against the first way, and operator products a sample, which count the iterations of
the inner solver.
"""

import argparse
from collections.abc import Iterator, Sequence

import tweedie_inverse as ti
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.suites import SUITES
from tweedie_inverse.benchmarks.studies.scores import HEAD, Effort, against, cells, outcome

# The walk, and whether the prior keeps its table.
WAYS: dict[str, tuple[ti.walks.Walk, bool]] = {
    "table": (ti.walks.Decoupled(error="measured", secants=False), True),
    "measured": (ti.walks.Decoupled(error="measured"), True),
    "average": (ti.walks.Decoupled(error="average"), True),
    "network": (ti.walks.Decoupled(error="network"), False),
    "isotropic": (ti.walks.Decoupled(error="isotropic"), False),
}


def rows(
    suites: Sequence[str],
    tasks: Sequence[str],
    ways: Sequence[str],
    *,
    split: str,
    images: int,
    efforts: Sequence[Effort],
) -> Iterator[str]:
    """Lines of the table."""
    yield (
        f"{images} images ({split}), {efforts[0].seeds} seeds, {efforts[0].samples} samples\n\n"
        f"| task, evaluations | covariance | {HEAD} | CRPS against {ways[0]} | products |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for suite in suites:
        for task in SUITES[suite].tasks(SUITES[suite].size, images, split):
            if not task.is_linear or task.std is None or (tasks and task.name not in tasks):
                continue
            prior, truths = load(task.prior), task.truths[:images]
            for effort in efforts:
                first = None
                for way in ways:
                    walk, with_table = WAYS[way]
                    used = prior if with_table else prior.uncorrected()
                    found = outcome(walk, used, task.operator, truths, effort)
                    first = found if first is None else first
                    yield (
                        f"| {task.name}, {effort.steps} | {way} | {cells(found.scores)} "
                        f"| {against(found.scores, first.scores)} | {found.products:.0f} |"
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    linear = ["images", "ct", "mri", "field"]
    parser.add_argument("--suites", nargs="+", choices=linear, default=linear[:3])
    parser.add_argument("--tasks", nargs="+", default=[])
    parser.add_argument(
        "--ways", nargs="+", choices=list(WAYS), default=["table", "measured", "network"]
    )
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 20])
    options = parser.parse_args()
    lines = rows(
        options.suites,
        options.tasks,
        options.ways,
        split=options.split,
        images=options.images,
        efforts=[Effort(options.seeds, options.samples, steps) for steps in options.steps],
    )
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()

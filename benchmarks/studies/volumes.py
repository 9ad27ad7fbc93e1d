"""Volumes from a prior of slices: sparse-view CT of drawn bodies, slice by slice and together.

    python -m tweedie_inverse.benchmarks.studies.volumes            two bodies, some minutes a row
    python -m tweedie_inverse.benchmarks.studies.volumes --size 128 --depth 64 --device cuda
    python -m tweedie_inverse.benchmarks.studies.volumes --smoke    tiny, to see that it runs

Every slice is seen from 20 views.  *Flicker* is the energy of the differences between neighbouring
slices, over that of the truth: 1 for a sample of the right posterior, up to chance, and less for a
mean.  Lengths are those over which slices stay alike; correlations by frequency are measured on
other bodies, as they stand and as the prior errs in them.  Total variation in three dimensions gets
the weight that suits the truth best, which nobody knows.  deepinv's methods have every slice by
itself, and the same network; its rows are left out where it is not installed.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse.benchmarks.harness.metrics import as_posterior
from tweedie_inverse.benchmarks.methods import baselines
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.studies.volume_methods import (
    Answers,
    Case,
    backprojected,
    best_total_variation,
    case,
    is_absent,
    of_deepinv,
    of_slices,
)
from tweedie_inverse.benchmarks.studies.volume_sections import draw_sections
from tweedie_inverse.conditional.problem import residual_chi_square
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.evaluation.scores import crps_of

LENGTHS = (20.0, 40.0, 80.0)  # millimetres
TOTAL_VARIATIONS = tuple(baselines.TotalVariation(weight=weight) for weight in (3.0, 10.0, 30.0))

# Of deepinv, in the order of their rows; of several settings the one that suits the truth best.
METHODS: dict[str, tuple[str, tuple[Method, ...]]] = {
    "tv-2d": ("total variation in 2-D, best weight", TOTAL_VARIATIONS),
    "dpir": ("DPIR", (baselines.PnP(),)),
    "diffpir": ("DiffPIR", (baselines.DiffPIR(),)),
    "pigdm": ("PiGDM", (baselines.PiGDM(),)),
    "dps": ("DPS", (baselines.DPS(),)),
}
ROWS = (
    "slices",
    *(f"{length:g}mm" for length in LENGTHS),
    "alike",
    "errors",
    "tv-3d",
    "backprojection",
    *METHODS,
)
SHOWN = ("slices", "40mm", "tv-3d", "dpir", "diffpir")  # in the picture


class Row(NamedTuple):
    """Means over the bodies; NaN for what a single answer has not."""

    name: str
    crps: float  # of a single answer its absolute error
    psnr: float  # of the mean, dB
    covered: float  # by 90 % intervals
    flicker: float  # of a sample
    flicker_of_mean: float
    chi_square: float
    evaluations: float  # of the network, for a slice of a sample
    seconds: float

    def __str__(self) -> str:
        """A line of a table in Markdown."""
        shown = [
            f"{self.crps:.5f}",
            f"{self.psnr:.2f}",
            f"{self.covered:.3f}",
            f"{self.flicker:.2f}",
            f"{self.flicker_of_mean:.2f}",
            f"{self.chi_square:.2f}",
            f"{self.evaluations:.0f}",
            f"{self.seconds:.1f}",
        ]
        return f"| {self.name} | " + " | ".join(s.replace("nan", "") for s in shown) + " |"


HEAD = (
    "| method | CRPS | PSNR of the mean | in 90 % intervals | flicker of samples | of the mean | "
    "chi-square | evaluations | seconds |\n|---|---|---|---|---|---|---|---|---|"
)


def flicker(volumes: Tensor, truth: Tensor) -> float:
    """Energy of differences across the slices of ``(count, 1, depth, ...)``, over the truth's."""
    own, expected = (x.diff(dim=2).square().mean() for x in (volumes, truth))
    return float(own / expected)


def methods(given: Case) -> dict[str, tuple[str, Callable[[Case], Answers]]]:
    """What each row is called, and what makes it."""

    def measured(given: Case, prior: bool) -> Answers:
        network = (given.network,) if prior else ()
        return of_slices(given, ti.priors.measure_slice_correlation(given.others, *network))

    found: dict[str, tuple[str, Callable[[Case], Answers]]] = {
        "slices": ("0: slice by slice", partial(of_slices, correlation=0.0)),
        "alike": ("of the slices, by frequency", partial(measured, prior=False)),
        "errors": ("of the prior's errors, by frequency", partial(measured, prior=True)),
        "tv-3d": ("total variation in 3-D, best weight", best_total_variation),
        "backprojection": ("filtered backprojection", backprojected),
    }
    for length in LENGTHS:
        slices = length / given.spacing
        name = f"length {slices:g} ({length:g} mm)"
        found[f"{length:g}mm"] = name, partial(of_slices, correlation=slices)
    for short, (title, settings) in METHODS.items():
        found[short] = f"deepinv: {title}", partial(of_deepinv, settings=settings)
    return found


def rows(given: Case, names: tuple[str, ...] = ROWS) -> Iterator[tuple[str, Row, Tensor]]:
    """One for each method, as it is done: its short name, and a sample of the first body.

    Methods whose package is not installed are left out, with a line that says so.
    """
    known = methods(given)
    for name in (one for one in ROWS if one in names):
        lacking = is_absent(METHODS[name][1][0]) if name in METHODS else None
        if lacking:
            print(f"{name}: left out, {lacking} is not installed", flush=True)
            continue
        title, make = known[name]
        start = time.perf_counter()
        answers = make(given)
        answers = answers._replace(samples=answers.samples.cpu())  # waits for the device
        seconds = time.perf_counter() - start
        yield name, _row(title, answers, given, seconds), answers.samples[0, 0]


def _row(name: str, answers: Answers, given: Case, seconds: float) -> Row:
    samples, truths = answers.samples, given.truths.cpu()
    mean, count = samples.mean(1), samples.shape[1]
    scores = [float(crps_of(*pair).mean()) for pair in zip(samples, truths, strict=True)]
    covered = of_a_sample = float("nan")
    if count > 1:
        intervals = [as_posterior(of_a_body).interval(0.9) for of_a_body in samples]
        lower, upper = (torch.stack(ends) for ends in zip(*intervals, strict=True))
        covered = float(((lower <= truths) & (truths <= upper)).float().mean())
        of_a_sample = sum(flicker(samples[:, k], truths) for k in range(count)) / count
    noise = given.scan.noise
    assert noise is not None
    misfits = [
        residual_chi_square(one.to(given.y), given.y, given.scan, noise).mean()
        for one in samples.unbind(1)
    ]
    return Row(
        name,
        sum(scores) / len(scores),
        float(psnr(mean, truths).mean()),
        covered,
        of_a_sample,
        flicker(mean, truths),
        float(torch.stack(misfits).mean()),
        answers.evaluations,
        seconds,
    )


def chosen(given: str) -> tuple[str, ...]:
    """The rows of ``--rows``, a list with commas.

    Raises:
        argparse.ArgumentTypeError: a name that is none of `ROWS`.
    """
    names = tuple(one.strip() for one in given.split(","))
    unknown = [one for one in names if one not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"--rows {given}: {', '.join(map(repr, unknown))} is no row; choose among "
            f"{', '.join(ROWS)}"
        )
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, choices=(64, 128), default=64, help="of a slice")
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--bodies", type=int, default=2)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30, help="network evaluations a sample, ours")
    parser.add_argument("--evaluations", type=int, default=100, help="of deepinv's samplers")
    parser.add_argument("--rows", type=chosen, default=ROWS, metavar="NAMES", help=",".join(ROWS))
    parser.add_argument("--picture", type=Path, help="PNG of the middle sections")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        given = case(64, 4, 1, 2, 4, evaluations=4, device=options.device)
    else:
        sizes = options.size, options.depth, options.bodies, options.samples, options.steps
        given = case(*sizes, evaluations=options.evaluations, device=options.device)
    shown = {"truth": given.truths[0].cpu()}
    print(HEAD, flush=True)
    for name, row, sample in rows(given, options.rows):
        print(row, flush=True)
        if name in SHOWN:
            shown[row.name] = sample
        if options.picture:  # after every row, so that a run that is stopped has one
            draw_sections(shown, options.picture, given.spacing / given.pixel)


if __name__ == "__main__":
    main()

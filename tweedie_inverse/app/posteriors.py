"""What `solve` does with every measurement: its posterior, its exports, and what is said of it."""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from tweedie_inverse.app import equipment, measurements
from tweedie_inverse.app.exports import Exports, refuse_early, shares_grid, suffix_of
from tweedie_inverse.app.problem_file import BESIDE
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io import read
from tweedie_inverse.operators import Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.solving.diagnostics import PosteriorWarning
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.streaming import SampleFile

# Exit code of `solve --strict` where samples do not fit their measurement.
NOT_CONSISTENT = 3


class Job(NamedTuple):
    """One measurement's name and seed, who is told what was done to it, and its walk's file.

    Where samples are written as they arrive, `samples` is the file of them.
    """

    name: str
    seed: int
    tell: Callable[[str], None]
    walk: Path
    samples: Path | None = None


def posterior_of(
    job: Job, data: Data, operator: Operator, prior: Prior, options: argparse.Namespace
) -> Posterior:
    """The posterior of one file; the file of its walk stays until the caller has written it."""
    from tweedie_inverse.solving.solver import solved

    if job.walk.exists():
        job.tell(f"{job.name}: goes on from {job.walk}")
    file: list[SampleFile] = []
    to = job.samples
    before = None if to is None else lambda run: file.append(SampleFile(to, run))
    run = prepared(job, data, operator, prior, options, before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PosteriorWarning)  # the verdict is printed
        posterior, _ = solved(
            run,
            batch_size=batch_size_of(options),
            progress=options.progress,
            checkpoint=job.walk,
            file=file[0] if file else None,
        )
    return posterior


def prepared(
    job: Job,
    data: Data,
    operator: Operator,
    prior: Prior,
    options: argparse.Namespace,
    before: Callable[[Any], None] | None = None,
) -> Any:
    """The checked call of `solve` for one file; `before` as of `solving.setup.prepare`."""
    from tweedie_inverse.solving.setup import prepare

    y = measurements.in_units_of(prior, data, job.name, job.tell).to(options.device)
    if shares_grid(operator, data):
        _tell_of_units(y, prior, job)
    return prepare(
        y,
        operator,
        prior,
        options.method,
        options.samples,
        options.steps,
        job.seed,
        equipment.noise_of(options.noise),
        before,
    )


def _tell_of_units(y: Tensor, prior: Prior, job: Job) -> None:
    """A line where numbers that are brightnesses lie far outside the prior's range."""
    if prior.value_range is None or y.is_complex() or not y.numel():
        return
    (low, high), (least, most) = prior.value_range, (float(y.min()), float(y.max()))
    if least < low - (high - low) or most > high + (high - low):
        job.tell(
            f"{job.name}: numbers from {least:.4g} to {most:.4g}, and the images of this prior lie "
            f"in {low:g} to {high:g}; --value-range LOW,HIGH says which of yours these are"
        )


def batch_size_of(options: argparse.Namespace) -> int | None:
    """``--batch-size``, checked."""
    from tweedie_inverse.boundary.arguments import count

    if options.batch_size is None:
        return None
    need = "a positive number of walkers"
    return count("solve", "batch_size", options.batch_size, need=need)


def exports_of(options: argparse.Namespace, files: list[Path]) -> Exports:
    """What is written beside the posteriors, refused now where it cannot be."""
    suffixes = {options.suffix or suffix_of(file) for file in files} if options.what else set()
    refuse_early(options.what, suffixes, options.samples)
    like = None if options.like is None else read(options.like)
    return Exports(options.what, options.suffix, like)


def pages(options: argparse.Namespace, result: Path) -> list[Path]:
    """Where ``--report`` puts the page of a posterior; nowhere without it.

    Raises:
        ValueError: several measurements and one page, or a page that is none by its name.
    """
    if options.report is None:
        return []
    if options.report == BESIDE:
        return [result.with_suffix(".html")]
    if options.several:
        raise ValueError(
            "solve: --report FILE is of one measurement; --report alone makes a page beside each"
        )
    if Path(options.report).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"solve: --report {options.report}: the page's name must end in .html")
    return [Path(options.report)]


def report(posterior: Posterior, options: argparse.Namespace, result: Path) -> list[Path]:
    """Write the page that ``--report`` asks for."""
    found = pages(options, result)
    for page in found:
        posterior.report(page)
    return found


def read_besides(options: argparse.Namespace) -> list[str | Path]:
    """Files that are read besides the measurements."""
    found: list[str | Path] = [] if options.like is None else [options.like]
    found += [] if options.prior is None else [options.prior]
    if options.operator is not None and not equipment.is_by_name(options.operator):
        found.append(options.operator.rpartition(":")[0])
    return [*found, *equipment.files_of(options)]


def description(posterior: Posterior) -> dict[str, Any]:
    """What ``--json`` says of a posterior."""
    judged, stats = posterior.diagnostics, posterior.stats
    found: dict[str, Any] = {
        "consistent": judged.is_consistent,
        "verdict": judged.verdict,
        "causes": judged.causes,
        "chi_square": judged.chi_square,
        "expected_chi_square": judged.expected,
        "shape": tuple(posterior.samples.shape),
        "stats": stats,
    }
    if posterior.instrument is not None:
        found["unknowns"] = {
            one.name: {"mean": one.mean, "interval_90": one.interval(), "is_told": one.is_told}
            for one in posterior.instrument.each
        }
    return found

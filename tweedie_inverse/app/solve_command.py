"""The command `solve`: measurements in files to posteriors in files."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tweedie_inverse.app import measurements
from tweedie_inverse.app.endings import WRONG
from tweedie_inverse.app.exports import (
    SUFFIXES,
    Exports,
    quantity,
    refuse_early,
    suffix_of,
)
from tweedie_inverse.app.options import add_operator
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io import read
from tweedie_inverse.operators import Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.solving.diagnostics import PosteriorWarning
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.posterior_file import is_consistent, refuse_suffix

# Exit code of `solve --strict` where samples do not fit their measurement.
NOT_CONSISTENT = 3


def _noise_level(text: str) -> float | str:
    """A standard deviation, or "estimate"."""
    if text == "estimate":
        return text
    try:
        return float(text)
    except ValueError:
        need = "needs a standard deviation in units of y, or 'estimate'"
        raise argparse.ArgumentTypeError(f"{need}; got {text!r}") from None


def add(commands) -> None:
    """Enter the command and its options."""
    solve = commands.add_parser("solve", help="posterior samples of measurements in files")
    solve.add_argument(
        "measurement",
        nargs="+",
        help="file with one measurement or a batch: npy, npz, HDF5, DICOM, NIfTI, FITS, TIFF, PNG "
        "or JPEG; a folder, a pattern or several files are solved one by one, each with a seed of "
        "its own; run again to go on",
    )
    solve.add_argument("--key", help="which array of npz and HDF5, which image of FITS and TIFF")
    add_operator(solve)
    solve.add_argument(
        "--prior", required=True, help="shipped prior, checkpoint file, pipeline folder or hub id"
    )
    solve.add_argument(
        "--tiled", action="store_true", help="for images larger than the prior's, tile by tile"
    )
    solve.add_argument("--format", help="format of the prior, where the file does not tell")
    solve.add_argument("--revision", help="commit of a hub id")
    solve.add_argument("--sha256", help="checksum the prior's file must have")
    solve.add_argument("--weights", help="average, raw, or a name in the file (info lists them)")
    solve.add_argument(
        "--noise",
        type=_noise_level,
        help="noise std, if the operator has no noise model; 'estimate' draws it with the samples",
    )
    solve.add_argument("--method", default="auto")
    solve.add_argument("--samples", type=int, default=16)
    solve.add_argument("--steps", type=int)
    solve.add_argument("--seed", type=int, default=0)
    solve.add_argument(
        "--out",
        help="file, posterior.safetensors by default, with a .png beside it; for several "
        "measurements a folder, posteriors by default",
    )
    solve.add_argument(
        "--write",
        nargs="+",
        metavar="WHAT",
        help="files beside the posterior: mean, std, samples, and quantiles such as 0.05",
    )
    solve.add_argument(
        "--as",
        dest="suffix",
        choices=SUFFIXES,
        help="their kind, default the measurement's; alone it writes mean and std",
    )
    solve.add_argument(
        "--like", help="file whose spacing and place they get, default the measurement's"
    )
    solve.add_argument("--device", default="cpu", help="such as cuda")
    solve.add_argument("--batch-size", type=int, help="samples that run together")
    solve.add_argument(
        "--strict",
        action="store_true",
        help=f"exit with code {NOT_CONSISTENT} where samples do not fit their measurement",
    )
    solve.add_argument("--rank", type=int, help="of this process, if no launcher says so")
    solve.add_argument("--world-size", type=int, help="number of processes that share the files")
    solve.set_defaults(run=_solve)


def _solve(options: argparse.Namespace) -> None:
    """One file to one file; several to a folder."""
    from tweedie_inverse.app import solve_files as bulk
    from tweedie_inverse.app.distributed import find_place, ready_device

    options.device = ready_device(options.device, os.environ)
    options.place = find_place(os.environ, options.rank, options.world_size)
    what = options.write or (["mean", "std"] if options.suffix else [])
    options.what = tuple(dict.fromkeys(quantity(text) for text in what))
    if options.like is not None and not options.what:
        raise ValueError("solve: --like is for the files of --write; name what to write")
    many = bulk.is_bulk(options.measurement)
    options.progress = not many
    if many:
        _solve_many(options)
    elif options.world_size is not None:
        raise ValueError("solve: --rank and --world-size share several files; there is one")
    else:
        _solve_one(options)


def _solve_one(options: argparse.Namespace) -> None:
    from tweedie_inverse.app import solve_files as bulk
    from tweedie_inverse.runtime.atomic import ready

    out, measurement = _out(options.out), Path(options.measurement[0])
    exports = _exports(options, [measurement])
    written = [out, out.with_suffix(".png"), bulk.walk_file(out)]
    written += exports.paths(measurement, out)
    bulk.separate(written, [*_read(options), measurement])
    ready(*written)
    refuse_suffix(out)
    data = measurements.load(measurement, options.key)
    operator, prior, _ = _equipment(options)
    exports = exports.of(operator, prior)
    job = Job(str(measurement), options.seed, print, bulk.walk_file(out))
    posterior = _posterior(job, data, operator, prior, options)
    bulk.write(posterior, out)
    _show(posterior, out, exports.write(posterior, measurement, out, data, print))
    if options.strict and not posterior.diagnostics.is_consistent:
        raise SystemExit(NOT_CONSISTENT)


def _solve_many(options: argparse.Namespace) -> None:
    from tweedie_inverse.app import solve_files as bulk
    from tweedie_inverse.app.distributed import in_words, under_torchrun
    from tweedie_inverse.runtime.atomic import ready_folder
    from tweedie_inverse.runtime.checksums import checksum

    folder = Path("posteriors" if options.out is None else options.out)
    items = bulk.find(options.measurement, folder)
    exports = _exports(options, [item.measurement for item in items])
    written = [path for item in items for path in (item.result, item.picture, item.record)]
    written += [path for item in items for path in exports.paths(item.measurement, item.result)]
    bulk.separate(written, [*_read(options), *(item.measurement for item in items)])
    ready_folder(folder)
    operator, prior, contents = _equipment(options)
    exports = exports.of(operator, prior)
    if options.like is not None:
        contents["content of --like"] = checksum(options.like)[:16]
    names = (
        "operator",
        "prior",
        "format",
        "weights",
        "tiled",
        "noise",
        "method",
        "samples",
        "steps",
        "seed",
    )
    settings = {name: vars(options)[name] for name in (*names, "key")}
    bulk.settle(folder, {**settings, **contents})
    print(f"{len(items)} files, {in_words(options.place, os.environ)}")

    def tell(line: str) -> None:
        print(line, flush=True)

    def one(item: bulk.Item) -> Posterior:
        data = measurements.load(item.measurement, options.key)
        item.forget_old_walk()
        seed = bulk.seed_of(item, options.seed)
        job = Job(item.measurement.name, seed, tell, item.walk)
        posterior = _posterior(job, data, operator, prior, options)
        exports.write(posterior, item.measurement, item.result, data, tell)
        return posterior

    def complete(item: bulk.Item) -> None:
        paths = exports.paths(item.measurement, item.result)
        if not all(path.is_file() for path in paths):
            data = measurements.load(item.measurement, options.key)
            exports.write(Posterior.load(item.result), item.measurement, item.result, data, tell)

    failed = bulk.solve_files(items, one, complete=complete, place=options.place, tell=tell)
    print(f"results: {folder.resolve()}")
    if failed:
        text = "\n  ".join([f"{len(failed)} file(s) could not be solved:", *failed])
        print(f"error: {text}", file=sys.stderr)
        # An exit code would make torchrun stop the processes that are still at work.
        if not under_torchrun(os.environ):
            raise SystemExit(WRONG)

    results = [item.result for item in items if options.strict and item.result.is_file()]
    doubtful = [str(result) for result in results if not is_consistent(result)]
    if doubtful:
        text = "\n  ".join(doubtful)
        print(f"{len(doubtful)} of {len(items)} are not consistent:\n  {text}", file=sys.stderr)
        if not under_torchrun(os.environ):
            raise SystemExit(NOT_CONSISTENT)


def _read(options: argparse.Namespace) -> list[str | Path]:
    """Files that are read besides the measurements."""
    like = [] if options.like is None else [options.like]
    return [options.operator.rpartition(":")[0], options.prior, *like]


def _exports(options: argparse.Namespace, files: list[Path]) -> Exports:
    """What is written beside the posteriors, refused now where it cannot be."""
    suffixes = {options.suffix or suffix_of(file) for file in files} if options.what else set()
    refuse_early(options.what, suffixes, options.samples)
    like = None if options.like is None else read(options.like)
    return Exports(options.what, options.suffix, like)


def _out(given: str | None) -> Path:
    """The file of the samples; the picture goes beside it.

    Raises:
        ValueError: it has no name, or the picture's own.
    """
    out = Path("posterior.safetensors" if given is None else given)
    if not out.name:
        raise ValueError(f"solve: --out {given!r} is a folder, not a file; name a file to write")
    if out.suffix.lower() == ".png":
        raise ValueError(
            f"solve: --out {given} is for the samples, and the picture goes beside them as "
            f"{out.with_suffix('.png').name}; name a file such as {out.with_suffix('.safetensors')}"
        )
    return out


def _equipment(options: argparse.Namespace) -> tuple[Operator, Prior, dict[str, str]]:
    """Operator and prior, and the checksums of what they are made of, as far as it is in files."""
    from tweedie_inverse.priors.zoo import WEIGHTS_FOLDER, load_prior
    from tweedie_inverse.runtime.checksums import checksum

    operator, read = load_operator(options.operator)
    contents = {f"content of {name}": digest[:16] for name, digest in read.items()}
    shipped = WEIGHTS_FOLDER / f"{options.prior}.safetensors"
    path = shipped if shipped.is_file() else Path(options.prior)
    if path.is_file() or path.is_dir():
        contents["content of the prior"] = checksum(path)[:16]
    elif options.revision is not None:
        contents["revision of the prior"] = options.revision
    prior = load_prior(
        options.prior,
        format=options.format,
        revision=options.revision,
        sha256=options.sha256,
        weights=options.weights,
        device=options.device,
    )
    return operator, _tiled(prior) if options.tiled else prior, contents


def _tiled(prior: Prior) -> NetworkPrior:
    if not isinstance(prior, NetworkPrior):
        raise ValueError("--tiled: a phase-space prior knows its own size only; leave it out")
    return prior.tiled()


class Job(NamedTuple):
    """One measurement's name and seed, who is told what was done to it, and its walk's file."""

    name: str
    seed: int
    tell: Callable[[str], None]
    walk: Path


def _posterior(
    job: Job, data: Data, operator: Operator, prior: Prior, options: argparse.Namespace
) -> Posterior:
    """The posterior of one file."""
    from tweedie_inverse.solving.solver import solve

    if job.walk.exists():
        job.tell(f"{job.name}: goes on from {job.walk}")
    y = measurements.in_units_of(prior, data, job.name, job.tell).to(options.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PosteriorWarning)  # the verdict is printed
        return solve(
            y,
            operator,
            prior,
            method=options.method,
            num_samples=options.samples,
            steps=options.steps,
            seed=job.seed,
            noise=options.noise,
            batch_size=options.batch_size,
            progress=options.progress,
            checkpoint=job.walk,
        )


def _show(posterior: Posterior, out: Path, exported: list[Path]) -> None:
    print(f"{posterior.stats.method} ({posterior.stats.reason})")
    print(posterior.diagnostics.report)
    if posterior.instrument is not None:
        print(posterior.instrument.report)
    print(f"samples: {out.resolve()}\npicture: {out.with_suffix('.png').resolve()}")
    for path in exported:
        print(f"written: {path.resolve()}")


def load_operator(place: str) -> tuple[Operator, dict[str, str]]:
    """The object NAME of FILE.py, which is executed; and the checksums of what the file read."""
    from tweedie_inverse.app.user_files import named

    found, ran = named("--operator", place)
    if not isinstance(found, Operator):
        file, _, name = place.rpartition(":")
        raise ValueError(
            f"--operator {place}: {file} must define {name} as an instance of ops.Operator, found "
            f"{type(found).__name__}"
        )
    return found, ran.checksums

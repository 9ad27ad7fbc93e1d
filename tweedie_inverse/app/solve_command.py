"""The command `solve`: measurements in files to posteriors in files."""

import argparse
import os
from pathlib import Path

from tweedie_inverse.app import (
    dry_run,
    equipment,
    measurements,
    problem_file,
    saved_problem,
    solve_many,
)
from tweedie_inverse.app import solve_files as bulk
from tweedie_inverse.app.exports import SUFFIXES, quantity
from tweedie_inverse.app.options import (
    MEASUREMENT_KEY,
    add_json,
    add_noise,
    add_operator,
    add_prior,
)
from tweedie_inverse.app.parser import Parser
from tweedie_inverse.app.posteriors import (
    NOT_CONSISTENT,
    Job,
    description,
    exports_of,
    pages,
    posterior_of,
    report,
)
from tweedie_inverse.app.posteriors import read_besides as _read
from tweedie_inverse.app.with_problem import with_problem
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.posterior_file import refuse_suffix
from tweedie_inverse.solving.samples_file import is_named_so

_EXAMPLE = """\
examples:
  tweedie-inverse solve scan.npy --operator tomography --geometry fan --angles 30 \\
      --noise estimate --prior phantom-128 --out result/
  tweedie-inverse solve seen.png --operator mask --mask mask.png --noise 0.05 --prior photo-64
  tweedie-inverse solve blurred.png --operator blur --width 0.5..4 --noise estimate --prior photo-64
  tweedie-inverse solve problem.toml --samples 64
  tweedie-inverse solve problem.toml --dry-run
"""


def add(commands) -> None:
    """Enter the command and its options."""
    solve = commands.add_parser(
        "solve",
        help="posterior samples of measurements in files",
        usage="%(prog)s MEASUREMENT ... --operator NAME [its options] --noise STD --prior PRIOR "
        "[options]\n       %(prog)s problem.toml [options]",
        epilog=_EXAMPLE,
    )
    solve.add_argument(
        "measurement",
        nargs="*",
        help="file with one measurement or a batch: npy, npz, HDF5, DICOM, NIfTI, FITS, TIFF, PNG "
        "or JPEG; a folder, a pattern or several files are solved one by one, each with a seed of "
        "its own; run again to go on. Or a problem file, .toml",
    )
    solve.add_argument("--problem", metavar="FILE.toml", help="a problem file; options override it")
    solve.add_argument(
        "--save-problem",
        metavar="FILE.toml",
        help="write the problem file of this command, and solve nothing",
    )
    solve.add_argument(
        "--dry-run",
        action="store_true",
        help="say evaluations, time, memory and files of this solve, by trying a few of its steps; "
        "nothing is written",
    )
    solve.add_argument("--key", help=MEASUREMENT_KEY)
    add_operator(solve)
    add_noise(solve, "of the measurement, in its units")
    add_prior(solve)
    solve.add_argument(
        "--value-range",
        metavar="LOW,HIGH",
        help="numbers of your images that the ends of the prior's value range stand for, such as "
        "--value-range -1000,1000 for HU; measurement, noise and results are then in these units",
    )
    solve.add_argument("--sha256", help="checksum the prior's file must have")
    solve.add_argument(
        "--tiled",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="for images larger than the prior's",
    )
    _add_walk(solve)
    _add_output(solve)
    add_json(solve)
    solve.set_defaults(run=_solve, complete=with_problem)


def _add_walk(solve: Parser) -> None:
    """How many samples, and how they are made."""
    solve.add_argument("--method", default="auto", help="auto, decoupled, langevin or particle")
    solve.add_argument("--samples", type=int, default=16, help="default %(default)s")
    solve.add_argument(
        "--steps", type=int, help="network evaluations a sample; default that of the method"
    )
    solve.add_argument("--seed", type=int, default=0)
    solve.add_argument("--device", default="cpu", help="such as cuda")
    solve.add_argument("--batch-size", type=int, help="samples that run together")
    solve.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        default=False,
        help=f"exit with code {NOT_CONSISTENT} where samples do not fit their measurement",
    )
    solve.add_argument("--rank", type=int, help="of this process, if no launcher says so")
    solve.add_argument("--world-size", type=int, help="number of processes that share the files")
    solve.add_argument(
        "--over-ranks",
        action="store_true",
        help="with --tiled, under torchrun: all processes solve the one measurement together",
    )


def _add_output(solve: Parser) -> None:
    """What is written."""
    solve.add_argument(
        "--out",
        help="file, posterior.safetensors by default, with a .png and the problem file beside it; "
        "samples are written to a .h5 as they arrive, for images of which memory holds few; "
        "or a folder, by a / at the end; for several measurements a folder, posteriors by default",
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
        "--report",
        nargs="?",
        const=problem_file.BESIDE,
        metavar="PAGE.html",
        help="a page with the samples to look through; default beside the posterior, with .html",
    )
    solve.add_argument(
        "--like", help="file whose spacing and place they get, default the measurement's"
    )


def _solve(options: argparse.Namespace) -> None:
    """One file to one file; several, or into a folder, to a folder."""
    from tweedie_inverse.app.distributed import (
        find_place,
        ready_device,
        refuse_over_ranks,
        said_by_the_first,
    )

    options.device = ready_device(options.device, os.environ)
    options.place = find_place(os.environ, options.rank, options.world_size)
    if not options.measurement:
        raise ValueError("solve: the measurement is missing: a file, a folder or a pattern")
    what = options.write or (["mean", "std"] if options.suffix else [])
    options.what = tuple(dict.fromkeys(quantity(text) for text in what))
    if options.like is not None and not options.what:
        raise ValueError("solve: --like is for the files of --write; name what to write")
    several = bulk.is_bulk(options.measurement)
    many = several or (options.out or "").endswith(("/", os.sep))
    if not several and options.world_size is not None:
        raise ValueError("solve: --rank and --world-size share several files; there is one")
    if options.over_ranks:
        refuse_over_ranks(options, many)
    options.progress, options.several = not several, many
    if options.save_problem is not None:
        _save_problem(options)
    elif options.dry_run:
        dry_run.show(options, many)
    elif many:
        solve_many.run(options)
    else:
        with said_by_the_first(options.over_ranks, os.environ):
            _solve_one(options)


def _save_problem(options: argparse.Namespace) -> None:
    """Write what was asked, after the checks that need no data."""
    from tweedie_inverse.runtime.atomic import ready

    path = Path(options.save_problem)
    if path.suffix.lower() != problem_file.SUFFIX:
        raise ValueError(f"solve: --save-problem {path}: call it {path.stem}.toml")
    equipment.check(options, "solve")
    saved_problem.refuse_other(path, options)
    ready(path)
    saved_problem.write(path, options)
    options.result.update(problem=path)
    print(f"problem: {path.resolve()}")


def _solve_one(options: argparse.Namespace) -> None:
    from tweedie_inverse.runtime.atomic import ready

    out, measurement = _out(options.out), Path(options.measurement[0])
    exports = exports_of(options, [measurement])
    problem = out.with_suffix(problem_file.SUFFIX)
    written = [out, out.with_suffix(".png"), bulk.walk_file(out), problem]
    written += exports.paths(measurement, out)
    written += pages(options, out)
    bulk.separate([path for path in written if path != problem], [*_read(options), measurement])
    saved_problem.refuse_other(problem, options)
    ready(*written)
    if not out.suffix:
        raise ValueError(
            f"solve: --out {out}: name a file, {out}.safetensors, or a folder by a slash, {out}/"
        )
    is_stream = is_named_so(out)
    if not is_stream:
        refuse_suffix(out)
    equipment.check(options, "solve")
    data = measurements.load(measurement, options.key)
    operators = equipment.operators(options, "solve")
    prior, _ = equipment.prior_of(options, "solve")
    operator = operators.of(prior, data)
    leads = prior.ranks.leads
    exports = exports.of(operator, prior)
    if out.exists() and not is_stream:
        print(f"{out}: is there, and will be written over")
    to = out if is_stream else None
    job = Job(str(measurement), options.seed, print, bulk.walk_file(out), to)
    posterior = posterior_of(job, data, operator, prior, options)
    if not leads:
        return
    bulk.write(posterior, out)
    exported = exports.write(posterior, measurement, out, data, print)
    exported += report(posterior, options, out)
    saved_problem.write(problem, options, out=str(out))
    bulk.walk_file(out).unlink(missing_ok=True)  # last: until here it is all there is
    _show(posterior, out, exported)
    told = {"samples": out, "picture": out.with_suffix(".png"), "problem": problem}
    options.result.update(
        measurements=[
            {"measurement": measurement, **told, "written": exported, **description(posterior)}
        ]
    )
    if options.strict and not posterior.diagnostics.is_consistent:
        raise SystemExit(NOT_CONSISTENT)


def _out(given: str | None) -> Path:
    """The file of the samples; the picture goes beside it.

    Raises:
        ValueError: it has no name, or the picture's own.
    """
    out = Path("posterior.safetensors" if given is None else given)
    if not out.name:
        raise ValueError(f"solve: --out {given!r} is a folder, not a file; name a file to write")
    if out.is_dir():
        raise ValueError(
            f"solve: --out {given} is a folder; write --out {given}/ to have the results in it"
        )
    if out.suffix.lower() == ".png":
        raise ValueError(
            f"solve: --out {given} is for the samples, and the picture goes beside them as "
            f"{out.with_suffix('.png').name}; name a file such as {out.with_suffix('.safetensors')}"
        )
    return out


def _show(posterior: Posterior, out: Path, exported: list[Path]) -> None:
    print(f"{posterior.stats.method} ({posterior.stats.reason})")
    print(posterior.diagnostics.report)
    if posterior.instrument is not None:
        print(posterior.instrument.report)
    print(f"samples: {out.resolve()}\npicture: {out.with_suffix('.png').resolve()}")
    for path in exported:
        print(f"written: {path.resolve()}")
    print(f"problem: {out.with_suffix(problem_file.SUFFIX).resolve()}, which repeats it")

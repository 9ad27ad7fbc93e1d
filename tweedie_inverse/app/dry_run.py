"""``solve --dry-run``: evaluations, time, memory and files of a solve, and nothing written."""

import argparse
import math
from pathlib import Path
from typing import Any

from tweedie_inverse.app import equipment, measurements, problem_file, solve_many
from tweedie_inverse.app import solve_files as bulk
from tweedie_inverse.app.exports import suffix_of
from tweedie_inverse.app.posteriors import Job, batch_size_of, exports_of, prepared
from tweedie_inverse.solving.costs import Cost, cost
from tweedie_inverse.solving.samples_file import is_named_so

# Bytes a number in the files of `--write`, where it is not that of the samples.
_BYTES = {"png": 2, "dcm": 2}
# What a posterior's file holds beside its samples, and a picture, roughly.
_NOTES, _PICTURE = 10_000, 200_000
# Memory that drawing the picture takes after the walk, mostly matplotlib's: 30 to 80 MB measured.
_DRAWING = 75_000_000


def show(options: argparse.Namespace, many: bool) -> None:
    """Say what this solve would take; of several files by trying the first."""
    equipment.check(options, "solve")
    if many:
        folder = solve_many.folder_of(options)
        items = bulk.find(options.measurement, folder)
    else:
        out = Path("posterior.safetensors" if options.out is None else options.out)
        items = [bulk.Item(Path(options.measurement[0]), out)]
    exports = exports_of(options, [item.measurement for item in items])
    first = items[0]
    data = measurements.load(first.measurement, options.key)
    operators = equipment.operators(options, "solve")
    prior, _ = equipment.prior_of(options, "solve")
    job = Job(first.measurement.name, options.seed, print, bulk.walk_file(first.result))
    run = prepared(job, data, operators.of(prior, data), prior, options)
    print(f"{run.walk.name} ({run.reason})\ntrying a few steps ...", flush=True)
    found = cost(run, steps=options.steps, batch_size=batch_size_of(options))
    if found.peak_memory is not None and run.y.device.type == "cpu":
        found = found._replace(peak_memory=found.peak_memory + _DRAWING)
    sizes = _sizes(run, first, exports, found)
    problem = first.result.with_suffix(problem_file.SUFFIX) if not many else folder / "problem.toml"
    _tell(found, sizes, len(items), problem)
    options.result.update(
        files=len(items), first=first.measurement, **found._asdict(), written=sizes, problem=problem
    )


def _sizes(run: Any, item: bulk.Item, exports: Any, found: Cost) -> dict[Path, int]:
    """The files of one measurement and their bytes, roughly."""
    image = math.prod(run.prior.shape)
    number = run.y.element_size()
    sizes = {item.result: _NOTES + found.walkers * image * number, item.picture: _PICTURE}
    suffix = exports.suffix or suffix_of(item.measurement)
    each = _BYTES.get(suffix, number)
    for name, path in zip(exports.what, exports.paths(item.measurement, item.result), strict=True):
        batch = found.walkers // run.num_samples
        sizes[path] = batch * image * each * (run.num_samples if name == "samples" else 1)
    return sizes


def _tell(found: Cost, sizes: dict[Path, int], files: int, problem: Path) -> None:
    each = " a file" if files > 1 else ""
    total = found.evaluations * found.walkers
    together = (
        "all at once"
        if found.together == found.walkers
        else f"{found.together} at once, as memory allows"
    )
    print(f"samples: {found.walkers}{each}, {together}")
    print(f"evaluations of the network: at most {found.evaluations} a sample, {total}{each}")
    print(
        f"time: about {duration(found.seconds)}{each}, {found.beside:.0%} of it beside the network "
        f"({found.tried_seconds:.1f} s of trying; one evaluation of {found.together} images takes "
        f"{found.evaluation_seconds:.3g} s)"
    )
    if files > 1:
        print(f"      about {duration(files * found.seconds)} for all {files} files, one process")
    if found.peak_memory is not None:
        print(f"memory: about {size(found.peak_memory)} at its peak")
    print(f"files{each}:")
    for path, count in sizes.items():
        is_stream = is_named_so(path) and path == next(iter(sizes))
        fate = "gone on with" if is_stream else "written over"
        print(f"  {path}  {size(count)}{f' (exists, would be {fate})' * path.exists()}")
    print(f"  {problem}")
    print("nothing was written")


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"


def size(count: int) -> str:
    """Bytes in decimal units."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"

"""`solve` for several measurements, or into a folder: shared, resumed, and not stopped by one."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from tweedie_inverse.app import equipment, measurements, saved_problem
from tweedie_inverse.app import solve_files as bulk
from tweedie_inverse.app.endings import WRONG
from tweedie_inverse.app.posteriors import (
    NOT_CONSISTENT,
    Job,
    description,
    exports_of,
    pages,
    posterior_of,
    read_besides,
    report,
)
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.posterior_file import is_consistent

# The options that make a result what it is.
_NAMES = (
    "operator",
    "prior",
    "format",
    "weights",
    "tiled",
    "value_range",
    "method",
    "samples",
    "steps",
    "seed",
    "key",
)
PROBLEM = "problem.toml"


def run(options: argparse.Namespace) -> None:
    """Solve all files of the options that are not solved yet, this process's share of them."""
    from tweedie_inverse.app.distributed import in_words, under_torchrun
    from tweedie_inverse.runtime.atomic import ready_folder
    from tweedie_inverse.runtime.checksums import checksum

    folder = folder_of(options)
    items = bulk.find(options.measurement, folder)
    exports = exports_of(options, [item.measurement for item in items])
    written = [path for item in items for path in (item.result, item.picture, item.record)]
    written += [path for item in items for path in exports.paths(item.measurement, item.result)]
    written += [path for item in items for path in pages(options, item.result)]
    bulk.separate(written, [*read_besides(options), *(item.measurement for item in items)])
    saved_problem.refuse_other(folder / PROBLEM, options)
    ready_folder(folder)
    equipment.check(options, "solve")
    operators = equipment.operators(options, "solve")
    prior, of_prior = equipment.prior_of(options, "solve")
    contents = {f"content of {name}": digest[:16] for name, digest in operators.contents.items()}
    contents |= of_prior
    if options.like is not None:
        contents["content of --like"] = checksum(options.like)[:16]
    bulk.settle(folder, {**_settings(options), **contents})
    saved_problem.write(folder / PROBLEM, options, out=f"{folder}/")
    print(f"{len(items)} file{'s' * (len(items) != 1)}, {in_words(options.place, os.environ)}")

    def tell(line: str) -> None:
        print(line, flush=True)

    def one(item: bulk.Item) -> Posterior:
        data = measurements.load(item.measurement, options.key)
        item.forget_old_walk()
        seed = bulk.seed_of(item, options.seed)
        operator = operators.of(prior, data)
        job = Job(item.measurement.name, seed, tell, item.walk)
        posterior = posterior_of(job, data, operator, prior, options)
        exports.of(operator, prior).write(posterior, item.measurement, item.result, data, tell)
        report(posterior, options, item.result)
        return posterior

    def complete(item: bulk.Item) -> None:
        paths = exports.paths(item.measurement, item.result)
        if not all(path.is_file() for path in pages(options, item.result)):
            report(Posterior.load(item.result), options, item.result)
        if not all(path.is_file() for path in paths):
            data = measurements.load(item.measurement, options.key)
            writer = exports.of(operators.of(prior, data), prior)
            writer.write(Posterior.load(item.result), item.measurement, item.result, data, tell)

    failed = bulk.solve_files(items, one, complete=complete, place=options.place, tell=tell)
    print(f"results: {folder.resolve()}")
    if options.json:
        told = [_told(item) for item in items if item.result.is_file()]
        options.result.update(folder=folder, measurements=told, failed=failed)
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


def folder_of(options: argparse.Namespace) -> Path:
    """Where the results go."""
    return Path("posteriors" if options.out is None else options.out)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the results in a folder have in common, as it is written there."""
    settings = {name: vars(options)[name] for name in _NAMES}
    noise = equipment.noise_of(options.noise)
    settings["noise"] = noise if isinstance(noise, float) else options.noise
    texts = equipment.operator_texts(options)
    settings |= {name: text for name, text in texts.items() if text is not None}
    return {name: _named(value) for name, value in settings.items()}


def _named(value: Any) -> Any:
    """A file by its name alone: its content is held by a checksum, and folders are called anew."""
    if not isinstance(value, str):
        return value
    file = value if os.path.exists(value) else value.rpartition(":")[0]
    return os.path.basename(value) if file and os.path.exists(file) else value


def _told(item: bulk.Item) -> dict[str, Any]:
    """What ``--json`` says of a result, of this run or an earlier one."""
    files = {"measurement": item.measurement, "samples": item.result, "picture": item.picture}
    return {**files, **description(Posterior.load(item.result))}

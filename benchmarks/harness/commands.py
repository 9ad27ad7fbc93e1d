"""One command, one table: the same operators, noise, priors and seeds for every method.

python -m tweedie_inverse.benchmarks list
python -m tweedie_inverse.benchmarks run field --out results
    as often as needed: it goes on
python -m tweedie_inverse.benchmarks run images --methods decoupled dps --images 4 --out results
python -m tweedie_inverse.benchmarks run all --smoke --out results      everything, tiny
python -m tweedie_inverse.benchmarks tune ct --images 2 --out results
    settings, on the validation split
python -m tweedie_inverse.benchmarks run ct --tuned results/tuned-ct.json --out results
python -m tweedie_inverse.benchmarks run ct --methods decoupled mine.py:MyMethod --out results
python -m tweedie_inverse.benchmarks run mine.py:suite --prior weights.safetensors --out results
torchrun --nproc-per-node 4 -m tweedie_inverse.benchmarks run images --out results
python -m tweedie_inverse.benchmarks run images --dry-run
    units, evaluations, time and memory; nothing is run or written
python -m tweedie_inverse.benchmarks report results
python -m tweedie_inverse.benchmarks leaderboard --out leaderboard.html
python -m tweedie_inverse.benchmarks gate old-results results --metric crps --worse-than 2%
python -m tweedie_inverse.benchmarks acceptance --device cuda
    does everything hold on this machine? one page, in ten minutes
"""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tweedie_inverse.app.distributed import (
    Place,
    find_place,
    in_words,
    ready_device,
    under_torchrun,
)
from tweedie_inverse.app.endings import WRONG, endings
from tweedie_inverse.benchmarks.acceptance import command as acceptance
from tweedie_inverse.benchmarks.harness import (
    dry_run,
    metrics,
    report,
    results_commands,
    runner,
    tuning,
)
from tweedie_inverse.benchmarks.harness.options import check_numbers, parser
from tweedie_inverse.benchmarks.harness.packages import require
from tweedie_inverse.benchmarks.harness.plan import Plan
from tweedie_inverse.benchmarks.harness.plugins import Chosen, choose_methods, choose_suite
from tweedie_inverse.benchmarks.harness.records import Store
from tweedie_inverse.benchmarks.harness.standalone import Request
from tweedie_inverse.benchmarks.methods.registry import METHODS, SPACES
from tweedie_inverse.benchmarks.problems.suites import STUDIES, SUITES
from tweedie_inverse.benchmarks.problems.task import Suite
from tweedie_inverse.benchmarks.studies import mixture, operators, speed, tiles

# What writes the records of the studies that run as suites, and the packages that it imports.
RECORDS = {
    "mixture": mixture.record,
    "operators": operators.record,
    "speed": speed.record,
    "tiles": tiles.record,
}
NEEDS = {"speed": ("deepinv",)}
IMAGES, SAMPLES = 8, 16
# The sizes of a smoke run, which shows that everything runs and compares nothing.
SMOKE_IMAGES, SMOKE_SAMPLES, SMOKE_EVALUATIONS = 1, 2, 3


def main(arguments: list[str] | None = None) -> None:
    """Parse and run; every error ends with one line and an exit code (`app.endings`)."""
    with endings():
        options = parser((__doc__ or "").partition("\n")[0]).parse_args(arguments)
        match options.command:
            case "list":
                show()
            case "run" | "tune":
                check_numbers(options)
                options.device = ready_device(options.device, os.environ)
                torch.set_num_threads(options.threads)
                failed = run(options, find_place(os.environ, options.rank, options.world_size))
                if failed:
                    text = f"{failed} unit(s) failed; their records say why, and the same command"
                    print(f"error: {text} tries them again", file=sys.stderr)
                    # An exit code would make torchrun stop the processes that are still at work.
                    if not under_torchrun(os.environ):
                        raise SystemExit(WRONG)
            case command if command in results_commands.COMMANDS:
                results_commands.run(options)
            case "acceptance":
                check_numbers(options)
                acceptance.run(options)
            case "report":
                require(("jinja2",), "the report")
                print(report.write(options.folders, options.out or options.folders[0]))


def show() -> None:
    for name, suite in SUITES.items():
        print(f"{name}: {suite.title}")
    for name, title in STUDIES.items():
        print(f"{name}: {title} (or python -m tweedie_inverse.benchmarks.studies.{name})")
    print()
    for name, method in METHODS.items():
        print(f"{name}: {method}\n    {method.source}")


def run(options: argparse.Namespace, place: Place) -> int:
    """Run or tune every suite that is asked for, after everything that is asked for was found.

    Returns:
        How many units failed, candidates of `tune` aside: some settings are meant to fail.
    """
    failed, asked = 0, suites_of(options)
    chosen = methods_of(options, asked)
    check(options, asked, chosen)
    log = partial(print, flush=True)
    for one in asked:
        name = one if isinstance(one, str) else one.name
        print(f"{name}: {in_words(place, os.environ)}, into {Path(options.out).resolve()}")
        store = Store(options.out)
        if options.command == "run" and options.dry_run:
            foretell(one, options, chosen, store, place)
            continue
        if isinstance(one, str):
            run_study(one, options, place, store)
            failed += store.failed
            continue
        plan = plan_of(one, options, chosen.files)
        if options.command == "tune":
            path = tuning.tune(
                plan,
                chosen.methods,
                SPACES | {name: chosen.methods[name].space for name in chosen.files},
                Path(options.out),
                count=2 if options.smoke else options.candidates,
                metric=options.metric,
                place=place,
                log=log,
            )
            if path is not None:
                print(f"settings: {path.resolve()}")
        else:
            tuned = tuning.load(options.tuned, METHODS | chosen.methods)
            runner.run(plan, chosen.methods, store, tuned=tuned, place=place, log=log)
            failed += store.failed
    return failed


def foretell(
    one: Suite | str, options: argparse.Namespace, chosen: Chosen, store: Store, place: Place
) -> None:
    """What ``run`` would cost, without running it."""
    if isinstance(one, str):
        print(f"{one}: a study; its cost cannot be told before it is run")
        return
    plan = plan_of(one, options, chosen.files)
    tuned = tuning.load(options.tuned, METHODS | chosen.methods)
    found = dry_run.shares(plan, chosen.methods, store, tuned=tuned, place=place)
    print("\n".join(dry_run.in_words(plan, found)))


def suites_of(options: argparse.Namespace) -> list[Suite | str]:
    """The suites that are asked for; studies by name.

    Raises:
        ValueError: none or two were named, or there is none of the name.
    """
    named = [name for name in (options.suite, options.suite_option) if name is not None]
    if len(named) != 1:
        raise ValueError(f"{options.command}: name one suite, got {' and '.join(named) or 'none'}")
    if options.command == "run":
        if named == ["all"]:
            names = everything(options.smoke)
            return [name if name in STUDIES else SUITES[name] for name in names]
        if named[0] in STUDIES:
            return [named[0]]
    elif named[0] in (*STUDIES, "all"):
        raise ValueError(f"tune: {named[0]} has no settings to choose; take {', '.join(SUITES)}")
    return [choose_suite(named[0], SUITES)]


def methods_of(options: argparse.Namespace, asked: list[Suite | str]) -> Chosen:
    """The methods that are asked for.

    Raises:
        ValueError: an unknown method, or for a study a user's method or prior.
    """
    if not any(isinstance(one, str) for one in asked):
        return choose_methods(options.methods, METHODS)
    studies = ", ".join(one for one in asked if isinstance(one, str))
    if options.prior is not None:
        raise ValueError(f"--prior: {studies} have priors of their own")
    chosen = choose_methods(options.methods, METHODS)
    if chosen.files:
        raise ValueError(
            f"--methods: {studies} run methods of the package only, not {', '.join(chosen.files)}"
        )
    return chosen


def check(options: argparse.Namespace, asked: list[Suite | str], chosen: Chosen) -> None:
    """Refuse what cannot be run, before any work is done.

    Raises:
        ImportError: a package is missing.
    """
    for one in asked:
        if isinstance(one, str):
            require(NEEDS.get(one, ()), f"the study {one}")
        else:
            require(metrics.packages(), f"the metrics of suite {one.name}")
            for name, method in chosen.methods.items():
                require(method.packages, f"method {name}")


def everything(smoke: bool) -> list[str]:
    """All suites and studies; of suites that differ in size only, one, where all are tiny."""
    last = {(suite.make, suite.smoke_size): name for name, suite in reversed(SUITES.items())}
    suites = [name for name in SUITES if not smoke or name in last.values()]
    return [*suites, *STUDIES]


def plan_of(suite: Suite, options: argparse.Namespace, files: Mapping[str, str]) -> Plan:
    plan = Plan(
        suite=suite,
        images=IMAGES if options.images is None else options.images,
        samples=SAMPLES if options.samples is None else options.samples,
        cap=options.cap,
        seed=options.seed,
        device=options.device,
        tasks=tuple(options.tasks),
        together=options.together,
        prior=options.prior,
        files=files,
    )
    if options.command == "run":
        plan = replace(
            plan,
            split=options.split,
            keep_samples=options.keep_samples,
            pictures=options.pictures,
        )
    if options.smoke:
        plan = replace(
            plan,
            images=SMOKE_IMAGES,
            samples=SMOKE_SAMPLES,
            cap=SMOKE_EVALUATIONS,
            size=suite.smoke_size,
        )
    return plan


def run_study(name: str, options: argparse.Namespace, place: Place, store: Store) -> None:
    """The records of a study, into the same folder."""
    request = Request(
        images=options.images,
        samples=options.samples,
        cap=options.cap,
        seed=options.seed,
        split=options.split,
        device=options.device,
        methods=tuple(options.methods or ()),
        tasks=tuple(options.tasks),
        smoke=options.smoke,
    )
    RECORDS[name](request, store, place=place, log=partial(print, flush=True))

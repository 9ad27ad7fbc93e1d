"""One command, one table: the same operators, noise, priors and seeds for every method.

python -m tweedie_inverse.benchmarks list
python -m tweedie_inverse.benchmarks run field --out results
    as often as needed: it goes on
python -m tweedie_inverse.benchmarks run images --methods decoupled dps --images 4 --out results
python -m tweedie_inverse.benchmarks run all --smoke --out results      everything, tiny
python -m tweedie_inverse.benchmarks tune ct --images 2 --out results
    settings, on the validation split
python -m tweedie_inverse.benchmarks run ct --tuned results/tuned-ct.json --out results
torchrun --nproc-per-node 4 -m tweedie_inverse.benchmarks run images --out results
python -m tweedie_inverse.benchmarks report results
"""

import argparse
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tweedie_inverse.app.distributed import Place, device_of, find_place
from tweedie_inverse.benchmarks.harness import report, runner, tuning
from tweedie_inverse.benchmarks.harness.records import Store
from tweedie_inverse.benchmarks.harness.standalone import Order
from tweedie_inverse.benchmarks.harness.suites import PROGRAMS, SUITES
from tweedie_inverse.benchmarks.methods.ours import methods
from tweedie_inverse.benchmarks.studies import mixture, operators, speed, tiles

# Of the programs.
RECORDS = {
    "mixture": mixture.record,
    "operators": operators.record,
    "speed": speed.record,
    "tiles": tiles.record,
}
IMAGES, SAMPLES = 8, 16
# Of a smoke run: to see that everything runs, not to compare.
SMOKE_IMAGES, SMOKE_SAMPLES, SMOKE_EVALUATIONS = 1, 2, 3


def main(arguments: list[str] | None = None) -> None:
    """Parse and run; a wrong input ends with its message and exit code 2."""
    options = parser().parse_args(arguments)
    try:
        match options.command:
            case "list":
                show()
            case "run" | "tune":
                torch.set_num_threads(options.threads)
                run(options, find_place(os.environ, options.rank, options.world_size))
            case "report":
                print(report.write(options.folders, options.out or options.folders[0]))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def parser() -> argparse.ArgumentParser:
    title = (__doc__ or "").partition("\n")[0]
    top = argparse.ArgumentParser(prog="tweedie-inverse benchmarks", description=title)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="suites and methods, with their settings and sources")
    one = commands.add_parser("run", help="run a suite, or go on with it")
    one.add_argument("suite", choices=[*SUITES, *PROGRAMS, "all"])
    _add_plan(one)
    one.add_argument("--tuned", nargs="+", default=[], metavar="FILE", help="settings from tune")
    one.add_argument("--split", choices=["test", "validation"], default="test")
    one.add_argument("--keep-samples", action="store_true", help="write the samples, too")
    one.add_argument("--pictures", type=int, default=1, help="images to keep pictures of")
    three = commands.add_parser(
        "tune", help="choose settings on the validation split, as many candidates for each method"
    )
    three.add_argument("suite", choices=list(SUITES))
    _add_plan(three)
    three.add_argument("--candidates", type=int, default=8, help="settings of each method to try")
    three.add_argument("--metric", choices=list(tuning.METRICS), default="crps")
    two = commands.add_parser("report", help="tables of one or more folders of results")
    two.add_argument("folders", nargs="+")
    two.add_argument("--out", help="where to write; by default the first folder")
    return top


def _add_plan(one: argparse.ArgumentParser) -> None:
    """What run and tune have in common."""
    one.add_argument("--methods", nargs="+", choices=list(methods()), metavar="METHOD")
    one.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="by name")
    one.add_argument("--out", default="benchmark-results", help="folder of the results")
    one.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    one.add_argument("--device", default="cpu", help="such as cuda")
    one.add_argument(
        "--threads",
        type=int,
        default=1,
        help="of each process on the CPU; results are equal to the last bit for equal numbers only",
    )
    one.add_argument("--images", type=int, help="test images, 8 by default (mixture: 20)")
    one.add_argument(
        "--samples", type=int, help="posterior samples of each, 16 by default (mixture: 2000)"
    )
    one.add_argument("--cap", type=int, help="network evaluations a sample, at most")
    one.add_argument(
        "--together", type=int, help="samples that run together; halved where memory is short"
    )
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--rank", type=int, help="of this process, if no launcher says so")
    one.add_argument("--world-size", type=int, help="number of processes")


def show() -> None:
    for name, suite in SUITES.items():
        print(f"{name}: {suite.title}")
    for name, title in PROGRAMS.items():
        print(f"{name}: {title} (or python -m tweedie_inverse.benchmarks.{name})")
    print()
    for name, method in methods().items():
        print(f"{name}: {method}\n    {method.source}")


def run(options: argparse.Namespace, place: Place) -> None:
    known = methods()
    chosen = {name: known[name] for name in options.methods or known}
    tell = partial(print, flush=True)
    for name in everything(options.smoke) if options.suite == "all" else [options.suite]:
        print(f"{name}: {place.rank + 1} of {place.world_size}, into {Path(options.out).resolve()}")
        if name in PROGRAMS:
            run_program(name, options, place)
            continue
        plan = plan_of(name, options)
        if options.command == "tune":
            path = tuning.tune(
                plan,
                chosen,
                Path(options.out),
                count=2 if options.smoke else options.candidates,
                metric=options.metric,
                place=place,
                tell=tell,
            )
            if path is not None:
                print(f"settings: {path.resolve()}")
        else:
            tuned = tuning.load(options.tuned)
            runner.run(plan, chosen, Store(options.out), tuned=tuned, place=place, tell=tell)


def everything(smoke: bool) -> list[str]:
    """All suites and programs; of suites that differ in size only, one, where all are tiny."""
    last = {(suite.make, suite.smoke_size): name for name, suite in reversed(SUITES.items())}
    suites = [name for name in SUITES if not smoke or name in last.values()]
    return [*suites, *PROGRAMS]


def plan_of(name: str, options: argparse.Namespace) -> runner.Plan:
    plan = runner.Plan(
        suite=name,
        images=options.images or IMAGES,
        samples=options.samples or SAMPLES,
        cap=options.cap,
        seed=options.seed,
        device=device_of(options.device, os.environ),
        tasks=tuple(options.tasks),
        together=options.together,
    )
    if options.command == "run":
        plan = replace(
            plan,
            split=options.split,
            keep_samples=options.keep_samples,
            pictures=options.pictures,
        )
    if options.smoke:
        size = SUITES[name].smoke_size
        plan = replace(
            plan, images=SMOKE_IMAGES, samples=SMOKE_SAMPLES, cap=SMOKE_EVALUATIONS, size=size
        )
    return plan


def run_program(name: str, options: argparse.Namespace, place: Place) -> None:
    """A program's records, into the same folder."""
    order = Order(
        images=options.images,
        samples=options.samples,
        cap=options.cap,
        seed=options.seed,
        split=options.split,
        device=device_of(options.device, os.environ),
        methods=tuple(options.methods or ()),
        tasks=tuple(options.tasks),
        smoke=options.smoke,
    )
    RECORDS[name](order, Store(options.out), place=place, tell=partial(print, flush=True))

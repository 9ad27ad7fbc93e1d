"""The options of the command ``benchmarks``."""

import argparse

from tweedie_inverse.benchmarks.acceptance import command as acceptance
from tweedie_inverse.benchmarks.harness import results_commands, tuning
from tweedie_inverse.benchmarks.methods.registry import METHODS
from tweedie_inverse.benchmarks.problems.suites import STUDIES, SUITES
from tweedie_inverse.boundary.arguments import count

# The least value of each number that may be given.
_LEAST = {
    **dict.fromkeys(("threads", "images", "samples", "cap", "together", "candidates"), 1),
    "pictures": 0,
}


def check_numbers(options: argparse.Namespace) -> None:
    """Refuse numbers with which nothing can be run, before any unit.

    Raises:
        ValueError: says which.
    """
    for name, least in _LEAST.items():
        value = getattr(options, name, None)
        if value is not None:
            count("benchmarks", name, value, least=least)


def parser(title: str) -> argparse.ArgumentParser:
    """Of the command ``benchmarks`` and of all its own commands."""
    top = argparse.ArgumentParser(prog="tweedie-inverse benchmarks", description=title)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="suites and methods, with their settings and sources")
    one = commands.add_parser("run", help="run a suite, or go on with it")
    _add_plan(one, [*SUITES, *STUDIES, "all"])
    one.add_argument("--tuned", nargs="+", default=[], metavar="FILE", help="settings from tune")
    one.add_argument("--split", choices=["test", "validation"], default="test")
    one.add_argument("--keep-samples", action="store_true", help="write the samples, too")
    one.add_argument("--pictures", type=int, default=1, help="images to keep pictures of")
    one.add_argument(
        "--dry-run", action="store_true", help="say what it will cost; run and write nothing"
    )
    three = commands.add_parser(
        "tune", help="choose settings on the validation split, as many candidates for each method"
    )
    _add_plan(three, list(SUITES))
    three.add_argument("--candidates", type=int, default=8, help="settings of each method to try")
    three.add_argument("--metric", choices=list(tuning.METRICS), default="crps")
    two = commands.add_parser("report", help="tables of one or more folders of results")
    two.add_argument("folders", nargs="+")
    two.add_argument("--out", help="where to write; by default the first folder")
    results_commands.add(commands)
    acceptance.add(commands)
    return top


def _add_plan(one: argparse.ArgumentParser, suites: list[str]) -> None:
    """What run and tune have in common."""
    text = f"{', '.join(suites)}, or FILE.py:NAME for a suite of your own"
    one.add_argument("suite", nargs="?", metavar="SUITE", help=text)
    one.add_argument("--suite", dest="suite_option", metavar="SUITE", help="the same")
    text = f"all by default: {', '.join(METHODS)}; FILE.py:NAME is a method of your own"
    one.add_argument("--methods", nargs="+", metavar="METHOD", help=text)
    text = "in place of the tasks' own: a shipped prior's name, a file, a folder or a hub id"
    one.add_argument("--prior", metavar="PRIOR", help=text)
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

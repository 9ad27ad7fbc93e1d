"""The commands that read results: leaderboard, compare, gate and export.

tweedie-inverse benchmarks leaderboard --out leaderboard.html        the package's own records
tweedie-inverse benchmarks leaderboard results --budgets 20 50       yours, as markdown
tweedie-inverse benchmarks compare old-results new-results
tweedie-inverse benchmarks gate old-results new-results --metric crps --worse-than 2%
tweedie-inverse benchmarks export results --out results.parquet
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from tweedie_inverse.benchmarks.harness import comparison, export, gate, leaderboard_page, records
from tweedie_inverse.benchmarks.harness.leaderboard import BUDGETS
from tweedie_inverse.benchmarks.harness.packages import require
from tweedie_inverse.boundary.arguments import count

# What a gate that is not passed ends with: as of tests that fail, and not as of a wrong input.
NOT_PASSED = 1
_PLACES = "folders of results, or .jsonl files of records"


def add(commands: argparse._SubParsersAction) -> None:
    """Put them under ``benchmarks``."""
    board = commands.add_parser(
        "leaderboard", help="methods ranked by CRPS at equal evaluations, ties said as ties"
    )
    board.add_argument(
        "folders", nargs="*", help=f"{_PLACES}; by default the records that come with the package"
    )
    board.add_argument("--out", help="file ending in .html or .md; by default markdown is printed")
    text = f"network evaluations of the groups, {', '.join(map(str, BUDGETS))} by default"
    board.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), help=text)

    both = commands.add_parser("compare", help="two sets of results of the same problems, paired")
    _add_two(both)
    both.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="METRIC",
        help=f"{', '.join(comparison.METRICS)}; by default {', '.join(comparison.USUAL)}",
    )
    both.add_argument("--out", help="file ending in .md for the tables")

    guard = commands.add_parser(
        "gate", help="exit code 1 where new results are worse than old ones by more than chance"
    )
    _add_two(guard)
    guard.add_argument("--metric", default="crps", help="crps by default; all: see compare --help")
    guard.add_argument(
        "--worse-than",
        default="0",
        metavar="MARGIN",
        help="what is still accepted: 2%% of the old value, or a number in units of the metric",
    )

    out = commands.add_parser("export", help="records as one file: .parquet, .csv or .jsonl")
    out.add_argument("folders", nargs="+", help=_PLACES)
    out.add_argument("--out", required=True, help="the file; its ending says the kind")


def _add_two(one: argparse.ArgumentParser) -> None:
    one.add_argument("old", metavar="OLD", help="a folder of results, or a .jsonl file of records")
    one.add_argument("new", metavar="NEW", help="the same problems, solved anew")


def run(options: argparse.Namespace) -> None:
    """Run the command that was asked for.

    Raises:
        ValueError: what cannot be read, paired or judged.
        SystemExit: a gate that is not passed.
    """
    commands: dict[str, Callable[[argparse.Namespace], None]] = {
        "leaderboard": _leaderboard,
        "compare": _compare,
        "gate": _gate,
        "export": _export,
    }
    commands[options.command](options)


COMMANDS = ("leaderboard", "compare", "gate", "export")


def _leaderboard(options: argparse.Namespace) -> None:
    budgets = sorted({count("leaderboard", "budgets", one) for one in options.budgets})
    if options.out is not None and Path(options.out).suffix == ".html":
        require(("jinja2",), "the page")
    print(leaderboard_page.write(options.folders, options.out, budgets))


def _compare(options: argparse.Namespace) -> None:
    old, new = _both(options)
    lines = []
    for metric in comparison.names(options.metrics, old):
        found = comparison.compare(old, new, metric)
        lines += ["", *comparison.table(found), "", comparison.in_words(found)]
    for side, missing in (("OLD", found.only_old), ("NEW", found.only_new)):
        lines += [f"only in {side}: {line}" for line in missing]
    text = "\n".join(lines).strip()
    if options.out is None:
        print(text)
        return
    print(leaderboard_page.put(options.out, text + "\n", (".md",), "compare"))


def _gate(options: argparse.Namespace) -> None:
    old, new = _both(options)
    margin = gate.margin_of(options.worse_than)
    found = comparison.compare(old, new, options.metric, margin)
    passed, lines = gate.gate(found)
    print("\n".join(lines))
    rows = f"{len(found.changes)} rows, {100 * comparison.LEVEL:g} % for all together (Holm)"
    print(
        f"gate: {'passed' if passed else 'NOT PASSED'}: {options.metric}, margin {margin}, {rows}"
    )
    if not passed:
        raise SystemExit(NOT_PASSED)


def _both(options: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """The records of OLD and NEW."""
    old, new = records.read([options.old]), records.read([options.new])
    for name, found in ((options.old, old), (options.new, new)):
        if not found:
            raise ValueError(f"{options.command}: no results in {name}")
    return old, new


def _export(options: argparse.Namespace) -> None:
    path, number = export.write(options.folders, options.out)
    print(f"{path} ({number} records)")

"""A problem file among the arguments of a command: its options before those of the command line."""

import argparse
from collections.abc import Sequence

from tweedie_inverse.app import problem_file
from tweedie_inverse.app.parser import Parser


def with_problem(
    parser: Parser, arguments: list[str], options: argparse.Namespace
) -> argparse.Namespace:
    """The options with those of a problem file before them, where one is named."""
    return _completed(parser, arguments, options, "solve", tuple(problem_file.TABLES))


def with_equipment(
    parser: Parser, arguments: list[str], options: argparse.Namespace
) -> argparse.Namespace:
    """The same for `check-fit`, which asks for measurement, operator, noise and prior only."""
    return _completed(parser, arguments, options, "check-fit", problem_file.EQUIPMENT)


def _completed(
    parser: Parser,
    arguments: list[str],
    options: argparse.Namespace,
    command: str,
    tables: Sequence[str],
) -> argparse.Namespace:
    named = [one for one in options.measurement if one.lower().endswith(problem_file.SUFFIX)]
    if options.problem is not None:
        named.insert(0, options.problem)
    if not named:
        return options
    if len(named) > 1:
        raise ValueError(f"{command}: one problem file at a time, got {' and '.join(named)}")
    (path,) = named
    given, files = problem_file.arguments(path, options, tables)
    end = f"--problem={path}"  # what ends a list of values before it
    Parser.source = path
    try:
        parser.parse_args([command, *given, end])
    finally:
        Parser.source = ""
    rest = arguments[arguments.index(command) + 1 :]
    if options.problem is None:
        rest.remove(path)
    found = parser.parse_args([command, *given, end, *rest])
    found.measurement = found.measurement or files
    found.problem, found.result = path, options.result
    return found

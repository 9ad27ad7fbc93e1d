"""``tweedie-inverse`` and ``python -m tweedie_inverse``: the roof over `app` and `benchmarks`."""

import sys

from tweedie_inverse.app import cli


def main(arguments: list[str] | None = None) -> None:
    """One command line; the benchmarks, which need more packages, are imported when asked for.

    Both say by themselves what went wrong (`app.endings`).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["benchmarks"]:
        from tweedie_inverse.benchmarks.harness import commands

        commands.main(arguments[1:])
    else:
        cli.main(arguments)


if __name__ == "__main__":
    main()

"""The command `report`: the page of a posterior that was saved."""

import argparse
from pathlib import Path

from tweedie_inverse.app.options import add_json

_EXAMPLE = """\
example:
  tweedie-inverse report posterior.safetensors --truth truth.npy --out page.html
"""


def add(commands) -> None:
    """Enter the command and its options."""
    command = commands.add_parser(
        "report",
        help="one HTML page of a posterior in a file",
        description="Samples to look through, mean, spread and interval of every pixel, residuals "
        "and settings, as `solve --report` writes it.",
        epilog=_EXAMPLE,
    )
    command.add_argument("posterior", help="what solve wrote, .safetensors")
    command.add_argument("--out", metavar="PAGE.html", help="default beside the posterior")
    command.add_argument("--truth", metavar="FILE", help="the image, where it is known")
    command.add_argument("--title", help="default what was measured, and the prior")
    add_json(command)
    command.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.solve_files import separate
    from tweedie_inverse.io import read
    from tweedie_inverse.runtime.html import checked_page
    from tweedie_inverse.solving.posterior import Posterior

    saved = Path(options.posterior)
    page = checked_page(options.out or saved.with_suffix(".html"))
    separate([page], [saved, *([options.truth] if options.truth else [])])
    truth = None if options.truth is None else read(options.truth)
    written = Posterior.load(saved).report(page, truth=truth, title=options.title)
    options.result.update(page=written)
    print(f"page: {written.resolve()}")

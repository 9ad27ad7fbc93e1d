"""Options that several commands have."""

import argparse

from tweedie_inverse.app.catalogue.instruments import INSTRUMENTS
from tweedie_inverse.app.catalogue.noises import NOISES, Noise
from tweedie_inverse.app.catalogue.options import OPTIONS, SIZE

MEASUREMENT_KEY = "which array of npz and HDF5, which image of FITS and TIFF"


def add_operator(command: argparse.ArgumentParser) -> None:
    """``--operator`` with the options of all instruments; `equipment.operators` reads them."""
    command.add_argument(
        "--operator",
        metavar="NAME",
        help=f"the instrument: {', '.join(INSTRUMENTS)}, with their options below; or "
        "FILE.py:NAME, a python file and the name of an Operator in it",
    )
    group = command.add_argument_group(
        "options of the instrument",
        "Each says which instruments take it; `tweedie-inverse operators NAME` shows one.",
    )
    for row in (*OPTIONS.values(), SIZE):
        of = [name for name, one in INSTRUMENTS.items() if row.name in one.options]
        told = f"{row.help} [{', '.join(of) or 'all but FILE.py:NAME'}]".replace("%", "%%")
        if row.kind.is_flag:
            group.add_argument(
                f"--{row.name}", dest=row.dest, action="store_const", const="true", help=told
            )
        else:
            group.add_argument(f"--{row.name}", dest=row.dest, metavar=row.kind.metavar, help=told)


def add_noise(command: argparse.ArgumentParser, help: str) -> None:
    """``--noise``, a text that `equipment.noise` reads."""
    named = "; ".join(f"{name}{_places(row)} ({row.summary})" for name, row in NOISES.items())
    command.add_argument("--noise", metavar="STD|MODEL", help=f"{help}: {named}")


def _places(row: Noise) -> str:
    """What is written behind the name of a noise model."""
    names = (
        one.name.upper() if one.is_needed else f"[{one.name.upper()}]" for one in row.parameters
    )
    return f":{','.join(names)}" if row.parameters else ""


def add_prior(command: argparse.ArgumentParser, positional: bool = False) -> None:
    """The prior, and what its file does not say."""
    told = "shipped prior (`tweedie-inverse priors`), checkpoint file, pipeline folder or hub id"
    if positional:
        command.add_argument("prior", help=told)
    else:
        command.add_argument("--prior", help=told)
    command.add_argument("--format", help="format of the prior, where the file does not tell")
    command.add_argument("--revision", help="commit of a hub id")
    command.add_argument("--weights", help="average, raw, or a name in the file (info lists them)")


def add_json(command: argparse.ArgumentParser) -> None:
    """``--json``; `results.reported` prints what the command leaves in ``options.result``."""
    command.add_argument(
        "--json",
        action="store_true",
        help="one JSON object on stdout, all words on stderr",
    )

"""The command `operators`: the instruments by name and their options; the noise models."""

import argparse

from tweedie_inverse.app.catalogue.instruments import INSTRUMENTS
from tweedie_inverse.app.catalogue.noises import NOISES
from tweedie_inverse.app.catalogue.options import OPTIONS
from tweedie_inverse.app.catalogue.suggestions import nearest
from tweedie_inverse.app.options import add_json


def add(commands) -> None:
    """Enter the command and its options."""
    command = commands.add_parser(
        "operators",
        help="list the instruments and noise models that solve knows by name",
        epilog="example:\n  tweedie-inverse operators blur\n",
    )
    command.add_argument("name", nargs="?", help="one of them, with its options")
    add_json(command)
    command.set_defaults(run=_operators)


def _operators(options: argparse.Namespace) -> None:
    names = [*INSTRUMENTS, *NOISES]
    if options.name is not None and options.name not in names:
        raise ValueError(
            f"operators {options.name}: needs one of {', '.join(names)}"
            f"{nearest(options.name, names)}"
        )
    options.result.update(
        operators={
            name: {"summary": row.summary, "options": {o: OPTIONS[o].help for o in row.options}}
            for name, row in INSTRUMENTS.items()
            if options.name in (None, name)
        },
        noises={
            name: {"summary": row.summary, "parameters": {p.name: p.help for p in row.parameters}}
            for name, row in NOISES.items()
            if options.name in (None, name)
        },
    )
    print(_one(options.name) if options.name else _all())


def _all() -> str:
    lines = ["--operator NAME"]
    lines += [f"  {name:18} {row.summary}" for name, row in INSTRUMENTS.items()]
    lines += ["", "--noise STD, or NAME:VALUE,..."]
    lines += [f"  {name:18} {row.summary}" for name, row in NOISES.items()]
    return "\n".join([*lines, "", "tweedie-inverse operators NAME shows the options of one."])


def _one(name: str) -> str:
    if name in NOISES:
        noise = NOISES[name]
        lines = [f"--noise {name}: {noise.summary}", "", "parameters, in this order or by name:"]
        lines += [f"  {p.name:18} {p.help}" for p in noise.parameters]
        return "\n".join(lines)
    row = INSTRUMENTS[name]
    lines = [f"--operator {name}: {row.summary}", ""]
    for option in row.options:
        kind = OPTIONS[option].kind
        lines.append(f"  --{option} {kind.metavar}".rstrip())
        lines.append(f"      {OPTIONS[option].help}")
    for group in row.needs:
        one_of = "one of " if len(group) > 1 else ""
        lines += ["", f"needs {one_of}{', '.join(f'--{option}' for option in group)}"]
    return "\n".join([*lines, "", f"example: --operator {name} {row.example}".rstrip()])

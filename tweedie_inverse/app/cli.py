"""The command line: every command's options, and what those without a file of their own do.

It is written with argparse; `parser` says why.
"""

import argparse
import platform
import sys
import warnings
from importlib import metadata
from pathlib import Path

from tweedie_inverse.app import (
    calibrate_command,
    check_command,
    check_fit_command,
    completion,
    operators_command,
    report_command,
    sample_command,
    simulate_command,
    solve_command,
    train_command,
)
from tweedie_inverse.app.endings import endings
from tweedie_inverse.app.interrupts import IS_COMMAND
from tweedie_inverse.app.options import add_json
from tweedie_inverse.app.parser import Parser
from tweedie_inverse.app.results import reported


def main(arguments: list[str] | None = None) -> None:
    """Parse and run; every error ends with one line and an exit code (`endings`)."""
    if IS_COMMAND:
        warnings.showwarning = _warn
    with endings():
        parser = _parser()
        arguments = sys.argv[1:] if arguments is None else list(map(str, arguments))
        options = parser.parse_args(arguments)
        with reported(options):
            if hasattr(options, "complete"):  # by what a file says
                options = options.complete(parser, arguments, options)
            options.run(options)


def _warn(message, category, filename, lineno, file=None, line=None) -> None:
    """A warning without the line of the program that it comes from."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


_EXAMPLE = """\
examples:
  tweedie-inverse demo
  tweedie-inverse simulate photo.png --crop 64 --operator mask --keep 0.2 --noise 0.05 \\
      --prior photo-64 --out y.npy
  tweedie-inverse solve y.toml --out result/
  tweedie-inverse operators tomography

`tweedie-inverse COMMAND --help` shows the options of a command.
"""


def _parser() -> Parser:
    parser = Parser(
        prog="tweedie-inverse",
        description="Posterior samples of inverse problems with pretrained denoisers.",
        epilog=_EXAMPLE,
    )
    parser.add_argument("--version", action="version", version=_version("tweedie-inverse"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    demo = commands.add_parser(
        "demo",
        help="solve four problems on held-out images",
        epilog="example:\n  tweedie-inverse demo --samples 4 --out demo-output\n",
    )
    demo.add_argument("--out", default="demo-output", help="folder for pictures and table")
    demo.add_argument("--samples", type=int, default=8, help="posterior samples a problem")
    demo.add_argument("--steps", type=int, help="network evaluations a sample")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo)

    solve_command.add(commands)
    report_command.add(commands)
    simulate_command.add(commands)
    sample_command.add(commands)
    operators_command.add(commands)
    check_command.add(commands)
    check_fit_command.add(commands)
    calibrate_command.add(commands)
    priors = commands.add_parser(
        "priors",
        help="list the shipped priors",
        epilog="example:\n  tweedie-inverse priors --json\n",
    )
    add_json(priors)
    priors.set_defaults(run=_priors)
    info = commands.add_parser(
        "info",
        help="versions and devices, or what a network file holds",
        epilog="examples:\n  tweedie-inverse info\n  tweedie-inverse info my-network.pt\n",
    )
    add_json(info)
    info.add_argument("prior", nargs="?", help="as for solve")
    info.add_argument("--format", help="its format, where the file does not tell")
    info.add_argument("--revision", help="commit of a hub id")
    info.add_argument("--weights", help="average, raw, or the name of an entry of the file")
    info.set_defaults(run=_info)

    convert = commands.add_parser(
        "convert",
        help="safetensors from the pickle of an EDM network",
        epilog="example:\n  tweedie-inverse convert network-snapshot.pkl mine.safetensors\n",
    )
    convert.add_argument("pickle", help="network-snapshot.pkl; the code in it is not run")
    convert.add_argument("out", help=".safetensors file")
    convert.set_defaults(run=_convert)

    # Listed here, run by `tweedie_inverse.__main__`: the benchmarks lie above this package.
    commands.add_parser("benchmarks", help="list, run, tune, report and acceptance")

    train_command.add(commands)
    completion.add(commands, parser)
    return parser


def _demo(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.demo import run

    run(options.out, num_samples=options.samples, steps=options.steps, seed=options.seed)


def _priors(options: argparse.Namespace) -> None:
    from tweedie_inverse.priors.zoo import describe, list_priors

    cards = list_priors()
    options.result.update(priors=cards)
    print("\n\n".join(describe(card) for card in cards))


_PACKAGES = ("tweedie-inverse", "torch", "numpy", "scikit-image", "matplotlib", "deepinv")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _info(options: argparse.Namespace) -> None:
    import torch

    if options.prior is not None:
        from tweedie_inverse.priors.zoo import inspect_prior

        found = inspect_prior(
            options.prior,
            format=options.format,
            revision=options.revision,
            weights=options.weights,
        )
        options.result.update(found)
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
        return
    versions = {"python": f"{platform.python_version()} on {platform.platform()}"}
    versions |= {name: _version(name) for name in _PACKAGES}
    print("\n".join(f"{name} {version}" for name, version in versions.items()))
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    options.result.update(versions=versions, threads=torch.get_num_threads(), gpus=gpus)
    print(f"{torch.get_num_threads()} CPU threads; GPUs: {', '.join(gpus) or 'none'}")


def _convert(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.solve_files import separate
    from tweedie_inverse.priors.formats import convert
    from tweedie_inverse.runtime.atomic import ready

    separate([Path(options.out)], [options.pickle])
    ready(options.out)
    print(f"prior: {convert(options.pickle, options.out)}")

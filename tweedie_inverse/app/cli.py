"""The command line: demo, solve, check, check-fit, calibrate, priors, info, convert, train."""

import argparse
import platform
from importlib import metadata
from pathlib import Path

from tweedie_inverse.app import (
    calibrate_command,
    check_command,
    check_fit_command,
    solve_command,
    train_command,
)
from tweedie_inverse.app.endings import endings


def main(arguments: list[str] | None = None) -> None:
    """Parse and run; every error ends with one line and an exit code (`endings`)."""
    with endings():
        options = _parser().parse_args(arguments)
        options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tweedie-inverse",
        description="Posterior samples of inverse problems with pretrained denoisers.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="solve four problems on held-out images")
    demo.add_argument("--out", default="demo-output", help="folder for pictures and table")
    demo.add_argument("--samples", type=int, default=8, help="posterior samples a problem")
    demo.add_argument("--steps", type=int, help="network evaluations a sample")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo)

    solve_command.add(commands)
    check_command.add(commands)
    check_fit_command.add(commands)
    calibrate_command.add(commands)
    priors = commands.add_parser("priors", help="list the shipped priors")
    priors.set_defaults(run=_priors)
    info = commands.add_parser("info", help="versions and devices, or what a network file holds")
    info.add_argument("prior", nargs="?", help="as for solve")
    info.add_argument("--format", help="its format, where the file does not tell")
    info.add_argument("--revision", help="commit of a hub id")
    info.add_argument("--weights", help="average, raw, or the name of an entry of the file")
    info.set_defaults(run=_info)

    convert = commands.add_parser("convert", help="safetensors from the pickle of an EDM network")
    convert.add_argument("pickle", help="network-snapshot.pkl; the code in it is not run")
    convert.add_argument("out", help=".safetensors file")
    convert.set_defaults(run=_convert)

    # Listed here, run by `tweedie_inverse.__main__`: the benchmarks lie above this package.
    commands.add_parser("benchmarks", help="list, run, tune, report and acceptance")

    train_command.add(commands)
    return parser


def _demo(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.demo import run

    run(options.out, num_samples=options.samples, steps=options.steps, seed=options.seed)


def _priors(options: argparse.Namespace) -> None:
    from tweedie_inverse.priors.zoo import describe, list_priors

    print("\n\n".join(describe(card) for card in list_priors()))


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
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
        return
    print(f"python {platform.python_version()} on {platform.platform()}")
    for package in ("tweedie-inverse", "torch", "numpy", "scikit-image", "matplotlib", "deepinv"):
        try:
            print(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"{package} not installed")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{torch.get_num_threads()} CPU threads; GPUs: {', '.join(gpus) or 'none'}")


def _convert(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.solve_files import separate
    from tweedie_inverse.priors.formats import convert
    from tweedie_inverse.runtime.atomic import ready

    separate([Path(options.out)], [options.pickle])
    ready(options.out)
    print(f"prior: {convert(options.pickle, options.out)}")

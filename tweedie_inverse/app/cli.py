"""The command line: every command's options, and what those without a file of their own do.

It is written with argparse; `parser` says why.
"""

import argparse
import dataclasses
import os
import platform
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import get_args

from tweedie_inverse.app import (
    calibrate_command,
    check_command,
    check_fit_command,
    completion,
    operators_command,
    sample_command,
    simulate_command,
    solve_command,
)
from tweedie_inverse.app.endings import endings
from tweedie_inverse.app.interrupts import IS_COMMAND
from tweedie_inverse.app.options import add_json
from tweedie_inverse.app.parser import Parser
from tweedie_inverse.app.results import reported
from tweedie_inverse.datasets.registry import Dataset, dataset
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.noise_levels import NOISE_LEVELS
from tweedie_inverse.training.objective import WEIGHTS
from tweedie_inverse.training.rows import TRAINING_ROWS
from tweedie_inverse.training.tasks import PROCESSES


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

    train = commands.add_parser("train", help="train a prior; run again to resume")
    train.add_argument("folder", help="checkpoint, prior file and card go here")
    train.add_argument("--name", help="name of the prior; default is the folder's")
    train.add_argument("--device", default="cpu")
    train.add_argument(
        "--held-out",
        type=int,
        default=512,
        help="images that the denoising error is measured on; fewer take less time",
    )
    train.add_argument(
        "--row",
        action=_SetRow,
        choices=sorted(TRAINING_ROWS),
        help="a method's --parameterization, --noise-levels and --weight at once; options that "
        "come after it change them again",
    )
    choices = {
        "data": None,
        "noise_levels": [*sorted(NOISE_LEVELS), "learned"],
        "objective": sorted(get_args(TrainingConfig.__annotations__["objective"])),
        "process": sorted(PROCESSES),
        "weight": sorted(WEIGHTS),
    }
    for field in dataclasses.fields(TrainingConfig):
        _add_setting(train, field, choices.get(field.name))
    train.set_defaults(run=_train)
    completion.add(commands, parser)
    return parser


class _SetRow(argparse.Action):
    """`--row` stands for the options it names, wherever it is written."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for name, value in TRAINING_ROWS[values]._asdict().items():
            setattr(namespace, name, value)


def _add_setting(parser: argparse.ArgumentParser, field, choices: list[str] | None) -> None:
    """One option for one field of the training settings."""
    option, default = "--" + field.name.replace("_", "-"), field.default
    if isinstance(default, bool):
        parser.add_argument(option, action="store_true", default=default)
    elif isinstance(default, tuple):
        kind, text = type(default[0]), "default: " + " ".join(map(str, default))
        parser.add_argument(option, type=kind, nargs="+", default=default, help=text)
    else:
        parser.add_argument(
            option, type=type(default), default=default, choices=choices, help=f"default: {default}"
        )


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


def _train(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from tweedie_inverse.app.distributed import ready_device
    from tweedie_inverse.training.export import export, ready_to_export
    from tweedie_inverse.training.trainer import train

    options.device = ready_device(options.device, os.environ)
    folder = Path(options.folder)
    name = folder.resolve().name if options.name is None else options.name
    ready_to_export(folder, name, options.held_out)
    names = [field.name for field in dataclasses.fields(TrainingConfig)]
    settings = {name: getattr(options, name) for name in names}
    for sizes in ("widths", "blocks"):
        settings[sizes] = tuple(settings[sizes])
    config = TrainingConfig(**settings)
    _warm_up(dataset(config.data, config.size))
    with tqdm(total=config.steps, unit="step") as bar:
        for progress in train(config, folder, device=options.device):
            bar.update(progress.step - bar.n)
            bar.set_postfix(loss=f"{progress.loss:.4f}")
    print("measuring the denoising error on held-out images ...")
    path = export(folder, name, count=options.held_out)
    print(f"prior: {path}\ncard:  {path.with_suffix('.md')}")


def _warm_up(data: Dataset) -> None:
    """Fail on a missing image package before the progress bar starts."""
    data.images([0])

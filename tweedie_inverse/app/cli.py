"""The command line: demo, solve, check, check-fit, calibrate, priors, info, convert, train."""

import argparse
import dataclasses
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import get_args

from tweedie_inverse.app import (
    calibrate_command,
    check_command,
    check_fit_command,
    solve_command,
)
from tweedie_inverse.app.endings import endings
from tweedie_inverse.datasets.registry import Dataset, dataset
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.noise_levels import NOISE_LEVELS
from tweedie_inverse.training.objective import WEIGHTS
from tweedie_inverse.training.rows import TRAINING_ROWS
from tweedie_inverse.training.tasks import PROCESSES


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

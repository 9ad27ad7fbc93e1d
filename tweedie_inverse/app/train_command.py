"""`train`: a prior from the images of a folder, or from a data set of this package."""

import argparse
import dataclasses
import os
from pathlib import Path
from typing import get_args

from tweedie_inverse.datasets.registry import names
from tweedie_inverse.training.config import COLOURS, HELD_OUT_BY, TrainingConfig
from tweedie_inverse.training.noise_levels import NOISE_LEVELS
from tweedie_inverse.training.objective import WEIGHTS
from tweedie_inverse.training.precision import PRECISIONS
from tweedie_inverse.training.rows import TRAINING_ROWS
from tweedie_inverse.training.tasks import PROCESSES

_EXAMPLE = """example: fine-tune a shipped prior on your images, for 50 minutes

    tweedie-inverse train runs/mine --data folder/ --minutes 50

Pictures of samples and errors appear in the folder while it runs.  Several GPUs:
torchrun --nproc-per-node 4 -m -- tweedie_inverse train ... --device cuda"""
_HELP = {
    "batch": "images a step, of all processes together",
    "colours": "make all images grey or colour",
    "data": "a folder of images, read with the folders below it, or a data set of this package: "
    + ", ".join(names()),
    "flips": "mirror crops left to right at random; off because few instruments see mirror images",
    "rotations": "turn crops by random quarters; off because few instruments see them so",
    "held_out_by": "which images are held out together: those of a file, or of a folder, such as "
    "the slices of a patient",
    "held_out_share": "share of the images that are never trained on",
    "minutes": "end by the clock instead of by --steps",
    "precision": "of the network's passes; bf16 is the faster one on recent GPUs and CPUs",
    "resize": "scale the shorter side of every image to so many pixels first",
    "size": "pixels along a side of the crops",
    "start": "the prior to start from: a shipped name, a file, auto or none; default auto, the "
    "shipped one that fits, for a folder of images, and none for a data set of this package",
}


def add(commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a prior on your images; run again to resume",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("folder", help="checkpoint, pictures, prior file and card go here")
    train.add_argument("--name", help="name of the prior; default is the folder's")
    train.add_argument("--device", default="cpu")
    train.add_argument("--licence", default="", help="of the weights, for the card")
    train.add_argument(
        "--held-out",
        type=int,
        default=512,
        help="images that the denoising error is measured on; fewer take less time",
    )
    train.add_argument(
        "--check-every",
        type=int,
        default=250,
        help="steps between two looks at held-out images, with samples.png and loss.png; for a "
        "folder of images; 0 for none",
    )
    train.add_argument(
        "--row",
        action=_SetRow,
        choices=sorted(TRAINING_ROWS),
        help="a method's --parameterization, --noise-levels and --weight at once; options that "
        "come after it change them again",
    )
    train.add_argument(
        "--value-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=(),
        help="values that become 0 and 1; default 0 to 255 for 8 bits, else found and printed",
    )
    choices = {
        "colours": list(COLOURS),
        "held_out_by": list(HELD_OUT_BY),
        "noise_levels": [*sorted(NOISE_LEVELS), "learned"],
        "objective": sorted(get_args(TrainingConfig.__annotations__["objective"])),
        "precision": list(PRECISIONS),
        "process": sorted(PROCESSES),
        "weight": sorted(WEIGHTS),
    }
    for field in dataclasses.fields(TrainingConfig):
        if field.name != "value_range":
            _add_setting(train, field, choices.get(field.name))
    # None: not said.
    train.set_defaults(run=_run, start=None, steps=None, minutes=None)


class _SetRow(argparse.Action):
    """`--row` stands for the options it names, wherever it is written."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for name, value in TRAINING_ROWS[values]._asdict().items():
            setattr(namespace, name, value)


def _add_setting(parser: argparse.ArgumentParser, field, choices: list[str] | None) -> None:
    """One option for one field of the training settings."""
    option, default = "--" + field.name.replace("_", "-"), field.default
    said = _HELP.get(field.name, "")
    if isinstance(default, bool):
        parser.add_argument(option, action="store_true", default=default, help=said or None)
    elif isinstance(default, tuple):
        kind, text = type(default[0]), "default: " + " ".join(map(str, default))
        parser.add_argument(option, type=kind, nargs="+", default=default, help=text)
    else:
        text = f"{said}; default: {default}" if said and "default" not in said else said
        parser.add_argument(
            option,
            type=type(default),
            default=default,
            choices=choices,
            help=text or f"default: {default}",
        )


def _run(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.distributed import ready_device
    from tweedie_inverse.training.export import ready_to_export
    from tweedie_inverse.training.images import Generated, Own
    from tweedie_inverse.training.own import AUTO, own_images, start_of
    from tweedie_inverse.training.session import complete
    from tweedie_inverse.training.start import fitted_to_start
    from tweedie_inverse.training.team import join_team, leave_team

    if options.check_every < 0:
        raise ValueError(f"train(check_every={options.check_every}): needs 0 or more steps")
    device = ready_device(options.device, os.environ)
    folder = Path(options.folder)
    name = folder.resolve().name if options.name is None else options.name
    ready_to_export(folder, name, options.held_out)
    config = _settings(options)
    team = join_team(device)
    images: Own | Generated
    if config.data in names():
        if Path(config.data).is_dir() and team.leads:
            print(f"--data {config.data} is the package's own; the folder here is ./{config.data}")
        config = dataclasses.replace(config, start=options.start or "")
        images = Generated(config.data, config.size)
        images.images([0])  # a missing image package is found before the progress bar starts
    else:
        images = own_images(config.data, config, folder, told=_counter(team.leads))
        wanted = AUTO if options.start is None else options.start
        config = dataclasses.replace(config, start=start_of(wanted, images.shape[0]))
        if team.leads:
            print("\n".join(images.statement()))
            print(f"start: {config.start or 'random weights'}")
        config = fitted_to_start(config, images.shape[0])
    path = complete(
        config,
        folder,
        name,
        images=images,
        device=device,
        held_out=options.held_out,
        licence=options.licence,
        check_every=options.check_every if isinstance(images, Own) else 0,
        team=team,
    )
    if team.leads:
        print(f"prior: {path}\ncard:  {path.with_suffix('.md')}")
    leave_team(team)


def _settings(options: argparse.Namespace) -> TrainingConfig:
    """The settings, without the start, which depends on the images."""
    if options.steps is not None and options.minutes is not None:
        raise ValueError(
            f"train(steps={options.steps}, minutes={options.minutes:g}): give one of them"
        )
    said = {
        field.name: getattr(options, field.name) for field in dataclasses.fields(TrainingConfig)
    }
    found = {name: value for name, value in said.items() if value is not None}
    for name in ("widths", "blocks", "value_range"):
        found[name] = tuple(found[name])
    return TrainingConfig(**{**found, "start": ""})


def _counter(shown: bool):
    """A line that counts files where there are many."""
    if not shown:
        return None

    def told(done: int, total: int) -> None:
        if total >= 1000 and (done % 500 == 0 or done == total):
            print(f"\rlooking at files: {done} of {total}", end="\n" * (done == total), flush=True)

    return told

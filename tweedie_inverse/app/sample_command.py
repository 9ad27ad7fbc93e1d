"""The command `sample`: images of a prior, as numbers and as a picture."""

import argparse
import io
import math
import os
from pathlib import Path

from torch import Tensor

from tweedie_inverse.app.options import add_json, add_prior
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks import INTEGRATORS, RECIPES

_EXAMPLE = """\
examples:
  tweedie-inverse sample photo-64 --count 16 --out samples.png
  tweedie-inverse sample digits-32 --classes 3 7 --count 8 --steps 30 --seed 1 --out digits.npy
"""
_PICTURES = (".png", ".pdf", ".svg", ".jpg")


def add(commands) -> None:
    """Enter the command and its options."""
    command = commands.add_parser(
        "sample",
        help="images that a prior believes in",
        description="Draws images from a prior, without any measurement: what it knows.",
        epilog=_EXAMPLE,
    )
    add_prior(command, positional=True)
    command.add_argument("--count", type=int, default=16, help="default %(default)s")
    command.add_argument(
        "--recipe",
        default="ddim",
        help=f"one of {', '.join(sorted([*RECIPES, *INTEGRATORS]))}; default %(default)s",
    )
    command.add_argument("--steps", type=int, help="network evaluations a sample; default 50")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--classes",
        nargs="+",
        type=int,
        metavar="N",
        help="of a prior with classes: --count images of each",
    )
    command.add_argument(
        "--out",
        default="samples.npy",
        help="a file of numbers (npy, npz, h5, tif ...), with a picture beside it, or a picture "
        "alone (png, pdf); default %(default)s",
    )
    command.add_argument("--device", default="cpu", help="such as cuda")
    command.add_argument("--batch-size", type=int, help="samples that run together")
    add_json(command)
    command.set_defaults(run=_sample)


def _sample(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.distributed import ready_device
    from tweedie_inverse.app.equipment import prior_of
    from tweedie_inverse.app.solve_files import separate
    from tweedie_inverse.boundary.arguments import count
    from tweedie_inverse.io.kinds import kind_by_name
    from tweedie_inverse.io.writing import write
    from tweedie_inverse.runtime.atomic import ready, replace

    options.device = ready_device(options.device, os.environ)
    count("sample", "count", options.count, need="at least one sample")
    out = Path(options.out)
    is_picture = out.suffix.lower() in _PICTURES
    picture = out if is_picture else out.with_suffix(".png")
    if not is_picture:
        kind_by_name("sample", out)
    separate([picture], [options.prior])
    ready(out, picture)
    prior, _ = prior_of(options, "sample")
    samples = _drawn(prior, options)
    if not is_picture:
        write(out, samples)
        print(f"samples: {out.resolve()}, {tuple(samples.shape)}")
    drawn = io.BytesIO()
    _grid(samples, prior, options.classes).savefig(
        drawn, dpi=110, format=picture.suffix.removeprefix(".").lower()
    )
    replace(picture, drawn.getvalue())
    print(f"picture: {picture.resolve()}")
    options.result.update(
        samples=None if is_picture else out,
        picture=picture,
        shape=tuple(samples.shape),
        minimum=samples.min(),
        maximum=samples.max(),
        classes=options.classes,
    )


def _drawn(prior: Prior, options: argparse.Namespace) -> Tensor:
    """The samples of all classes, one class after the other."""
    import torch

    from tweedie_inverse.sampling.sampling import sample

    found = [
        sample(
            one,
            options.count,
            recipe=options.recipe,
            steps=options.steps,
            seed=options.seed,
            batch_size=options.batch_size,
            progress=True,
            device=options.device,
        )
        for one in _of_classes(prior, options.classes)
    ]
    return torch.cat(found).cpu()


def _of_classes(prior: Prior, classes: list[int] | None) -> list[Prior]:
    """The prior of each class, or the prior itself."""
    from tweedie_inverse.priors.guidance import given

    if classes is None:
        return [prior]
    try:
        return [given(prior, label) for label in classes]  # type: ignore[type-var]
    except (ValueError, TypeError) as error:
        raise ValueError(f"--classes {' '.join(map(str, classes))}: {error}") from error


def _grid(samples: Tensor, prior: Prior, classes: list[int] | None):
    """All samples beside each other, black and white the prior's, a row for each class."""
    from matplotlib.figure import Figure

    total = len(samples)
    columns = total // len(classes) if classes else math.ceil(math.sqrt(total))
    rows = math.ceil(total / columns)
    low, high = prior.value_range or (float(samples.min()), float(samples.max()))
    figure = Figure(figsize=(1.3 * columns, 1.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, one in zip(axes, samples, strict=False):
        image = one if one.ndim == 3 else one.reshape(1, 1, -1)
        image = image[:1] if image.shape[0] not in (1, 3) else image
        shown = ((image - low) / (high - low)).clamp(0, 1).movedim(0, -1).numpy()
        axis.imshow(
            shown.squeeze(-1) if shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=1
        )
    if classes:
        for row, label in enumerate(classes):
            axes[row * columns].set_title(f"class {label}", fontsize=8, loc="left")
    return figure

"""The command `simulate`: a measurement of an image, and the problem file that solves it."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from tweedie_inverse import io as files
from tweedie_inverse.app import equipment, measurements, problem_file, saved_problem
from tweedie_inverse.app.catalogue import values
from tweedie_inverse.app.exports import shares_grid
from tweedie_inverse.app.options import MEASUREMENT_KEY, add_json, add_noise, add_operator
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.boundary.images import as_image
from tweedie_inverse.priors.base import Prior

_EXAMPLE = """\
examples:
  tweedie-inverse simulate photo.png --crop 64 --operator mask --keep 0.2 --noise 0.05 \\
      --prior photo-64 --out y.npy
  tweedie-inverse simulate head.dcm --resize 128 --rescale -1000,1000 --operator tomography \\
      --angles 30 --noise 0.5 --prior phantom-128 --out sinogram.h5
  tweedie-inverse solve sinogram.toml
"""


def add(commands) -> None:
    """Enter the command and its options."""
    command = commands.add_parser(
        "simulate",
        help="a measurement of an image, and the problem file that solves it",
        usage="%(prog)s IMAGE --operator NAME [its options] --noise STD --out y.npy [options]",
        description="Applies an instrument to an image and adds noise. The problem file beside the "
        "measurement, y.toml, is what `solve` needs.",
        epilog=_EXAMPLE,
    )
    command.add_argument("image", help="a file of any kind that solve reads")
    command.add_argument("--key", help=MEASUREMENT_KEY)
    sides = values.SIDES.metavar
    command.add_argument(
        "--crop", metavar=sides, help="take this much from the middle, before --resize"
    )
    command.add_argument(
        "--resize", metavar=sides, help="average or interpolate to so many pixels (bicubic)"
    )
    command.add_argument(
        "--rescale",
        metavar="LOW,HIGH",
        help="numbers of the file that become 0 and 1 (the prior's value range, where --prior is "
        "given), such as --rescale -1000,1000 for HU; default black and white of a picture, and "
        "nothing for other files",
    )
    command.add_argument(
        "--value-range",
        metavar="LOW,HIGH",
        help="for the problem file: numbers of the image that the ends of the prior's value range "
        "stand for, such as --value-range -1000,1000 to stay in HU",
    )
    command.add_argument("--grey", action="store_true", help="make a picture in colour grey")
    add_operator(command)
    add_noise(command, "of the instrument, in units of the measurement")
    command.add_argument("--seed", type=int, default=0, help="of the noise; default 0")
    command.add_argument("--prior", help="for the problem file; the image is checked against it")
    command.add_argument("--out", required=True, help="y.npy, y.h5, y.npz, y.png or another kind")
    command.add_argument("--truth", metavar="FILE", help="write the image that was measured, too")
    add_json(command)
    command.set_defaults(run=_simulate)


def _simulate(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.solve_files import separate
    from tweedie_inverse.io.kinds import kind_by_name
    from tweedie_inverse.runtime.atomic import ready

    out, problem = Path(options.out), Path(options.out).with_suffix(problem_file.SUFFIX)
    options.problem = options.method = None
    written = [out, *([Path(options.truth)] if options.truth else [])]
    for path in written:
        kind_by_name("simulate", path)
    separate(written, [options.image, *equipment.files_of(options)])
    saved_problem.refuse_other(problem, options)
    ready(*written, problem)
    operators = equipment.operators(options, "simulate")
    equipment.known_noise_of(options.noise, "simulate")
    prior = _prior(options)
    data = measurements.load(options.image, options.key)
    image = _image(data, options, (0.0, 1.0) if prior is None else prior.value_range)
    if prior is not None:
        _fit(image, prior, options)
    operator = operators.for_image(tuple(image.shape))
    if operator.noise is None:
        raise ValueError(
            "simulate: --noise is missing: a standard deviation in units of the "
            "measurement, or a model with its numbers (--help lists them)"
        )
    y = operator.measure(image, seed=options.seed)
    if operator.range_is_complex:
        half = y.shape[0] // 2
        y = torch.complex(y[:half], y[half:])
        y = y[0] if len(y) == 1 else y
    like = data if shares_grid(operator, data) and not options.rescale else None
    files.write(out, y, like=like)
    if options.truth:
        files.write(options.truth, image)
    saved_problem.write(problem, _asked(options, out))
    print(f"measurement: {out.resolve()}, {tuple(y.shape)}, made by {operator!r}")
    print(f"problem: {problem.resolve()}; tweedie-inverse solve {problem}")
    options.result.update(
        measurement=out, shape=tuple(y.shape), problem=problem, truth=options.truth
    )


def _prior(options: argparse.Namespace) -> Prior | None:
    """The prior that is named, in the units that are asked for."""
    options.format = options.revision = options.weights = None
    options.device, options.tiled = "cpu", False
    if options.prior is None:
        if options.value_range is not None:
            raise ValueError("simulate: --value-range is of a prior; name it by --prior")
        return None
    return equipment.prior_of(options, "simulate")[0]


def _fit(image: Tensor, prior: Prior, options: argparse.Namespace) -> None:
    """Hold an image against the prior that is to solve for it; say what does not fit."""
    if len(prior.shape) != 3 or image.shape[0] != prior.shape[0]:
        grey = "; --grey makes it grey" if (len(image), prior.shape[0]) == (3, 1) else ""
        raise ValueError(
            f"simulate: the image has {_channels(image.shape[0])}, and --prior {options.prior} is "
            f"for {_channels(prior.shape[0])}{grey}"
        )
    sides = " x ".join(map(str, image.shape[1:]))
    own = ",".join(map(str, prior.shape[1:]))
    try:
        prior.for_shape(tuple(image.shape))
    except ValueError:
        if any(here < side for here, side in zip(image.shape, prior.shape, strict=True)):
            raise ValueError(
                f"simulate: the image is {sides}, smaller than the {own} of --prior "
                f"{options.prior}; --resize {own}"
            ) from None
        options.tiled = True
        print(f"the image is {sides}, larger than the {own} of {options.prior}: the problem file "
              f"says tiled = true; --resize {own} makes it as large")  # fmt: skip
    if prior.value_range is None:
        return
    low, high = prior.value_range
    least, most, room = float(image.min()), float(image.max()), 0.5 * (high - low)
    if least < low - room or most > high + room:
        raise ValueError(
            f"simulate: the image has values from {least:g} to {most:g}, and those of --prior "
            f"{options.prior} lie in {low:g} to {high:g}. --value-range LOW,HIGH says which of "
            "your numbers these are (results stay in your units), --rescale LOW,HIGH changes yours"
        )


def _channels(count: int) -> str:
    return f"{count} channel{'s' * (count != 1)}"


def _image(
    data: Data, options: argparse.Namespace, prior_range: tuple[float, float] | None
) -> Tensor:
    """The image ``(channels, height, width)`` of a file, cropped, resized and rescaled as asked."""
    low, high = prior_range or (0.0, 1.0)
    for note in data.notes:
        print(f"{options.image}: {note}")
    x = data.values if data.values.ndim > 2 else data.values[None]
    x = x if x.dtype == torch.float64 else x.float()
    if x.ndim != 3:
        raise ValueError(
            f"simulate: {options.image} holds {tuple(data.shape)}; needs one image (height, width) "
            "or (channels, height, width)"
        )
    if options.rescale is not None:
        black, white = _ends(options.rescale)
        print(f"{options.image}: {black:g} to {white:g} become {low:g} to {high:g}")
        x = low + (x - black) * ((high - low) / (white - black))
    elif data.value_range is not None:
        black, white = data.value_range
        print(f"{options.image}: {black:g} to {white:g} become {low:g} to {high:g}")
        x = as_image(data, value_range=(low, high))
    if options.grey and x.shape[0] == 3:
        x = torch.einsum("c,chw->hw", x.new_tensor((0.299, 0.587, 0.114)), x)[None]
    if options.crop is not None:
        x = _cropped(x, _sides("crop", options.crop))
    if options.resize is not None:
        x = _resized(x, _sides("resize", options.resize))
    return x.contiguous()


def _ends(text: str) -> tuple[float, float]:
    try:
        black, white = values.numbers(2).read(text)
    except ValueError as error:
        raise ValueError(f"--rescale: {error}") from None
    if black == white:
        raise ValueError(f"--rescale {text}: LOW and HIGH must differ")
    return black, white


def _sides(option: str, text: str) -> tuple[int, int]:
    try:
        return values.sides(text)
    except ValueError as error:
        raise ValueError(f"--{option}: {error}") from None


def _cropped(x: Tensor, sides: tuple[int, int]) -> Tensor:
    first = [(there - here) // 2 for there, here in zip(x.shape[1:], sides, strict=True)]
    if min(first) < 0:
        raise ValueError(
            f"--crop {sides[0]},{sides[1]}: the image has {x.shape[1]} x {x.shape[2]} pixels"
        )
    return x[:, first[0] : first[0] + sides[0], first[1] : first[1] + sides[1]]


def _resized(x: Tensor, sides: tuple[int, int]) -> Tensor:
    whole = all(there % here == 0 for there, here in zip(x.shape[1:], sides, strict=True))
    if whole:  # the mean keeps brightness, and no value leaves the range
        return torch.nn.functional.adaptive_avg_pool2d(x[None], sides)[0]
    return torch.nn.functional.interpolate(
        x[None], size=sides, mode="bicubic", antialias=True, align_corners=False
    )[0]


def _asked(options: argparse.Namespace, out: Path) -> argparse.Namespace:
    """What `solve` is to be asked for."""
    asked = argparse.Namespace(**vars(options))
    asked.measurement, asked.out, asked.key = [str(out)], None, None
    del asked.seed, asked.device  # the seed is of this noise, and not of samples
    return asked

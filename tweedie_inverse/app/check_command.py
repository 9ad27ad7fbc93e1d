"""`tweedie-inverse check`: does this prior denoise images like mine, and where is it of use?"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tweedie_inverse.app.measurements import in_units_of, load
from tweedie_inverse.app.options import MEASUREMENT_KEY, add_json, add_prior
from tweedie_inverse.evaluation.check_prior import check_prior
from tweedie_inverse.priors.base import Prior

# Exit code where the check fails, as of `solve --strict`.
FAILED = 3
# More tiles of large images make the check longer and hardly better.
_MOST = 64


def add(commands) -> None:
    """Enter the command and its options."""
    check = commands.add_parser(
        "check",
        help="test a prior on images it should know, and name the likely mistake",
        epilog="example:\n  tweedie-inverse check my-network.pt held-out-images/\n",
    )
    add_prior(check, positional=True)
    check.add_argument(
        "images",
        nargs="*",
        help="files or folders of images in the prior's units, eight or more; pictures are brought "
        "to its value range, and large images cut into tiles; without any, the prior's own samples",
    )
    check.add_argument("--key", help=MEASUREMENT_KEY)
    check.add_argument("--seed", type=int, default=0, help="of the noise")
    check.add_argument("--device", default="cpu", help="such as cuda")
    add_json(check)
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> None:
    from tweedie_inverse.app.equipment import prior_of
    from tweedie_inverse.runtime.devices import usable

    options.device = usable(options.device, "check")
    _files(options.images)
    prior, _ = prior_of(options, "check")
    images = images_of(prior, options.images, options.key, most=_MOST)
    if images is not None:
        images = images.to(options.device)
    report = check_prior(prior, images, seed=options.seed)
    print(report)
    options.result.update(
        passed=report.passed,
        findings=report.findings,
        suspects=report.suspects,
        levels=report.levels,
        usable=report.usable,
        blind=report.blind,
    )
    if not report.passed:
        raise SystemExit(FAILED)


def images_of(prior: Prior, given: Sequence[str], key: str | None, *, most: int) -> Tensor | None:
    """The images of files and folders in the prior's units, `most` or fewer; None if none given.

    Raises:
        ValueError: there is no such file, or one holds no images of the prior's shape.
    """
    files = _files(given)
    if not files:
        return None
    images = torch.cat([_images_in(file, prior, key) for file in files])[:most]
    print(f"{len(images)} images of {tuple(prior.shape)}")
    return images


def _files(given: Sequence[str]) -> list[Path]:
    """The files that are named, and all of the folders, by name.

    Raises:
        ValueError: there is no such file, or a folder is empty.
    """
    found: list[Path] = []
    for name in given:
        path = Path(name)
        inside = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"check: there is no file in {name}")
        found += inside
    return found


def _images_in(file: Path, prior: Prior, key: str | None) -> Tensor:
    """The images of one file, ``(count, *shape)``: itself, a batch, or tiles of it.

    Raises:
        ValueError: it has other channels, or is smaller than the prior's images.
    """
    values = in_units_of(prior, load(file, key), file.name, print)
    values, shape = values.to(torch.promote_types(values.dtype, torch.float32)), tuple(prior.shape)
    if tuple(values.shape[1:]) == shape:
        return values
    if values.ndim == len(shape) - 1:
        values = values[None]
    if values.ndim == len(shape) == 3 and values.shape[0] == shape[0]:
        return _tiles(values, shape, file)
    if values.ndim == len(shape) == 3 and shape[0] == 1:  # a stack of grey images
        return torch.cat([_tiles(one[None], shape, file) for one in values])
    raise ValueError(
        f"{file}: holds {tuple(values.shape)}, and this prior is for images of shape {shape}, or "
        "larger ones with as many channels"
    )


def _tiles(image: Tensor, shape: tuple[int, ...], file: Path) -> Tensor:
    """An image ``(channels, height, width)`` in pieces of the prior's size, none twice."""
    height, width = shape[1:]
    if image.shape[1] < height or image.shape[2] < width:
        raise ValueError(
            f"{file}: is {image.shape[1]} x {image.shape[2]} pixels, smaller than this prior's "
            f"{height} x {width}"
        )
    rows = image.unfold(1, height, height).unfold(2, width, width)  # (c, rows, columns, h, w)
    return rows.permute(1, 2, 0, 3, 4).flatten(0, 1)

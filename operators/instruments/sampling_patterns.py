"""Sampling patterns: which pixels, or which frequencies, are measured; boolean, from a seed."""

import math

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, image_sizes, number, sizes, volume_sizes
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.numerics.random import normal


def random_mask(image_shape: tuple[int, ...], keep: float, *, seed: int = 0) -> Tensor:
    """A mask that keeps each pixel (all its channels) with probability `keep`; volumes, too."""
    keep = number("random_mask", "keep", keep, above=0, high=1, need="a share in (0, 1]")
    image_shape = volume_sizes("random_mask", image_shape)
    seed = checked_seed("random_mask", "seed", seed)
    threshold = torch.special.ndtri(torch.tensor(keep, dtype=torch.float64))
    pixels = normal(("random mask", seed), image_shape[1:]) < threshold
    return pixels.expand(image_shape).clone()


def box_mask(
    image_shape: tuple[int, int, int],
    box: tuple[int, int],
    *,
    corner: tuple[int, int] | None = None,
) -> Tensor:
    """A mask that hides a rectangle `box` ``(height, width)``; by default in the centre.

    `corner` is the rectangle's first row and column.
    """
    size, box = image_sizes("box_mask", image_shape)[1:], _plane("box_mask", "box", box)
    if corner is None:
        row, column = (size[0] - box[0]) // 2, (size[1] - box[1]) // 2
    elif isinstance(corner, tuple | list) and len(corner) == 2:
        need = "a row and a column"
        row, column = (count("box_mask", "corner", place, least=0, need=need) for place in corner)
    else:
        raise TypeError(f"box_mask(corner={corner!r}): needs a row and a column, such as (0, 0)")
    corner = (row, column)
    ends = (corner[0] + box[0], corner[1] + box[1])
    if min(box) < 1 or min(corner) < 0 or ends[0] > size[0] or ends[1] > size[1]:
        raise ValueError(
            f"box_mask: a box of {box} at {corner} does not lie inside an image of {size} pixels"
        )
    mask = torch.ones(image_shape, dtype=torch.bool)
    mask[:, corner[0] : ends[0], corner[1] : ends[1]] = False
    return mask


def cartesian_mask(
    size: tuple[int, int], acceleration: float, *, centre: float = 0.08, seed: int = 0
) -> Tensor:
    """MRI: whole columns of k-space ``(height, width)``, the origin in the centre.

    Args:
        size: height and width of the image.
        acceleration: width divided by the number of measured columns, 1 or more.
        centre: share of the columns, around the origin, that is always measured.
        seed: fixes the others, drawn evenly.
    """
    height, width = _plane("cartesian_mask", "size", size)
    acceleration = number("cartesian_mask", "acceleration", acceleration, above=0)
    centre = number("cartesian_mask", "centre", centre)
    seed = checked_seed("cartesian_mask", "seed", seed)
    central, total = round(centre * width), round(width / acceleration)
    if acceleration < 1 or not 0 <= central <= total:
        raise ValueError(
            f"cartesian_mask(acceleration={acceleration}, centre={centre}): {total} columns are "
            f"to be seen in all and {central} of them in the centre; lower one of the two"
        )
    # The centre first, then the rest in random order.
    order = normal(("cartesian mask", seed), (width,))
    first = width // 2 - central // 2
    order[first : first + central] = -math.inf
    seen = torch.zeros(width, dtype=torch.bool)
    seen[order.argsort()[:total]] = True
    return seen.expand(height, width).clone()


def radial_mask(size: tuple[int, int], spokes: int) -> Tensor:
    """MRI: straight lines through the origin of k-space, evenly turned, on the pixel grid.

    Args:
        size: height and width of the image; the origin is the pixel ``(h // 2, w // 2)``.
        spokes: number of lines, over the half turn.
    """
    spokes = count("radial_mask", "spokes", spokes, need="at least one line")
    height, width = size = _plane("radial_mask", "size", size)
    angles = torch.arange(spokes, dtype=torch.float64) * (math.pi / spokes)
    reach = math.hypot(height, width) / 2
    along = torch.arange(-reach, reach + 0.5, 0.5, dtype=torch.float64)
    rows = (height // 2 - along * angles.sin()[:, None]).round().long()
    columns = (width // 2 + along * angles.cos()[:, None]).round().long()
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    mask = torch.zeros(size, dtype=torch.bool)
    mask[rows[inside], columns[inside]] = True
    return mask


def _plane(caller: str, name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    found = sizes(caller, name, size, need="height and width, such as (64, 64)")
    if len(found) != 2:
        raise ValueError(f"{caller}({name}={found}): needs height and width")
    return found[0], found[1]

"""Images of ellipses, whose line integrals are known."""

import math

import torch
from torch.nn import functional as F

# Ellipses: value, centre, semi-axes in halves of the smaller image side, and turn in degrees.

ELLIPSES = [
    (1.0, (0.0, 0.0), (0.7, 0.85), 15.0),
    (-0.4, (0.25, 0.1), (0.2, 0.4), -20.0),
    (0.7, (-0.3, -0.25), (0.25, 0.15), 40.0),
    (0.5, (0.1, -0.55), (0.15, 0.15), 0.0),
]
DISK = [(1.0, (0.2, 0.25), (0.45, 0.45), 0.0)]


def to_unit_disk(x, y, ellipse, scale):
    """The affine map that makes the ellipse the unit disk, without its shift."""
    _, _, (a, b), turn = ellipse
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return (x * cos + y * sin) / (a * scale), (y * cos - x * sin) / (b * scale)


def phantom(height, width, ellipses=ELLIPSES, fine=6):
    """Share of each pixel's area inside the ellipses, from ``fine**2`` points a pixel."""
    scale = min(height, width) / 2
    x = (torch.arange(width * fine).double() + 0.5) / fine - width / 2
    y = height / 2 - (torch.arange(height * fine).double() + 0.5) / fine
    image = torch.zeros(1, 1, height * fine, width * fine, dtype=torch.float64)
    for ellipse in ellipses:
        (cx, cy) = ellipse[1]
        u, v = to_unit_disk(x[None] - cx * scale, y[:, None] - cy * scale, ellipse, scale)
        image += ellipse[0] * (u**2 + v**2 < 1)
    return F.avg_pool2d(image, fine)

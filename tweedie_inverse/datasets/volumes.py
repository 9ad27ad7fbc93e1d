"""CT-like volumes: the body of a slice, continued above and below it.

Every ellipse of a slice (`CTSlices`) becomes an ellipsoid whose section it is, with a length of its
own along the body and a slant; the texture is a field in three dimensions.  What lies near the
slice that a body began with looks like the slices that the shipped priors were trained on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from tweedie_inverse.datasets.slices import CTSlices, Ellipse, scene_of, texture_std

# Half lengths along the body, in units of the mean half axis of a section, and millimetres at
# least; what encloses others goes on for longer.
_LENGTH, _LEAST, _ENCLOSING = (0.8, 2.0), 12.0, 6.0
_SLANT = 0.25  # millimetres to the side for one along the body, at most
_TEXTURE = 25.0  # millimetres, as of the slices


@dataclass(frozen=True)
class CTVolumes:
    """Grey volumes in [0, 1] in the units of `CTSlices`, ``(1, depth, size, size)``.

    Attributes:
        spacing: from slice to slice, in millimetres.
    """

    size: int = 64
    depth: int = 16
    spacing: float = 5.0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (1, self.depth, self.size, self.size)

    def volumes(self, seeds: Sequence[int]) -> Tensor:
        """``(count, 1, depth, size, size)``."""
        return torch.stack([self._volume(seed) for seed in seeds])

    def _volume(self, seed: int) -> Tensor:
        slices, draw = CTSlices(self.size), Random(seed)
        scene = scene_of(draw)
        x, y = slices.warped_grid([draw])
        lengths = Random(f"along the body {seed}")
        shapes = [_ellipsoid(ellipse, lengths) for ellipse in scene]
        places = (torch.arange(self.depth) - (self.depth - 1) / 2) * self.spacing
        sections = [
            [_section(*pair, float(z)) for pair in zip(scene, shapes, strict=True)] for z in places
        ]
        together = (self.depth, self.size, self.size)
        hounsfield = slices.paint(sections, x.expand(together), y.expand(together))
        hounsfield = hounsfield + texture_std(hounsfield) * self._texture(seed)
        return ((hounsfield + 1000) / 2000).clamp(0, 1)[None]

    def _texture(self, seed: int) -> Tensor:
        """A field of variance 1, ``(depth, size, size)``."""
        generator = torch.Generator().manual_seed(int(seed))
        size, pixel = (self.depth, self.size, self.size), CTSlices(self.size).pixel_size
        steps = (self.spacing, pixel, pixel)
        axes = [torch.fft.fftfreq(n, step) for n, step in zip(size, steps, strict=True)]
        squares = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
        # Of this power a section has that of the slices' texture.
        root = (1 + squares * _TEXTURE**2) ** -0.75
        field = torch.fft.ifftn(torch.fft.fftn(torch.randn(size, generator=generator)) * root).real
        return field / field.std()


def _ellipsoid(ellipse: Ellipse, draw: Random) -> tuple[float, float, float, float]:
    """Half length along the body, where the slice cuts it, and slants along both axes."""
    enclosing = ellipse.inside <= 0 and ellipse.a > 60
    length = math.sqrt(ellipse.a * ellipse.b) * draw.uniform(*_LENGTH)
    length = max(length, _LEAST) * (_ENCLOSING if enclosing else 1.0)
    offset = draw.uniform(-0.5, 0.5) * length
    slants = [0.0 if enclosing else draw.uniform(-_SLANT, _SLANT) for _ in range(2)]
    return length, offset, slants[0], slants[1]


def _section(ellipse: Ellipse, ellipsoid: tuple[float, float, float, float], z: float) -> Ellipse:
    """The ellipse at a place along the body; at 0 it is the one of the slice."""
    length, offset, along_x, along_y = ellipsoid
    whole = 1 - (offset / length) ** 2
    share = (1 - ((z + offset) / length) ** 2) / whole
    if share <= 0:
        return ellipse._replace(x=1e4, y=1e4, a=1.0, b=1.0)
    side = math.sqrt(share)
    return ellipse._replace(
        x=ellipse.x + along_x * z,
        y=ellipse.y + along_y * z,
        a=max(side * ellipse.a, 0.5),
        b=max(side * ellipse.b, 0.5),
    )

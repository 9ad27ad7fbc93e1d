"""Training images, each fixed by its seed: phantoms, dead leaves, photograph patches, digits.

A data set is a function ``seeds -> (len(seeds), channels, size, size)`` in [0, 1].  Seeds from
`HELD_OUT_SEED` on, and the photographs in `HELD_OUT_PHOTOS`, are never trained on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

HELD_OUT_SEED = 1_000_000_000
HELD_OUT_PHOTOS = ("astronaut", "coffee", "camera")

# Photographs that come inside the wheels of scikit-image and scikit-learn, with their licences as
# those packages state them; pictures without a stated licence are left out.
TRAINING_PHOTOS = {
    "chelsea": "CC0",
    "rocket": "public domain",
    "china": "CC BY 2.0, danielbuechele (flickr)",
    "flower": "CC BY 2.0, vultilion (flickr)",
    "hubble_deep_field": "public domain (NASA)",
    "retina": "CC0",
    "immunohistochemistry": "no known restrictions",
    "brick": "CC0",
    "grass": "CC0",
    "gravel": "CC0",
    "coins": "no known restrictions",
}
# How often each is drawn: everyday scenes most, instruments and textures for variety.
_PHOTO_WEIGHTS = {"chelsea": 4.0, "rocket": 4.0, "china": 8.0, "flower": 5.0, "coffee": 4.0}


class Dataset(Protocol):
    """Images by seed; `shape` is that of one image."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def images(self, seeds: Sequence[int]) -> Tensor: ...


def _uniform(generators: Sequence[torch.Generator], *shape: int) -> Tensor:
    return torch.stack([torch.rand(shape, generator=g) for g in generators])


def _generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


@dataclass(frozen=True)
class EllipsePhantoms:
    """Grey CT-like slices: a body, organs of several sizes, bright and dark inserts; in [0, 1].

    Air is 0, soft tissue about 0.2 to 0.6, bright inserts up to 1.  Edges are one pixel wide.
    """

    size: int = 64
    organs: int = 14

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    def images(self, seeds: Sequence[int]) -> Tensor:
        u = _uniform(_generators(seeds), self.organs + 1, 8)  # (batch, ellipses, parameters)
        body, organs = u[:, :1], u[:, 1:]
        centre, axes, angle = self._body(body)
        image = self._inside(centre, axes, angle)[:, 0] * (0.2 + 0.25 * body[:, 0, 5, None, None])
        limit = image > 0
        # Organs sit inside the body ellipse, large ones first.
        radius, turn = 0.85 * organs[..., 0].sqrt(), 2 * math.pi * organs[..., 1]
        unit = torch.stack([radius * turn.cos(), radius * turn.sin()], dim=-1) * axes
        cos, sin = angle.cos(), angle.sin()
        rotated = torch.stack(
            [cos * unit[..., 0] - sin * unit[..., 1], sin * unit[..., 0] + cos * unit[..., 1]],
            dim=-1,
        )
        largest = torch.linspace(0.45, 0.06, self.organs)
        size = largest[:, None] * (0.5 + 0.7 * organs[..., 2:4])
        inside = self._inside(centre + rotated, size, math.pi * organs[..., 4])
        step = 0.4 * (organs[..., 5] - 0.5) + 0.3 * (organs[..., 6] > 0.9)
        present = organs[..., 7] < 0.75
        for k in range(self.organs):  # later organs cover earlier ones
            weight = inside[:, k] * present[:, k, None, None] * limit
            image = image + weight * step[:, k, None, None]
        return image.clamp(0, 1)[:, None]

    def _body(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        centre = 0.16 * (u[..., 0:2] - 0.5)
        axes = torch.stack([0.62 + 0.28 * u[..., 2], 0.5 + 0.3 * u[..., 3]], dim=-1)
        return centre, axes, math.pi * (u[..., 4] - 0.5) / 2

    def _inside(self, centre: Tensor, axes: Tensor, angle: Tensor) -> Tensor:
        """Area coverage ``(batch, ellipses, size, size)`` of ellipses in [-1, 1]^2."""
        grid = (torch.arange(self.size) + 0.5) * (2 / self.size) - 1
        x = grid[None, None, None, :] - centre[..., 0, None, None]
        y = grid[None, None, :, None] - centre[..., 1, None, None]
        cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
        p = (cos * x + sin * y) / axes[..., 0, None, None]
        q = (cos * y - sin * x) / axes[..., 1, None, None]
        distance = (p**2 + q**2).sqrt()
        # First-order distance to the edge in pixels, |f| / |grad f|, gives the covered fraction.
        gradient = (
            ((cos * p / axes[..., 0, None, None] - sin * q / axes[..., 1, None, None]) ** 2)
            + ((sin * p / axes[..., 0, None, None] + cos * q / axes[..., 1, None, None]) ** 2)
        ).sqrt() / distance.clamp(min=1e-6)
        return ((1 - distance) / gradient.clamp(min=1e-6) * (self.size / 2) + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class DeadLeaves:
    """Colour images of occluding shaded discs with a power law of radii (Lee et al. 2001).

    Natural-image statistics (edges, scale invariance, occlusion) from a formula.
    """

    size: int = 64
    leaves: int = 220

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    def images(self, seeds: Sequence[int]) -> Tensor:
        return torch.stack([self._image(generator) for generator in _generators(seeds)])

    def _image(self, generator: torch.Generator) -> Tensor:
        u = torch.rand(self.leaves, 10, generator=generator)
        # Density of radii ~ r^-3 between 2 pixels and the image size.
        small, large = 2.0 / self.size, 1.0
        radius = (small**-2 + u[:, 0] * (large**-2 - small**-2)) ** -0.5
        grid = (torch.arange(self.size) + 0.5) / self.size
        x = grid[None, None, :] - (1.4 * u[:, 1, None, None] - 0.2)
        y = grid[None, :, None] - (1.4 * u[:, 2, None, None] - 0.2)
        aspect = 0.4 + 0.6 * u[:, 3, None, None]
        turn = 2 * math.pi * u[:, 4, None, None]
        p, q = turn.cos() * x + turn.sin() * y, (turn.cos() * y - turn.sin() * x) / aspect
        r = radius[:, None, None]
        cover = ((r - (p**2 + q**2).sqrt()) * self.size * 0.8 + 0.5).clamp(0, 1)
        v = torch.rand(6, generator=generator)
        base = 0.15 + 0.7 * v[0] + 0.4 * (v[1:4] - 0.5)
        # Brightness varies more than hue, as in photographs.
        shade, hue = u[:, 5:6] - 0.5, u[:, 6:9] - 0.5
        colour = base + (0.2 + 0.7 * v[4]) * shade + (0.1 + 0.4 * v[5]) * hue
        slope = (u[:, 9, None, None] - 0.5) * 0.5 * p / r
        image = base[:, None, None].expand(3, self.size, self.size)
        for k in range(self.leaves):
            leaf = colour[k][:, None, None] + slope[k]
            image = image + cover[k] * (leaf - image)
        return image.clamp(0, 1)


@dataclass(frozen=True)
class Photographs:
    """Random patches of the bundled photographs, at random scale, orientation and exposure."""

    size: int = 64
    names: tuple[str, ...] = tuple(TRAINING_PHOTOS)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    def images(self, seeds: Sequence[int]) -> Tensor:
        return torch.stack([self._patch(generator) for generator in _generators(seeds)])

    def _patch(self, generator: torch.Generator) -> Tensor:
        weights = torch.tensor([_PHOTO_WEIGHTS.get(name, 1.0) for name in self.names])
        name = self.names[int(torch.multinomial(weights, 1, generator=generator))]
        levels = _pyramid(name, self.size)
        u = torch.rand(12, generator=generator)
        image = levels[int(u[0] * len(levels))]
        top = int(u[1] * (image.shape[1] - self.size + 1))
        left = int(u[2] * (image.shape[2] - self.size + 1))
        patch = image[:, top : top + self.size, left : left + self.size]
        patch = torch.rot90(patch, int(u[3] * 4), (1, 2))
        if u[4] < 0.5:
            patch = patch.flip(2)
        if u[5] < 0.15:
            patch = patch[torch.randperm(3, generator=generator)]
        patch = patch.clamp(min=0) ** (0.75 + 0.5 * u[6])  # exposure
        if u[7] < 0.35:  # white balance
            patch = patch * (0.8 + 0.4 * u[8:11, None, None])
        return patch.clamp(0, 1)


@dataclass(frozen=True)
class Digits:
    """Handwritten digits with their classes, 1797 of 8x8 pixels, from scikit-learn.

    Their 17 grey values are spread evenly over their bins, ``(value + u) / 17``, so that they have
    a density.  Every fifth image is held out.
    """

    size: int = 8
    classes: int = 10

    def __post_init__(self) -> None:
        if self.size != 8:
            raise ValueError(f"digits are 8x8 pixels, but size {self.size} was asked for; size=8")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, 8, 8)

    def images(self, seeds: Sequence[int]) -> Tensor:
        values, spread = load_digits()[0], _uniform(_generators(seeds), 1, 8, 8)
        return (values[self._index(seeds)] + spread) / 17

    def labels(self, seeds: Sequence[int]) -> Tensor:
        """The class of each image, ``(len(seeds),)`` from 0 to 9."""
        return load_digits()[1][self._index(seeds)]

    def _index(self, seeds: Sequence[int]) -> Tensor:
        every = torch.arange(len(load_digits()[1]))
        held_out, trained = every[every % 5 == 0], every[every % 5 != 0]
        # A large odd stride walks through all images in an order of its own.
        places = [
            held_out[(seed - HELD_OUT_SEED) % len(held_out)]
            if seed >= HELD_OUT_SEED
            else trained[(seed * 7919) % len(trained)]
            for seed in seeds
        ]
        return torch.stack(places)


@dataclass(frozen=True)
class Mixture:
    """A fixed share of one data set, the rest of another."""

    first: Dataset
    second: Dataset
    share: float = 0.75

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.first.shape

    def images(self, seeds: Sequence[int]) -> Tensor:
        # The golden ratio spreads consecutive seeds evenly over [0, 1).
        from_first = [(seed * 0.6180339887498949) % 1.0 < self.share for seed in seeds]
        batches = [
            (self.first if chosen else self.second).images([seed])
            for seed, chosen in zip(seeds, from_first, strict=True)
        ]
        return torch.cat(batches)


@cache
def load_digits() -> tuple[Tensor, Tensor]:
    """Grey values ``(1797, 1, 8, 8)`` from 0 to 16 and classes ``(1797,)``."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn, which is missing; "
            "pip install 'tweedie-inverse[train]'"
        ) from error
    bunch = datasets.load_digits()
    return torch.tensor(bunch.images).float()[:, None], torch.tensor(bunch.target)


@cache
def load_photo(name: str) -> Tensor:
    """A bundled photograph by name, ``(3, height, width)`` in [0, 1]; grey ones are repeated."""
    if name in ("china", "flower"):
        try:
            from sklearn.datasets import load_sample_image
        except ImportError as error:
            raise ImportError(
                f"the photograph {name!r} comes with scikit-learn, which is missing; "
                "pip install 'tweedie-inverse[train]'"
            ) from error

        array = load_sample_image(f"{name}.jpg")
    else:
        import skimage.data

        array = getattr(skimage.data, name)()
    image = torch.tensor(array).float() / 255
    if image.ndim == 2:
        image = image[..., None].expand(*image.shape, 3)
    return image.permute(2, 0, 1).contiguous()


@lru_cache(maxsize=64)
def _pyramid(name: str, smallest: int) -> list[Tensor]:
    """The photograph at scales 1, 0.71, 0.5, ... while both sides hold a patch."""
    image, levels = load_photo(name), []
    scale = 1.0
    while min(image.shape[1:]) * scale >= smallest * 1.1:
        size = [round(side * scale) for side in image.shape[1:]]
        level = F.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0]
        levels.append(level.clamp(0, 1))
        scale *= math.sqrt(0.5)
    return levels


def held_out(name: str, size: int = 64, count: int = 512) -> Tensor:
    """Images of the same kind that were never trained on, ``(count, channels, size, size)``.

    Photographs: coffee and camera; the astronaut is kept for demonstrations.
    """
    data: Dataset = dataset(name, size)
    if isinstance(data, Mixture):
        data = Mixture(Photographs(size, ("coffee", "camera")), data.second, data.share)
    return data.images(range(HELD_OUT_SEED, HELD_OUT_SEED + count))


def dataset(name: str, size: int = 64) -> Dataset:
    """A training set by name: phantoms, leaves, photos (photos and leaves), or digits."""
    match name:
        case "phantoms":
            return EllipsePhantoms(size)
        case "leaves":
            return DeadLeaves(size)
        case "photos":
            return Mixture(Photographs(size), DeadLeaves(size))
        case "digits":
            return Digits(size)
    raise ValueError(f"unknown training set {name!r}; choose phantoms, leaves, photos or digits")

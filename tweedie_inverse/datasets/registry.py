"""Training images by name, each fixed by its seed.

A data set is a function ``seeds -> (len(seeds), channels, size, size)`` in [0, 1].  Seeds from
`HELD_OUT_SEED` on, and the photographs in `HELD_OUT_PHOTOS`, are never trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tweedie_inverse.datasets.digits import Digits
from tweedie_inverse.datasets.ellipses import EllipsePhantoms
from tweedie_inverse.datasets.leaves import DeadLeaves
from tweedie_inverse.datasets.photographs import TRAINING_PHOTOS, Photographs
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.datasets.textures import RandomFields, Spots


class Dataset(Protocol):
    """Images by seed; `shape` is that of one image."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def images(self, seeds: Sequence[int]) -> Tensor: ...


@dataclass(frozen=True)
class Mixture:
    """Fixed shares of several data sets, evenly spread over consecutive seeds."""

    parts: tuple[tuple[float, Dataset], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.parts[0][1].shape

    def images(self, seeds: Sequence[int]) -> Tensor:
        chosen = [self._part(seed) for seed in seeds]
        result = torch.empty(len(seeds), *self.shape)
        for index in set(chosen):
            places = [place for place, part in enumerate(chosen) if part == index]
            result[places] = self.parts[index][1].images([seeds[place] for place in places])
        return result

    def _part(self, seed: int) -> int:
        # The golden ratio spreads consecutive seeds evenly over [0, 1).
        place, below = (seed * 0.6180339887498949) % 1.0, 0.0
        for index, (share, _) in enumerate(self.parts):
            below += share
            if place < below:
                return index
        return len(self.parts) - 1


@dataclass(frozen=True)
class Grey:
    """The brightness of colour images."""

    colour: Dataset

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, *self.colour.shape[1:])

    def images(self, seeds: Sequence[int]) -> Tensor:
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        return (weights * self.colour.images(seeds)).sum(1, keepdim=True)


def _photos(size: int, names: tuple[str, ...]) -> Dataset:
    return Mixture(((0.75, Photographs(size, names)), (0.25, DeadLeaves(size))))


def _textures(size: int, names: tuple[str, ...]) -> Dataset:
    return Mixture(
        (
            (0.4, Grey(Photographs(size, names))),
            (0.25, RandomFields(size)),
            (0.15, Spots(size)),
            (0.2, Grey(DeadLeaves(size))),
        )
    )


_WITH_PHOTOGRAPHS: dict[str, Callable[[int, tuple[str, ...]], Dataset]] = {
    "photos": _photos,
    "textures": _textures,
}
_GENERATED: dict[str, Callable[[int], Dataset]] = {
    "digits": Digits,
    "leaves": DeadLeaves,
    "phantoms": EllipsePhantoms,
    "slices": CTSlices,
}


def held_out(name: str, size: int = 64, count: int = 512, first: int = 0) -> Tensor:
    """Images of the same kind that were never trained on, ``(count, channels, size, size)``.

    Photographs: coffee and camera; the astronaut is kept for demonstrations.

    Args:
        name: of the training set.
        size: of the images, in pixels along a side.
        count: how many images.
        first: how many to leave out before them; the shipped denoising errors were measured on
            the first 512.
    """
    data = _dataset(name, size, ("coffee", "camera"))
    start = HELD_OUT_SEED + first
    return data.images(range(start, start + count))


def names() -> list[str]:
    """Of all training sets."""
    return sorted([*_GENERATED, *_WITH_PHOTOGRAPHS])


def dataset(name: str, size: int = 64) -> Dataset:
    """A training set by name; phantoms are ellipses, photos and textures partly dead leaves."""
    return _dataset(name, size, tuple(TRAINING_PHOTOS))


def uses_photographs(name: str) -> bool:
    """Whether the licences of photographs matter to what is trained on it."""
    return name in _WITH_PHOTOGRAPHS


def _dataset(name: str, size: int, photographs: tuple[str, ...]) -> Dataset:
    if name in _WITH_PHOTOGRAPHS:
        return _WITH_PHOTOGRAPHS[name](size, photographs)
    if name in _GENERATED:
        return _GENERATED[name](size)
    raise ValueError(f"unknown training set {name!r}; choose {', '.join(names())}")

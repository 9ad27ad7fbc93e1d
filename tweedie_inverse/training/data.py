"""Training images by name, each fixed by its seed.

A data set is a function ``seeds -> (len(seeds), channels, size, size)`` in [0, 1].  Seeds from
`HELD_OUT_SEED` on, and the photographs in `HELD_OUT_PHOTOS`, are never trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .digits import Digits
from .ellipses import EllipsePhantoms
from .leaves import DeadLeaves
from .photographs import Photographs
from .seeds import HELD_OUT_SEED
from .slices import CTSlices


class Dataset(Protocol):
    """Images by seed; `shape` is that of one image."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def images(self, seeds: Sequence[int]) -> Tensor: ...


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


def held_out(name: str, size: int = 64, count: int = 512) -> Tensor:
    """Images of the same kind that were never trained on, ``(count, channels, size, size)``.

    Photographs: coffee and camera; the astronaut is kept for demonstrations.
    """
    data: Dataset = dataset(name, size)
    if isinstance(data, Mixture):
        data = Mixture(Photographs(size, ("coffee", "camera")), data.second, data.share)
    return data.images(range(HELD_OUT_SEED, HELD_OUT_SEED + count))


_DATASETS: dict[str, Callable[[int], Dataset]] = {
    "digits": Digits,
    "leaves": DeadLeaves,
    "phantoms": EllipsePhantoms,
    "photos": lambda size: Mixture(Photographs(size), DeadLeaves(size)),
    "slices": CTSlices,
}


def dataset(name: str, size: int = 64) -> Dataset:
    """A training set by name; phantoms are ellipses, photos are photographs and dead leaves."""
    if name not in _DATASETS:
        raise ValueError(f"unknown training set {name!r}; choose {', '.join(sorted(_DATASETS))}")
    return _DATASETS[name](size)

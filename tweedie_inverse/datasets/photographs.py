"""Random patches of the photographs bundled with scikit-image and scikit-learn, by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.datasets.seeds import generators

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


@dataclass(frozen=True)
class Photographs:
    """Random patches of the bundled photographs, at random scale, orientation and exposure."""

    size: int = 64
    names: tuple[str, ...] = tuple(TRAINING_PHOTOS)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    def images(self, seeds: Sequence[int]) -> Tensor:
        return torch.stack([self._patch(generator) for generator in generators(seeds)])

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

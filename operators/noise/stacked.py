"""The noise of instruments that look at one image together: each has its own, for its part of y."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tweedie_inverse.numerics.spectral import Pixels
from tweedie_inverse.operators.noise.base import GaussianNoise, NoiseModel


def stacked_noise(
    models: Sequence[NoiseModel | None], shapes: Sequence[tuple[int, ...]]
) -> NoiseModel | None:
    """The noise of flat measurements, the parts of `shapes` one after the other.

    It is one Gaussian where every part is Gaussian in its entries, so that draws stay exact, and
    None where the noise of a part is not known.
    """
    known = [model for model in models if model is not None]
    if len(known) < len(models):
        return None
    for model, shape in zip(known, shapes, strict=True):
        model.refuse_shape("stack", shape)
    stds = [
        model.std.expand(shape).flatten()
        for model, shape in zip(known, shapes, strict=True)
        if isinstance(model, GaussianNoise) and isinstance(model.basis, Pixels)
    ]
    return (
        GaussianNoise(torch.cat(stds)) if len(stds) == len(known) else StackedNoise(known, shapes)
    )


class StackedNoise(NoiseModel):
    """Independent noise models, each for its part of a flat measurement."""

    def __init__(self, models: Sequence[NoiseModel], shapes: Sequence[tuple[int, ...]]):
        self.models, self.shapes = tuple(models), tuple(shapes)
        self._sizes = [math.prod(shape) for shape in shapes]

    def __repr__(self) -> str:
        return f"stack({', '.join(map(repr, self.models))})"

    def _split(self, *tensors: Tensor) -> list[tuple[NoiseModel, list[Tensor]]]:
        cut = [tensor.split(self._sizes, dim=1) for tensor in tensors]
        return [
            (model, [part[i].reshape(-1, *shape) for part in cut])
            for i, (model, shape) in enumerate(zip(self.models, self.shapes, strict=True))
        ]

    def sample(self, ax: Tensor, *, seed: int = 0) -> Tensor:
        # The parts need different streams; a large factor keeps neighbouring seeds apart.
        drawn = [
            model.sample(part, seed=(seed + 1_000_003 * index) % 2**64)
            for index, (model, (part,)) in enumerate(self._split(ax))
        ]
        return torch.cat([part.flatten(1) for part in drawn], dim=1)

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        return torch.stack([model.log_prob(*parts) for model, parts in self._split(y, ax)]).sum(0)

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        return self._joined([model.gradient(*parts) for model, parts in self._split(y, ax)])

    def variance(self, ax: Tensor) -> Tensor:
        return self._joined(
            [model.variance(part).expand_as(part) for model, (part,) in self._split(ax)]
        )

    def standardize(self, y: Tensor, ax: Tensor) -> Tensor:
        return self._joined([model.standardize(*parts) for model, parts in self._split(y, ax)])

    def refuse(self, y: Tensor) -> None:
        for model, (part,) in self._split(y):
            model.refuse(part)

    @staticmethod
    def _joined(parts: list[Tensor]) -> Tensor:
        return torch.cat([part.flatten(1) for part in parts], dim=1)

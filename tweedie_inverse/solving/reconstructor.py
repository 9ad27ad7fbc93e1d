"""The model that `deepinv_reconstructor` makes.

This module needs deepinv, so it is imported inside functions only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.models import Reconstructor
from torch import Tensor

from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.operators import LinearOperator, NoiseModel, Operator, compose, from_deepinv
from tweedie_inverse.operators.deepinv.bridge import measurement_of, shape_if_unknown
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.solver import solve
from tweedie_inverse.walks import Walk


@dataclass(frozen=True)
class Settings:
    """Checked arguments of `deepinv_reconstructor`, described there."""

    returns: str
    method: str | Walk
    num_samples: int
    steps: int | None
    noise: NoiseModel | None
    batch_size: int | None
    seed: int
    domain_shape: tuple[int, ...] | None
    real_images: bool


_Padding = Callable[[Tensor], Tensor]


class PosteriorReconstructor(Reconstructor):
    """Posterior samples behind deepinv's interface; see `deepinv_reconstructor`."""

    def __init__(self, prior: Prior, settings: Settings):
        super().__init__()
        # Not as parts of this module: it would move and count the weights of the user's prior.
        self._priors: dict[torch.device, Prior] = {prior.device: prior}
        self._prior, self.settings, self.seen = prior, settings, 0

    def forward(self, y: Any, physics: Any, seed: int | None = None, **_: Any) -> Tensor:
        """The mean, one sample or all samples of each measurement, as `returns` was set.

        Args:
            y: measurements as the physics makes them.
            physics: `deepinv.physics.Physics`.
            seed: of these measurements alone.
        """
        found, pad = self._solved(y, physics, seed)
        if self.settings.returns == "mean":
            return pad(found.mean)
        return pad(found.samples[:, 0] if self.settings.returns == "sample" else found.samples)

    def sample(self, y: Any, physics: Any, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """Mean and variance of the samples, ``(batch, *shape)`` each."""
        found, pad = self._solved(y, physics, seed)
        return pad(found.mean), pad(found.std.square())

    def posterior(self, y: Any, physics: Any, seed: int | None = None) -> Posterior:
        """All that `solve` returns; its images are those of the prior."""
        return self._solved(y, physics, seed)[0]

    def _solved(self, y: Any, physics: Any, seed: int | None) -> tuple[Posterior, _Padding]:
        mine = self.settings
        bridged = self._bridged(physics)
        operator, pad = (bridged, _as_they_are)
        if mine.real_images:
            shape = (bridged.domain_shape[0] // 2, *bridged.domain_shape[1:])
            operator, pad = compose(bridged, _RealImages(shape)), _with_zeros
        values = measurement_of(bridged, y)
        found = solve(
            values,
            operator,
            self._prior_at(values),
            method=mine.method,
            num_samples=mine.num_samples,
            steps=mine.steps,
            batch_size=mine.batch_size,
            seed=self._seeds(len(values), seed),
        )
        return found, pad

    def _bridged(self, physics: Any) -> Operator:
        """The physics as an operator.

        Raises:
            ValueError: its images have twice the channels of the prior, or not, against what
                `real_images` says.
        """
        mine, channels = self.settings, self._prior.shape[0]
        shape = mine.domain_shape or shape_if_unknown(physics, self._prior.shape)
        operator = from_deepinv(physics, domain_shape=shape, noise=mine.noise)
        is_double = operator.domain_shape[0] == 2 * channels
        if is_double == mine.real_images:
            return operator
        cure = "real_images=True takes them to be real" if is_double else "leave real_images= out"
        raise ValueError(
            f"deepinv_reconstructor: the images of {type(physics).__name__} have shape "
            f"{operator.domain_shape}, and the prior is for {tuple(self._prior.shape)}; {cure}"
        )

    def _prior_at(self, y: Any) -> Prior:
        """The prior where the measurements are."""
        place = y.device if isinstance(y, Tensor) else torch.device("cpu")
        if place not in self._priors:
            self._priors[place] = self._prior.to(place)
        return self._priors[place]

    def _seeds(self, count: int, seed: int | None) -> list[int]:
        """A seed for each measurement: by its number among those of a seed, or of this model."""
        first, key = 0, self.settings.seed
        if seed is None:
            first, self.seen = self.seen, self.seen + count
        else:
            key = checked_seed(type(self).__name__, "seed", seed)
        numbers = range(first, first + count)
        return [int(generator(("deepinv", key, number)).integers(2**62)) for number in numbers]


class _RealImages(LinearOperator):
    """Real images as complex ones: zeros for the imaginary channels, which come last."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(domain_shape=shape, range_shape=(2 * shape[0], *shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x)], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        return y.chunk(2, 1)[0]


def _as_they_are(images: Tensor) -> Tensor:
    return images


def _with_zeros(images: Tensor) -> Tensor:
    """Zeros for the imaginary channels of ``(..., channels, height, width)``."""
    return torch.cat([images, torch.zeros_like(images)], -3)

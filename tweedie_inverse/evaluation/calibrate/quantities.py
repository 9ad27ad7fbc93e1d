"""Test quantities of images and of their measurement: what is ranked.

Those of the image alone are blind to many faults; those that look at y as well, first of all the
log-likelihood, give the test its power (Modrak et al. 2023).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from tweedie_inverse.boundary.contracts import called
from tweedie_inverse.evaluation.calibrate.families import Family
from tweedie_inverse.numerics.random import generator, normal
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.analytic import Gaussian, GaussianMixture
from tweedie_inverse.priors.base import Prior

PIXELS, DIRECTIONS, PATCHES = 128, 32, 4
# How far an image is moved and scaled to see whether y tells against it.
_STEP, _GAIN = 0.5, 0.05
# Numbers of images that go through the operator together.
_NUMBERS = 2**20

Statistic = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Likelihood:
    """The measurement model that the solver is told."""

    operator: Operator
    noise: NoiseModel

    def log_prob(self, y: Tensor, x: Tensor) -> Tensor:
        """``log p(y | x)`` of the observed entries, up to a constant, ``(count,)``, float64.

        Args:
            y: ``(*range_shape)``.
            x: ``(count, *domain_shape)``.
        """
        ax = self.operator.forward(x)
        if self.operator.observed is not None:
            ax = torch.where(self.operator.observed.to(ax.device), ax, torch.zeros_like(ax))
        return self.noise.log_prob(y.to(ax).expand(ax.shape), ax).double().cpu()


@dataclass(frozen=True)
class Quantities:
    """What is asked of every image, for one calibration."""

    shape: tuple[int, ...]
    likelihood: Likelihood
    prior: Prior
    seed: int
    own: Mapping[str, Statistic] = field(default_factory=dict)

    @property
    def axes(self) -> int:
        """How many axes of an image are places rather than channels."""
        return min(2, len(self.shape) - 1) if len(self.shape) > 1 else 1

    @cached_property
    def _pixels(self) -> Tensor:
        order = generator(("calibrate pixels", self.seed)).permutation(math.prod(self.shape))
        return torch.from_numpy(order[:PIXELS].copy()).sort().values

    @cached_property
    def _directions(self) -> Tensor:
        size = math.prod(self.shape)
        return normal(("calibrate directions", self.seed), (size, DIRECTIONS)) / size**0.5

    @property
    def _has_density(self) -> bool:
        prior = self.prior
        return isinstance(prior, Gaussian) or (isinstance(prior, GaussianMixture) and prior.std > 0)

    def families(self, own_sizes: Mapping[str, int]) -> tuple[Family, ...]:
        """Those of `__call__`, in its order.

        Args:
            own_sizes: how many numbers each of the user's functions returns.
        """
        moves = tuple(f"displacement along axis {k + 1}" for k in range(self.axes))
        found = [
            Family("pixels", _numbered("pixel", len(self._pixels)), True),
            Family("regions", _numbered("region", len(self._regions_of_zeros)), True),
            Family("random functionals", _numbered("functional", DIRECTIONS), True),
            Family("whole image", ("mean", "energy", "roughness"), False),
            Family("data", ("log-likelihood", "gain", *moves), False),
        ]
        if self._has_density:
            found.append(Family("prior density", ("log p(x)",), False))
        for name, size in own_sizes.items():
            found.append(Family(name, _numbered(name, size) if size > 1 else (name,), True))
        return tuple(found)

    @cached_property
    def _regions_of_zeros(self) -> Tensor:
        return _regions(torch.zeros(1, *self.shape), self.axes)[0]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """All quantities, ``(count, statistics)``, float64 on the CPU.

        Args:
            x: ``(count, *shape)``.
            y: ``(*range_shape)``.
        """
        there, x = x, x.double().cpu()
        flat = x.flatten(1)
        steps = [x.diff(dim=-1 - k).flatten(1).square().sum(1) for k in range(self.axes)]
        found = [
            flat[:, self._pixels],
            _regions(x, self.axes),
            flat @ self._directions,
            torch.stack([flat.mean(1), flat.square().sum(1), torch.stack(steps).sum(0)], dim=1),
            self._data(there, y),
        ]
        if self._has_density:
            assert isinstance(self.prior, Gaussian | GaussianMixture)
            found.append(self.prior.log_prob(there).double().cpu()[:, None])
        found += [self.of_user(name, there) for name in self.own]
        return torch.cat(found, dim=1)

    def _data(self, x: Tensor, y: Tensor) -> Tensor:
        """Fit, and how it changes where the image is brighter or moved by half a pixel."""
        changes = [_GAIN * x]
        for k in range(self.axes):
            changes.append(_STEP * (x.roll(-1, -1 - k) - x.roll(1, -1 - k)) / 2)
        images = [x, *(x + change for change in changes), *(x - change for change in changes)]
        # Small images go through the operator together, large ones in turn.
        together = max(1, _NUMBERS // x.numel())
        parts = [torch.cat(images[k : k + together]) for k in range(0, len(images), together)]
        found = torch.cat([self.likelihood.log_prob(y, part) for part in parts])
        told, up, down = found.reshape(len(images), -1).split([1, len(changes), len(changes)])
        return torch.cat([told, up - down]).mT

    def of_user(self, name: str, x: Tensor) -> Tensor:
        """A function of the user's, ``(count, numbers)``.

        Raises:
            ValueError: it does not keep the first axis.
        """
        found = called(f"the statistic {name!r} of calibrate", self.own[name], x)
        if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != len(x):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"calibrate(statistics=): {name!r} is given images {tuple(x.shape)} and must "
                f"return a tensor whose first axis is {len(x)}; it returned {got}"
            )
        return found.detach().double().cpu().reshape(len(x), -1)


def moved(x: Tensor, axis: int, distance: float) -> Tensor:
    """Images moved along an axis by a part of a pixel, periodically (band-limited)."""
    size = x.shape[axis]
    shape = [1] * x.ndim
    shape[axis] = -1
    phase = -2 * math.pi * distance * torch.fft.rfftfreq(size, dtype=torch.float64)
    turn = torch.polar(torch.ones_like(phase), phase).reshape(shape).to(x.device)
    spectrum = torch.fft.rfft(x.double(), dim=axis) * turn
    return torch.fft.irfft(spectrum, n=size, dim=axis).to(x.dtype)


def _regions(x: Tensor, axes: int) -> Tensor:
    """Means over a coarse grid of regions, ``(count, regions)``; channels are averaged."""
    planes = x.reshape(len(x), -1, *x.shape[x.ndim - axes :]).mean(1)
    for axis in range(1, planes.ndim):
        parts = planes.tensor_split(min(PATCHES, planes.shape[axis]), dim=axis)
        planes = torch.stack([part.mean(axis) for part in parts], dim=axis)
    return planes.flatten(1)


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name} {k + 1}" for k in range(count))

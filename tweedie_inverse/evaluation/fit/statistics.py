"""What is looked at of a measurement and its posterior samples, in families.

If the truth is a draw of the prior, then each posterior sample x of its measurement y is one, too,
and ``y - A x`` has the law of the noise.  Families: the residuals ``y - A x``; those of the
denoiser, ``D(x + sigma n, sigma) - x``; the samples themselves; the measurement itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.evaluation.fit.layout import Layout
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.residence import resident_on
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.base import Prior

RESIDUAL, DENOISER, IMAGE, DATA = "residual", "denoiser", "image", "measurement"
FAMILIES = (RESIDUAL, DENOISER, IMAGE, DATA)
# More channels than a colour image has are not told apart.
_CHANNELS = 4
_LEAST, _MOST = 1e-30, 1e30


class Named(NamedTuple):
    """Numbers of every measurement that are of one kind, ``(batch, len(names))``."""

    family: str
    names: tuple[str, ...]
    values: Tensor


class Statistics:
    """The numbers of measurements with their samples.

    Args:
        levels: sigmas at which the denoiser is looked at, in data units.
    """

    def __init__(
        self, operator: Operator, noise: NoiseModel, prior: Prior, levels: Sequence[float]
    ):
        self._operator, self._noise, self._prior = operator, noise, prior
        self.levels = tuple(levels)
        self._data, self._image = Layout.of(operator.range_shape), Layout.of(operator.domain_shape)

    def __call__(self, y: Tensor, samples: Tensor) -> list[Named]:
        """Of measurements ``(batch, *range_shape)`` and samples ``(batch, S, *domain_shape)``."""
        return [
            *self._residuals(y, samples),
            *self._denoised(samples),
            *self._images(samples),
            *self._measured(y),
        ]

    def _residuals(self, y: Tensor, samples: Tensor) -> list[Named]:
        count = samples.shape[1]
        ax = self._operator.forward(samples.flatten(0, 1))
        given = y.repeat_interleave(count, 0)
        r = _finite(self._noise.standardize(given, ax))
        seen = self._operator.observed
        if seen is not None:
            r = torch.where(resident_on(seen, r.device), r, torch.zeros_like(r))
        return [
            *_energies(RESIDUAL, "residual y - A x", self._data, r, count),
            _values(RESIDUAL, "residual y - A x", self._data, r, count),
        ]

    def _denoised(self, samples: Tensor) -> list[Named]:
        count, found = samples.shape[1], []
        x = samples.flatten(0, 1)
        for number, sigma in enumerate(self.levels):
            # The same noise for every measurement: they stay exchangeable, and differ by less.
            white = normal(("check_fit denoiser", number), tuple(samples.shape[1:])).to(x)
            noise = self._prior.coloured(white)
            noisy = x + sigma * noise.repeat(len(samples), *[1] * (x.ndim - 1))
            r = _finite(self._prior.denoise(noisy, sigma) - x) / sigma
            title = f"residual of the denoiser at sigma {sigma:.2g}"
            found += _energies(DENOISER, title, self._image, r, count)
        return found

    def _images(self, samples: Tensor) -> list[Named]:
        count, x = samples.shape[1], samples.flatten(0, 1)
        found = [
            *_energies(IMAGE, "image", self._image, _centred(x), count),
            _values(IMAGE, "image", self._image, x, count),
        ]
        if self._prior.value_range is not None:
            low, high = self._prior.value_range
            edge = 0.05 * (high - low)
            outside = ((x < low - edge) | (x > high + edge)).to(x).flatten(1).mean(1)
            name = "share of values outside the prior's range"
            found.append(Named(IMAGE, (name,), _averaged(outside[:, None], count)))
        return found

    def _measured(self, y: Tensor) -> list[Named]:
        return [
            *_energies(DATA, "measurement", self._data, _centred(y), 1),
            _values(DATA, "measurement", self._data, y, 1),
        ]


def _energies(family: str, title: str, layout: Layout, x: Tensor, count: int) -> list[Named]:
    """Logarithms of the mean square: as a whole and by band; by block."""
    square = x.double().square()
    whole = torch.cat([square.flatten(1).mean(1, keepdim=True), layout.in_bands(x.double())], 1)
    names = [f"energy of the {title}", *(f"{title}, {band} frequencies" for band in layout.bands)]
    found = [Named(family, tuple(names), _logarithm(_averaged(whole, count)))]
    if len(layout.blocks) > 1:
        names = [f"energy of the {title}, {block}" for block in layout.blocks]
        blocks = _logarithm(_averaged(layout.in_blocks(square), count))
        found.append(Named(family, tuple(names), blocks))
    return found


def _logarithm(means: Tensor) -> Tensor:
    return means.clamp(min=_LEAST).log()


def _values(family: str, title: str, layout: Layout, x: Tensor, count: int) -> Named:
    """Means as a whole, by channel and by block."""
    parts, names = [x.double().flatten(1).mean(1, keepdim=True)], [f"mean of the {title}"]
    if x.ndim > 2 and 1 < x.shape[1] <= _CHANNELS:
        parts.append(x.double().flatten(2).mean(2))
        names += [f"mean of the {title}, channel {k + 1}" for k in range(x.shape[1])]
    if len(layout.blocks) > 1:
        parts.append(layout.in_blocks(x.double()))
        names += [f"mean of the {title}, {block}" for block in layout.blocks]
    return Named(family, tuple(names), _averaged(torch.cat(parts, dim=1), count))


def _averaged(values: Tensor, count: int) -> Tensor:
    """The mean over the samples of each measurement."""
    return values.unflatten(0, (-1, count)).mean(1)


def _centred(x: Tensor) -> Tensor:
    return x - x.flatten(1).mean(1).reshape(-1, *[1] * (x.ndim - 1))


def _finite(x: Tensor) -> Tensor:
    """Values whose squares are finite."""
    return x.nan_to_num(nan=_MOST**0.25).clamp(-(_MOST**0.25), _MOST**0.25)

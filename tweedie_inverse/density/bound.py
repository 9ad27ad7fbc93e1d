"""The variational bound of a diffusion prior, with its three terms, in discrete or continuous time.

Luo 2022, equation 58, in variance-exploding coordinates ``x_sigma = x0 + sigma n`` with
``SNR = 1 / sigma^2``; levels fall from ``sigma_T`` to ``sigma_1``:

    log p(x0) >=   E log N(x0; D(x_1, sigma_1), sigma_1^2 I)                     reconstruction
                 - KL(N(x0, sigma_T^2 I) || N(centre, sigma_T^2 I))              prior matching
                 - sum_t 1/2 (SNR(t-1) - SNR(t)) E || x0 - D(x_t, sigma_t) ||^2  denoising matching

The start is the one that `sample` walks from.  In continuous time (Kingma et al. 2021) the sum is
``integral sigma^-2 E || x0 - D ||^2 dlog sigma``; with an exact denoiser the bound is then the
likelihood itself, but for ``sigma_1`` and ``sigma_T``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, function, positive
from tweedie_inverse.numerics.schedules import Schedule, geometric
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior, refuse_correlated
from tweedie_inverse.priors.tweedie import target_of

Time = Literal["importance", "stratified", "uniform"]

# Cells of log sigma in which the density of the sampled times is constant.
_CELLS = 64
# The share of uniform times among importance-sampled ones: no weight exceeds ten times the plain.
_UNIFORM_SHARE = 0.1

# || x0 - D ||^2 over the squared error of the same network in another form.
FORM_FACTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "x0": torch.ones_like,
    "epsilon": lambda sigma: sigma**2,
    "v": lambda sigma: sigma**2 / (1 + sigma**2),
    "score": lambda sigma: sigma**4,
    "flow": lambda sigma: (sigma / (1 + sigma)) ** 2,
}


def denoising_matching(
    form: str, prediction: Tensor, clean: Tensor, noise: Tensor, sigma: Tensor, snr_drop: Tensor
) -> Tensor:
    """``KL(q(x_s | x_sigma, x0) || p(x_s | x_sigma))`` of one step, from any form of the network.

    ``1/2 (1/s^2 - 1/sigma^2) || x0 - D ||^2``: all forms give the same number and gradient (Luo
    2022, equations 99, 130 and the score form after them).

    Args:
        form: `prediction` is ``"x0"``, ``"epsilon"``, ``"v"``, ``"score"`` or ``"flow"``.
        prediction, clean, noise: ``(batch, *shape)``.
        sigma: ``(batch,)``, the noisier level.
        snr_drop: ``(batch,)``, ``1/s^2 - 1/sigma^2``; ``2 / sigma^2`` for one unit of log sigma.

    Returns:
        ``(batch,)`` in nats.
    """
    column = sigma.reshape(-1, *[1] * (clean.ndim - 1))
    error = (prediction - target_of(form, clean, noise, column)).flatten(1).square().sum(1)
    return snr_drop / 2 * FORM_FACTORS[form](sigma) * error


class Draw(NamedTuple):
    """Noise levels for one evaluation of each image.

    Attributes:
        sigma: ``(batch,)``.
        weight: ``(batch,)``: ``weight * || x0 - D ||^2`` is the denoising matching, on average.
        control: ``(batch,)``, how much of the error is expected to be the noise itself.
    """

    sigma: Tensor
    weight: Tensor
    control: Tensor


class Expectation(NamedTuple):
    """What the prior's denoising error V lets one expect, on a grid of log sigma ``(cells + 1,)``.

    `share` is the mean of ``V / sigma^2`` over an image's directions, `square` that of its square.
    """

    log_sigma: Tensor
    share: Tensor
    square: Tensor


@dataclass(frozen=True)
class Bound:
    """Settings of the variational bound.

    Cost: ``repeats * (levels + 1)`` network evaluations an image.

    Attributes:
        steps: noise levels of the discrete-time bound; None is continuous time.
        schedule: where they lie, ``(steps, sigma_min, sigma_max)``.
        levels: noise levels at which each image is denoised, per repeat.
        repeats: independent estimates, for the standard error; 2 or more.
        time: how those levels are drawn: `"uniform"` independently, `"stratified"` one for each
            share of the range (Kingma et al. 2021, low discrepancy), `"importance"` so too, but
            in proportion to the prior's own denoising error.
        sigma_min, sigma_max: first and last level in data units; None is the prior's own.
    """

    steps: int | None = None
    schedule: Schedule = geometric
    levels: int = 32
    repeats: int = 4
    time: Time = "importance"
    sigma_min: float | None = None
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        for name in ("levels", "repeats"):
            count("Bound", name, getattr(self, name))
        if self.steps is not None:
            count("Bound", "steps", self.steps)
        for name in ("sigma_min", "sigma_max"):
            if getattr(self, name) is not None:
                positive("Bound", name, getattr(self, name))
        function(
            "Bound", "schedule", self.schedule, need="a function (steps, sigma_min, sigma_max)"
        )
        if self.time not in ("importance", "stratified", "uniform"):
            raise ValueError(
                f"Bound(time={self.time!r}): choose 'importance', 'stratified' or 'uniform'"
            )
        if self.levels < 1 or self.repeats < 2 or (self.steps is not None and self.steps < 2):
            raise ValueError(
                "Bound: needs levels >= 1, repeats >= 2 and steps >= 2 (or None), got "
                f"levels={self.levels}, repeats={self.repeats}, steps={self.steps}"
            )

    def terms(self, prior: Prior, images: Tensor, streams: Streams) -> dict[str, Tensor]:
        """One unbiased estimate of each term, ``(batch,)`` in nats; they sum to the bound."""
        refuse_correlated(prior, "Bound")
        low, high = self.sigma_min or prior.sigma_min, self.sigma_max or prior.sigma_max
        if not 0 < low < high:
            raise ValueError(
                f"Bound: needs 0 < sigma_min < sigma_max, got {low:.4g} and {high:.4g} (data units)"
            )
        clock = self.clock(prior, low, high)
        noise = streams.normal((self.levels + 1, *prior.shape), images)
        uniform = streams.uniform((self.levels,), images)
        matching = images.new_zeros(len(images))
        with torch.no_grad():
            for index in range(self.levels):
                if self.time == "uniform":
                    u = uniform[:, index]
                else:  # one shift an image: evenly spread, and each level uniform by itself
                    u = (index + uniform[:, 0]) / self.levels
                draw = clock(u)
                error = _excess(prior, images, noise[:, index], draw.sigma, draw.control)
                matching = matching + draw.weight * error / self.levels
            control = clock(torch.zeros_like(uniform[:, 0])).control
            sigma = torch.full_like(control, low)
            error = _excess(prior, images, noise[:, -1], sigma, control)
        dimensions = images[0].numel()
        centre = torch.as_tensor(prior.centre).to(images)
        distance = (images - centre).flatten(1).square().sum(1)
        return {
            "reconstruction": -error / (2 * low**2)
            - dimensions / 2 * math.log(2 * math.pi * low**2),
            "prior matching": -distance / (2 * high**2),
            "denoising matching": -matching,
        }

    def clock(self, prior: Prior, low: float, high: float) -> Callable[[Tensor], Draw]:
        """From uniform numbers to noise levels and their weights."""
        expected = expectation(prior, low, high)
        if self.steps is None:
            return _continuous(expected, self.time)
        levels = self.schedule(self.steps, low, high)[:-1].flip(0)
        return _discrete(levels, expected, self.time)


def _excess(prior: Prior, images: Tensor, noise: Tensor, sigma: Tensor, control: Tensor) -> Tensor:
    """``|| x0 - D ||^2`` less a control variate of mean zero, ``(batch,)``.

    Where the noise is small all of the error is noise, ``sigma^2 || n ||^2``, whose mean is known.
    """
    x = images + sigma.reshape(-1, *[1] * (images.ndim - 1)) * noise
    error = (images - prior.denoise(x, sigma)).flatten(1).square().sum(1)
    known = noise.flatten(1).square().sum(1) - noise[0].numel()
    return error - control * sigma**2 * known


def expectation(prior: Prior, low: float, high: float) -> Expectation:
    """The share of noise in the prior's denoising error; all ones where that was not measured."""
    log_sigma = torch.linspace(math.log(low), math.log(high), _CELLS + 1, dtype=torch.float64)
    share, square = torch.ones_like(log_sigma), torch.zeros_like(log_sigma)
    if prior.error_is_measured:
        for index, sigma in enumerate(log_sigma.exp().tolist()):
            ratio = prior.denoising_error(sigma).variance.double() / sigma**2
            share[index], square[index] = ratio.mean(), ratio.square().mean()
    return Expectation(log_sigma, share, square)


def _continuous(expected: Expectation, time: Time) -> Callable[[Tensor], Draw]:
    """Times of constant density in each cell of log sigma."""
    edges, width = expected.log_sigma, float(expected.log_sigma.diff()[0])
    middle = (expected.share[1:] + expected.share[:-1]) / 2
    mass = _protected(middle) if time == "importance" else torch.full_like(middle, 1 / _CELLS)
    after = mass.cumsum(0)

    def draw(u: Tensor) -> Draw:
        u64 = u.cpu().double().contiguous()
        cell = torch.searchsorted(after, u64).clamp(max=_CELLS - 1)
        within = ((u64 - after[cell] + mass[cell]) / mass[cell]).clamp(0, 1)
        sigma = (edges[cell] + width * within).exp()
        # The integrand is sigma^-2 || x0 - D ||^2 dlog sigma; the density mass / width.
        weight = width / (mass[cell] * sigma**2)
        return Draw(sigma.to(u), weight.to(u), expected.square[cell].to(u))

    return draw


def _discrete(levels: Tensor, expected: Expectation, time: Time) -> Callable[[Tensor], Draw]:
    """One of the steps from ``levels[t]`` to ``levels[t - 1]``, with the step's own weight."""
    # Cell of each level; the expectation only steers, so the nearest value will do.
    cell = torch.searchsorted(expected.log_sigma, levels[1:].log()).clamp(max=_CELLS)
    drop = levels[:-1] ** -2 - levels[1:] ** -2
    size = drop * levels[1:] ** 2 * expected.share[cell]
    steps = len(drop)
    mass = _protected(size) if time == "importance" else torch.full_like(size, 1 / steps)
    after = mass.cumsum(0)

    def draw(u: Tensor) -> Draw:
        step = torch.searchsorted(after, u.cpu().double().contiguous()).clamp(max=steps - 1)
        weight = drop[step] / (2 * mass[step])
        return Draw(levels[1:][step].to(u), weight.to(u), expected.square[cell][step].to(u))

    return draw


def _protected(size: Tensor) -> Tensor:
    """Probabilities in proportion to `size`, none below a tenth of the uniform ones."""
    share = size.clamp(min=0) / size.clamp(min=0).sum()
    return (1 - _UNIFORM_SHARE) * share + _UNIFORM_SHARE / len(size)

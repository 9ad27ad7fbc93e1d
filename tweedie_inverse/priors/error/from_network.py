"""The covariance of ``p(x0 | x_sigma)`` read from the network itself, without any image.

For the exact denoiser ``Cov(x0 | x_sigma = x) = sigma^2 J(x)``, J the Jacobian of D (second-order
Tweedie formula; Efron 2011).  The difference of two evaluations is a product with it, ``J z ~ (D(x
+ h z) - D(x)) / h``.  One probe with a white z tells

    the spectrum   v_k = E[(B z)_k (B J z)_k],    B the Fourier basis (Hutchinson 1990)
    the place      E[z_i (J z)_i] against what the spectrum alone gives there

Frequencies share a variance as far as the probes cannot tell them apart: a fine bin is drawn
towards the trend over rings of frequencies, by as much as the scatter of ``J z`` makes it uncertain
(empirical Bayes).  Where J is diagonal in the basis there is no scatter, and the spectrum is exact.
Earlier probes count too, carried to the present level by ``1 / v' - 1 = (1 / v - 1) (sigma' /
sigma)^2``, which is exact for Gaussian priors.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.residence import resident, resident_on
from tweedie_inverse.priors.error.layout import Layout

# ``(x, sigma) -> D(x, sigma)``, the same function of x whenever it is called.
Denoiser = Callable[[Tensor, float], Tensor]

# Step of the difference, in noise levels: far above rounding, and within the noise of x.
_STEP = 0.3
# How many times longer than the rounding of the answers a step along one direction is at least.
_ABOVE = 10.0
# What the earlier probes weigh beside the present one.
_MEMORY = 0.7
# Shares of sigma^2 that a variance may have; for the exact denoiser J lies between 0 and 1.
_LEAST, _MOST = 1e-6, 1.0
# A probe whose mean response z.Jz / z.z lies outside says nonsense, and is left out.  Where noise
# hides nearly all, the true mean is near 0, and a sound probe may fall a little below.
_CREDIBLE = (-0.1, 1.5)
# Window in which places are compared, standard deviation in pixels; least variance of a place
# relative to the mean.
_WINDOW, _LEAST_PLACE = 2.0, 0.05


class Probes(NamedTuple):
    """What the probes of each walker have said so far, at level `sigma`.

    `power`, `product` and `response` are weighted sums of ``(B z)^2``, ``(B z) (B J z)`` and ``(B J
    z)^2`` over the fine bins, ``(walkers, channels, bins)``.
    """

    sigma: float
    power: Tensor
    product: Tensor
    response: Tensor
    weight: Tensor  # (walkers,), sum of the weights of the probes
    place: Tensor | None  # (walkers, 1, *size), weighted sum of local deviations
    place_noise: Tensor | None  # the same, of their variances under the spectrum alone
    made: int  # probes so far, of which `left_out` ``(walkers,)`` said nonsense
    left_out: Tensor


def probe(denoise: Denoiser, x: Tensor, denoised: Tensor, sigma: float, white: Tensor) -> Tensor:
    """``J white`` at x, like `white`, for ``denoised = denoise(x, sigma)``.

    Cost: one evaluation.
    """
    step = _STEP * sigma
    return (denoise(x + step * white, sigma) - denoised) / step


def can_probe(sigma: float, rounding: float) -> bool:
    """Whether the step of a probe is far above the rounding of the denoiser's answers."""
    return _STEP * sigma >= _ABOVE * rounding


def reach(sigma: float, numbers: int, rounding: float) -> float | None:
    """Length of the step along a direction of images of so many numbers; None where none will do.

    It is sigma where that is far above the rounding of the denoiser's answers, else longer, at most
    as far as a random probe goes.  Half precision leaves nothing of a difference at little noise:
    that of two answers in bfloat16 to 64x64 colour is wrong by 0.1 in length.
    """
    far = math.sqrt(numbers)
    above, most = _ABOVE * rounding * far, max(sigma, _STEP * sigma * far)
    return max(sigma, above) if above <= most else None


def directional(
    denoise: Denoiser,
    x: Tensor,
    denoised: Tensor,
    sigma: float,
    direction: Tensor,
    step_length: float | None = None,
) -> Tensor:
    """``sigma^2 J direction`` at x, by a step of a length, by default sigma.

    Cost: one evaluation.
    """
    length = direction.flatten(1).norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
    wanted = sigma if step_length is None else step_length
    step = (wanted / length).reshape(-1, *[1] * (x.ndim - 1))
    return sigma**2 * (denoise(x + step * direction, sigma) - denoised) / step


def observe(
    before: Probes | None, white: Tensor, response: Tensor, sigma: float, layout: Layout
) -> Probes:
    """The probes with one more, ``response = J white`` at level `sigma`."""
    mean = (white * response).flatten(1).sum(1) / white.square().flatten(1).sum(1)
    credible = (mean > _CREDIBLE[0]) & (mean < _CREDIBLE[1])
    # A response that is not finite must not reach the sums, where its weight would be 0 * NaN.
    response = torch.where(_column(credible, response), response, 0.0)
    sound, sums = credible.to(white), _sums(white, response, layout)
    before = _empty(white, sums[0], layout) if before is None else carried(before, sigma)
    # A probe that is left out leaves what was known as it was.
    keep, new = torch.where(sound > 0, _MEMORY, 1.0).to(white), sound
    power, product, squares = (
        _column(keep, old) * old + _column(new, one) * one
        for old, one in zip(before[1:4], sums, strict=True)
    )
    place, noise = before.place, before.place_noise
    if place is not None and noise is not None:
        spectrum = layout.spread((product / power.clamp(min=1e-30)).clamp(_LEAST, _MOST))
        deviation, variance = _places(white, response, spectrum, layout)
        place = _column(keep, place) * place + _column(new, place) * deviation
        noise = _column(keep**2, noise) * noise + _column(new, noise) * variance
    weight = keep * before.weight + new
    return Probes(
        sigma,
        power,
        product,
        squares,
        weight,
        place,
        noise,
        before.made + 1,
        before.left_out + 1 - sound,
    )


def carried(probes: Probes, sigma: float) -> Probes:
    """The same knowledge at another level."""
    share = (probes.product / probes.power.clamp(min=1e-30)).clamp(_LEAST, 1 - 1e-9)
    factor = carried_share(share, probes.sigma, sigma) / share
    return probes._replace(
        sigma=sigma, product=probes.product * factor, response=probes.response * factor**2
    )


def carried_share(share: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Variances over sigma^2 at another level, as for a Gaussian prior."""
    return 1 / (1 + (1 / share - 1) * (sigma_next / sigma) ** 2)


def covariance_of(probes: Probes, sigma: float, layout: Layout) -> Covariance:
    """The covariance of each walker at level `sigma`; ``sigma^2 I`` where no probe was sound."""
    probes = carried(probes, sigma)
    known = probes.weight > 0
    share = torch.where(_column(known, probes.power), _shares(probes, layout), 1.0)
    variance = sigma**2 * layout.spread(share)
    if layout.noise is not None:
        variance = variance * resident(layout.noise, variance)
    if probes.place is None or probes.place_noise is None:
        return Covariance(layout.basis, variance)
    weight = _column(probes.weight.clamp(min=1e-9), probes.place)
    deviation, noise = probes.place / weight, probes.place_noise / weight**2
    # Drawn towards no deviation, by as much as chance explains of them.
    places = tuple(range(2, noise.ndim))
    chance = noise.mean(dim=places, keepdim=True)
    excess = (deviation.square().mean(dim=places, keepdim=True) - chance).clamp(min=0)
    shrink = excess / (excess + chance).clamp(min=1e-30)
    scale = (1 + shrink * deviation).clamp(min=_LEAST_PLACE).sqrt()
    return Covariance(layout.basis, variance, torch.where(_column(known, scale), scale, 1.0))


def _shares(probes: Probes, layout: Layout) -> Tensor:
    """Variances over sigma^2, ``(walkers, channels, bins)``: fine bins drawn to their trend."""
    power, index = probes.power.clamp(min=1e-30), resident_on(layout.rings, probes.power.device)
    shares, scatter = _rings(probes, layout)
    trend = _trend(shares, layout)
    if len(layout.sizes) == 1:
        return trend
    deviation = probes.product / power - trend
    uncertainty, bins = scatter[..., index] / power, torch.ones_like(power)
    excess = layout.over_rings(deviation.square() - uncertainty) / layout.over_rings(bins)
    signal = excess.clamp(min=0)[..., index]
    fine = trend + signal / (signal + uncertainty).clamp(min=1e-30) * deviation
    lonely = resident_on(layout.lonely, index.device)[index]
    return torch.where(lonely, trend, fine.clamp(_LEAST, _MOST))


def _rings(probes: Probes, layout: Layout) -> tuple[Tensor, Tensor]:
    """Variances over sigma^2 of the rings, and the scatter of ``J z`` there.

    ``(walkers, channels, rings)`` both.  A variance that is too small is worse than one that is too
    large, since the data cannot correct it: rings of few numbers get one standard deviation more
    than they seem to have.
    """
    power = layout.over_rings(probes.power).clamp(min=1e-30)
    mean, scatter = layout.over_rings(probes.product) / power, _scatter(probes, layout)
    if bool(layout.lonely.all()):
        return mean.clamp(_LEAST, _MOST), scatter
    # A ring of one number, such as the mean of an image, cannot tell its scatter, and may be below
    # 0 by chance: it has the scatter of its neighbour, and is drawn to the variance there.
    lonely, neighbour = (
        resident_on(table, power.device) for table in (layout.lonely, layout.neighbours)
    )
    scatter = scatter[..., neighbour]
    shares = (mean + (scatter / power).sqrt()).clamp(_LEAST, _MOST)
    there, uncertainty = shares[..., neighbour], scatter / power
    kept = torch.where(mean > 0, there.square() / (there.square() + uncertainty), 0.0)
    drawn = there + kept * (mean - there)
    return torch.where(lonely, drawn, shares).clamp(_LEAST, _MOST), scatter


def _trend(rings: Tensor, layout: Layout) -> Tensor:
    """Ring averages ``(walkers, channels, rings)`` at every fine bin, linear in the logarithms."""
    logs, index = rings.clamp(_LEAST, _MOST).log(), resident_on(layout.rings, rings.device)
    count = rings.shape[-1]
    if count < 3:
        return logs[..., index].exp()
    radii, sizes = resident(layout.radii, rings), resident(layout.sizes, rings)
    total = torch.zeros(count, dtype=rings.dtype, device=rings.device)
    centres = total.index_add(0, index, radii * sizes) / total.index_add(0, index, sizes)
    right = torch.searchsorted(centres[1:].contiguous(), radii).clamp(1, count - 2) + 1
    left = right - 1
    share = ((radii - centres[left]) / (centres[right] - centres[left])).clamp(0, 1)
    trend = torch.lerp(logs[..., left], logs[..., right], share)
    # The mean of an image has no neighbours among the frequencies.
    return torch.where(index == 0, logs[..., :1], trend).exp()


def _sums(white: Tensor, response: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    z, jz = layout.basis.transform(white), layout.basis.transform(response)
    return layout.over_bins(z * z), layout.over_bins(z * jz), layout.over_bins(jz * jz)


def _scatter(probes: Probes, layout: Layout) -> Tensor:
    """Variance of a coefficient of ``J z`` about ``v z``, ``(walkers, channels, rings)``.

    Bins of one coefficient cannot tell; in a ring of such bins it is 0.
    """
    power, product, response = probes.power, probes.product, probes.response
    left = (response - product.square() / power.clamp(min=1e-30)).clamp(min=0)
    freedom = layout.over_rings((resident(layout.sizes, power) - 1).expand_as(power))
    return layout.over_rings(left) / freedom.clamp(min=1)


def _places(
    white: Tensor, response: Tensor, spectrum: Tensor, layout: Layout
) -> tuple[Tensor, Tensor]:
    """Local mean of ``z J z`` less what the spectrum gives, relative, and its variance by chance.

    ``(walkers, 1, height, width)`` both, with a depth before the height for volumes.
    """
    mean = spectrum.mean(dim=tuple(range(1, spectrum.ndim)), keepdim=True)
    expected = layout.basis.inverse(spectrum * layout.basis.transform(white))
    excess = (white * (response - expected)).mean(1, keepdim=True) / mean
    # That a Gaussian window averages over.
    pixels = (4 * math.pi * _WINDOW**2) ** ((white.ndim - 2) / 2)
    return _smooth(excess), _smooth(excess.square()) / pixels


def _smooth(x: Tensor) -> Tensor:
    """Averages in a Gaussian window, borders repeated."""
    reach = int(3 * _WINDOW)
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-0.5 * (offsets / _WINDOW) ** 2)
    weights = weights / weights.sum()
    axes = x.ndim - 2
    convolve = F.conv2d if axes == 2 else F.conv3d
    padded = F.pad(x, (reach,) * (2 * axes), mode="replicate")
    for axis in range(axes, 0, -1):
        shape = [1, 1, *(-1 if other == axis else 1 for other in range(1, axes + 1))]
        padded = convolve(padded, weights.reshape(shape))
    return padded


def _empty(white: Tensor, power: Tensor, layout: Layout) -> Probes:
    zero, walkers = torch.zeros_like(power), white.new_zeros(len(white))
    place = torch.zeros_like(white[:, :1]) if layout.is_of_images else None
    return Probes(1.0, zero, zero, zero, walkers, place, place, 0, walkers)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))

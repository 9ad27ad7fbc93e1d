"""Whether a measured denoising error can be believed: what misleads is named, with numbers.

Three things hold of every sound denoiser, whatever its images:

1. its mean squared error is at most the variance of the images: the answer "their mean" has that;
2. and at most sigma^2: the answer "the noisy image itself" has that;
3. its own samples lie where its images do.

A network that is wrapped as something else than it is, or in other units, breaks one of them by
far.  The thresholds leave room for networks of little training.
"""

import math

import torch
from torch import Tensor

from tweedie_inverse.priors.base import Prior

# Mean squared error over the variance of the images: of a level that is lost for certain, and of
# levels that are still of use where there is one.
_LOST, _USABLE = 1.5, 1.1
# Errors at little noise, as root mean squares: in noise levels, and over the images' deviation.
_NOISES, _SHARE = 3.0, 0.1
# Values count as outside beyond the range by this share of its width; so many may be.
_MARGIN, _OUTSIDE = 0.25, 0.05
# Samples that differ by less than this share of the range's width are all alike.
_ALIKE = 0.005
# Root mean square distance from the centre that samples may have, in widths of the range; over
# `prior.unit`, where no range is known, which is only roughly how much images differ.
_WIDTHS, _UNITS = 0.75, 10.0


def doubts_about_levels(
    sigmas: Tensor, bare: Tensor, remaining: Tensor, images: Tensor
) -> list[str]:
    """What is wrong with errors measured on images ``(count, *shape)``, a sentence each.

    Args:
        sigmas: ``(levels,)``.
        bare: ``(levels,)``, mean squared error of the denoiser.
        remaining: the same, after its linear correction.
    """
    if len(images) < 2:
        return []
    variance = float(images.double().var(0).mean())
    return [
        *_where_the_mean_is_better(sigmas, remaining, variance),
        *_where_the_noisy_image_is_better(sigmas, bare, variance),
    ]


def doubts_about_samples(prior: Prior, samples: Tensor) -> list[str]:
    """What is wrong with a prior's own samples ``(count, *shape)``, a sentence each."""
    if prior.value_range is not None:
        return _outside(samples, *prior.value_range)
    if prior.any_sigma:  # exact priors: of any size
        return []
    deviation = float((samples - torch.as_tensor(prior.centre).to(samples)).square().mean().sqrt())
    if deviation <= _UNITS * prior.unit:
        return []
    return [
        f"the prior's own samples lie {deviation:.3g} from prior.centre (root mean square), "
        f"{deviation / prior.unit:.3g} times prior.unit; set prior.centre and prior.unit if that "
        "is how the data are, else the samples are not like the data"
    ]


def _where_the_mean_is_better(sigmas: Tensor, remaining: Tensor, variance: float) -> list[str]:
    worst = float(remaining.max())
    if worst <= _LOST * variance or variance == 0:
        return []
    first = int((remaining > _USABLE * variance).nonzero()[0])
    text = (
        f"from sigma {float(sigmas[first]):.3g} on the denoiser is of no use: its squared error is "
        f"up to {worst / variance:.3g} times the variance of the images ({variance:.3g}), which "
        "the answer 'their mean' would have. "
    )
    if first < 2:  # one level is no range
        return [text + "No range is left; ti.check_prior(prior, images) looks for the cause"]
    return [text + f"Set prior.sigma_max = {float(sigmas[first - 1]):.3g}, and measure again"]


def _where_the_noisy_image_is_better(sigmas: Tensor, bare: Tensor, variance: float) -> list[str]:
    sigma, error = float(sigmas[0]), float(bare[0]) ** 0.5
    if error <= max(_NOISES * sigma, _SHARE * variance**0.5) or variance == 0:
        return []
    return [
        f"at the smallest noise, sigma {sigma:.3g}, the denoiser is wrong by {error:.3g} (root "
        f"mean square; the images differ by {variance**0.5:.3g}): it changes clean images by more "
        "than the noise. Network and images do not fit: ti.check_prior(prior, images) looks for "
        "wrong units, value range or parameterization"
    ]


def _outside(samples: Tensor, low: float, high: float) -> list[str]:
    width, values = high - low, samples.double()
    deviation = float(values.var(0).mean().sqrt()) if len(values) > 1 else math.inf
    if deviation < _ALIKE * width:
        return [
            f"the prior's own samples are all alike: they differ by {deviation:.3g} (root mean "
            f"square), and prior.value_range is ({low:g}, {high:g})"
        ]
    beyond = (values < low - _MARGIN * width) | (values > high + _MARGIN * width)
    share = float(beyond.double().mean())
    spread = float((values - (low + high) / 2).square().mean().sqrt())
    if share <= _OUTSIDE and spread <= _WIDTHS * width:
        return []
    return [
        f"the prior's own samples do not look like its data: {share:.0%} of the values lie far "
        f"outside prior.value_range ({low:g}, {high:g}), from {float(values.min()):.3g} to "
        f"{float(values.max()):.3g}, with standard deviation {float(values.std()):.3g}"
    ]

"""Inverse problems to begin with: measurements, instruments and priors that are at hand."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse import operators as ops
from tweedie_inverse.boundary.arguments import choice
from tweedie_inverse.datasets.photographs import load_photo
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.zoo import load_prior

PHOTO_SHAPE = (3, 128, 128)
_PHANTOM_SHAPE = (1, 64, 64)


class Example(NamedTuple):
    """What `solve` takes, and the truth that nobody has otherwise.

    Attributes:
        y: the measurement, ``(*operator.range_shape)``.
        operator: the instrument, with its noise.
        prior: a shipped one, trained on other images.
        truth: the image that was measured, ``(*operator.domain_shape)``; its range is [0, 1].
        title: the problem in a few words.
    """

    y: Tensor
    operator: ops.Operator
    prior: Prior
    truth: Tensor
    title: str


class Problem(NamedTuple):
    """An example before anything is measured or loaded: its parts are made when asked for."""

    title: str
    prior: str
    make: Callable[[], ops.LinearOperator]
    image: Callable[[], Tensor]


def phantom() -> Tensor:
    """A held-out CT-like slice, ``(1, 64, 64)``; 0 is air, 0.5 water."""
    return CTSlices(64).images([HELD_OUT_SEED + 614])[0]


def photograph() -> Tensor:
    """Half-size face crop of scikit-image's astronaut, ``(3, 128, 128)``, held out."""
    crop = load_photo("astronaut")[None, :, 0:256, 96:352]
    return F.interpolate(crop, size=PHOTO_SHAPE[1:], mode="bicubic", antialias=True)[0].clamp(0, 1)


def _ct() -> ops.LinearOperator:
    return ops.Tomography(_PHANTOM_SHAPE, angles=20, noise=ops.GaussianNoise(0.5))


def _mri() -> ops.LinearOperator:
    mask = ops.radial_mask(_PHANTOM_SHAPE[1:], 16)
    return ops.FourierSampling(mask, real=True, noise=ops.GaussianNoise(0.02))


def _counts() -> ops.LinearOperator:
    noise = ops.PoissonNoise(gain=1 / 100)
    return ops.Blur(ops.gaussian_kernel(1.0), _PHANTOM_SHAPE, noise=noise)


def _inpainting() -> ops.LinearOperator:
    return ops.Mask(ops.random_mask(PHOTO_SHAPE, 0.2, seed=1), noise=ops.GaussianNoise(0.05))


def _deblurring() -> ops.LinearOperator:
    return ops.Blur(ops.gaussian_kernel(2.0), PHOTO_SHAPE, noise=ops.GaussianNoise(0.02))


def _super_resolution() -> ops.LinearOperator:
    return ops.Downsampling(PHOTO_SHAPE, 4, noise=ops.GaussianNoise(0.02))


_POISSON = "blur of 1 pixel, counts of photons, 100 where the image is 1"
PROBLEMS = {
    "ct": Problem("CT, 20 views, noise 0.5 pixel lengths", "phantom-64", _ct, phantom),
    "mri": Problem("MRI, 16 spokes of k-space, noise 0.02", "phantom-64", _mri, phantom),
    "counts": Problem(_POISSON, "phantom-64", _counts, phantom),
    "inpainting": Problem(
        "80 % of the pixels missing, noise 0.05", "photo-64", _inpainting, photograph
    ),
    "deblurring": Problem(
        "Gaussian blur of 2 pixels, noise 0.02", "photo-64", _deblurring, photograph
    ),
    "super-resolution": Problem(
        "4x super-resolution, bicubic, noise 0.02", "photo-64", _super_resolution, photograph
    ),
}


def example(name: str = "ct", *, seed: int = 0, device: str | torch.device = "cpu") -> Example:
    """A problem to begin with, measured on an image that its prior has not been trained on.

    Args:
        name: ``"ct"``, ``"mri"`` or ``"counts"`` (64x64, grey); ``"inpainting"``, ``"deblurring"``
            or ``"super-resolution"`` (128x128, colour).
        seed: of the noise.
        device: where measurement, truth and prior are.

    Returns:
        An `Example`: ``y``, ``operator``, ``prior``, ``truth`` and ``title``, which also unpacks in
        this order.

    Raises:
        ValueError: there is no example of this name.

    Examples:
        >>> import tweedie_inverse as ti
        >>> ct = ti.example("ct")
        >>> tuple(ct.y.shape), ct.prior.name
        ((1, 20, 91), 'phantom-64')
    """
    problem = PROBLEMS[choice("example", "name", name, PROBLEMS)]
    operator, truth = problem.make(), problem.image()
    y = operator.measure(truth, seed=seed).to(device)
    prior = load_prior(problem.prior, device=device)
    return Example(y, operator, prior, truth.to(device), problem.title)

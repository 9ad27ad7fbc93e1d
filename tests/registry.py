"""Every operator, prior and walk once: a line here puts a new one through all contract tests."""

import torch

import operators as ops
import tweedie_inverse as ti
from operators.random import normal
from tests.posteriors import random_field

NOISE = ops.GaussianNoise(0.1)


def _kernel() -> torch.Tensor:
    """Not symmetric, even-sized: a flipped or shifted convolution shows."""
    kernel = normal((1,), (4, 5)).abs()
    return kernel / kernel.sum()


OPERATORS = {
    "matrix": lambda: ops.MatrixOperator(normal((2,), (7, 12)), noise=NOISE),
    "mask": lambda: ops.Mask(ops.random_mask((3, 8, 9), 0.3), noise=NOISE),
    "mask-grey": lambda: ops.Mask(torch.eye(8), channels=2, noise=NOISE),
    "blur": lambda: ops.Blur(_kernel(), (2, 9, 12), noise=NOISE),
    "blur-4d-kernel": lambda: ops.Blur(_kernel()[None, None], (1, 8, 7), noise=NOISE),
    "bicubic": lambda: ops.Downsampling((2, 12, 16), 4, noise=NOISE),
    "lanczos": lambda: ops.Downsampling((1, 12, 9), 3, kernel="lanczos", noise=NOISE),
    "block-mean": lambda: ops.Downsampling((1, 8, 8), 2, kernel="block_mean", noise=NOISE),
    "tomography": lambda: ops.Tomography((1, 12, 10), angles=7, noise=NOISE),
    "tomography-angles": lambda: ops.Tomography((1, 9, 9), [0.0, 33.0, 90.0], 11, noise=NOISE),
    "tomography-fan": lambda: ops.Tomography((1, 9, 12), 8, geometry="fan", noise=NOISE),
    "tomography-matrix-free": lambda: ops.Tomography(
        (1, 10, 7), 5, storage="matrix-free", noise=NOISE
    ),
    "tomography-fan-arc": lambda: ops.Tomography(
        (1, 7, 7),
        [-100.0, -45.0, 10.0, 45.0],
        8,
        geometry="fan",
        pixel_size=0.25,
        detector_spacing=0.5,
        source_distance=1.5,
        detector_distance=1.0,
        storage="matrix-free",
        noise=NOISE,
    ),
}

PRIORS = {
    "gaussian-dense": lambda: ti.priors.Gaussian(
        normal((3,), (4,)), covariance=torch.tensor([2.0, 1.0, 0.5, 0.1]).diag() + 0.2
    ),
    "gaussian-field": lambda: random_field(8),
    "mixture": lambda: ti.priors.GaussianMixture(
        3 * normal((4,), (3, 5)), torch.tensor([0.2, 0.5, 0.3]).double(), 0.7
    ),
    "empirical": lambda: ti.priors.Empirical(normal((5,), (6, 1, 3, 3)), std=0.2),
}

WALKS = {
    "decoupled": lambda: ti.walks.Decoupled(),
    "decoupled-average": lambda: ti.walks.Decoupled(error="average"),
    "decoupled-isotropic": lambda: ti.walks.Decoupled(error="isotropic"),
    "langevin": lambda: ti.walks.Langevin(),
}

"""Which prior fits my images: bits per dimension under several priors, of images and of a solution.

python examples/which_prior_fits.py

A prior is a density, so priors can be compared on images alone: the one that gives them the fewest
bits per dimension fits best.  Here the images are CT-like slices and what is reconstructed from 20
views of them; the candidates are a network trained on such slices, and two Gaussian fields whose
spectra are measured on slices and on photographs.
"""

import argparse
from typing import NamedTuple

import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.registry import dataset, held_out
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.spectral import Cosines

# Grey values of an 8-bit image: with the bins' width, bits are those of a lossless code.
BIN_WIDTH = 1 / 255


class Row(NamedTuple):
    """Bits per dimension, mean and standard error, of true images and of reconstructions."""

    images: float
    images_error: float
    reconstructions: float
    reconstructions_error: float


def main(
    count: int = 4,
    levels: int = 32,
    repeats: int = 2,
    steps: int = 30,
    measured: int = 256,
    seed: int = 0,
) -> dict[str, Row]:
    """The bits of `count` slices and of their reconstructions from 20 CT views, by prior."""
    images = held_out("slices", 64, count)
    operator = ops.Tomography((1, 64, 64), angles=20, noise=ops.GaussianNoise(0.5))
    y = operator.measure(images, seed=seed)
    method = ti.Bound(levels=levels, repeats=repeats)
    rows = {}
    for name, prior in priors(measured).items():
        solved = ti.solve(y, operator, prior, num_samples=1, steps=steps, seed=seed)
        bits = [
            ti.likelihood(prior, given, method=method, bin_width=BIN_WIDTH, seed=seed)
            for given in (images, solved.samples[:, 0])
        ]
        rows[name] = Row(*bits[0].mean_bits_per_dimension, *bits[1].mean_bits_per_dimension)
    return rows


def priors(measured: int) -> dict[str, ti.priors.Prior]:
    """The candidates; fields from `measured` images each."""
    photographs = dataset("photos", 64).images(range(measured)).mean(1, keepdim=True)
    return {
        "phantom-64, a network": ti.load_prior("phantom-64"),
        "Gaussian field of slices": field(dataset("slices", 64).images(range(measured))),
        "Gaussian field of grey photographs": field(photographs),
    }


def field(images: torch.Tensor) -> ti.priors.Gaussian:
    """A Gaussian with the mean brightness and the cosine spectrum of `images`."""
    mean = images.double().mean().expand(images.shape[1:]).clone()
    spectrum = Cosines().transform(images.double() - mean).square().mean(0)
    gaussian = ti.priors.Gaussian(mean, power_spectrum=torch.ones(64, 64))
    gaussian.covariance = Covariance(Cosines(), spectrum)
    return gaussian


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("bits per dimension        images             its reconstructions")
    for name, row in main(options.count, seed=options.seed).items():
        print(
            f"{name:<36} {row.images:.3f} +- {row.images_error:.3f}   "
            f"{row.reconstructions:.3f} +- {row.reconstructions_error:.3f}"
        )

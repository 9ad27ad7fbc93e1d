"""Which spectrum describes a denoising error best: full, separable, radial; cosines or Fourier.

    python -m benchmarks.spectra                   every shipped prior

Each is measured on half of the held-out images and judged on the other half by the mean log
density of its errors under ``N(0, V)``, in nats per pixel, averaged over noise levels: the larger
the better.  "own samples" is the full cosine spectrum measured without images, on the prior's own
samples; "one number" is a single variance for all frequencies.  Differences to the full cosine
spectrum are shown, the first row is the value itself.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

import tweedie_inverse as ti
from operators.random import normal
from tweedie_inverse.priors.denoising_error import DenoisingError
from tweedie_inverse.training.data import held_out

from .denoising import DATA

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def log_density(prior: ti.priors.NetworkPrior, error: DenoisingError, images: Tensor) -> float:
    """Mean log density of errors on `images`, nats a pixel, each corrected as `error` says."""
    corrected = prior.with_error(error)
    total = 0.0
    for index, sigma in enumerate(SIGMAS):
        noisy = images + sigma * normal(("spectra", index), images.shape).to(images)
        denoised = torch.cat([corrected.denoise(part, sigma) for part in noisy.split(32)])
        covariance = error.at(sigma, prior.shape)
        squares = covariance.basis.transform((images - denoised).double()).square()
        v = covariance.variance
        total += float((-0.5 * (squares / v + v.log() + math.log(2 * math.pi))).mean())
    return total / len(SIGMAS)


def variants(
    prior: ti.priors.NetworkPrior, images: Tensor, few: int
) -> Iterator[tuple[str, DenoisingError]]:
    sigmas = torch.tensor(SIGMAS, dtype=torch.float64)
    for count, label in ((len(images), ""), (few, f", {few} images")):
        for transform in ("cosine", "fourier"):
            for form in ("full", "separable", "radial"):
                yield (
                    f"{transform}, {form}{label}",
                    ti.measure_denoising_error(
                        prior, images[:count], sigmas=sigmas, transform=transform, form=form
                    ),
                )
    full = ti.measure_denoising_error(prior, images, sigmas=sigmas)
    flat = full.variance.mean(dim=(1, 2, 3), keepdim=True).expand_as(full.variance)
    yield "one number", replace(full, variance=flat)
    yield "own samples", ti.estimate_denoising_error(prior, len(images), sigmas=sigmas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(DATA)
    parser.add_argument("--priors", nargs="+", choices=names, default=names)
    parser.add_argument("--count", type=int, default=256, help="held-out images, half to measure")
    parser.add_argument("--few", type=int, default=16, help="images of the second measurement")
    options = parser.parse_args()
    for name in options.priors:
        prior = ti.load_prior(name)
        images = held_out(DATA[name], prior.shape[-1], options.count)
        half = options.count // 2
        print(f"\n{name}\n\n| spectrum | nats a pixel |\n|---|---|")
        reference = None
        for label, error in variants(prior, images[:half], options.few):
            value = log_density(prior, error, images[half:])
            if reference is None:
                reference = value
                print(f"| {label} | {value:.4f} |", flush=True)
            else:
                print(f"| {label} | {value - reference:+.4f} |", flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()

"""Which spectrum describes a denoising error best: full, separable, radial; cosines or Fourier.

    python -m tweedie_inverse.benchmarks.studies.error_spectra                   every shipped prior

Each is measured on half of the held-out images and judged on the other half by the mean log
density of its errors under ``N(0, V)``, in nats per pixel, averaged over noise levels: the larger
the better.  "own samples" is the full cosine spectrum measured without images, on the prior's own
samples; "one number" is a single variance for all frequencies.  The second column has the
covariance that follows the contrast of each denoised image.  Differences to the first value are
shown.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.studies.denoising import DATA, load_network
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.error.denoising_error import DenoisingError

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def log_density(
    prior: ti.priors.NetworkPrior, error: DenoisingError, images: Tensor, *, by_place: bool = False
) -> float:
    """Mean log density of errors on `images`, nats a pixel, each corrected as `error` says."""
    corrected = prior.with_error(error)
    total = 0.0
    for index, sigma in enumerate(SIGMAS):
        noisy = images + sigma * normal(("spectra", index), images.shape).to(images)
        denoised = torch.cat([corrected.denoise(part, sigma) for part in noisy.split(32)])
        errors = (images - denoised).double()
        covariance = error.around(denoised, sigma) if by_place else error.at(sigma, prior.shape)
        squares = covariance.factor_inverse(errors).square().mean()
        log_volume = covariance.variance.log().mean()
        if covariance.scale is not None:
            log_volume = log_volume + 2 * covariance.scale.double().log().mean()
        total -= 0.5 * float(squares + log_volume + math.log(2 * math.pi))
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
        prior = load_network(name)
        images = held_out(DATA[name], prior.shape[-1], options.count)
        half = options.count // 2
        print(f"\n{name}\n\n| spectrum | everywhere the same | by place |\n|---|---|---|")
        reference = None
        for label, error in variants(prior, images[:half], options.few):
            values = [
                log_density(prior, error, images[half:], by_place=by_place)
                for by_place in (False, True)
            ]
            if reference is None:
                reference = values[0]
                print(f"| {label} | {reference:.4f} | {values[1] - reference:+.4f} |", flush=True)
            else:
                cells = " | ".join(f"{value - reference:+.4f}" for value in values)
                print(f"| {label} | {cells} |", flush=True)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()

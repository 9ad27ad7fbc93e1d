"""Does a shipped prior repeat its training images: nearest neighbours of its own samples.

    python -m tweedie_inverse.benchmarks.studies.memorization
        photo-64 against 20,000 training patches
    python -m tweedie_inverse.benchmarks.studies.memorization --prior texture-64

Distances are root mean squares over the pixels, after each image's mean is taken off.  Samples
must be as far from the training images as held-out images are; a copy would be at distance 0.  The
figure shows the samples that are nearest to a training image, each above that image.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.studies.denoising import DATA
from tweedie_inverse.benchmarks.studies.sample_grids import draw
from tweedie_inverse.datasets.registry import Dataset, dataset, held_out

_CHUNK = 500


def nearest(images: Tensor, training: Dataset, count: int) -> tuple[Tensor, Tensor]:
    """Distance to and seed of the nearest of the first `count` training images, ``(images,)``."""
    found = _centred(images)
    best, seed = torch.full((len(images),), float("inf")), torch.zeros(len(images)).long()
    for first in range(0, count, _CHUNK):
        seeds = range(first, min(first + _CHUNK, count))
        distances = torch.cdist(found, _centred(training.images(seeds)))
        here, place = distances.min(dim=1)
        seed = torch.where(here < best, place + first, seed)
        best = torch.minimum(best, here)
    return best / found.shape[1] ** 0.5, seed


def _centred(images: Tensor) -> Tensor:
    return (images - images.mean(dim=(1, 2, 3), keepdim=True)).flatten(1)


def row(name: str, distances: Tensor) -> str:
    low, quarter, middle = distances.quantile(torch.tensor([0.0, 0.25, 0.5])).tolist()
    return f"| {name} | {low:.4f} | {quarter:.4f} | {middle:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(DATA)
    parser.add_argument("--prior", choices=names, default="photo-64")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--count", type=int, default=20_000, help="training images searched")
    parser.add_argument("--figure", default="memorization.png")
    options = parser.parse_args()
    prior = ti.load_prior(options.prior)
    data, size = DATA[options.prior], prior.shape[-1]
    training = dataset(data, size)
    samples = ti.sample(prior, options.samples, recipe="ddpm", steps=options.steps, seed=0)
    distances, seeds = nearest(samples, training, options.count)
    print(f"{options.prior}, {options.samples} images each, {options.count} training images\n")
    print("| nearest training image at | smallest | quarter | median |\n|---|---|---|---|")
    print(row("samples of the prior", distances))
    others = held_out(data, size, options.samples)
    print(row("held-out images", nearest(others, training, options.count)[0]))
    order = distances.argsort()[:8]
    nearby = training.images(seeds[order].tolist())
    draw({"samples": samples[order], "nearest training images": nearby}, Path(options.figure))
    print(f"\nfigure: {Path(options.figure).resolve()}")


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()

"""Photographs behind an unknown kernel: are the samples of kernel and image right?

python -m tweedie_inverse.benchmarks.studies.blind_deblurring --images 10 --device cuda
    kernels of three kinds, known and unknown, beside deepinv's blind Richardson-Lucy
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.evaluation.calibration import coverage, crps
from tweedie_inverse.evaluation.metrics import psnr

SHAPE, SIZE, STD = (3, 64, 64), 15, 0.02
# The shipped denoising errors were measured on the first 512 held-out images.
_BEYOND = 700
# Entries below this share of the largest are left out of the coverage: outside of a kernel's
# support the truth is 0, which no positive sample reaches.
_SEEN = 0.05
# Pairs are with the kernel known and unknown; of three the last is Richardson-Lucy's.
HEAD = (
    "| kernel | error of the kernel's mean, ours, Richardson-Lucy's | entries inside 90 % "
    "| coverage of the image | CRPS | PSNR | seconds |\n|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Scale:
    """How much is done: of how many images, with how many samples and evaluations, and where.

    Attributes:
        first: how many images are left out before the first.
    """

    images: int
    num_samples: int
    steps: int
    device: str = "cpu"
    first: int = 0


def kernels() -> dict[str, Tensor]:
    """Of size `SIZE`, their centres of mass in the middle."""
    return {
        "Gaussian, 1.5 pixels": ops.gaussian_kernel(1.5, SIZE),
        "Gaussian, 2.5 and 1 pixels": ops.gaussian_kernel((2.5, 1.0), SIZE, angle=30),
        "straight motion, 7 pixels": ops.motion_kernel(SIZE, length=7.0, angle=30.0),
    }


def richardson_lucy(y: Tensor) -> tuple[Tensor, Tensor]:
    """Image and kernel by deepinv, from a wide Gaussian as the kernel."""
    from deepinv.optim import BlindRL
    from deepinv.physics import BlurFFT, PoissonNoise

    begin = ops.gaussian_kernel(3.0, SIZE)[None, None].float()
    y = y.clamp(min=1e-3)
    model = BlindRL(kernel_size=(SIZE, SIZE), max_iter=100, init=(y, begin))
    size = tuple(y.shape[1:])
    physics = BlurFFT(img_size=size, filter=begin, noise_model=PoissonNoise())
    image, kernel = model(y, physics)
    return image, kernel[0, 0].double()


def rows(scale: Scale, only: str) -> Iterator[str]:
    """A row for each kernel, below a line for each image; all images are solved for together."""
    truth = held_out("photos", 64, scale.images, _BEYOND).to(scale.device)
    prior, noise = ti.load_prior("photo-64", device=scale.device), ops.GaussianNoise(STD)
    for name, kernel in kernels().items():
        if only not in name:
            continue
        table, seconds = _solved(kernel, noise, prior, truth, scale)
        for index, row in enumerate(table.tolist()):
            yield f"    {name}, image {index}: " + " ".join(f"{value:.4g}" for value in row)
        m = table.mean(0).tolist()
        yield HEAD
        yield (
            f"| {name} | {m[0]:.2f}, {m[1]:.2f} | {m[2]:.2f} | {m[3]:.2f} -> {m[4]:.2f} "
            f"| {m[5]:.4f} -> {m[6]:.4f} | {m[7]:.1f} -> {m[8]:.1f}, {m[9]:.1f} "
            f"| {' -> '.join(f'{each:.0f}' for each in seconds)} |"
        )


def _solved(
    kernel: Tensor, noise: ops.GaussianNoise, prior: ti.priors.Prior, truth: Tensor, scale: Scale
) -> tuple[Tensor, list[float]]:
    """What a row averages, ``(images, 10)``, and the seconds of the two solves."""
    known, blind = ops.Blur(kernel, SHAPE, noise=noise), ops.BlindBlur(SHAPE, SIZE, noise=noise)
    clean = enumerate(known.forward(truth).split(1))
    y = torch.cat([noise.sample(one, seed=index) for index, one in clean])
    posteriors = [
        ti.solve(y, operator, prior, num_samples=scale.num_samples, steps=scale.steps, seed=0)
        for operator in (known, blind)
    ]
    others = [richardson_lucy(one) for one in y.cpu().split(1)]
    found = posteriors[1].parameters["kernel"]
    low, high = (end.cpu() for end in found.interval())
    seen = kernel > _SEEN * kernel.max()
    inside = ((low <= kernel) & (kernel <= high))[:, seen].double().mean(1)
    # Half the sum of absolute differences: 0 to 1.
    guesses = (found.mean.cpu(), torch.stack([guess for _, guess in others]))
    errors = [0.5 * (guess - kernel).abs().flatten(1).sum(1) for guess in guesses]
    scores = [score(each, truth).cpu() for score in (coverage, crps) for each in posteriors]
    pictures = (
        *(each.mean.cpu() for each in posteriors),
        torch.cat([image for image, _ in others]),
    )
    ratios = [psnr(picture, truth.cpu()) for picture in pictures]
    table = torch.stack([column.double() for column in (*errors, inside, *scores, *ratios)], 1)
    return table, [each.stats.seconds for each in posteriors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", default="", help="a part of a kernel's name")
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    options = parser.parse_args()
    scale = Scale(options.images, options.samples, options.steps, options.device)
    if options.smoke:
        scale = Scale(1, 2, 10, options.device)
    for line in rows(scale, options.only):
        print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()

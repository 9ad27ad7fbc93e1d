"""Photographs behind an unknown kernel: are the samples of kernel and image right?

python -m tweedie_inverse.benchmarks.studies.blind_deblurring --images 10
    kernels of three kinds, known and unknown, beside deepinv's blind Richardson-Lucy
"""

import argparse
import time
from collections.abc import Iterator

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


def rows(images: int, num_samples: int, steps: int, only: str) -> Iterator[str]:
    """A row for each kernel, with a line for each image on the way."""
    truth, prior = held_out("photos", 64, images, _BEYOND), ti.load_prior("photo-64")
    noise = ops.GaussianNoise(STD)
    for name, kernel in kernels().items():
        if only not in name:
            continue
        known = ops.Blur(kernel, SHAPE, noise=noise)
        table = []
        for index, one in enumerate(truth):
            table.append(_one_image(known, kernel, prior, one[None], index, num_samples, steps))
            yield f"    {name}, image {index}: " + " ".join(f"{v:.4g}" for v in table[-1])
        m = torch.tensor(table, dtype=torch.float64).mean(0).tolist()
        yield HEAD
        yield (
            f"| {name} | {m[0]:.2f}, {m[1]:.2f} | {m[2]:.2f} | {m[3]:.2f} -> {m[4]:.2f} "
            f"| {m[5]:.4f} -> {m[6]:.4f} | {m[7]:.1f} -> {m[8]:.1f}, {m[9]:.1f} "
            f"| {m[10]:.1f} -> {m[11]:.1f}, {m[12]:.1f} |"
        )


def _one_image(
    known: ops.Blur,
    kernel: Tensor,
    prior: ti.priors.Prior,
    truth: Tensor,
    seed: int,
    num_samples: int,
    steps: int,
) -> list[float]:
    """What a row averages."""
    y = known.measure(truth, seed=seed)
    blind = ops.BlindBlur(SHAPE, SIZE, noise=known.noise)
    posteriors, seconds = [], []
    for operator in (known, blind):
        begin = time.monotonic()
        posteriors.append(
            ti.solve(y, operator, prior, num_samples=num_samples, steps=steps, seed=seed)
        )
        seconds.append(time.monotonic() - begin)
    begin = time.monotonic()
    image, other = richardson_lucy(y)
    seconds.append(time.monotonic() - begin)
    found = posteriors[1].parameters["kernel"]
    low, high = (end[0] for end in found.interval())
    seen = kernel > _SEEN * kernel.max()
    inside = ((low <= kernel) & (kernel <= high))[seen].double().mean()
    # Half the sum of absolute differences: 0 to 1.
    errors = [0.5 * float((one - kernel).abs().sum()) for one in (found.mean[0], other)]
    scores = [float(score(each, truth)) for score in (coverage, crps) for each in posteriors]
    pictures = (*(each.mean for each in posteriors), image)
    return [
        *errors,
        float(inside),
        *scores,
        *(float(psnr(picture, truth)) for picture in pictures),
        *seconds,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", default="", help="a part of a kernel's name")
    options = parser.parse_args()
    for line in rows(options.images, options.samples, options.steps, options.only):
        print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()

"""Noise levels and operator parameters that are drawn with the image: are their intervals right?

python -m tweedie_inverse.benchmarks.studies.unknown_instrument fields
    Gaussian fields and a mixture: the posterior of the unknowns on a grid, over 100 repeats
python -m tweedie_inverse.benchmarks.studies.unknown_instrument shipped --images 20
    the shipped priors with a known and an unknown noise level: the level and the image
python -m tweedie_inverse.benchmarks.studies.unknown_instrument width --images 20
    the width of a Gaussian PSF, known and unknown
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.problems.suites import phantoms
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.evaluation.calibration import coverage, crps

NOISE_RANGE, WIDTH_RANGE = (0.05, 0.3), (0.7, 2.5)
_GRID = 120
Drawable = ti.priors.Gaussian | ti.priors.GaussianMixture
# The shipped denoising errors were measured on the first 512 held-out images.
_BEYOND = 600
GRID_HEAD = (
    "| problem | unknown | mean, z averaged | variance ratio | 90 % coverage | seconds |\n"
    "|---|---|---|---|---|---|"
)
IMAGE_HEAD = (
    "| problem | unknown | mean / truth | inside 90 % | image coverage, known -> drawn "
    "| CRPS, known -> drawn | seconds, known -> drawn |\n|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Exact:
    """The posterior of the unknowns of some measurements on a grid.

    Attributes:
        levels, widths: the grid: logarithms of noise levels, and widths.
        weights: ``(batch, widths, levels)``, sum 1.
    """

    levels: Tensor
    widths: Tensor
    weights: Tensor


def operator_of(width: float) -> ops.Blur:
    """A Gaussian PSF on 16x16 pixels."""
    return ops.Blur(ops.gaussian_kernel(width, 15), (1, 16, 16))


def field_prior() -> ti.priors.Gaussian:
    """Periodic field, spectrum ``1 / (f^2 + 0.0375^2)^1.3``, pixel variance 0.25."""
    f = torch.fft.fftfreq(16, dtype=torch.float64)
    spectrum = (f[:, None] ** 2 + f**2 + 0.0375**2) ** -1.3
    zero = torch.zeros(1, 16, 16, dtype=torch.float64)
    return ti.priors.Gaussian(zero, power_spectrum=spectrum * 0.25 / spectrum.mean())


def mixture_prior() -> ti.priors.GaussianMixture:
    """Four smooth images with white noise of 0.15 about each."""
    means = field_prior().draw(4, seed=11).double()
    return ti.priors.GaussianMixture(means, torch.ones(4).double() / 4, 0.15)


def exact_posterior(
    y: Tensor, means: Tensor, covariance: Tensor, widths: Tensor, levels: Tensor
) -> Exact:
    """For images of an even mixture of ``N(mean, covariance)``.

    Args:
        y: ``(batch, *range_shape)``.
        means: ``(components, n)``; `covariance` is ``(n, n)``.
    """
    logs = torch.empty(len(y), len(widths), len(levels), dtype=torch.float64)
    for place, width in enumerate(widths.tolist()):
        matrix = ops.dense_matrix(operator_of(width)).double()
        values, axes = torch.linalg.eigh(matrix @ covariance @ matrix.mT)
        variances = values.clamp(min=0) + (2 * levels).exp()[:, None]
        residual = (y.double().flatten(1)[:, None] - means @ matrix.mT) @ axes
        squares = torch.einsum("bcn,ln->bcl", residual.square(), 1 / variances)
        of_component = -0.5 * (squares + variances.log().sum(1))
        logs[:, place] = of_component.logsumexp(1)
    total = logs.flatten(1).logsumexp(1)[:, None, None]
    return Exact(levels, widths, (logs - total).exp())


def moments(weights: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance ``(batch,)`` of weights ``(batch, grid)``."""
    mean = weights @ grid
    return mean, weights @ grid.square() - mean**2


def field_rows(repeats: int, num_samples: int, steps: int) -> Iterator[str]:
    """The table of the Gaussian field and the mixture."""
    yield GRID_HEAD
    field, mixture = field_prior(), mixture_prior()
    units = torch.eye(256, dtype=torch.float64).reshape(256, 1, 16, 16)
    of_field = field.covariance.apply(units).reshape(256, 256)
    cases: dict[str, tuple[Drawable, Tensor, Tensor, int]] = {
        "Gaussian field": (field, torch.zeros(1, 256).double(), of_field, steps),
        "mixture of four": (
            mixture,
            mixture.means.double().flatten(1),
            0.15**2 * torch.eye(256).double(),
            2 * steps,
        ),
    }
    for name, (prior, means, covariance, levels) in cases.items():
        for unknown in ("noise", "width", "both"):
            data = simulated(prior, repeats, unknown)
            exact = exact_posterior(data.y, means, covariance, *data.grid)
            yield from _grid_rows(name, unknown, data, exact, prior, num_samples, levels)


@dataclass(frozen=True)
class Simulated:
    """Measurements of images of a prior, with unknowns drawn from theirs."""

    y: Tensor
    widths: Tensor
    levels: Tensor
    grid: tuple[Tensor, Tensor]  # widths and logarithms of levels that are possible


def simulated(prior: Drawable, repeats: int, unknown: str) -> Simulated:
    """Some measurements; what is not unknown is a width of 1 and a noise level of 0.1."""
    generator = torch.Generator().manual_seed(7)

    def spread(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(repeats, generator=generator).double()

    low, high = map(math.log, NOISE_RANGE)
    levels, widths = spread(low, high).exp(), spread(*WIDTH_RANGE)
    grid = [torch.linspace(*WIDTH_RANGE, _GRID).double(), torch.linspace(low, high, _GRID).double()]
    if unknown == "noise":
        widths, grid[0] = torch.ones(repeats).double(), torch.ones(1).double()
    if unknown == "width":
        levels, grid[1] = torch.full((repeats,), 0.1).double(), torch.tensor([0.1]).double().log()
    x = prior.draw(repeats, seed=1).double()
    clean = torch.cat(
        [operator_of(w).forward(one) for w, one in zip(widths.tolist(), x.split(1), strict=True)]
    )
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    return Simulated(
        clean + levels[:, None, None, None] * noise, widths, levels, (grid[0], grid[1])
    )


def _grid_rows(
    name: str,
    unknown: str,
    data: Simulated,
    exact: Exact,
    prior: ti.priors.Prior,
    num_samples: int,
    steps: int,
) -> Iterator[str]:
    operator: ops.LinearOperator = operator_of(1.0)
    if unknown != "noise":
        operator = ops.parametric(operator_of, width=WIDTH_RANGE)
    noise = 0.1 if unknown == "width" else ops.GaussianNoise.unknown(NOISE_RANGE)
    begin = time.monotonic()
    posterior = ti.solve(
        data.y,
        operator,
        prior,
        noise=noise,
        num_samples=num_samples,
        steps=steps,
        method="decoupled",
    )
    seconds = time.monotonic() - begin
    found = []
    if unknown != "width":
        level = posterior.noise.std
        found.append(("noise", level, level.samples.log(), exact.weights.sum(1), exact.levels))
    if unknown != "noise":
        width = posterior.parameters["width"]
        found.append(("width", width, width.samples, exact.weights.sum(2), exact.widths))
    for each, parameter, samples, weights, grid in found:
        mean, variance = moments(weights, grid)
        z = (samples.mean(1) - mean) / (variance / num_samples).sqrt()
        ratio = samples.var(1) / variance
        low, high = parameter.interval()
        truth = data.levels if each == "noise" else data.widths
        inside = ((truth >= low) & (truth <= high)).double().mean()
        several = math.sqrt(len(z))
        yield (
            f"| {name}, {unknown} unknown | {each} | {float(z.mean()):.2f} +- {1 / several:.2f} "
            f"| {float(ratio.mean()):.2f} +- {float(ratio.std()) / several:.2f} "
            f"| {float(inside):.2f} | {seconds:.0f} |"
        )


@dataclass(frozen=True)
class Case:
    """One instrument with a shipped prior."""

    prior: str
    std: float
    known: ops.LinearOperator
    drawn: ops.LinearOperator
    width: float | None = None


def cases(kind: str) -> dict[str, Case]:
    """The instruments with an unknown noise level, or an unknown PSF."""
    grey, colour = (1, 64, 64), (3, 64, 64)
    if kind == "width":

        def blur(width: float) -> ops.Blur:
            return ops.Blur(ops.gaussian_kernel(width, 25), grey)

        drawn = ops.parametric(blur, width=(0.5, 4.0))
        return {"PSF of 1.5 pixels": Case("phantom-64", 0.05, blur(1.5), drawn, 1.5)}
    scan = ops.Tomography(grey, 20)
    blur_of_photo = ops.Blur(ops.gaussian_kernel(1.5), colour)
    small = ops.Downsampling(colour, 4)
    return {
        "CT, 20 views": Case("phantom-64", 0.5, scan, scan),
        "deblurring": Case("photo-64", 0.05, blur_of_photo, blur_of_photo),
        "super-resolution 4x": Case("photo-64", 0.05, small, small),
    }


def image_rows(kind: str, only: str, images: int, num_samples: int, steps: int) -> Iterator[str]:
    """A row for each instrument, with a line for each image on the way."""
    for name, case in cases(kind).items():
        if only not in name:
            continue
        truth = (
            phantoms(images, "test")
            if case.prior == "phantom-64"
            else held_out("photos", 64, images, _BEYOND)
        )
        prior = ti.load_prior(case.prior)
        rows = []
        for index, one in enumerate(truth):
            rows.append(_one_image(case, prior, one, index, kind, num_samples, steps))
            yield f"    {name}, image {index}: " + " ".join(f"{float(v):.4g}" for v in rows[-1])
        table = torch.tensor(rows, dtype=torch.float64)
        ratio, inside = table[:, 0], table[:, 1]
        means = table.mean(0)
        yield IMAGE_HEAD
        yield (
            f"| {name} | {kind} | {ratio.mean():.3f} +- {ratio.std(correction=0):.3f} "
            f"| {inside.mean():.2f} "
            f"| {means[2]:.3f} -> {means[3]:.3f} | {means[4]:.5f} -> {means[5]:.5f} "
            f"| {means[6]:.1f} -> {means[7]:.1f} |"
        )


def _one_image(
    case: Case,
    prior: ti.priors.Prior,
    truth: Tensor,
    seed: int,
    kind: str,
    num_samples: int,
    steps: int,
) -> list[float]:
    """Mean over truth, inside or not, coverage, CRPS and seconds of known and drawn."""
    clean = case.known.forward(truth[None])
    y = ops.GaussianNoise(case.std).sample(clean, seed=seed)
    noise: float | str = case.std if kind == "width" else "estimate"

    def run(operator: ops.LinearOperator, noise: float | str) -> tuple[ti.Posterior, float]:
        begin = time.monotonic()
        posterior = ti.solve(
            y, operator, prior, noise=noise, num_samples=num_samples, steps=steps, seed=seed
        )
        return posterior, time.monotonic() - begin

    known, seconds = run(case.known, case.std)
    drawn, longer = run(case.drawn, noise)
    parameter = drawn.noise.std if kind == "shipped" else drawn.parameters["width"]
    level = case.std if case.width is None else case.width
    low, high = (float(end) for end in parameter.interval())
    both: list[Callable[[ti.Posterior, Tensor], Tensor]] = [coverage, crps]
    scores = [float(score(run, truth[None])) for score in both for run in (known, drawn)]
    return [float(parameter.mean) / level, float(low <= level <= high), *scores, seconds, longer]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("fields", "shipped", "width"))
    parser.add_argument("--only", default="", help="a part of an instrument's name")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--steps", type=int, default=0, help="default 10 for fields, else 50")
    options = parser.parse_args()
    if options.part == "fields":
        lines = field_rows(options.repeats, options.samples, options.steps or 10)
    else:
        lines = image_rows(
            options.part, options.only, options.images, options.samples, options.steps or 50
        )
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()

"""Noise levels and operator parameters that are drawn with the image: are their intervals right?

python -m tweedie_inverse.benchmarks.studies.unknown_instrument fields
    Gaussian fields and a mixture: the posterior of the unknowns on a grid, over 100 repeats
python -m tweedie_inverse.benchmarks.studies.unknown_instrument shipped --images 20
    the shipped priors with a known and an unknown noise level: the level and the image
python -m tweedie_inverse.benchmarks.studies.unknown_instrument width|offset|angle --images 20
    the width of a Gaussian PSF, an offset of the detector, one of the angles, known and unknown
python -m tweedie_inverse.benchmarks.studies.unknown_instrument gain
    gain and read-out noise of counts, Gaussian fields
python -m tweedie_inverse.benchmarks.studies.unknown_instrument family --images 3
    straight motion taken for a Gaussian of unknown width: what notices it
python -m tweedie_inverse.benchmarks.studies.unknown_instrument settings --device cuda
    the width of a PSF with other settings of the walk
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.studies.blind_deblurring import Scale
from tweedie_inverse.benchmarks.studies.unknown_images import (
    KINDS,
    family_rows,
    image_rows,
    setting_rows,
)

NOISE_RANGE, WIDTH_RANGE = (0.05, 0.3), (0.7, 2.5)
_GRID = 120
Drawable = ti.priors.Gaussian | ti.priors.GaussianMixture
GRID_HEAD = (
    "| problem | unknown | mean, z averaged | variance ratio | 90 % coverage | seconds |\n"
    "|---|---|---|---|---|---|"
)
GAIN_HEAD = (
    "| unknown | of it | z of the truth, averaged | its scatter | inside 90 % | seconds |\n"
    "|---|---|---|---|---|---|"
)
GAINS, READ_OUT = (0.05, 1.0), (0.1, 1.0)


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


def gain_rows(repeats: int, num_samples: int, steps: int) -> Iterator[str]:
    """Counts of a bright Gaussian field: are gain and read-out noise in their intervals?"""
    yield GAIN_HEAD
    spectrum = field_prior().covariance.variance.reshape(16, 16)
    prior = ti.priors.Gaussian(torch.full((1, 16, 16), 8.0).double(), power_spectrum=spectrum)
    clean = operator_of(1.0).forward(prior.draw(repeats, seed=1).double()).split(1)
    uniform = torch.rand(2, repeats, generator=torch.Generator().manual_seed(7)).double()
    (low, high), (still, loud) = (tuple(map(math.log, ends)) for ends in (GAINS, READ_OUT))
    gains, stds = (
        (low + (high - low) * uniform[0]).exp(),
        (still + (loud - still) * uniform[1]).exp(),
    )
    unknown = ops.ScalarPrior.log_uniform
    for name in ("gain", "gain and read-out noise"):
        models: list[ops.NoiseModel]
        noise: ops.NoiseModel
        if name == "gain":
            models, noise = (
                [ops.PoissonNoise(g) for g in gains.tolist()],
                ops.PoissonNoise.unknown(GAINS),
            )
        else:
            pairs = zip(gains.tolist(), stds.tolist(), strict=True)
            models = [ops.PoissonGaussianNoise(g, s) for g, s in pairs]
            noise = ops.PoissonGaussianNoise.unknown(unknown(*GAINS), unknown(*READ_OUT))
        y = torch.cat(
            [m.sample(one, seed=i) for i, (m, one) in enumerate(zip(models, clean, strict=True))]
        )
        begin = time.monotonic()
        found = ti.solve(
            y, operator_of(1.0), prior, noise=noise, num_samples=num_samples, steps=steps
        )
        seconds = time.monotonic() - begin
        for one in found.noise.drawn:
            truth = gains if one.name == "noise gain" else stds
            ends, logs = one.interval(), one.samples.log()
            inside = ((truth >= ends[0]) & (truth <= ends[1])).double().mean()
            z = (logs.mean(1) - truth.log()) / logs.std(1)
            yield (
                f"| {name} | {one.name} | {float(z.mean()):.2f} +- {1 / math.sqrt(repeats):.2f} "
                f"| {float(z.std()):.2f} | {float(inside):.2f} | {seconds:.0f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("fields", "gain", "family", "settings", *KINDS))
    parser.add_argument("--only", default="", help="a part of an instrument's name")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="leave out so many images")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--steps", type=int, default=0, help="default 10 for fields, else 50")
    parser.add_argument("--references", type=int, default=59, help="of check_fit, for family")
    parser.add_argument("--device", default="cpu", help="such as cuda; for images and family")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    options = parser.parse_args()
    if options.smoke:
        options.repeats, options.images, options.samples, options.steps = 2, 2, 4, 15
        options.references = 19
    sizes = options.images, options.samples, options.steps or 50
    scale = Scale(*sizes, device=options.device, first=options.first)
    if options.part == "gain":
        lines = gain_rows(options.repeats, options.samples, options.steps or 6)
    elif options.part == "family":
        scale = replace(scale, steps=options.steps or 24)
        lines = family_rows(scale, options.references)
    elif options.part == "settings":
        lines = setting_rows(scale)
    elif options.part == "fields":
        lines = field_rows(options.repeats, options.samples, options.steps or 10)
    else:
        lines = image_rows(options.part, options.only, scale)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()

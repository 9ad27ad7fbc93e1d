"""Volumes from a prior of slices: sparse-view CT of drawn bodies, slice by slice and together.

    python -m tweedie_inverse.benchmarks.studies.volumes            two bodies, some minutes a row
    python -m tweedie_inverse.benchmarks.studies.volumes --smoke    tiny, to see that it runs

Every slice is seen from 20 views.  *Flicker* is the energy of the differences between neighbouring
slices, over that of the truth: 1 for a sample of the right posterior, up to chance, and less for a
mean.  Correlations are measured on other bodies, as they stand and as the prior errs in them.
Total variation in three dimensions gets the weight that suits the truth best, which nobody knows.
"""

import argparse
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.volumes import CTVolumes
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.evaluation.scores import crps_of

VIEWS, NOISE = 20, 0.5
LENGTHS = (0.0, 4.0, 16.0)
WEIGHTS = (0.2, 0.5, 1.0, 2.0)  # of total variation


class Row(NamedTuple):
    """Means over the bodies; NaN where a method makes no samples."""

    name: str
    crps: float
    psnr: float  # of the mean, dB
    covered: float  # by 90 % intervals
    flicker: float  # of a sample
    flicker_of_mean: float
    chi_square: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.name:28s} {self.crps:.5f} {self.psnr:6.2f} {self.covered:6.3f} "
            f"{self.flicker:7.3f} {self.flicker_of_mean:7.3f} {self.chi_square:6.3f} "
            f"{self.seconds:7.0f}"
        )


def flicker(volumes: Tensor, truth: Tensor) -> float:
    """Energy of differences across the slices of ``(count, 1, depth, ...)``, over the truth's."""
    own, expected = (x.diff(dim=2).square().mean() for x in (volumes, truth))
    return float(own / expected)


def total_variation(
    scan: ops.LinearOperator, y: Tensor, weight: float, iterations: int = 300
) -> Tensor:
    """Minimum of ``|A x - y|^2 / 2 + weight TV(x)``, x >= 0 (Chambolle and Pock 2011)."""
    norm = (ops.operator_norm(scan) ** 2 + 12) ** 0.5
    x = torch.zeros(1, *scan.domain_shape)
    ahead, residual, slopes = x, torch.zeros_like(y), torch.zeros(3, *x.shape)
    for _ in range(iterations):
        residual = (residual + (scan.forward(ahead) - y) / norm) / (1 + 1 / norm)
        slopes = slopes + _gradient(ahead) / norm
        slopes = slopes / (slopes.norm(dim=0, keepdim=True) / weight).clamp(min=1)
        before, x = x, (x - (scan.adjoint(residual) - _divergence(slopes)) / norm).clamp(min=0)
        ahead = 2 * x - before
    return x


def _gradient(x: Tensor) -> Tensor:
    found = torch.zeros(3, *x.shape)
    for axis in range(3):
        place = [slice(None)] * x.ndim
        place[2 + axis] = slice(0, -1)
        found[axis][tuple(place)] = x.diff(dim=2 + axis)
    return found


def _divergence(slopes: Tensor) -> Tensor:
    """Minus the transpose of `_gradient`."""
    total = torch.zeros_like(slopes[0])
    for axis in range(3):
        part = slopes[axis].narrow(2 + axis, 0, slopes.shape[3 + axis] - 1)
        total.narrow(2 + axis, 0, part.shape[2 + axis]).add_(part)
        total.narrow(2 + axis, 1, part.shape[2 + axis]).sub_(part)
    return total


def rows(depth: int, bodies: int, samples: int, steps: int) -> Iterator[Row]:
    """One row for each method, as it is done."""
    data = CTVolumes(64, depth)
    truths = data.volumes(range(HELD_OUT_SEED, HELD_OUT_SEED + bodies))
    others = data.volumes(range(HELD_OUT_SEED + 100, HELD_OUT_SEED + 104))
    scan = ops.slicewise(ops.Tomography((1, 64, 64), VIEWS, noise=ops.GaussianNoise(NOISE)), depth)
    y = scan.measure(truths, seed=0)
    network = ti.load_prior("phantom-64")
    assert isinstance(scan, ops.LinearOperator)
    correlations: dict[str, float | ti.priors.SliceCorrelation] = {
        f"length {one:g}" if one else "slice by slice": one for one in LENGTHS
    }
    correlations["of the slices"] = ti.priors.measure_slice_correlation(others)
    correlations["of the prior's errors"] = ti.priors.measure_slice_correlation(others, network)
    for name, correlation in correlations.items():
        prior = ti.priors.Slices(network, depth=depth, correlation=correlation)
        start = time.perf_counter()
        posterior = ti.solve(y, scan, prior, num_samples=samples, steps=steps, seed=0)
        yield _row(name, posterior, truths, time.perf_counter() - start)
    start = time.perf_counter()
    found = [total_variation(scan, y, weight) for weight in WEIGHTS]
    best = max(found, key=lambda x: float(psnr(x, truths).mean()))
    nothing = float("nan")
    error = float((best - truths).abs().mean())  # the score of a single answer
    yield Row(
        "total variation",
        error,
        float(psnr(best, truths).mean()),
        nothing,
        nothing,
        flicker(best, truths),
        nothing,
        time.perf_counter() - start,
    )


def _row(name: str, posterior: ti.Posterior, truths: Tensor, seconds: float) -> Row:
    lower, upper = posterior.interval(0.9)
    samples = posterior.samples
    scores = [float(crps_of(*pair).mean()) for pair in zip(samples, truths, strict=True)]
    return Row(
        name,
        sum(scores) / len(scores),
        float(psnr(posterior.mean, truths).mean()),
        float(((lower <= truths) & (truths <= upper)).float().mean()),
        sum(flicker(samples[:, k], truths) for k in range(samples.shape[1])) / samples.shape[1],
        flicker(posterior.mean, truths),
        float(posterior.diagnostics.residual_chi_square.mean()),
        seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--bodies", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    sizes = (options.depth, options.bodies, options.samples, options.steps)
    print(f"{'':28s} {'CRPS':7s} {'PSNR':>6s} cover. flicker of mean  chi^2 seconds")
    for row in rows(*((4, 1, 2, 4) if options.smoke else sizes)):
        print(row, flush=True)


if __name__ == "__main__":
    main()

"""Volumes from slices along one axis and along all three: a cube with voxels of equal sides.

    python -m tweedie_inverse.benchmarks.studies.several_axes            some minutes a row
    python -m tweedie_inverse.benchmarks.studies.several_axes --smoke    a field instead of the
                                                                         network, of 8 voxels a side

The middle of a drawn body, measured by a stack of CT scans of few views, and as slices of four
voxels' thickness.  The prior of grey textures knows no direction and serves slices along each axis.
*Flicker* is the energy of the differences of neighbours along an axis, over that of the truth: 1
for samples of the right posterior, up to chance.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.datasets.volumes import CTVolumes
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.evaluation.scores import crps_of

VIEWS, SCAN_NOISE = 12, 0.5
THICKNESS, SLICE_NOISE = 4, 0.02
NAMES = ("CT", "thick")
WAYS: dict[str, dict[str, Any]] = {
    "slice by slice": {"correlation": 0},
    "one axis, length 4": {"correlation": 4.0},
    "one axis, length 16": {"correlation": 16.0},
    "three axes": {"axes": (0, 1, 2)},
}


class Row(NamedTuple):
    """Of one volume."""

    instrument: str
    way: str
    crps: float
    psnr: float  # of the mean, dB
    covered: float  # by intervals that should hold `right`
    right: float
    flicker: tuple[float, ...]  # of samples, along depth, height and width
    chi_square: float
    seconds: float

    def __str__(self) -> str:
        flicker = " ".join(f"{one:5.2f}" for one in self.flicker)
        return (
            f"{self.instrument:6s} {self.way:20s} {self.crps:.5f} {self.psnr:6.2f} "
            f"{self.covered:.3f} of {self.right:.3f} {flicker} {self.chi_square:6.3f} "
            f"{self.seconds:6.0f}"
        )


def cube(side: int) -> Tensor:
    """The middle of a body, ``(1, side, side, side)``."""
    whole = 64
    spacing = CTSlices(whole).pixel_size
    volume = CTVolumes(whole, side, spacing=spacing).volumes([HELD_OUT_SEED])[0]
    first = (whole - side) // 2
    return volume[..., first : first + side, first : first + side]


def instruments(side: int) -> dict[str, ops.LinearOperator]:
    """By name, for cubes."""
    scan = ops.Tomography((1, side, side), VIEWS, noise=ops.GaussianNoise(SCAN_NOISE))
    stack = ops.slicewise(scan, side)
    assert isinstance(stack, ops.LinearOperator)
    noise = ops.GaussianNoise(SLICE_NOISE)
    thick = ops.Downsampling((1, side, side, side), (THICKNESS, 1, 1), noise=noise)
    return {"CT": stack, "thick": thick}


def slices(side: int) -> ti.priors.Prior:
    """The shipped network, or below its size a Gaussian field."""
    if side >= 64:
        return ti.load_prior("texture-64").for_shape((1, side, side))
    waves = torch.fft.fftfreq(side, dtype=torch.float64)
    spectrum = 0.01 / (0.02 + waves[:, None] ** 2 + waves**2)
    return ti.priors.Gaussian(torch.full((1, side, side), 0.5), power_spectrum=spectrum)


def flicker(samples: Tensor, truth: Tensor) -> tuple[float, ...]:
    """Along each axis, of ``(count, 1, depth, height, width)``."""
    return tuple(
        float(samples.diff(dim=axis).square().mean() / truth.diff(dim=axis).square().mean())
        for axis in (-3, -2, -1)
    )


def rows(
    side: int, samples: int, steps: int, names: Sequence[str] = NAMES, ways: Sequence[str] = ()
) -> Iterator[Row]:
    """One for each instrument and way (all, if none is named), as it is done."""
    truth, prior_of_slices = cube(side), slices(side)
    for name in names:
        operator = instruments(side)[name]
        y = operator.measure(truth, seed=0)
        for way in ways or WAYS:
            prior = ti.priors.Slices(prior_of_slices, depth=side, **WAYS[way])
            start = time.perf_counter()
            posterior = ti.solve(y, operator, prior, num_samples=samples, steps=steps, seed=0)
            seconds = time.perf_counter() - start
            drawn = posterior.samples
            lower, upper = (drawn.quantile(q, dim=0) for q in (0.05, 0.95))
            yield Row(
                name,
                way,
                float(crps_of(drawn, truth).mean()),
                float(psnr(posterior.mean[None], truth[None]).mean()),
                float(((lower <= truth) & (truth <= upper)).float().mean()),
                0.9 * (samples - 1) / (samples + 1),
                flicker(drawn, truth),
                float(posterior.diagnostics.residual_chi_square.mean()),
                seconds,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--instruments", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    side, samples, steps = options.side, options.samples, options.steps
    if options.smoke:
        side, samples, steps = 8, 2, 3
    for row in rows(side, samples, steps, options.instruments, options.ways):
        print(row, flush=True)


if __name__ == "__main__":
    main()

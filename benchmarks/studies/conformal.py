"""Do recalibrated intervals cover what they say, with a prior that does not fit the images?

    python -m tweedie_inverse.benchmarks.studies.conformal
    python -m tweedie_inverse.benchmarks.studies.conformal --prior texture-64 --cases blur --folder kept

Grey patches of photographs that no shipped prior was trained on, solved with the prior of CT
slices.  The first of them calibrate, and the intervals of the others are counted.  The patches are
random, and so one may overlap another: the law that is promised for is that of patches of these
photographs.  With a folder the same command goes on where it stopped.
"""  # noqa: E501

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.suites import NOISE
from tweedie_inverse.datasets.photographs import HELD_OUT_PHOTOS, Photographs
from tweedie_inverse.datasets.registry import Grey
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.operators import LinearOperator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.recalibrated import Recalibrated

SHAPE = (1, 64, 64)
LEVELS = (0.5, 0.8, 0.9)
# Seeds of patches to calibrate with and to count, far from those that other studies take.
_CALIBRATING, _COUNTED = HELD_OUT_SEED + 40_000, HELD_OUT_SEED + 50_000
_MOST = 200
# Measurements that are solved, and kept, at a time.
_BLOCK = 10
CASES = {
    "inpainting": lambda: ops.Mask(ops.random_mask(SHAPE, 0.3, seed=1), noise=NOISE(0.05)),
    "blur": lambda: ops.Blur(ops.gaussian_kernel(1.5), SHAPE, noise=NOISE(0.05)),
}
COLUMNS = (
    "prior",
    "case",
    "truths + counted",
    "level",
    "pixels, as sampled",
    "pixels, recalibrated",
    "z",
    "regions, as sampled",
    "regions, recalibrated",
    "z",
    "times wider",
)


def regions(x: Tensor) -> Tensor:
    """Brightness of the four quarters of an image and of the whole, ``(walkers, 5)``."""
    quarters = torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
    return torch.cat([quarters, x.flatten(1).mean(1, keepdim=True)], dim=1)


def patches(first: int, count: int) -> Tensor:
    """Grey patches of the held-out photographs, ``(count, *SHAPE)``."""
    return Grey(Photographs(SHAPE[-1], HELD_OUT_PHOTOS)).images(range(first, first + count))


class Coverage(NamedTuple):
    """Share of the values inside, and how far it is from the level in standard errors.

    Both the truths that calibrate and those that are counted are few: a share of n images that is
    covered with probability p has the variance ``p (1 - p) (1 / n + 1 / (m + 2))`` if the interval
    was found from m others; of pixels, the variance between images stands for ``p (1 - p)``.
    """

    share: float
    z: float

    @staticmethod
    def of(inside: Tensor, level: float, calibrating: int) -> "Coverage":
        """From ``inside (images, values)``, boolean."""
        each = inside.double().mean(1)
        binomial = level * (1 - level)
        # Between images the shares vary at most as if all values of an image were one.
        variance = binomial if inside.shape[1] == 1 else min(float(each.var()), binomial)
        error = math.sqrt(variance * (1 / len(each) + 1 / (calibrating + 2)))
        share = float(each.mean())
        return Coverage(share, (share - level) / error)


def solved(
    operator: LinearOperator,
    prior: Prior,
    images: Tensor,
    samples: int,
    steps: int,
    folder: Path | None,
) -> Posterior:
    """Posteriors of one measurement of each image."""
    parts = []
    for first in range(0, len(images), _BLOCK):
        numbers = range(first, min(first + _BLOCK, len(images)))
        path = None if folder is None else folder / f"counted-{first}-{len(numbers)}.safetensors"
        if path is not None and path.is_file():
            parts.append(Posterior.load(path))
            continue
        y = torch.stack([operator.measure(images[k], seed=10_000 + k) for k in numbers])
        seeds = [20_000 + k for k in numbers]
        parts.append(ti.solve(y, operator, prior, num_samples=samples, steps=steps, seed=seeds))
        if path is not None:
            parts[-1].save(path)
    return Posterior.concatenate(parts)


def inside(interval: tuple[Tensor, Tensor], truth: Tensor) -> Tensor:
    """Whether each value is in its interval, ``(images, values)``."""
    low, high = interval
    return ((low <= truth) & (truth <= high)).flatten(1)


def lines(
    posterior: Posterior, better: Recalibrated, images: Tensor, title: list[str]
) -> Iterator[list[str]]:
    """A line for each level: coverage of pixels and of regions, before and after."""
    wanted = regions(images)
    for level in LEVELS:
        pairs = (
            (posterior.interval(level), better.interval(level), images),
            (
                posterior.interval(level, of=regions),
                better.interval(level, of={"regions": regions}),
                wanted,
            ),
        )
        cells: list[str] = []
        for before, after, truth in pairs:
            old, new = inside(before, truth), inside(after, truth)
            found = Coverage.of(new, level, better.count)
            cells += [f"{float(old.double().mean()):.3f}", f"{found.share:.3f}", f"{found.z:+.1f}"]
        (low, high), (lower, higher) = pairs[0][0], pairs[0][1]
        wider = float((higher - lower).mean() / (high - low).mean())
        yield [*title, f"{level}", *cells, f"{wider:.2f}"]


def table(options: argparse.Namespace) -> Iterator[list[str]]:
    """All lines, each case as soon as it is known."""
    prior = load(options.prior).for_shape(SHAPE)
    for case in options.cases:
        operator = CASES[case]()
        name = f"conformal-{options.prior}-{case}-{options.steps}-{options.samples}"
        folder = None if options.folder is None else options.folder / name
        calibration = ti.calibrate(
            operator,
            prior,
            images=patches(_CALIBRATING, _MOST),
            count=options.count,
            num_samples=options.samples,
            steps=options.steps,
            statistics={"regions": regions},
            power=False,
            folder=None if folder is None else folder / "truths",
        )
        images = patches(_COUNTED, options.counted)
        posterior = solved(operator, prior, images, options.samples, options.steps, folder)
        better = calibration.recalibrated(posterior)
        title = [options.prior, case, f"{options.count} + {options.counted}"]
        yield from lines(posterior, better, images, title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", default="phantom-64", help="a shipped one of 64x64 grey images")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--count", type=int, default=100, help=f"truths, at most {_MOST}")
    parser.add_argument("--counted", type=int, default=200, help="images that are counted")
    parser.add_argument("--samples", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where finished truths are kept")
    options = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for line in table(options):
        print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    with endings():
        main()

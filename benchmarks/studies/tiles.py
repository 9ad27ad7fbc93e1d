"""Tiles against the whole image at once: quality, seams, processor time and memory.

    python -m tweedie_inverse.benchmarks.studies.tiles
        one denoising of a held-out photograph
    python -m tweedie_inverse.benchmarks.studies.tiles --memory
        peak memory and time, one process a row
    python -m tweedie_inverse.benchmarks.studies.tiles --smoke            tiny, to see that it runs
    python -m tweedie_inverse.benchmarks run tiles --out results  with records, as the other suites

Jumps are those of `border_jump` beyond what the whole image has at the same places; seconds are
the processor's.  The prior is `photo-64`, trained on 64 x 64 patches, which can also see a large
image as a whole.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.distributed import Place
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.harness.records import Store, Unit, provenance
from tweedie_inverse.benchmarks.harness.standalone import Request, of_tasks, show
from tweedie_inverse.benchmarks.harness.work_loop import Result, finish
from tweedie_inverse.benchmarks.problems.priors import checksum
from tweedie_inverse.benchmarks.studies.denoising import load_network
from tweedie_inverse.datasets.photographs import load_photo
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import NetworkPrior
from tweedie_inverse.priors.tiles import starts

PRIOR, PHOTOS = "photo-64", ("astronaut",)
SIGMAS = (25 / 255, 0.5, 2.0)
TILINGS: tuple[tuple[int, int], ...] = ((64, 1), (64, 4), (64, 16), (64, 32), (128, 32), (256, 64))


def border_jump(denoised: Tensor, clean: Tensor, tile: int, overlap: int) -> float:
    """Energy of the error's jumps across borders of tiles, over that of all its jumps.

    1 where borders are places like others; the images may differ there by chance, so compare with
    a denoiser that knows no tiles.
    """
    error, parts = denoised - clean, []
    for axis in (2, 3):
        size = clean.shape[axis]
        places = starts(size, tile, overlap)
        borders = [p for p in places if p > 0] + [p + tile for p in places if p + tile < size]
        jumps = error.diff(dim=axis).square().transpose(axis, -1).flatten(0, -2).mean(0)
        parts.append((jumps[torch.tensor(borders) - 1].mean(), jumps.mean()))
    across, everywhere = (torch.stack(part).sum() for part in zip(*parts, strict=True))
    return float(across / everywhere)


class Sheet(NamedTuple):
    """One noisy photograph: as a whole, and in tiles."""

    units: tuple[Unit, ...]
    clean: Tensor  # (1, 3, height, width)
    level: int  # which of SIGMAS
    tilings: tuple[tuple[int, int], ...]


def sheets(request: Request, photos: Sequence[str] = PHOTOS) -> list[Sheet]:
    """One sheet for each photograph and noise level; a corner of one in a smoke run."""
    found = []
    for photo in photos:
        clean, tilings, levels = load_photo(photo)[None], TILINGS, range(len(SIGMAS))
        if request.smoke:
            clean, tilings, levels = clean[..., :96, :96], TILINGS[2:3], range(1)
        for level in levels:
            names = ["whole", *(f"{tile}, overlap {overlap}" for tile, overlap in tilings)]
            task = f"{photo}, sigma {SIGMAS[level]:.2g}"
            units = tuple(_unit(task, name, clean) for name in names)
            found.append(Sheet(units, clean, level, tilings))
    return of_tasks(found, request.tasks)


def _unit(task: str, name: str, clean: Tensor) -> Unit:
    machine = provenance("cpu")["machine"]
    return Unit(
        suite="tiles",
        task=task,
        problem=f"One denoising of {clean.shape[2]} x {clean.shape[3]} pixels; {machine}",
        image=0,
        method=name,
        settings={"source": f"{PRIOR}, trained on patches of 64 x 64"},
        samples=1,
        seed=0,
        weights=checksum(PRIOR),
    )


@torch.no_grad()
def measured(sheet: Sheet) -> list[Result]:
    """PSNR, jumps at the borders of tiles, and processor time, of every tiling."""
    clean, sigma = sheet.clean, SIGMAS[sheet.level]
    prior, shape = load_network(PRIOR), tuple(clean.shape[1:])
    noisy = clean + sigma * normal(("tiles", sheet.level), clean.shape).float()
    whole, reference = _denoised(prior.for_shape(shape), noisy, sigma)
    found = [_result(float(psnr(whole, clean)), None, reference, 1.0)]
    for tile, overlap in sheet.tilings:
        tiled = prior.tiled(tile, overlap=overlap).for_shape(shape)
        denoised, seconds = _denoised(tiled, noisy, sigma)
        jumps, others = (border_jump(x, clean, tile, overlap) for x in (denoised, whole))
        found.append(
            _result(float(psnr(denoised, clean)), jumps - others, seconds, seconds / reference)
        )
    return found


def _result(psnr: float, jumps: float | None, seconds: float, ratio: float) -> Result:
    metrics = {"psnr": psnr, "border_jumps": jumps}
    run = {"seconds": seconds, "ratio_to_whole": ratio}
    return Result({"metrics": metrics, "cost": {}, "run": run})


def record(
    request: Request,
    store: Store,
    *,
    place: Place | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """All sheets, made on the CPU by the first process alone: others would slow it down."""
    if place is None or place.rank == 0:
        finish(sheets(request), measured, store, "cpu", log=log)


def memory(sizes: list[int], tasks: list[str], steps: int) -> Iterator[str]:
    """Peak memory of a process beyond what it had with the prior loaded, and CPU time."""
    yield "\n| image | | whole, MiB | tiles, MiB | tiles / whole | CPU time, tiles / whole |"
    yield "|---|---|---|---|---|---|"
    for size in sizes:
        for task in tasks:
            (whole, slow), (tiled, fast) = (
                _in_a_process(way, task, size, steps) for way in ("whole", "tiles")
            )
            what = "one evaluation" if task == "denoise" else f"solve, {steps} steps"
            yield (
                f"| {size} x {size} | {what} | {whole:.0f} | {tiled:.0f} | {tiled / whole:.2f} "
                f"| {fast / slow:.1f} |"
            )


def _in_a_process(way: str, task: str, size: int, steps: int) -> tuple[float, float]:
    """Memory in MiB and processor time in seconds."""
    command = [
        sys.executable,
        "-m",
        "tweedie_inverse.benchmarks.studies.tiles",
        "--measure",
        way,
        task,
        str(size),
    ]
    done = subprocess.run(
        [*command, "--steps", str(steps)], capture_output=True, text=True, check=True
    )
    used, seconds = done.stdout.split()[-2:]
    return float(used), float(seconds)


def measure(way: str, task: str, size: int, steps: int) -> None:
    """Print the memory that this process took beyond the prior, in MiB, and its CPU seconds."""
    prior = load_network(PRIOR)
    if way == "tiles":
        prior = prior.tiled()
    shape = (3, size, size)
    operator = ops.Mask(ops.random_mask(shape, 0.2, seed=1), noise=ops.GaussianNoise(0.05))
    noisy = 0.5 + 0.3 * normal(("memory",), (1, *shape)).float()
    before, start = _peak(), time.process_time()
    if task == "denoise":
        prior.for_shape(shape).denoise(noisy, 0.3)
    else:
        ti.solve(operator.forward(noisy), operator, prior, num_samples=1, steps=steps)
    print(_peak() - before, time.process_time() - start)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _denoised(prior: NetworkPrior, noisy: Tensor, sigma: float) -> tuple[Tensor, float]:
    start = time.process_time()
    return prior.denoise(noisy, sigma), time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", nargs="+", default=list(PHOTOS))
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--out", help="folder for the records; they go on there")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    tasks = ["denoise", "solve"]
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, task, size = options.measure
        measure(way, task, int(size), options.steps)
        return
    if options.memory:
        for line in memory(options.sizes, options.tasks, options.steps):
            print(line, flush=True)
        return
    chosen = sheets(Request(smoke=options.smoke), options.photos)
    show("tiles", partial(finish, chosen, measured, device="cpu"), options.out)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()

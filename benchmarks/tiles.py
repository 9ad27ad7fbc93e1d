"""Tiles against the whole image at once: quality, seams, processor time and memory.

    python -m benchmarks.tiles                    one denoising of a held-out photograph
    python -m benchmarks.tiles --memory           peak memory and time, one process a row

The prior is `photo-64`, trained on 64 x 64 patches, which can also see a large image as a whole.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor

import operators as ops
import tweedie_inverse as ti
from operators.random import normal
from tweedie_inverse.priors import NetworkPrior
from tweedie_inverse.priors.tiles import starts
from tweedie_inverse.training.photographs import load_photo

SIGMAS = (25 / 255, 0.5, 2.0)
TILINGS = ((64, 1), (64, 4), (64, 16), (64, 32), (128, 32), (256, 64))


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


def quality(photo: str, tilings: tuple[tuple[int, int], ...] = TILINGS) -> Iterator[str]:
    """A row a tiling: PSNR, jumps at its borders beyond those of the whole image, and CPU time."""
    prior, clean = ti.load_prior("photo-64"), load_photo(photo)[None]
    shape = tuple(clean.shape[1:])
    head = " | ".join(f"sigma {sigma:.2g}: dB | jumps" for sigma in SIGMAS)
    yield f"\n{photo}, {shape[1]} x {shape[2]}\n\n| tile, overlap | {head} | CPU time |"
    yield "|---" * (2 * len(SIGMAS) + 2) + "|"
    noisy = [clean + s * normal(("tiles", i), clean.shape).float() for i, s in enumerate(SIGMAS)]
    whole, reference = _denoised(prior.for_shape(shape), noisy)
    yield "| whole | " + " | ".join(f"{_psnr(d, clean):.2f} |" for d in whole) + " | 1 |"
    for tile, overlap in tilings:
        tiled = prior.tiled(tile, overlap=overlap).for_shape(shape)
        denoised, seconds = _denoised(tiled, noisy)
        cells = [
            f"{_psnr(d, clean):.2f} | "
            f"{border_jump(d, clean, tile, overlap) - border_jump(w, clean, tile, overlap):+.3f}"
            for d, w in zip(denoised, whole, strict=True)
        ]
        yield f"| {tile}, {overlap} | " + " | ".join(cells) + f" | {seconds / reference:.1f} |"


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
    """MiB, and seconds of the processor."""
    command = [sys.executable, "-m", "benchmarks.tiles", "--measure", way, task, str(size)]
    done = subprocess.run(
        [*command, "--steps", str(steps)], capture_output=True, text=True, check=True
    )
    used, seconds = done.stdout.split()[-2:]
    return float(used), float(seconds)


def measure(way: str, task: str, size: int, steps: int) -> None:
    """Print the memory that this process took beyond the prior, in MiB, and its CPU seconds."""
    prior: NetworkPrior = ti.load_prior("photo-64")
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


def _denoised(prior: NetworkPrior, noisy: list[Tensor]) -> tuple[list[Tensor], float]:
    start = time.process_time()
    found = [prior.denoise(x, s) for x, s in zip(noisy, SIGMAS, strict=True)]
    return found, time.process_time() - start


def _psnr(found: Tensor, clean: Tensor) -> float:
    return float(-10 * (found - clean).square().mean().log10())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", nargs="+", default=["astronaut"])
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
    for photo in [] if options.memory else options.photos:
        for line in quality(photo):
            print(line, flush=True)
    for line in memory(options.sizes, options.tasks, options.steps) if options.memory else []:
        print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()

"""One image or one volume over several processes against one: equality, time, memory, traffic.

    python -m tweedie_inverse.benchmarks.studies.over_ranks
        an inpainted image in tiles, and a volume of slices, by 1, 2, 3 and 4 processes
    python -m tweedie_inverse.benchmarks.studies.over_ranks --device cuda --ranks 1 2
        each process on its GPU; several by gloo where there is one
    python -m tweedie_inverse.benchmarks.studies.over_ranks --smoke       tiny, to see that it runs

It starts torchrun itself.  Every process computes with one thread, so that the speed-up is that of
the processes; where there are fewer cores than processes, or others use them, the evaluations and
the busy (processor) seconds of the busiest process say more than seconds by the clock.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.datasets.volumes import CTVolumes
from tweedie_inverse.operators import Operator
from tweedie_inverse.priors import NetworkPrior, Slices
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.tiles import starts
from tweedie_inverse.runtime.peak_memory import peak_memory

_TILE = 64


class Counting(nn.Module):
    """A network that counts the images it is given, and the processor's seconds that they take."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.images, self.seconds = network, 0, 0.0

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        begin = _now(x)
        answer = self.network(x, label)
        self.images, self.seconds = self.images + len(x), self.seconds + _now(x) - begin
        return answer


def _now(x: Tensor) -> float:
    if not x.is_cuda:
        return time.process_time()
    torch.cuda.synchronize(x.device)
    return time.perf_counter()


class Problem(NamedTuple):
    """What is solved: a prior to be spread, and how its network counts."""

    y: Tensor
    operator: Operator
    prior: NetworkPrior | Slices
    network: Counting
    numbers: int  # of all tiles or slices of an evaluation, which travel


def _network(name: str, device: str) -> tuple[NetworkPrior, Counting]:
    prior = ti.load_prior(name, device=device)
    assert isinstance(prior, NetworkPrior)
    prior.module = network = Counting(prior.module)
    return prior, network


def image(size: int, device: str) -> Problem:
    """80 % of the pixels are missing, so that every draw is solved by conjugate gradients."""
    shape = (1, size, size)
    prior, network = _network("texture-64", device)
    pixels = 4 * _TILE**2 if size < 512 else 16 * _TILE**2
    tiled = prior.tiled(pixels=pixels)
    operator = ops.Mask(ops.random_mask(shape, 0.2, seed=1), noise=ops.GaussianNoise(0.05))
    x = ti.sample(prior, 1, steps=10, seed=1, device=device)
    repeats = -(-size // x.shape[-1])
    y = operator.measure(x.repeat(1, 1, repeats, repeats)[..., :size, :size], seed=0)
    across = len(starts(size, _TILE, _TILE // 4))
    return Problem(y, operator, tiled, network, across**2 * _TILE**2)


def volume(depth: int, device: str) -> Problem:
    """A scan of 20 views a slice."""
    shape = (1, _TILE, _TILE)
    prior, network = _network("phantom-64", device)
    body = CTVolumes(size=_TILE, depth=depth).volumes([1]).to(device)
    scan = ops.slicewise(ops.Tomography(shape, 20, noise=ops.GaussianNoise(0.5)), depth=depth)
    slices = Slices(prior, depth=depth, correlation=3.0, together=4)
    return Problem(scan.measure(body, seed=0), scan, slices, network, depth * _TILE**2)


PROBLEMS = {"image": image, "volume": volume}


def work(name: str, size: int, steps: int, device: str, folder: str) -> None:
    """One process: solve, and write what was found."""
    torch.set_num_threads(1)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if device == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        device = f"cuda:{local % torch.cuda.device_count()}"
    problem = PROBLEMS[name](size, device)
    prior: Prior = problem.prior
    if ranks > 1:
        prior = problem.prior.over_ranks()
    problem.network.images, problem.network.seconds = 0, 0.0
    before = peak_memory(torch.device(device))
    begin, busy = time.perf_counter(), _now(problem.y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ti.PosteriorWarning)
        posterior = ti.solve(problem.y, problem.operator, prior, num_samples=1, steps=steps)
    if problem.y.is_cuda:
        torch.cuda.synchronize()
    seconds, peak = time.perf_counter() - begin, peak_memory(torch.device(device))
    found = {
        "samples": posterior.samples.cpu(),
        "seconds": seconds,
        "busy": _now(problem.y) - busy,
        "images": problem.network.images,
        "network": problem.network.seconds,
        "calls": posterior.stats.denoiser_calls + posterior.stats.guard_calls,
        "memory": 0 if before is None or peak is None else peak - before,
        "travel": 4 * problem.numbers,
        "backend": dist.get_backend() if ranks > 1 else "",
    }
    torch.save(found, Path(folder, f"{prior.ranks.rank}.pt"))
    if ranks > 1:
        dist.destroy_process_group()


def run(name: str, size: int, steps: int, device: str, ranks: int) -> list[dict]:
    """What each of so many processes found."""
    me = ["-m", "tweedie_inverse.benchmarks.studies.over_ranks"]
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    with tempfile.TemporaryDirectory() as folder:
        told = ["--work", name, str(size), str(steps), device, folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*start, *me, *told], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{ranks} processes failed: {done.stderr.strip()[-2000:]}")
        return [torch.load(Path(folder, f"{rank}.pt")) for rank in range(ranks)]


def rows(name: str, size: int, steps: int, device: str, ranks: list[int]) -> Iterator[str]:
    """A line for each number of processes; the first one is what they are compared with."""
    reference: dict | None = None
    for count in ranks:
        found = run(name, size, steps, device, count)
        first = found[0]
        reference = first if reference is None else reference
        spread = float(reference["samples"].std())
        largest = max(float((one["samples"] - reference["samples"]).abs().max()) for one in found)
        seconds = max(one["seconds"] for one in found)
        images = ", ".join(str(one["images"]) for one in found)
        network = max(one["network"] for one in found)
        sent = 0.0 if count == 1 else first["travel"] / 2**20
        yield (
            f"| {name} {size} | {count} {first['backend']} | {largest / spread:.1e} "
            f"| {images} | {seconds:.1f} | {reference['seconds'] / seconds:.2f} "
            f"| {max(one['busy'] for one in found):.1f} "
            f"| {reference['network'] / network:.2f} | {sent:.2f} "
            f"| {max(one['memory'] for one in found) / 2**20:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--size", type=int, default=512, help="side of the image")
    parser.add_argument("--depth", type=int, default=32, help="slices of the volume")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, size, steps, device, folder = options.work
        work(name, int(size), int(steps), device, folder)
        return
    if options.smoke:
        options.size, options.depth, options.steps, options.ranks = 96, 4, 2, [1, 2]
    print(
        "| problem | processes | largest difference, std | network evaluations of each | seconds "
        "| speed-up | busy, seconds | network's speed-up | traffic an evaluation, MiB "
        "| memory, MiB |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for name in options.problems:
        size = options.size if name == "image" else options.depth
        for line in rows(name, size, options.steps, options.device, options.ranks):
            print(line, flush=True)


if __name__ == "__main__":
    with endings():
        main()

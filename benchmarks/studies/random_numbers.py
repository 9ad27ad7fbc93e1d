"""What the random numbers of walkers cost beside torch.randn, as ratios in one run.

    python -m tweedie_inverse.benchmarks.studies.random_numbers
    python -m tweedie_inverse.benchmarks.studies.random_numbers --device cuda

The two take turns, and the fastest turn counts.  torch.randn has one stream for all walkers, so
that its numbers depend on the batch; it is the measure of speed, not of the task.
"""

import argparse
import time
from collections.abc import Callable

import torch

from tweedie_inverse.app.endings import endings
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.runtime.devices import usable

# Walkers and the shape of one image.
SIZES = ((16, (3, 256, 256)), (16, (1, 64, 64)), (2000, (2,)), (1, (3, 512, 512)))
TURNS = 20


def fastest(functions: dict[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """Seconds of the fastest turn of each."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(TURNS):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best[name] = min(best[name], time.perf_counter() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(usable(options.device))
    like = torch.zeros((), device=device)
    print(f"{'walkers':>8} {'shape':>14} {'streams':>10} {'randn':>10} {'ratio':>6}")
    for walkers, shape in SIZES:
        streams = Streams([("walk", 0, 0, sample) for sample in range(walkers)])
        step = iter(range(10**9))
        best = fastest(
            {
                "streams": lambda: streams.at(next(step)).normal(shape, like),  # noqa: B023
                "randn": lambda: torch.randn((walkers, *shape), device=device),  # noqa: B023
            },
            device,
        )
        times = f"{1e3 * best['streams']:7.2f} ms {1e3 * best['randn']:7.2f} ms"
        print(f"{walkers:>8} {shape!s:>14} {times} {best['streams'] / best['randn']:6.2f}")


if __name__ == "__main__":
    with endings():
        main()

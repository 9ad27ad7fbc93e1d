"""The two large problems: an image of 4096 x 4096 and a volume of 256^3, and the memory they take.

    python -m tweedie_inverse.benchmarks.studies.large image             half an hour on one core
    python -m tweedie_inverse.benchmarks.studies.large volume
    python -m tweedie_inverse.benchmarks.studies.large image --device cuda --limit-gb 24 --steps 50
    python -m tweedie_inverse.benchmarks.studies.large image --smoke     tiny, to see that it runs

The image is blurred and half of its pixels are missing, so that every draw takes an iterative
solve; the volume is seen slice by slice from few views, and its slices are correlated.  The prior
is `texture-64` in tiles.  Samples are written to a file as they arrive.  Few levels do: memory
does not depend on their number, but the samples of few levels are poor ones, and say so.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.priors import NetworkPrior
from tweedie_inverse.runtime.peak_memory import peak_memory, reset_peak_memory

SIDES = {"image": 4096, "volume": 256}
SMOKE = {"image": 128, "volume": 64}
PRIOR = "texture-64"
NOISE, VIEWS, ALIKE = 0.02, 30, 4.0
_GIB = 2**30


class Case(NamedTuple):
    """A measurement, what it was made with, and the prior."""

    y: Tensor
    operator: ops.Operator
    prior: ti.priors.Prior


def truth(shape: tuple[int, ...]) -> Tensor:
    """A texture in [0, 1], ``(1, *shape)``: smooth along every axis, made in place."""
    x = torch.from_numpy(generator(("large", 0)).standard_normal((1, *shape), dtype="float32"))
    for axis in range(2, x.ndim):
        for _ in range(4):
            x.add_(x.roll(1, axis)).mul_(0.5)
    return x.div_(6 * float(x[..., :64, :64].std())).add_(0.5).clamp_(0, 1)


def image(side: int, device: torch.device) -> Case:
    """Blurred, half of the pixels missing."""
    shape = (1, side, side)
    blur = ops.Blur(ops.gaussian_kernel(1.0), shape)
    seen = ops.Mask(ops.random_mask(shape, 0.5, seed=0))
    operator = ops.compose(seen, blur, noise=ops.GaussianNoise(NOISE))
    return _case(operator, _network(device).for_shape(shape), device)


def volume(side: int, device: torch.device) -> Case:
    """Few views of every slice."""
    slices = (1, side, side)
    scan = ops.Tomography(slices, VIEWS, noise=ops.GaussianNoise(NOISE * side))
    network = _network(device).for_shape(slices)
    prior = ti.priors.Slices(network, depth=side, correlation=ALIKE)
    return _case(ops.slicewise(scan, side), prior, device)


def _network(device: torch.device) -> NetworkPrior:
    prior = ti.load_prior(PRIOR, device=device)
    assert isinstance(prior, NetworkPrior)
    return prior.tiled()


def _case(operator: ops.Operator, prior: ti.priors.Prior, device: torch.device) -> Case:
    y = operator.measure(truth(tuple(operator.domain_shape)), seed=0)
    return Case(y.to(device), operator, prior)


CASES = {"image": image, "volume": volume}


def asked(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", choices=CASES)
    parser.add_argument("--side", type=int, help="default 4096 pixels, or 256 of a volume")
    parser.add_argument("--steps", type=int, default=2, help="evaluations a sample")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit-gb", type=float, help="memory that CUDA may take, in 10^9 bytes")
    parser.add_argument(
        "--out", help="file of the samples, .h5, to go on with; default a temporary"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    return parser.parse_args(words)


def main() -> None:
    options = asked()
    with endings(), tempfile.TemporaryDirectory() as folder:
        run(options, Path(options.out or Path(folder, "samples.h5")))


def run(options: argparse.Namespace, file: Path) -> None:
    """Solve, and print what it took."""
    device = torch.device(options.device)
    if options.limit_gb is not None:
        _limit(device, options.limit_gb)
    side = options.side or (SMOKE if options.smoke else SIDES)[options.problem]
    case = CASES[options.problem](side, device)
    before = peak_memory(device)
    reset_peak_memory(device)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ti.PosteriorWarning)  # few steps are too few, and say so
        posterior = ti.solve(
            case.y,
            case.operator,
            case.prior,
            num_samples=options.samples,
            steps=options.steps,
            seed=0,
            progress=True,
            samples_to=file,
        )
    seconds, peak = time.perf_counter() - begin, peak_memory(device)
    for line in _told(case, posterior, seconds, (before, peak), device):
        print(line, flush=True)
    mean, std = posterior.mean, posterior.std  # read from the file
    print(
        f"mean {float(mean.mean()):.4f}, std {float(std.mean()):.4f}; {file.stat().st_size} bytes"
    )


def _told(
    case: Case,
    posterior: ti.Posterior,
    seconds: float,
    peaks: tuple[int | None, int | None],
    device: torch.device,
) -> Iterator[str]:
    one = case.y.element_size() * torch.Size(case.operator.domain_shape).numel()
    before, peak = (0 if found is None else found for found in peaks)
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "process"
    stats, judged = posterior.stats, posterior.diagnostics
    yield f"{case.operator!r}, {case.prior!r}"
    yield f"samples {tuple(posterior.samples.shape)}: {stats.method} ({stats.reason})"
    yield (
        f"peak memory of the {what}: {peak / _GIB:.2f} GiB, {before / _GIB:.2f} GiB before the "
        f"solve; the solve {(peak - before) / one:.1f} images of {one / 2**20:.0f} MiB"
    )
    yield (
        f"{stats.denoiser_calls:g} evaluations and {stats.operator_calls:g} applications of the "
        f"operator a sample, {seconds:.0f} s in all"
    )
    assert judged.expected is not None
    low, high = judged.expected.reshape(-1, 2)[0].tolist()
    found = ", ".join(f"{value:.3f}" for value in judged.residual_chi_square.flatten().tolist())
    yield f"chi-square {found}, expected {low:.3f} to {high:.3f}; {judged.verdict}"


def _limit(device: torch.device, gigabytes: float) -> None:
    """Let torch take no more of the accelerator's memory."""
    if device.type != "cuda":
        raise ValueError("large: --limit-gb limits the memory of CUDA; say --device cuda as well")
    place = torch.cuda.current_device() if device.index is None else device.index
    total = torch.cuda.get_device_properties(place).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total), place)


if __name__ == "__main__":
    main()

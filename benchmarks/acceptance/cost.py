"""Overhead of a solve over its network, its memory, and what it does where memory is short."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.acceptance.equality import all_digits
from tweedie_inverse.benchmarks.acceptance.networks import adm_size
from tweedie_inverse.benchmarks.acceptance.section import Outcome, Setting, in_time, table
from tweedie_inverse.benchmarks.problems.instruments import Case, cases
from tweedie_inverse.benchmarks.problems.suites import NOISE
from tweedie_inverse.benchmarks.studies.overhead import Overhead, measured
from tweedie_inverse.operators import Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.batches import IMAGE_BUFFERS, default_batch
from tweedie_inverse.priors.wrapped import WrappedPrior
from tweedie_inverse.runtime.live_memory import peak_bytes
from tweedie_inverse.runtime.memory import SmallerParts, free_bytes
from tweedie_inverse.solving.solver import solve

# A solve's time over that of its network evaluations.
GPU_RATIO, CPU_RATIO, CPU_RATIO_CT = 1.05, 1.15, 1.2
_HEAD = ("instrument", "prior", "walkers", "seconds", "ratio", "most", "where the rest goes")


def overhead_of_shipped(setting: Setting) -> Outcome:
    """The priors of the package, on batches that fill an accelerator."""
    walkers, steps, size = (2, 6, 64) if setting.reduced else (64, 20, 128)
    chosen = cases(size)

    def one(name: str) -> tuple[str, Overhead]:
        operator, y, prior = chosen[name].given(setting.device)
        found = measured(operator, y, prior, samples=walkers, steps=steps, turns=_turns(setting))
        return f"{chosen[name].prior}, {'x'.join(map(str, chosen[name].shape))}", found

    return _overheads(setting, list(chosen), one, walkers, share=0.3)


def overhead_of_adm(setting: Setting) -> Outcome:
    """A network of the size of ADM's."""
    walkers, steps, size = (2, 6, 64) if setting.reduced else (16, 8, 256)

    def one(name: str) -> tuple[str, Overhead]:
        channels = 1 if name in ("CT", "MRI") else 3
        prior = adm_size(channels, size, setting.device, reduced=setting.reduced)
        operator = large(name, size)
        y = _measured(operator, prior, setting.device)
        found = measured(operator, y, prior, samples=walkers, steps=steps, turns=_turns(setting))
        return prior.name, found

    names = ["mask", "Gaussian blur", "super-resolution", "CT", "MRI"]
    return _overheads(setting, names, one, walkers, share=0.45)


def large(name: str, size: int) -> Operator:
    """An instrument for images of a size, those of CT and MRI with one channel."""
    if name == "CT":
        return ops.Tomography((1, size, size), max(8, size // 4), noise=NOISE(size / 128))
    if name == "MRI":
        mask = ops.radial_mask((size, size), max(6, size // 8))
        return ops.FourierSampling(mask, real=True, noise=NOISE(0.02))
    case: Case = cases(size)[name]
    return case.make((3, size, size))


def _measured(operator: Operator, prior: Prior, device: str) -> Tensor:
    x = torch.full((1, *prior.shape), 0.5)
    x[..., : prior.shape[-1] // 2] += 0.2
    return operator.measure(x, seed=0).to(device)


def _turns(setting: Setting) -> int:
    return 2 if setting.reduced else 3


def _overheads(setting: Setting, names: list[str], one: Any, walkers: int, share: float) -> Outcome:
    rows, passed = [], True
    for name in in_time(names, setting, share):
        prior, found = one(name)
        most = _most(setting, name)
        passed &= found.ratio <= most
        largest = sorted(found.shares.items(), key=lambda part: -part[1])[:3]
        parts = ", ".join(f"{part} {share:.0f} %" for part, share in largest)
        rows.append((name, prior, str(walkers), f"{found.seconds:.2f}", f"{found.ratio:.2f}",
                     f"{most:.2f}", parts))  # fmt: skip
    lines = table(_HEAD, rows)
    left_out = names[len(rows) :]
    if left_out:
        lines += ["", f"Not measured for lack of time: {', '.join(left_out)}."]
    return Outcome(passed and not left_out, lines)


def _most(setting: Setting, name: str) -> float:
    if setting.kind == "cuda":
        return GPU_RATIO
    return CPU_RATIO_CT if name == "CT" else CPU_RATIO


def memory(setting: Setting) -> Outcome:
    """Peak of a solve beside that of its forward pass, and whether the default batch fits."""
    walkers, steps, size = (2, 6, 32) if setting.reduced else (16, 6, 256)
    prior = adm_size(3, size, setting.device, reduced=setting.reduced)
    operator = large("mask", size)
    y = _measured(operator, prior, setting.device)
    image = 4 * torch.Size(prior.shape).numel()
    x = torch.zeros(walkers, *prior.shape, device=setting.device)

    def forward() -> None:
        with torch.no_grad():
            prior.denoise(x, 1.0)

    def whole() -> None:
        solve(y, operator, prior, num_samples=walkers, steps=steps, batch_size=walkers)

    whole()  # constants are made
    device = torch.device(setting.device)
    passes, solves = peak_bytes(forward, device), peak_bytes(whole, device)
    buffers = (solves - passes) / (walkers * image)
    free, batch = free_bytes(device), default_batch(prior, y, 10**6)
    lines = [
        f"{walkers} walkers of {prior.name}: the forward pass holds {passes / 2**20:.0f} MiB at "
        f"its peak, the solve {solves / 2**20:.0f} MiB: {buffers:.1f} images a walker more, at "
        f"most {IMAGE_BUFFERS}.",
        f"The batch by free memory ({(free or 0) / 2**30:.1f} GiB) is {batch}.",
    ]
    fits = True
    if setting.kind == "cuda":
        some = torch.zeros(batch, *prior.shape, device=setting.device)
        with torch.no_grad():
            held = peak_bytes(lambda: prior.denoise(some, 1.0), device)
        fits = held < (free or 0)
        lines.append(f"An evaluation of so many images holds {held / 2**30:.1f} GiB.")
    return Outcome(buffers <= IMAGE_BUFFERS and fits, lines)


class _Short(WrappedPrior):
    """A prior on an accelerator that holds so many images: it says that it is out of memory."""

    def __init__(self, prior: Prior, limit: int):
        super().__init__(prior)
        self.limit = limit

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        if len(x) > self.limit:
            raise torch.OutOfMemoryError(f"pretended: {len(x)} images")
        return self.prior.denoise(x, sigma)


def recovery(setting: Setting) -> Outcome:
    """Memory for half of the walkers: smaller parts, with a warning, and the same samples."""
    walkers, steps = (4, 4) if setting.reduced else (256, 6)
    operator, y, prior = cases(64)["mask"].given(setting.device)

    def drawn(given: Prior) -> Tensor:
        found = solve(y, operator, given, num_samples=walkers, steps=steps, batch_size=walkers)
        return found.samples

    def error(found: Tensor, expected: Tensor) -> float:
        return float((found - expected).abs().max() / expected.std(dim=1).mean())

    device = torch.device(setting.device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Rounding to TF32 differs between sizes of a batch, and is no fault of smaller parts.
        with all_digits():
            expected = drawn(prior)
            if setting.kind == "cuda":
                held = peak_bytes(lambda: drawn(prior), device)
                with _limited(device, int(0.6 * held)):
                    found = drawn(prior)
            else:
                found = drawn(_Short(prior, walkers // 2))
    sizes = [str(one.message.size) for one in caught if isinstance(one.message, SmallerParts)]
    how = "a limit of torch's allocator" if setting.kind == "cuda" else "a prior that pretends it"
    same = error(found, expected)
    lines = [
        f"{walkers} walkers, memory short by {how}: went on with {' and '.join(sizes) or 'all'} at "
        f"once; the samples differ by {same:.1e} posterior standard deviations at most."
    ]
    if setting.kind == "cuda":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rounded = error(drawn(prior), drawn(_Short(prior, walkers // 2)))
        lines.append(f"With TF32, torch's default, smaller parts differ by {rounded:.1e}.")
    return Outcome(bool(sizes) and same < 0.05, lines)


@contextmanager
def _limited(device: torch.device, more: int) -> Iterator[None]:
    """Let this process hold so many more bytes than now."""
    torch.cuda.empty_cache()
    number = torch.cuda.current_device() if device.index is None else device.index
    total = torch.cuda.get_device_properties(number).total_memory
    share = (torch.cuda.memory_reserved(number) + more) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, share), number)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, number)

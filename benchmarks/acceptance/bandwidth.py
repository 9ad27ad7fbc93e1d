"""Products with a stored system matrix beside the speed at which memory can be read."""

import time
from collections.abc import Callable

import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.acceptance.section import Outcome, Setting, table
from tweedie_inverse.numerics.sparse import nbytes
from tweedie_inverse.operators.tomography.projectors import StoredMatrix

# Share of the measured copy bandwidth that a product should reach.
SHARE = 0.5


def bandwidth(setting: Setting) -> Outcome:
    """Bytes that a product has to move, the matrix and its operands once, a second."""
    size, angles, batch = (64, 30, 4) if setting.reduced else (256, 180, 16)
    copied = _copy_bandwidth(setting)
    operator = ops.Tomography((1, size, size), angles)
    x = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0))
    x = x.to(setting.device)
    y = operator.forward(x)
    projector = operator.projector
    assert isinstance(projector, StoredMatrix)
    matrices = projector.pair(x.dtype, x.device)
    rows, passed = [], True
    products = (("forward", lambda: operator.forward(x)), ("adjoint", lambda: operator.adjoint(y)))
    for (name, product), matrix in zip(products, matrices, strict=True):
        moved = nbytes(matrix) + 4 * (x.numel() + y.numel())
        rate = moved / _seconds(product, setting)
        passed &= rate >= SHARE * copied
        rows.append([name, f"{moved / 2**20:.0f}", f"{rate / 1e9:.1f}", f"{rate / copied:.2f}"])
    lines = [
        f"{size}x{size}, {angles} views, {batch} images. A copy moves {copied / 1e9:.1f} GB/s.",
        "",
        *table(["product", "MiB moved", "GB/s", "share of a copy's"], rows),
    ]
    return Outcome(passed, lines)


def _copy_bandwidth(setting: Setting) -> float:
    """Bytes read and written a second."""
    numbers = torch.zeros((2**24 if setting.reduced else 2**28), device=setting.device)
    target = torch.empty_like(numbers)
    return 2 * 4 * numbers.numel() / _seconds(lambda: target.copy_(numbers), setting)


def _seconds(run: Callable[[], object], setting: Setting) -> float:
    """Of one call, the fastest of ten."""
    found = []
    for _ in range(10):
        _wait(setting)
        begin = time.perf_counter()
        run()
        _wait(setting)
        found.append(time.perf_counter() - begin)
    return min(found)


def _wait(setting: Setting) -> None:
    if setting.kind == "cuda":
        torch.cuda.synchronize(setting.device)

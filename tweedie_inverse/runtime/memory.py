"""Work in parts that are as large as memory allows: how much is free, and what to do without."""

import operator
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")


class SmallerParts(RuntimeWarning):
    """Memory was short: work goes on with `size` items at once, which others may begin with."""

    def __init__(self, message: str, size: int):
        super().__init__(message)
        self.size = size


def in_parts(
    total: int,
    size: int,
    work: Callable[[int, int], T],
    end: Callable[[int, int], int] | None = None,
    *,
    first: int = 0,
) -> Iterator[T]:
    """``work(first, last)`` for consecutive parts of `total` items, `size` or fewer at a time.

    Where memory runs out, the part is begun again with half the size, which the later parts have
    too; the warning `SmallerParts` says so.  The results must not depend on the parts.

    Args:
        work: on items `first` to `last` - 1.
        end: (first, size) -> where a part that begins at `first` ends; default ``first + size``.
            It may exceed the size where items belong together.
        first: the first item that is still to be done.

    Raises:
        torch.OutOfMemoryError: the smallest part is too much.
    """
    end = end or operator.add
    while first < total:
        last = min(end(first, size), total)
        tried = min(size, last - first)
        try:
            found = work(first, last)
        except torch.OutOfMemoryError:
            if tried == 1 or min(end(first, tried // 2), total) == last:
                raise
        else:
            yield found
            first = last
            continue
        # Not in the handler: the exception held what the failed attempt had allocated.
        torch.cuda.empty_cache()
        size = tried // 2
        message = (
            f"out of memory with {tried} samples at once; going on with {size}. batch_size={size} "
            "saves the attempt"
        )
        warnings.warn(SmallerParts(message, size), stacklevel=2)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free for tensors; None where it is not known.

    On CUDA, with what torch's allocator holds unused.  On the CPU, what Linux can give without
    swapping, or what is left of the limit of this process's control group, as in a container.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device.type != "cpu":
        return None
    found = [one for one in (_available(), _left_of_limit()) if one is not None]
    return min(found, default=None)


_MEMINFO = Path("/proc/meminfo")
# A limit and what is used of it, of control groups of version 2 and 1.
_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _left_of_limit() -> int | None:
    """A limit of "max", and files that are not there, limit nothing."""
    left = []
    for limit, used in _LIMITS:
        try:
            left.append(max(0, int(limit.read_text()) - int(used.read_text())))
        except (OSError, ValueError):
            continue
    return min(left, default=None)

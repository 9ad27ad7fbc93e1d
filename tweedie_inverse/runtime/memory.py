"""Work in parts, as large as the accelerator's memory allows: found by trying, and told of."""

import warnings
from collections.abc import Callable, Iterator
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
) -> Iterator[T]:
    """``work(first, last)`` for consecutive parts of `total` items, `size` or fewer at a time.

    Out of memory, a part is halved and begun again, and so are those after it; a warning,
    `SmallerParts`, says so.  The results must not depend on the parts.

    Args:
        work: on items `first` to `last` - 1.
        end: where a part that begins at `first` ends, for a size; ``first + size`` by default.

    Raises:
        torch.OutOfMemoryError: one item is too much.
    """
    first = 0
    while first < total:
        last = min(end(first, size) if end else first + size, total)
        tried = min(size, last - first)
        try:
            found = work(first, last)
        except torch.OutOfMemoryError:
            if tried == 1:
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

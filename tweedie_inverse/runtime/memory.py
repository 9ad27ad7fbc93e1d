"""Work in parts that are as large as the accelerator's memory allows, which is found by trying."""

import operator
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

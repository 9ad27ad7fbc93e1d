"""Images that were loaded, kept as long as memory is there for them."""

import threading
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from tweedie_inverse.runtime.memory import free_bytes

# Of the memory that is free when the images are looked at.
_PART = 0.25
_UNKNOWN = 2**30  # where the system does not say how much is free


class Cache:
    """The images of files by number; those that were not asked for longest go first.

    Args:
        load: number of a file -> its images.
        limit: bytes; default a quarter of the memory that is free now.
    """

    def __init__(self, load: Callable[[int], Tensor], limit: int | None = None):
        free = free_bytes(torch.device("cpu"))
        self._load, self._kept = load, OrderedDict[int, Tensor]()
        self.limit = limit if limit is not None else int(_PART * (free or 4 * _UNKNOWN))
        self.used, self._lock = 0, threading.Lock()

    def __getitem__(self, number: int) -> Tensor:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        images = self._load(number)
        with self._lock:
            if number not in self._kept and images.nbytes <= self.limit:
                self._kept[number] = images
                self.used += images.nbytes
            while self.used > self.limit:
                _, oldest = self._kept.popitem(last=False)
                self.used -= oldest.nbytes
        return images

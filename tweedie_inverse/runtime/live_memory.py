"""What a computation holds at its peak: tensors on the CPU, torch's allocator on CUDA."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that were made while it is entered and are still alive.

    The work space inside of an operation, such as that of a convolution, is not seen.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in given:
                self._watch(storage)
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        number, size = storage._cdata, storage.nbytes()
        if number in self._known:
            return
        self._known[number] = weakref.finalize(storage, self._gone, number, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, number: int, size: int) -> None:
        self._known.pop(number, None)
        self.now -= size

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for watched in self._known.values():
            watched.detach()
        self._known.clear()


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    """Of all tensors but sparse ones, which have several."""
    for one in tree_iter(values):
        if isinstance(one, Tensor) and one.layout is torch.strided:
            yield one.untyped_storage()


def peak_bytes(function: Callable[[], Any], device: torch.device) -> int:
    """Bytes that a computation holds at its peak beyond what was held before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with LiveBytes() as live:
        function()
    return live.peak

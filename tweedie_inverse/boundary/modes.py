"""torch's modes, which a caller may have switched on around us: autocast and inference mode.

Under autocast matrix products are rounded to half precision, and under inference mode no gradient
can be taken: the arithmetic of walks and instruments needs neither, whatever the caller's network
runs in.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


def autocast_is_on(device: torch.device) -> bool:
    """Whether products on a device are rounded now; not every device has such a mode."""
    kind = device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def without_autocast(device: torch.device) -> Any:
    """A context in which products are as exact as their numbers."""
    if autocast_is_on(device):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


@contextmanager
def with_gradients() -> Iterator[None]:
    """A context in which gradients can be taken, under `torch.inference_mode` as well.

    Raises:
        TypeError: a tensor that was made under inference mode takes part.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    except RuntimeError as error:
        if "nference tensor" not in str(error):
            raise
        raise TypeError(
            "a gradient is needed, but a tensor that takes part was made under "
            "torch.inference_mode(), where none can be taken of it; build the operator or the "
            "prior outside of inference mode"
        ) from error


@contextmanager
def of_a_walk(device: torch.device) -> Iterator[None]:
    """The modes in which walks run: no gradients but those that are asked for, and no autocast."""
    with torch.inference_mode(False), torch.no_grad(), without_autocast(device):
        yield

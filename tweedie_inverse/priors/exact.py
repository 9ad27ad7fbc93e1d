"""Parts of a network that stay exact when it is cast to half precision: a label's frequencies."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Exact(nn.Module):
    """A module whose own numbers are not cast below the precision that they have."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return all_but([self], lambda: super(Exact, self)._apply(fn, recurse))


def all_but(parts: Iterable[nn.Module], cast: Callable[[], Any]) -> Any:
    """The result of `cast`, which casts a network; the numbers of `parts` keep their precision."""
    kept = [
        (numbers, name, value.detach())
        for part in parts
        for numbers in (part._parameters, part._buffers)
        for name, value in numbers.items()
        if value is not None and value.is_floating_point() and not value.is_meta
    ]
    result = cast()
    for numbers, name, exact in kept:
        now: Any = numbers[name]
        if torch.finfo(now.dtype).bits < torch.finfo(exact.dtype).bits and not now.is_meta:
            restored: Any = exact.to(now.device)
            if isinstance(now, nn.Parameter):
                restored = nn.Parameter(restored, requires_grad=now.requires_grad)
            numbers[name] = restored
    return result


def in_float32_or_better(label: Tensor) -> Tensor:
    return label.to(torch.promote_types(label.dtype, torch.float32))

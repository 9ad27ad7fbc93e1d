"""Classes of pixels: each gets intervals of its own, with a promise of its own (`recalibrated`).

A class may depend on y through the samples, such as pixels of little and of much spread; it may
not depend on the truth, which is not known where the intervals are wanted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.boundary.contracts import called
from tweedie_inverse.runtime.digest import code_of, digest

# Labels are whole numbers below this.
MOST = 16
Labelling = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Classes:
    """Labels of pixels.

    Attributes:
        given: ``(*shape)``, the same labels for all images, or a function of the samples
            ``(S, *shape)`` of one measurement that returns such labels.
        shape: of an image.
    """

    given: Tensor | Labelling
    shape: tuple[int, ...]

    @staticmethod
    def checked(caller: str, given: Any, shape: tuple[int, ...]) -> "Classes":
        """What a user gave as `classes`; an image of labels is judged at once.

        Raises:
            ValueError: labels of another shape, or that are no whole numbers below `MOST`.
            TypeError: neither numbers nor a function.
        """
        if callable(given) and not isinstance(given, Tensor):
            return Classes(given, tuple(shape))
        return Classes(_labels(caller, given, shape), tuple(shape))

    @property
    def identity(self) -> str:
        """What tells one labelling from another: the labels, or a function's name and own code."""
        if isinstance(self.given, Tensor):
            return f"labels {digest(self.given)}"
        name = getattr(self.given, "__name__", type(self.given).__name__)
        return f"function {name}, {code_of(self.given)}"

    def of(self, samples: Tensor) -> Tensor:
        """Labels ``(*shape)``, int64 on the CPU, for samples ``(S, *shape)``."""
        if isinstance(self.given, Tensor):
            return self.given
        found = called("the function of classes=", self.given, samples)
        return _labels("classes", found, self.shape)


def _labels(caller: str, given: Any, shape: tuple[int, ...]) -> Tensor:
    """Labels ``(*shape)``; those without an axis of channels are the same for all channels."""
    found = real_tensor(caller, "classes", given).detach().cpu()
    need = f"whole numbers from 0 to {MOST - 1} of shape {tuple(shape)}"
    try:
        labels = found.broadcast_to(shape)
    except RuntimeError:
        raise ValueError(
            f"{caller}(classes=): needs {need}, got shape {tuple(found.shape)}"
        ) from None
    values = labels.double()
    if bool((values != values.round()).any()) or values.min() < 0 or values.max() >= MOST:
        raise ValueError(
            f"{caller}(classes=): needs {need}, got values from {float(values.min()):g} to "
            f"{float(values.max()):g}"
        )
    return labels.long()


def rows_of(labels: Tensor) -> Tensor:
    """Which values a row is about, ``(1 + MOST, *shape)``: all of them, then each class."""
    each = labels == torch.arange(MOST).reshape(-1, *[1] * labels.ndim)
    return torch.cat([torch.ones_like(each[:1]), each])

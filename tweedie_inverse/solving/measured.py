"""What was measured, and what samples leave of it unexplained: for pictures of a solve."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

_KEPT = "measured."


@dataclass(frozen=True, eq=False)
class Measured:
    """The measurement of each image with its residuals; without `batch` as a posterior is.

    It holds three times the numbers of the measurement, of which y is the one given to `solve` and
    no copy where it came as a tensor of samples' type.

    Attributes:
        y: ``(batch, *range_shape)``, in its own units, zero where nothing was observed.
        of_mean, of_sample: ``(batch, *range_shape)``, residual of the posterior mean and of the
            first sample in standard deviations of the noise.  That of the mean is the smaller one:
            the mean square of a sample's is larger by the variance of A x.
        observed: ``(batch, *range_shape)``, boolean; None where everything was.
        name: what such a measurement is called.
        is_complex: whether the first axis holds real parts, then imaginary parts.
        basis: where the noise is independent and residuals therefore are: "Pixels" are entries of
            y.
    """

    y: Tensor
    of_mean: Tensor
    of_sample: Tensor
    observed: Tensor | None
    name: str = "measurement"
    is_complex: bool = False
    basis: str = "Pixels"

    TENSORS = ("y", "of_mean", "of_sample", "observed")

    @staticmethod
    def changed(
        given: "Measured | None", function: Callable[[Tensor], Tensor]
    ) -> "Measured | None":
        """With every tensor changed alike; None stays None."""
        return None if given is None else replace(given, **_mapped(function, given._held()))

    @staticmethod
    def joined(parts: Sequence["Measured | None"]) -> "Measured | None":
        """Those of several batches; None where one has none, or they are of different kinds."""
        known = [part for part in parts if part is not None]
        kinds = {
            (part.name, part.is_complex, part.basis, tuple(part.y.shape[1:]), part.observed is None)
            for part in known
        }
        if len(known) < len(parts) or len(kinds) != 1:
            return None
        together: dict[str, Any] = {
            name: torch.cat([part._held()[name] for part in known]) for name in known[0]._held()
        }
        return replace(known[0], **together)

    def tensors(self) -> dict[str, Tensor]:
        """By the names that they have in files."""
        return {f"{_KEPT}{name}": tensor for name, tensor in self._held().items()}

    def notes(self) -> dict[str, Any]:
        """The rest of it, as JSON."""
        return {"name": self.name, "is_complex": self.is_complex, "basis": self.basis}

    @staticmethod
    def of_file(
        tensors: Mapping[str, Tensor], notes: Mapping[str, Any] | None
    ) -> "Measured | None":
        """What `tensors` and `notes` were written from; None in files of older versions."""
        if notes is None:
            return None
        held: dict[str, Any] = {name: tensors.get(f"{_KEPT}{name}") for name in Measured.TENSORS}
        return Measured(**held, **notes)

    def _held(self) -> dict[str, Tensor]:
        held = {name: getattr(self, name) for name in self.TENSORS}
        return {name: tensor for name, tensor in held.items() if tensor is not None}


def _mapped(function: Callable[[Tensor], Tensor], held: dict[str, Tensor]) -> dict[str, Any]:
    return {name: function(tensor) for name, tensor in held.items()}

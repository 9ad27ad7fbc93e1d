"""What a network is told of the noise level, and how its module is called with it.

Labels are computed and handed over in float32 or better, whatever the type of the weights: a
bfloat16 number near 1000 is one of 996, 1000 and 1004, and a timestep of 999 would be another one.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.timesteps import sigma_to_timestep

LabelFunction = Callable[[Tensor], Tensor]

# What torch says of types that do not fit, and of fractions where it needs whole numbers.
_OF_TYPES = (
    "same dtype",
    "scalar type",
    "should be the same",
    "mixed dtype",
    "same type",
    "dtypes",
)
_OF_INDICES = ("indices", "used as indices")


def usual_label(sigma: Tensor, coordinates: str, timesteps: Tensor | None) -> Tensor:
    """The label of a network without one of its own, for levels `sigma` ``(batch,)``.

    The fractional number of a timestep where there is a table; ``log(sigma) / 4`` for edm, ``sigma
    / (1 + sigma)`` for flow, else sigma.
    """
    if timesteps is not None:
        return sigma_to_timestep(sigma, resident(timesteps, sigma))
    if coordinates == "edm":
        return sigma.log() / 4
    if coordinates == "flow":
        return sigma / (1 + sigma)
    return sigma


def own_label(function: LabelFunction, sigma: Tensor) -> Tensor:
    """What a user's function makes of `sigma` ``(batch,)``.

    Raises:
        TypeError: no tensor of real numbers.
        ValueError: another shape.
    """
    label = function(sigma.clone())
    if not isinstance(label, Tensor) or label.is_complex() or label.dtype == torch.bool:
        kind = label.dtype if isinstance(label, Tensor) else type(label).__name__
        raise TypeError(f"NetworkPrior(label=): must return a tensor of real numbers, got {kind}")
    if label.shape != sigma.shape:
        raise ValueError(
            f"NetworkPrior(label=): must return one label an image, shape {tuple(sigma.shape)}; it "
            f"returned {tuple(label.shape)}"
        )
    return label


def called_with(name: str, module: nn.Module, given: Tensor, label: Tensor) -> Any:
    """``module(given, label)``; an error of its own that is about the label says what to do.

    Raises:
        TypeError: the module takes whole numbers only, or labels of its own number type only.
        ValueError: a whole number outside of what the module knows.
    """
    try:
        return module(given, label)
    except (RuntimeError, IndexError) as error:
        text = str(error)
        if label.is_floating_point() and any(part in text for part in _OF_INDICES):
            raise TypeError(
                f"{name} looks its label up in a table, and cannot take {_shown(label)}. Give "
                "integer_labels=True, or make the module formats.fractional_embedding(module)"
            ) from error
        if not label.is_floating_point() and "out of range" in text:
            raise ValueError(
                f"{name} knows no label {_shown(label)}; timesteps= has another number of steps "
                "than its table, or they are counted from 1 (label_offset=1)"
            ) from error
        if not label.is_floating_point() and any(part in text for part in _OF_TYPES):
            raise TypeError(
                f"{name} was given its label as a whole number, and calculates with it "
                f"({text.splitlines()[0][:80]}); leave out integer_labels"
            ) from error
        if given.dtype != label.dtype and any(part in text for part in _OF_TYPES):
            raise TypeError(
                f"{name} was given its label in {label.dtype} and its input in {given.dtype}, and "
                f"does not take both ({text.splitlines()[0][:80]}). Convert in its forward() what "
                "it makes of the label, or round the label itself: "
                f"label=lambda sigma: sigma.to({given.dtype})"
            ) from error
        raise


def _shown(label: Tensor) -> str:
    return f"{float(label.flatten()[0]):g}"


def fractional_embedding(module: nn.Module, path: str | None = None) -> nn.Module:
    """A copy of `module` whose table of embedded timesteps takes fractions.

    Between two rows of an `nn.Embedding` the copy interpolates linearly, so that no noise level is
    rounded; at whole numbers it is the module itself.  The module must hand its label to the table
    as it is: one that rounds it first, with ``.long()``, still rounds.

    Args:
        path: name of the table in the module, as in `named_modules`; default the only one.

    Raises:
        ValueError: no `nn.Embedding` of that name, or several without a name.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"fractional_embedding: needs a torch.nn.Module, got {type(module).__name__}"
        )
    tables = [name for name, part in module.named_modules() if isinstance(part, nn.Embedding)]
    if path not in tables and (path is not None or len(tables) != 1):
        raise ValueError(
            f"fractional_embedding(path={path!r}): needs the name of an nn.Embedding of "
            f"{type(module).__name__}, one of {', '.join(tables) or 'which there is none'}"
        )
    name = tables[0] if path is None else path
    copied = copy.deepcopy(module)
    if not name:
        return FractionalEmbedding(copied)  # type: ignore[arg-type]  # the table itself
    parent, _, last = name.rpartition(".")
    setattr(copied.get_submodule(parent), last, FractionalEmbedding(copied.get_submodule(name)))  # type: ignore[arg-type]
    return copied


class FractionalEmbedding(nn.Module):
    """A table of embeddings that takes fractions, by linear interpolation between its rows."""

    def __init__(self, table: nn.Embedding):
        super().__init__()
        self.table = table

    def forward(self, label: Tensor) -> Tensor:
        if not label.is_floating_point():
            return self.table(label)
        label = label.clamp(0, self.table.num_embeddings - 1)
        low = label.floor().long().clamp(max=max(0, self.table.num_embeddings - 2))
        high = (low + 1).clamp(max=self.table.num_embeddings - 1)
        share = (label - low).unsqueeze(-1)
        first, second = self.table(low).to(share), self.table(high).to(share)
        return torch.lerp(first, second, share).to(self.table.weight)


def increasing(table: Tensor) -> Tensor:
    """The noise levels of the training steps, float64, checked."""
    table = real_tensor("NetworkPrior", "timesteps", table, dtype=torch.float64)
    if table.ndim != 1 or len(table) < 2 or not bool((table.diff() > 0).all()) or table[0] <= 0:
        raise ValueError(
            "NetworkPrior(timesteps=): needs the positive noise levels of the training steps in "
            "increasing order, e.g. ((1 - alpha_bar) / alpha_bar).sqrt()"
        )
    return table

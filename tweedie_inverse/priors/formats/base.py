"""What a format is: it recognises a source, tells what it found, and makes a prior of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import choice, count, flag, number, pair, positive, sizes
from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.formats.reading.files import Checkpoint
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.parameterizations import Parameterization


@dataclass(frozen=True)
class Source:
    """A network as it was given: exactly one of a folder, a file and a module.

    Attributes:
        name: what the user called it, for messages.
        weights: which of several weights to take: ``"average"``, ``"raw"`` or the name of an
            entry; default the average where there is one.  Files have it in their checkpoint.
    """

    name: str
    folder: Path | None = None
    checkpoint: Checkpoint | None = None
    module: nn.Module | None = None
    weights: str | None = None

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights of a file by name; empty for the others."""
        return {} if self.checkpoint is None else self.checkpoint.state

    def views(self) -> Iterator["Source"]:
        """This source for each of the weights and names that a file can be read with."""
        if self.checkpoint is None:
            yield self
            return
        views = list(self.checkpoint.candidates())
        for view in views:
            yield replace(self, checkpoint=view)
        if not views:
            yield self


@dataclass(frozen=True)
class Target:
    """How the prior is to come out.

    Attributes:
        value_range: of the images in data units: what the ends of the network's own range are to
            the user.
        asked_range: the same where the user gave it; None where it is the default.  Files that
            know their data's own range refuse another.
    """

    device: torch.device | str = "cpu"
    value_range: tuple[float, float] = (0.0, 1.0)
    asked_range: tuple[float, float] | None = None

    def units(self, network_range: tuple[float, float]) -> "Units":
        """Shift and scale from the network's range to the data's."""
        low, high = self.value_range
        if not low < high:
            raise ValueError(f"load_prior(value_range={self.value_range}): needs low < high")
        scale = (high - low) / (network_range[1] - network_range[0])
        return Units(low - scale * network_range[0], scale)


class Units(NamedTuple):
    """``data = offset + scale * network``."""

    offset: float
    scale: float


class Format(ABC):
    """A checkpoint format; a frozen dataclass whose fields are what files do not say.

    ``load_prior(path, format=...)`` takes its name, or an instance with settings.
    """

    name: ClassVar[str]
    # What the header of a prior file of this package says, if the format reads such files.
    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Hold each setting to its kind, as its annotation says it."""
        hints = get_type_hints(type(self))
        for field in fields(self):  # type: ignore[arg-type]  # every format is a dataclass
            value, allowed = getattr(self, field.name), get_args(hints[field.name])
            if not (value is None and type(None) in allowed):
                _check(type(self).__name__, field.name, value, hints[field.name])

    @property
    def asked_weights(self) -> str | None:
        """Which weights of a file the settings ask for; None leaves it to the user."""
        return None

    @abstractmethod
    def recognises(self, source: Source) -> bool:
        """Whether the source is of this format, judged by names only."""

    @abstractmethod
    def describe(self, source: Source) -> dict[str, Any]:
        """What was found, for people; builds no network."""

    @abstractmethod
    def load(self, source: Source, target: Target) -> Prior:
        """Build the network, fill it, and wrap it as a prior in data units."""


def _check(caller: str, name: str, value: Any, hint: Any) -> None:
    kinds = [kind for kind in (hint, *get_args(hint)) if kind is not type(None)]
    names = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), None)
    if names:
        choice(caller, name, value, names)
    elif bool in kinds:
        flag(caller, name, value)
    elif name == "class_label":
        count(caller, name, value, least=0)
    elif int in kinds and "shape" not in name:
        count(caller, name, value)
    elif name.endswith("shape"):
        sizes(caller, name, value, need="(channels, height, width), positive sizes")
    elif name == "network_range":
        low, high = pair(caller, name, value, need="two numbers, the smallest and the largest")
        if not low < high:
            raise ValueError(f"{caller}({name}=({low:g}, {high:g})): needs low < high")
    elif name.startswith("label_"):  # a factor or a shift, of any sign
        number(caller, name, value)
    elif float in kinds:
        positive(caller, name, value)


def timestep_prior(
    module: nn.Module,
    parameterization: Parameterization,
    shape: tuple[int, ...],
    table: Tensor,
    target: Target,
    name: str,
    network_range: tuple[float, float] = (-1.0, 1.0),
) -> NetworkPrior:
    """A network as of DDPM: it sees ``x / sqrt(1 + sigma^2)`` and a number from 0 on.

    Args:
        table: ``(timesteps,)``, increasing, the noise level that each number stands for.
        network_range: of the images x.
    """
    offset, scale = target.units(network_range)
    return NetworkPrior(
        module,
        parameterization,
        coordinates="vp",
        shape=shape,
        timesteps=table,
        offset=offset,
        scale=scale,
        sigma_min=float(table[0]) * scale,
        sigma_max=float(table[-1]) * scale,
        name=name,
    )


def refuse_size(size: int, levels: int, source: Source) -> None:
    """Raise a `ValueError` for an image that a U-Net of `levels` cannot halve often enough."""
    step = 2 ** (levels - 1)
    if size % step:
        raise ValueError(
            f"load_prior({source.name!r}): a network of {levels} levels takes images whose side is "
            f"a multiple of {step}, got image_size={size}"
        )


class UnsaidWarning(UserWarning):
    """A file does not say something, which was read as usual; the message says how to say it."""


def tell(message: str) -> None:
    """Warn the user of what a file does not say."""
    warn_user(message, UnsaidWarning)


def tell_unsaid(source: Source, unsaid: dict[str, str], format: str, what: str) -> None:
    """One warning with all that a file does not say, how it was read, and what ends the warning.

    Args:
        unsaid: how each thing was read, by the setting that says it.
        format: name of the class with these settings.
        what: what is known of the file, such as ``"no published network"``.
    """
    if unsaid:
        tell(
            f"load_prior({source.name!r}): {what}, and the file does not say "
            f"{'; '.join(f'{setting}= (read as {read})' for setting, read in unsaid.items())}. "
            "Where it was trained otherwise, results are wrong. Say each of them by "
            f"format=ti.priors.formats.{format}(...); ti.check_prior finds most mistakes"
        )


def of_one_class(label: int | None, classes: int, source: Source) -> int | None:
    """The class label to use with a network of `classes` classes (0: unconditional)."""
    if classes == 0 and label is None:
        return None
    if classes == 0 or label is None or not 0 <= label < classes:
        needs = f"class_label from 0 to {classes - 1}" if classes else "no class_label"
        raise ValueError(
            f"load_prior({source.name!r}): this network has {classes} classes and needs {needs}, "
            f"got class_label={label}; give it by format="
        )
    return label

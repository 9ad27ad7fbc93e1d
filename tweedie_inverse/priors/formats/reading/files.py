"""Checkpoint files, read without running anything that is in them.

safetensors first; otherwise ``torch.load(weights_only=True)``.  A file that needs more is refused,
unless the caller says by name that code in the file may run.
"""

import hashlib
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tweedie_inverse.priors.formats.reading.archives import (
    check_archive,
    check_claims,
    check_finite,
)
from tweedie_inverse.priors.formats.reading.choice import chosen, doubt, in_words, views
from tweedie_inverse.priors.formats.reading.foreign import kind_of, read
from tweedie_inverse.priors.formats.reading.weights import Weights, weights_in

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """What is in a file.

    Attributes:
        content: of a ``.pt`` file whatever was saved, of a safetensors file its tensors.
        metadata: the header of a safetensors file.
        asked: ``"average"``, ``"raw"`` or the key of the weights to take; default the average
            where there is one.
        taken: which of the weights these are, once that is settled.
        view: their names, once it is settled which prefixes belong to wrappers.
    """

    path: Path
    content: Any
    metadata: Mapping[str, str]
    asked: str | None = None
    taken: Weights | None = None
    view: Mapping[str, Tensor] | None = None

    @cached_property
    def found(self) -> list[Weights]:
        """All weights in the file, those to take by default first."""
        return weights_in(self.content)

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights by name, without the prefixes of wrappers; empty if there are none."""
        if self.view is not None:
            return dict(self.view)
        for candidate in self.candidates():
            return candidate.state
        content = self.content if isinstance(self.content, Mapping) else {}
        return {str(name): v for name, v in content.items() if isinstance(v, Tensor)}

    def candidates(self) -> Iterator["Checkpoint"]:
        """This file for each of its weights, and for each view of their names, best first.

        Raises:
            ValueError: there are no weights as they were asked for.
        """
        for weights in chosen(self.found, self.asked, self.path.name):
            for view in views(weights):
                settled = replace(self, taken=weights, view=view)
                settled.__dict__["found"] = self.found  # the search is not repeated
                yield settled

    def taken_in_words(self) -> str:
        """What was taken, and what else there is; empty if the file has no weights."""
        return "" if self.taken is None else in_words(self.taken, self.found)

    def doubt(self) -> str:
        """What makes the average that was taken suspicious; empty if nothing does."""
        return "" if self.taken is None else doubt(self.taken, self.found)


def read_checkpoint(
    path: Path, *, sha256: str | None = None, allow_arbitrary_code: bool = False
) -> Checkpoint:
    """Read a checkpoint file.

    Args:
        sha256: refuse a file with another checksum (hexadecimal).
        allow_arbitrary_code: unpickle without restrictions, so that the file may do anything on
            this computer that its user may.

    Raises:
        ValueError: wrong checksum, truncated or foreign file, or a file that holds code.
    """
    if sha256 is not None:
        check_sha256(path, sha256)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    kind = kind_of(path)
    if kind == "onnx":  # a graph, which its format opens by the path
        return Checkpoint(path, {}, {})
    if kind is not None:
        return Checkpoint(path, read(path), {})
    if path.suffix == ".pkl":
        raise ValueError(
            f"load_prior: {path} is a pickle, which can run code when it is read. Of an EDM or "
            "EDM2 network make a safetensors file first: tweedie-inverse convert "
            f"{path} OUT.safetensors"
        )
    check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=not allow_arbitrary_code)
    except pickle.UnpicklingError as error:
        raise ValueError(_why_refused(path, error)) from None
    except Exception as error:  # whatever the reader makes of foreign bytes
        raise ValueError(
            f"load_prior: {path} is truncated or no PyTorch file ({_first_line(error)}); fetch it "
            "again and compare its checksum (sha256=)"
        ) from None
    return Checkpoint(path, content, {})


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file whose checksum is another."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.lower():
        raise ValueError(
            f"load_prior(sha256=): {path} has checksum {found}, not {expected.lower()}; fetch it "
            "again, or find out who changed it"
        )


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy `state` into `module`, in float32; every weight must be there in its shape.

    Raises:
        ValueError: with the first five names that are missing, of another shape or not known, or
            with the first whose numbers are NaN or infinite.
    """
    check_shapes(module, state, path)
    check_finite(state, path)
    module.load_state_dict({name: in_float32(value) for name, value in state.items()})


def check_shapes(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are not those of `module`, which may be without memory (meta)."""
    own = module.state_dict()
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    for problem, names in (
        ("are missing", [name for name in own if name not in state]),
        ("have another shape", wrong),
        ("are not in this architecture", [name for name in state if name not in own]),
    ):
        if names:
            raise ValueError(
                f"load_prior: {path}: {len(names)} of {len(own)} weights {problem}, first "
                f"{', '.join(names[:5])}; the architecture is another one (give its settings by "
                "format=)"
            )
    check_claims(state, path)


def filled(make: Callable[[], Network], state: Mapping[str, Tensor], path: Path) -> Network:
    """The network of `make`, with these weights; it is given no memory before they fit.

    Raises:
        ValueError: as of `load_weights`.
    """
    with torch.device("meta"):
        check_shapes(make(), state, path)
    with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
        network = make()
    load_weights(network, state, path)
    return network


def in_float32(value: Tensor) -> Tensor:
    """Half-precision weights are files' business: networks run in float32 unless asked."""
    return value.float() if value.is_floating_point() else value


def ready(module: nn.Module, device: torch.device | str) -> nn.Module:
    """The network on its device, for use and not for training."""
    return module.eval().to(device).requires_grad_(False)


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Checkpoint(path, tensors, file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(
            f"load_prior: {path} is truncated or not a safetensors file ({_first_line(error)}); "
            "fetch it again and compare its checksum (sha256=)"
        ) from None


def _why_refused(path: Path, error: Exception) -> str:
    """A pickle with more than numbers in it, or a broken one."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # not a zip archive: only the error itself can be told
        named = re.findall(r"(?i)unsupported global:? (?:GLOBAL )?(\S+)", str(error))
    if not named and not re.search("GLOBAL|REDUCE|BUILD|class", str(error).split("Check the")[0]):
        return (
            f"load_prior: {path} is truncated or no PyTorch file; a plain pickle is refused, too, "
            "because reading it would run code"
        )
    what = ", ".join(named[:5]) or "something other than weights"
    return (
        f"load_prior: refused {path}: reading it would run code ({what}). Save its state_dict() as "
        "safetensors where it was made, or, if you trust its maker with this computer, pass "
        "allow_arbitrary_code=True"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]

"""What calibrations have found, in our own prior files: numbers as tensors, words in the header."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.formats.base import Source
from tweedie_inverse.priors.formats.own_files import header_of, rewrite
from tweedie_inverse.priors.formats.reading.files import read_checkpoint
from tweedie_inverse.priors.scaling import Scaling
from tweedie_inverse.runtime.digest import digest

_HEADER, _TENSORS = "calibrations", "calibration."

Own = TypeVar("Own", bound=Prior)


def tensors_of(calibration: Mapping[str, Scaling]) -> dict[str, Tensor]:
    """Of a prior's `calibration`; none where it is empty."""
    return {
        f"{_TENSORS}{k}.{name}": tensor.clone()
        for k, one in enumerate(calibration.values())
        for name, tensor in one.tensors().items()
    }


def notes_of(calibration: Mapping[str, Scaling]) -> dict[str, Any]:
    """An entry of the header; none where it is empty."""
    return {_HEADER: [one.notes() for one in calibration.values()]} if calibration else {}


def with_kept(prior: Own, source: Source) -> Own:
    """The prior of a file with what calibrations have found of it.

    Weights are rounded when they are written, so that the checksum of the prior that was
    calibrated need not be that of its file; the file is its own proof that they belong together.

    Raises:
        ValueError: they are damaged.
    """
    assert source.checkpoint is not None
    entries = header_of(source.checkpoint).get(_HEADER, [])
    if not isinstance(entries, list):
        raise ValueError(f"load_prior({source.name!r}): its header is damaged, at {_HEADER}")
    for k, notes in enumerate(entries):
        start = f"{_TENSORS}{k}."
        tensors = {
            name.removeprefix(start): tensor
            for name, tensor in source.state.items()
            if name.startswith(start)
        }
        try:
            one = Scaling.of_file(tensors, notes)
            checksum = digest(prior.for_shape(one.shape).plain())
        except ValueError as error:
            raise ValueError(f"load_prior({source.name!r}): {error}") from None
        prior = prior.with_calibration(  # type: ignore[assignment]
            dataclasses.replace(one, prior=(one.prior[0], checksum))
        )
    return prior


def refuse_other(path: Path) -> None:
    """Raise a `ValueError` for anything that is no prior file of this package."""
    caller = f"store_calibration({str(path)!r})"
    instead = (
        "keep the file of calibration.save, and give it to the loaded prior: "
        "prior.with_calibration(ti.Calibration.load(...))"
    )
    if not path.is_file():
        raise ValueError(
            f"{caller}: there is no such file; a shipped prior is left as it is, so {instead}"
        )
    if not header_of(read_checkpoint(path)):
        raise ValueError(
            f"{caller}: only prior files of this package have a place for it; {instead}"
        )


def store(path: Path, prior: Prior) -> None:
    """Write a prior's calibration into its own file, and leave all else there as it is."""
    checkpoint = read_checkpoint(path)
    header = header_of(checkpoint)
    header.pop(_HEADER, None)
    tensors = {n: t for n, t in dict(checkpoint.content).items() if not n.startswith(_TENSORS)}
    tensors |= tensors_of(prior.calibration)
    rewrite(path, tensors, {**header, **notes_of(prior.calibration)})

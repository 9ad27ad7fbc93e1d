"""Priors by name: those shipped inside the package, and whatever a user has of his own."""

from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tweedie_inverse.boundary.arguments import flag, pair
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.formats import FORMATS, Format, Source, Target, kept, load, source_of
from tweedie_inverse.priors.formats import describe as describe_source
from tweedie_inverse.priors.formats.native import FORMAT, Native
from tweedie_inverse.priors.formats.own_files import header_of, tensors_of, write
from tweedie_inverse.priors.formats.reading.files import read_checkpoint
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.scaling import Scaled, Scaling
from tweedie_inverse.priors.unet import UNet
from tweedie_inverse.runtime.devices import usable

WEIGHTS_FOLDER = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True)
class PriorCard:
    """What a user must know before trusting a prior; the `.md` beside the weights says more.

    Sigmas and the value range are in data units, the size of the file in bytes.  `load_seconds` is
    what loading took on the CPU of the computer that wrote the file; None if the file does not say.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    size: int
    sigma_min: float
    sigma_max: float
    value_range: tuple[float, float]
    fully_convolutional: bool
    data: str
    licence: str
    load_seconds: float | None = None


def list_priors() -> list[PriorCard]:
    """The shipped priors, by name.

    Returns:
        A card for each: `name`, `shape`, `value_range`, `data` and `licence` among its fields.

    Examples:
        >>> {card.name: card.shape for card in ti.list_priors()}["phantom-64"]
        (1, 64, 64)
    """
    paths = sorted(WEIGHTS_FOLDER.glob("*.safetensors"))
    headers = {path: header_of(read_checkpoint(path)) for path in paths}
    readable = {format.kind for format in FORMATS.values()}
    return [_card(path, header) for path, header in headers.items() if header["format"] in readable]


def load_prior(
    name_or_path: str | Path | nn.Module,
    *,
    format: str | Format | None = None,
    device: torch.device | str = "cpu",
    value_range: tuple[float, float] | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    allow_arbitrary_code: bool = False,
    weights: str | None = None,
) -> Prior:
    """A shipped prior by name, or a pretrained network from a file, a folder, a hub id or memory.

    Args:
        name_or_path: a shipped prior, a checkpoint file, the folder of a diffusers pipeline, a hub
            id ``owner/name``, or a module.
        format: name of the format (`ti.priors.formats.FORMATS`), or a format with settings that
            the file does not hold, e.g. ``ti.priors.formats.ADM(image_size=256)``.  Default: as
            the file looks.
        device: of networks that are built here; a module stays where it is.
        value_range: the user's values for the ends of the network's own image range, 0 and 1 by
            default.  Prior files of this package know theirs, and refuse another.
        revision: commit of a hub id, to get the same weights again; refused for anything else.
        sha256: checksum of a file, to get the same weights again; refused for anything else.
        allow_arbitrary_code: unpickle a file without restrictions: it may then do anything on this
            computer.  Off, files that hold anything but weights are refused.
        weights: which of the weights in a file or folder: ``"average"``, ``"raw"``, or the name of
            an entry, as `inspect_prior` and the command ``info`` print it.  Default: the average
            where there is one, the longest of several; the log says what was taken.

    Returns:
        A prior in your units; a phase-space prior for files that are one.

    Raises:
        ValueError: no such name or file, unknown or unfitting format, incomplete or unsafe file.
        ImportError: the format needs a package that is not installed.

    Examples:
        >>> ti.load_prior("digits-32").shape
        (1, 32, 32)
    """
    asked = None if value_range is None else _range(value_range)
    code = flag("load_prior", "allow_arbitrary_code", allow_arbitrary_code)
    for name, text in (("revision", revision), ("sha256", sha256), ("weights", weights)):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"load_prior({name}={text!r}): needs text")
    device = usable(device, "load_prior")
    source = _source(name_or_path, revision, sha256, code, weights)
    return load(source, Target(device, asked or (0.0, 1.0), asked), format)


def inspect_prior(
    name_or_path: str | Path | nn.Module,
    *,
    format: str | Format | None = None,
    revision: str | None = None,
    weights: str | None = None,
) -> dict[str, Any]:
    """What `load_prior` finds in a file, folder or hub id, without building the network."""
    return describe_source(_source(name_or_path, revision, None, False, weights), format)


def _range(given: Any) -> tuple[float, float]:
    """Two numbers in increasing order."""
    need = "two numbers, the smallest and the largest value"
    low, high = pair("load_prior", "value_range", given, need=need)
    if not low < high:
        raise ValueError(f"load_prior(value_range=({low:g}, {high:g})): needs low < high")
    return low, high


def _source(
    name_or_path: str | Path | nn.Module,
    revision: str | None,
    sha256: str | None,
    allow_arbitrary_code: bool,
    weights: str | None,
) -> Source:
    if not isinstance(name_or_path, nn.Module):
        checked_path("load_prior", "name_or_path", name_or_path)
    shipped = WEIGHTS_FOLDER / f"{name_or_path}.safetensors"
    try:
        given = shipped if isinstance(name_or_path, str) and shipped.is_file() else name_or_path
        if isinstance(given, str | Path):
            Path(given).exists()
    except OSError as error:  # too long
        raise ValueError(f"load_prior(name_or_path=): cannot be a path ({error})") from None
    try:
        return source_of(
            given,
            revision=revision,
            sha256=sha256,
            allow_arbitrary_code=allow_arbitrary_code,
            weights=weights,
        )
    except FileNotFoundError:
        raise ValueError(
            f"load_prior({str(name_or_path)!r}): neither a shipped prior "
            f"({_nearest(str(name_or_path))}) nor a file, a folder or a hub id. Wrap a network of "
            "your own in ti.priors.NetworkPrior"
        ) from None


def _nearest(name: str) -> str:
    """The shipped priors, those with a similar name set apart."""
    names = [card.name for card in list_priors()]
    near = get_close_matches(name.lower(), names, n=2)
    listed = ", ".join(names)
    return f"did you mean {' or '.join(near)}? There are {listed}" if near else listed


def save_prior(path: str | Path, prior: NetworkPrior, settings: dict[str, Any]) -> None:
    """Write a trained prior with its denoising error; `settings` completes the header.

    The file is loaded again, to note how long that takes.  Needs `widths`, `blocks` of the `UNet`,
    `data`, `licence` and `value_range` in `settings`, and `classes` where it has any.
    """
    if not isinstance(prior.module, UNet):
        raise ValueError(
            "save_prior: writes the package's own UNet, but this prior has a "
            f"{type(prior.module).__name__}; save the prior that it was made from"
        )
    if prior.has_own_label:
        raise ValueError(
            "save_prior: a prior file has no place for label=, label_scale=, label_offset= and "
            "integer_labels=; save a prior without them"
        )
    if prior.error is None:
        raise ValueError("save_prior: measure the denoising error first (measure_denoising_error)")
    tensors = tensors_of(prior.module, prior.error) | kept.tensors_of(prior.calibration)
    if prior.timesteps is not None:
        tensors["timesteps"] = prior.timesteps
    header = {
        "format": FORMAT,
        "shape": prior.shape,
        "parameterization": prior.parameterization,
        "offset": prior.offset,
        "scale": prior.scale,
        "sigma_data": prior.sigma_data,
        "sigma_min": prior.sigma_min,
        "sigma_max": prior.sigma_max,
        "centre": prior.centre,
        "transform": prior.error.transform,
        "fully_convolutional": prior.fully_convolutional,
        "name": prior.name,
        "parameters": sum(value.numel() for value in prior.module.state_dict().values()),
        **kept.notes_of(prior.calibration),
        **settings,
    }
    write(Path(path), tensors, header, Native())


def store_calibration(path: str | Path, calibration: Scaled | Scaling) -> None:
    """Write what a calibration has found into the prior's own file; `load_prior` reads it.

    Calibrations made with other operators, or otherwise, stay beside it.

    Args:
        path: of a prior file of this package, such as `train` writes.
        calibration: of `ti.calibrate`, made with the prior of this file.

    Raises:
        ValueError: it was made with another prior, or the file is of another package.
    """
    target = checked_path("store_calibration", "path", path)
    kept.refuse_other(target)
    kept.store(target, load_prior(target).with_calibration(calibration))


def _card(path: Path, header: dict[str, Any]) -> PriorCard:
    fields = PriorCard.__dataclass_fields__
    known = {name: header[name] for name in fields if name in header}
    known["shape"], known["value_range"] = tuple(header["shape"]), tuple(header["value_range"])
    return PriorCard(**known, size=path.stat().st_size)


def describe(card: PriorCard) -> str:
    """One paragraph for a terminal."""
    settings = {**asdict(card), "size": f"{card.size / 1e6:.1f} MB"}
    name, seconds = settings.pop("name"), settings.pop("load_seconds")
    lines = [f"  {key}: {value}" for key, value in settings.items()]
    if seconds is not None:
        lines.append(f"  loads in {seconds:g} s")
    return "\n".join([name, *lines])

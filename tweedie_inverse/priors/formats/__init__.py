"""Formats of pretrained networks: one file each, one table, one way in.

`load` takes what the user has (a folder, a file, a hub id, a module), finds its format in `FORMATS`
or takes the one named, and returns a prior in data units.
"""

import re
from pathlib import Path
from typing import Any

from torch import nn

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.formats.adm import ADM
from tweedie_inverse.priors.formats.base import Format, Source, Target
from tweedie_inverse.priors.formats.denoisers import Deepinv, KDiffusion, Module, SmallDiffusion
from tweedie_inverse.priors.formats.diffusers_folder import Diffusers, fetch
from tweedie_inverse.priors.formats.edm import EDM
from tweedie_inverse.priors.formats.edm_convert import convert
from tweedie_inverse.priors.formats.files import read_checkpoint
from tweedie_inverse.priors.formats.fill import fill
from tweedie_inverse.priors.formats.foreign import SUFFIXES
from tweedie_inverse.priors.formats.known_denoisers import KnownDenoiser
from tweedie_inverse.priors.formats.native import Native
from tweedie_inverse.priors.formats.onnx_file import ONNX
from tweedie_inverse.priors.formats.score_sde import ScoreSDE, psld_network
from tweedie_inverse.priors.labels import fractional_embedding

__all__ = [
    "ADM",
    "EDM",
    "FORMATS",
    "ONNX",
    "Deepinv",
    "Diffusers",
    "Format",
    "KDiffusion",
    "KnownDenoiser",
    "Module",
    "Native",
    "ScoreSDE",
    "SmallDiffusion",
    "Source",
    "Target",
    "convert",
    "describe",
    "fill",
    "fractional_embedding",
    "load",
    "psld_network",
    "register",
    "source_of",
]

# By name, in the order in which they are asked whether a source is theirs.
FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Native(),
        Diffusers(),
        ADM(),
        EDM(),
        ScoreSDE(),
        KnownDenoiser(),
        ONNX(),
        Deepinv(),
        KDiffusion(),
        SmallDiffusion(),
        Module(),
    )
}


def register(format: Format) -> None:
    """Add a format, which is asked after those that are here already.

    Raises:
        ValueError: another one has its name.
    """
    if format.name in FORMATS:
        raise ValueError(f"formats.register: there is a format {format.name!r} already")
    FORMATS[format.name] = format


_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = (".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors", *SUFFIXES)


def source_of(
    given: str | Path | nn.Module,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    allow_arbitrary_code: bool = False,
) -> Source:
    """What `given` stands for; files are read, hub ids fetched.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: a hub id that cannot be had, or a file that cannot be read safely.
    """
    path, name = Path() if isinstance(given, nn.Module) else Path(given), str(given)
    is_local = isinstance(given, nn.Module) or path.is_dir() or path.is_file()
    if revision is not None and is_local:
        raise ValueError(
            f"load_prior(revision={revision!r}): is the commit of a hub id, and {_kind_of(given)} "
            "has none; leave it out"
        )
    if sha256 is not None and (isinstance(given, nn.Module) or not path.is_file()):
        raise ValueError(
            f"load_prior(sha256=): is the checksum of one file, and {_kind_of(given)} is none; "
            "leave it out (a hub id is fixed by revision=)"
        )
    if isinstance(given, nn.Module):
        return Source(type(given).__name__, module=given)
    if path.is_dir():
        return Source(name, folder=path)
    if path.is_file():
        found = read_checkpoint(path, sha256=sha256, allow_arbitrary_code=allow_arbitrary_code)
        if allow_arbitrary_code and isinstance(found.content, nn.Module):
            return Source(name, module=found.content)
        return Source(name, checkpoint=found)
    if _HUB_ID.fullmatch(name) and path.suffix not in _FILES:
        return Source(name, folder=fetch(name, revision))
    raise FileNotFoundError(f"load_prior({name!r}): no such file or folder")


def _kind_of(given: str | Path | nn.Module) -> str:
    return (
        f"the module {type(given).__name__}" if isinstance(given, nn.Module) else Path(given).name
    )


def load(source: Source, target: Target, format: str | Format | None = None) -> Prior:
    """The prior in `source`.

    Raises:
        ValueError: unknown format, or one that the source does not fit.
    """
    chosen = _format_of(source, format)
    try:
        prior = chosen.load(source, target)
    except KeyError as error:
        raise ValueError(
            f"load_prior({source.name!r}): not a complete source in format {chosen.name!r}, "
            f"{error} is missing"
        ) from error
    if prior.value_range is None:  # the format's own files say it, others are told
        prior.value_range = target.value_range
    return prior


def describe(source: Source, format: str | Format | None = None) -> dict[str, Any]:
    """What was found, beginning with the format's name."""
    chosen = _format_of(source, format)
    return {"format": chosen.name, **chosen.describe(source)}


def _format_of(source: Source, format: str | Format | None) -> Format:
    if isinstance(format, Format):
        return format
    if format is not None:
        if not isinstance(format, str) or format not in FORMATS:
            raise ValueError(
                f"load_prior(format={format!r}): must be one of {', '.join(FORMATS)}, or one of "
                "ti.priors.formats with its settings"
            )
        return FORMATS[format]
    for candidate in FORMATS.values():
        if candidate.recognises(source):
            return candidate
    raise ValueError(f"load_prior({source.name!r}): {_what_it_is_not(source)}")


def _what_it_is_not(source: Source) -> str:
    known = ", ".join(FORMATS)
    if source.folder is not None:
        inside = ", ".join(sorted(p.name for p in source.folder.iterdir())[:5]) or "nothing"
        return (
            f"a folder without model_index.json or config.json, found {inside}; for a checkpoint "
            "give the file"
        )
    if source.module is not None:
        return (
            "what this module takes and returns is not known; give format=ti.priors.formats."
            "Module(shape=..., parameterization=...), or format='deepinv', 'k-diffusion', ..."
        )
    names = ", ".join(list(source.state)[:5]) or "no tensors"
    if any(
        name.startswith(("first_stage_model.", "model.diffusion_model.")) for name in source.state
    ):
        return "latent priors are not supported yet; this package samples pixels"
    return (
        f"not a prior file of this package, nor any other known format ({known}); it begins with "
        f"{names}. Build the network with its own library and pass the module; weights of JAX, "
        "MATLAB or NumPy go into it by ti.priors.formats.fill(module, path)"
    )

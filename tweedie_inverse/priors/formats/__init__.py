"""Formats of pretrained networks: one file each, one table, one way in.

`load` takes what the user has (a folder, a file, a hub id, a module), finds its format in `FORMATS`
or takes the one named, and returns a prior in data units.
"""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.formats.adm import ADM
from tweedie_inverse.priors.formats.base import Format, Source, Target, UnsaidWarning, tell
from tweedie_inverse.priors.formats.denoisers import Deepinv, KDiffusion, Module, SmallDiffusion
from tweedie_inverse.priors.formats.diffusers_folder import Diffusers
from tweedie_inverse.priors.formats.edm import EDM
from tweedie_inverse.priors.formats.edm_convert import convert
from tweedie_inverse.priors.formats.fill import fill
from tweedie_inverse.priors.formats.folders import look_into
from tweedie_inverse.priors.formats.hub import fetch
from tweedie_inverse.priors.formats.known_denoisers import KnownDenoiser
from tweedie_inverse.priors.formats.native import Native
from tweedie_inverse.priors.formats.onnx_file import ONNX
from tweedie_inverse.priors.formats.probe import probe
from tweedie_inverse.priors.formats.reading.archives import check_finite
from tweedie_inverse.priors.formats.reading.choice import module_in
from tweedie_inverse.priors.formats.reading.files import read_checkpoint
from tweedie_inverse.priors.formats.reading.foreign import SUFFIXES
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
    "UnsaidWarning",
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


_LOG = logging.getLogger("tweedie_inverse")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = (".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors", *SUFFIXES)


def source_of(
    given: str | Path | nn.Module,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    allow_arbitrary_code: bool = False,
    weights: str | None = None,
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
        if weights is not None:
            raise ValueError(
                f"load_prior(weights={weights!r}): chooses among the weights of a file, and "
                f"{_kind_of(given)} has its own; leave it out"
            )
        return Source(type(given).__name__, module=given)
    if path.is_dir():
        return Source(name, folder=path, weights=weights)
    if path.is_file():
        found = read_checkpoint(path, sha256=sha256, allow_arbitrary_code=allow_arbitrary_code)
        if allow_arbitrary_code and (module := module_in(found.content, weights, name)):
            return Source(name, module=module)
        return Source(name, checkpoint=replace(found, asked=weights), weights=weights)
    if _HUB_ID.fullmatch(name) and path.suffix not in _FILES:
        return Source(name, folder=fetch(name, revision), weights=weights)
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
    chosen, view = _settled(source, format)
    _say_what_is_taken(view, chosen)
    try:
        prior = chosen.load(view, target)
    except KeyError as error:
        raise ValueError(
            f"load_prior({source.name!r}): not a complete source in format {chosen.name!r}, "
            f"{error} is missing"
        ) from error
    if prior.value_range is None:  # the format's own files say it, others are told
        prior.value_range = target.value_range
    if source.module is not None:  # of what is built here, the format has compared the shapes
        probe(prior, source)
    return prior


def _say_what_is_taken(view: Source, format: Format) -> None:
    """In the log; and in a warning where the average is doubtful, or is not what was taken."""
    file = view.checkpoint
    if file is None or file.taken is None:
        return
    said = file.taken_in_words()
    _LOG.info("load_prior(%r): weights: %s", view.name, said)
    if file.asked is None and file.found[0].average and not file.taken.average:
        tell(
            f"load_prior({view.name!r}): the average under {file.found[0].key!r} is not of format "
            f"{format.name!r}, so the raw weights are taken, {said}; weights='raw' says so"
        )
    if file.taken.average and len(file.found) > 1:
        check_finite(file.taken.state, file.path, ". weights='raw' takes the raw ones")
    if file.asked is None and (doubt := file.doubt()):
        tell(
            f"load_prior({view.name!r}): takes {said}, which {doubt}. Compare it with "
            "weights='raw' by ti.check_prior, and say which one it is, weights='average' or 'raw'"
        )
    names = file.taken.state
    if any(".diffusion_model." in f".{name}" for name in names):
        tell(
            f"load_prior({view.name!r}): the names are those of latent-diffusion's code. A network "
            "of latents is no prior of images, and the file does not say that it is none"
        )


def describe(source: Source, format: str | Format | None = None) -> dict[str, Any]:
    """What was found, beginning with the format's name."""
    chosen, view = _settled(source, format)
    rows = {"format": chosen.name, **chosen.describe(view)}
    if view.checkpoint is not None and not chosen.kind:  # our own files hold one network
        taken = view.checkpoint.taken_in_words()
        doubt = view.checkpoint.doubt()
        rows["weights"] = f"{taken}; it {doubt}" if doubt else taken
    return rows


def _settled(source: Source, format: str | Format | None) -> tuple[Format, Source]:
    """The format, and the source with the weights and names that the format recognises."""
    if (isinstance(format, str) and format not in FORMATS) or not (
        format is None or isinstance(format, str | Format)
    ):
        raise ValueError(
            f"load_prior(format={format!r}): must be one of {', '.join(FORMATS)}, or one of "
            "ti.priors.formats with its settings"
        )
    given = FORMATS[format] if isinstance(format, str) else format
    if given is not None and given.asked_weights is not None and source.checkpoint is not None:
        source = replace(source, checkpoint=replace(source.checkpoint, asked=given.asked_weights))
    if given is None and any(name.startswith(_LATENT) for name in _all_names(source)):
        raise ValueError(f"load_prior({source.name!r}): {_NO_LATENTS}")
    for view in source.views():
        for candidate in FORMATS.values() if given is None else (given,):
            if candidate.recognises(view):
                return candidate, view
    if given is not None:  # it says itself what it misses
        return given, source
    if source.folder is not None:
        look_into(source)
    raise ValueError(f"load_prior({source.name!r}): {_what_it_is_not(source)}")


_LATENT = ("first_stage_model.", "cond_stage_model.")
_NO_LATENTS = "latent priors are not supported yet; this package samples pixels"


def _all_names(source: Source) -> list[str]:
    """Of all weights in a file."""
    if source.checkpoint is None:
        return []
    return [name for weights in source.checkpoint.found for name in weights.state] or [
        *source.state
    ]


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
    return (
        f"not a prior file of this package, nor any other known format ({known}); it begins with "
        f"{names}. Build the network with its own library and pass the module; weights of JAX, "
        "MATLAB or NumPy go into it by ti.priors.formats.fill(module, path)"
    )

"""The priors of tasks: by name, by path or as they are, and the checksum that a record keeps."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tweedie_inverse.priors.analytic import Gaussian
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.zoo import WEIGHTS_FOLDER, load_prior
from tweedie_inverse.runtime.checksums import checksum as content_of

FIELD = "field-"
_DIGITS = 16


def field_spectrum(size: int) -> Tensor:
    """Power spectrum ``(size, size)`` of a field like an image, of standard deviation 0.15."""
    f = torch.fft.fftfreq(size, dtype=torch.float64)
    spectrum = (f[:, None] ** 2 + f**2 + 0.0375**2) ** -1.3
    return spectrum * 0.15**2 / spectrum.mean()


def field_prior(size: int) -> Gaussian:
    """Periodic field like an image: mean 0.5, std 0.15, spectrum ``1 / (f^2 + 0.0375^2)^1.3``."""
    return Gaussian(torch.full((1, size, size), 0.5), power_spectrum=field_spectrum(size))


def load(prior: str | Path | Prior, device: str = "cpu") -> Prior:
    """``field-<size>``, anything that `ti.load_prior` takes, or a prior, which stays as it is.

    Raises:
        ValueError: there is no such prior.
    """
    return prior if isinstance(prior, Prior) else _load(str(prior), device)


@cache
def _load(prior: str, device: str) -> Prior:
    if prior.startswith(FIELD):
        return field_prior(int(prior.removeprefix(FIELD)))
    return load_prior(prior, device=device)


def name_of(prior: str | Path | Prior) -> str:
    """What records call it: a name as it is, the last part of a path, the class of an object."""
    if isinstance(prior, Prior):
        return getattr(prior, "name", "") or type(prior).__name__
    is_path = not _is_ours(prior) and Path(prior).exists()
    return Path(prior).name if is_path else str(prior)


def checksum(prior: str | Path | Prior) -> str:
    """Of the file, or of all files of a folder; a prior without a file is known by its name.

    A prior object comes from the user's suite, whose file has a checksum of its own.
    """
    if isinstance(prior, Prior):
        return name_of(prior)
    if str(prior).startswith(FIELD):
        return str(prior)
    path = _shipped(prior) if _is_ours(prior) else Path(prior)
    return _digest(path.resolve()) if path.exists() else str(prior)


def _is_ours(prior: str | Path) -> bool:
    return str(prior).startswith(FIELD) or _shipped(prior).is_file()


def _shipped(prior: str | Path) -> Path:
    return WEIGHTS_FOLDER / f"{prior}.safetensors"


@cache
def _digest(path: Path) -> str:
    return content_of(path)[:_DIGITS]

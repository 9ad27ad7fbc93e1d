"""Operator, noise and prior of a command, from its options: checked before anything is loaded."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tweedie_inverse.app.catalogue.asked import Asked, asked_for
from tweedie_inverse.app.catalogue.noises import settled
from tweedie_inverse.app.catalogue.options import OPTIONS, SIZE
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.operators import GaussianNoise, NoiseModel, Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.network import NetworkPrior

Noise = NoiseModel | float | str | None


class Operators:
    """The operator of a command: one of a user's file, or one made for each shape of data.

    Attributes:
        asked: the instrument by name; None where it is of a file.
        contents: checksums of the files that it is made of, by name.
    """

    def __init__(self, asked: Asked | None, operator: Operator | None, contents: Mapping[str, str]):
        self.asked, self._operator, self.contents = asked, operator, dict(contents)
        self._made: dict[Any, Operator] = {}

    def of(self, prior: Prior, data: Data | None = None) -> Operator:
        """The operator for images of a prior and a measurement; None where there is none.

        Raises:
            ValueError: the shapes do not fit the options.
        """
        if self._operator is not None or self.asked is None:
            assert self._operator is not None
            return self._operator
        shape = None if data is None else data.shape
        key = tuple(prior.shape), shape
        if key not in self._made:
            self._made[key] = self.asked.made(prior.shape, shape)
            if data is not None:
                _refuse_channels(self.asked, self._made[key], prior, data)
        return self._made[key]

    def for_image(self, shape: tuple[int, ...]) -> Operator:
        """The operator for an image of this shape, without a measurement.

        Raises:
            ValueError: it does not fit the options, or needs unknown numbers.
        """
        if self.asked is None:
            assert self._operator is not None
            return self._operator
        if self.asked.unknown:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in self.asked.unknown)
            raise ValueError(f"{names}: needs a number here; a range is for solve, which draws it")
        return self.asked.made(shape)


def _refuse_channels(asked: Asked, operator: Operator, prior: Prior, data: Data) -> None:
    """A grey picture for a prior of colours, and the other way round."""
    needed = asked.instrument.channels
    if needed is None or len(data.shape) < 3 or len(prior.shape) != 3:
        return
    need, got = needed(prior.shape[0]), data.shape[-3]
    if need != got and data.shape not in (tuple(operator.range_shape), operator.range_shape[1:]):
        raise ValueError(
            f"the measurement has {got} channel{'s' * (got != 1)}, and --operator {asked.name} "
            f"gives {need} for this prior, whose images have {prior.shape[0]}. Take a prior of "
            f"{got}-channel images, or the instrument that made {got} of {prior.shape[0]}"
        )


def operators(options: argparse.Namespace, caller: str) -> Operators:
    """What ``--operator`` and its options ask for; a file of the user's is executed.

    Raises:
        ValueError: no operator, no such file or name, or options that are wrong, missing or of
            another operator.
    """
    if options.operator is None:
        raise ValueError(
            f"{caller}: --operator is missing: the instrument that made the measurement, such as "
            "tomography (`tweedie-inverse operators` lists them), or FILE.py:NAME"
        )
    texts = operator_texts(options)
    if is_by_name(options.operator):
        asked = asked_for(options.operator, texts, _model(options.noise))
        return Operators(asked, None, _checksums(asked.files))
    for option, text in texts.items():
        if text is not None:
            raise ValueError(
                f"--{option}: is for instruments by name; the operator of {options.operator} is "
                "made in its file"
            )
    operator, contents = load_operator(options.operator)
    return Operators(None, operator, contents)


def check(options: argparse.Namespace, caller: str) -> None:
    """Raise a `ValueError` for operator, noise and prior as far as the options tell.

    No file is executed and no network loaded.
    """
    if options.operator is not None and not is_by_name(options.operator):
        noise_of(options.noise)
    else:
        asked = operators(options, caller).asked
        assert asked is not None
        if options.noise is None:
            raise ValueError(
                f"{caller}: --noise is missing: the standard deviation of the noise in units of "
                f"the measurement{', or estimate' if caller == 'solve' else ''}, or a model "
                "(--help lists them)"
            )
    refuse_no_prior(options, caller)


def files_of(options: argparse.Namespace) -> list[Path]:
    """The files that options of the instrument name, as far as they are there."""
    texts = {name: text for name, text in operator_texts(options).items() if text is not None}
    paths = [Path(text) for text in texts.values()]
    paths += [Path(text.rpartition(":")[0]) for text in texts.values() if ":" in text]
    return [path for path in paths if path.is_file()]


def is_by_name(operator: str) -> bool:
    """Whether an operator is one of the catalogue, as far as its text says."""
    return ":" not in operator and not operator.endswith(".py")


def operator_texts(options: argparse.Namespace) -> dict[str, str | None]:
    """The options of all instruments as they were written, by name."""
    return {row.name: getattr(options, row.dest) for row in (*OPTIONS.values(), SIZE)}


def noise_of(text: str | None) -> Noise:
    """What ``--noise`` means to `solve`: a standard deviation as a number, "estimate", a model."""
    if text is None:
        return None
    found = settled(text)
    std = found.values.get("std")
    return std if found.name == "gaussian" and isinstance(std, float) else found.model()


def _model(text: str | None) -> NoiseModel | None:
    found = noise_of(text)
    if isinstance(found, float):
        return GaussianNoise(found)
    return found if isinstance(found, NoiseModel) else None


def _checksums(files: Mapping[str, Path]) -> dict[str, str]:
    from tweedie_inverse.runtime.checksums import checksum

    return {name: checksum(path) for name, path in files.items()}


def prior_of(options: argparse.Namespace, caller: str) -> tuple[Prior, dict[str, str]]:
    """The prior that the options name, and the checksum of its file or folder."""
    from tweedie_inverse.priors.zoo import WEIGHTS_FOLDER, load_prior
    from tweedie_inverse.runtime.checksums import checksum

    refuse_no_prior(options, caller)
    shipped = WEIGHTS_FOLDER / f"{options.prior}.safetensors"
    path = shipped if shipped.is_file() else Path(options.prior)
    contents = {}
    if path.is_file() or path.is_dir():
        contents["content of the prior"] = checksum(path)[:16]
    elif options.revision is not None:
        contents["revision of the prior"] = options.revision
    prior = load_prior(
        options.prior,
        format=options.format,
        revision=options.revision,
        sha256=getattr(options, "sha256", None),
        weights=options.weights,
        device=options.device,
    )
    return tiled(prior) if getattr(options, "tiled", False) else prior, contents


def refuse_no_prior(options: argparse.Namespace, caller: str) -> None:
    """Raise a `ValueError` where no prior is named."""
    if options.prior is None:
        raise ValueError(
            f"{caller}: --prior is missing: a shipped prior such as phantom-64 (`tweedie-inverse "
            "priors` lists them), a checkpoint file, a pipeline folder or a hub id"
        )


def tiled(prior: Prior) -> NetworkPrior:
    """The prior tile by tile, for images larger than its own."""
    if not isinstance(prior, NetworkPrior):
        raise ValueError("--tiled: a phase-space prior knows its own size only; leave it out")
    return prior.tiled()


def load_operator(place: str) -> tuple[Operator, dict[str, str]]:
    """The object NAME of FILE.py, which is executed; and the checksums of what the file read."""
    from tweedie_inverse.app.user_files import named

    found, ran = named("--operator", place)
    if not isinstance(found, Operator):
        file, _, name = place.rpartition(":")
        raise ValueError(
            f"--operator {place}: {file} must define {name} as an instance of ops.Operator, found "
            f"{type(found).__name__}"
        )
    return found, ran.checksums

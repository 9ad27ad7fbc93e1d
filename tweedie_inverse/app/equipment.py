"""Operator, noise and prior of a command, from its options: checked before anything is loaded."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tweedie_inverse.app.catalogue.asked import Asked, asked_for
from tweedie_inverse.app.catalogue.noises import settled
from tweedie_inverse.app.catalogue.options import OPTIONS, SIZE
from tweedie_inverse.app.catalogue.values import numbers
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.operators import GaussianNoise, NoiseModel, Operator, UnknownNoise
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.rescaled import Rescaled

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
            operator = self.asked.made(prior.shape, shape)
            if data is not None:
                _refuse_channels(self.asked, operator, prior, data)
                _refuse_other_shapes(self.asked, operator, data)
            refuse_size(prior, operator.domain_shape)
            self._made[key] = operator
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
        ways = (
            "Take a prior of grey images, such as texture-64, or --operator greyscale where the "
            "image is in colour and the measurement is not"
            if (got, prior.shape[0]) == (1, 3)
            else f"Take a prior of {got}-channel images, or the instrument that made {got} of "
            f"{prior.shape[0]}"
        )
        raise ValueError(
            f"the measurement has {got} channel{'s' * (got != 1)}, and --operator {asked.name} "
            f"gives {need} for this prior, whose images have {prior.shape[0]}. {ways}"
        )


def _refuse_other_shapes(asked: Asked, operator: Operator, data: Data) -> None:
    """A measurement that this instrument does not make."""
    need, got = tuple(operator.range_shape), data.shape
    if operator.range_is_complex and data.values.is_complex():
        need = (need[0] // 2, *need[1:])
    if got in (need, need[1:] if need[0] == 1 else need) or got[1:] == need:
        return
    hint = f". {asked.instrument.hint}" if asked.instrument.hint else ""
    raise ValueError(
        f"--operator {asked.name}: makes measurements of shape {need} of images "
        f"{tuple(operator.domain_shape)}, and this one has shape {got}{hint}"
    )


def refuse_size(prior: Prior, shape: tuple[int, ...]) -> None:
    """Raise a `ValueError` that says what to do with an image of another size than the prior's."""
    try:
        prior.for_shape(shape)
    except ValueError:
        sides = " x ".join(map(str, prior.shape[1:]))
        larger = len(shape) == 3 and all(
            here >= own for here, own in zip(shape[1:], prior.shape[1:], strict=True)
        )
        own = ",".join(map(str, prior.shape[1:]))
        way = (
            "--tiled solves it tile by tile"
            if larger
            else f"--size {own} is an image of the prior's size"
        )
        there = " x ".join(map(str, shape[1:]))
        raise ValueError(
            f"the image is {there}, and this prior is for {sides}: {way}, "
            "or take another prior, or a measurement of a smaller image (`simulate` has --crop and "
            "--resize)"
        ) from None


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
    value_range_of(options)
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


def known_noise_of(text: str | None, caller: str) -> NoiseModel | float | None:
    """The same where the level must be known.

    Raises:
        ValueError: it is to be estimated.
    """
    found = noise_of(text)
    if isinstance(found, str | UnknownNoise):
        raise ValueError(
            f"{caller}: --noise {text}: needs a level that is known; `solve` estimates it"
        )
    return found


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
    prior = tiled(prior) if getattr(options, "tiled", False) else prior
    prior = prior.over_ranks() if getattr(options, "over_ranks", False) else prior
    ends = value_range_of(options)
    return prior if ends is None else Rescaled(prior, ends), contents


def value_range_of(options: argparse.Namespace) -> tuple[float, float] | None:
    """``--value-range LOW,HIGH``, checked."""
    text = getattr(options, "value_range", None)
    if text is None:
        return None
    try:
        low, high = numbers(2).read(text)
    except ValueError as error:
        raise ValueError(f"--value-range: {error}") from None
    if not low < high:
        raise ValueError(f"--value-range {text}: LOW must be below HIGH")
    return low, high


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

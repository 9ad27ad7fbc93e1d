"""The noise models by name: ``--noise 0.05``, ``estimate``, ``poisson:0.01`` and so on."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tweedie_inverse import operators as ops
from tweedie_inverse.app.catalogue import values
from tweedie_inverse.app.catalogue.suggestions import nearest
from tweedie_inverse.app.catalogue.values import Kind, Stored, Unknown
from tweedie_inverse.operators import NoiseModel


class Parameter(NamedTuple):
    """A number of a noise model, in units of y unless the help says otherwise."""

    name: str
    kind: Kind
    help: str
    is_needed: bool = True


class Noise(NamedTuple):
    """One row: what it means, the names of `ops` it makes, and its parameters in order.

    With `takes_ranges` a parameter may be ``LOW..HIGH``, for `make` to draw.
    """

    summary: str
    makes: tuple[str, ...]
    make: Callable[..., NoiseModel | str]
    parameters: tuple[Parameter, ...]
    takes_ranges: bool = False


def _std(text: str) -> float | Stored:
    try:
        return values.number(above=0).read(text)
    except ValueError:
        if values.UNKNOWN_MARK in text or not _may_be_file(text):
            raise
        return values.stored(text)


def _may_be_file(text: str) -> bool:
    return "." in text.rsplit("/", 1)[-1] and not text.replace(".", "").replace("-", "").isdigit()


def _gaussian(std: Any) -> NoiseModel:
    return ops.GaussianNoise(std.tensor() if isinstance(std, Stored) else std)


def _estimate(range: Unknown | None = None) -> NoiseModel | str:
    return "estimate" if range is None else ops.GaussianNoise.unknown((range.low, range.high))


def _poisson(gain: float | Unknown = 1.0) -> NoiseModel:
    if isinstance(gain, Unknown):
        return ops.PoissonNoise.unknown((gain.low, gain.high))
    return ops.PoissonNoise(gain)


def _poisson_gaussian(gain: float | Unknown, std: float | Unknown) -> NoiseModel:
    if isinstance(gain, Unknown) or isinstance(std, Unknown):
        numbers = ((n.low, n.high) if isinstance(n, Unknown) else n for n in (gain, std))
        return ops.PoissonGaussianNoise.unknown(*numbers)
    return ops.PoissonGaussianNoise(gain, std)


def _range(text: str) -> Unknown:
    found = values.number(above=0).read(text)
    if not isinstance(found, Unknown):
        raise ValueError(f"needs LOW..HIGH, got {text!r}")
    return found


_POSITIVE = values.number(above=0)
_STD = Parameter("std", _POSITIVE, "standard deviation of the read-out noise")

NOISES: dict[str, Noise] = {
    "gaussian": Noise(
        "white noise; a number alone is its standard deviation", ("GaussianNoise",), _gaussian,
        (Parameter("std", Kind("STD|FILE", _std, is_file=True), "standard deviation, or a file "
                   "with that of every entry"),),
    ),
    "estimate": Noise(
        "white noise of unknown level, drawn with each sample", ("UnknownGaussianNoise",),
        _estimate,
        (Parameter("range", Kind("LOW..HIGH", _range), "of the standard deviation; default "
                   "follows from y", is_needed=False),),
        takes_ranges=True,
    ),
    "poisson": Noise(
        "counts; LOW..HIGH draws a number with each sample",
        ("PoissonNoise", "UnknownCountingNoise"), _poisson,
        (Parameter("gain", _POSITIVE, "units of y that one count makes; default 1",
                   is_needed=False),),
        takes_ranges=True,
    ),
    "poisson-gaussian": Noise(
        "counts, then read-out noise; LOW..HIGH draws a number with each sample",
        ("PoissonGaussianNoise", "UnknownCountingNoise"), _poisson_gaussian,
        (Parameter("gain", _POSITIVE, "units of y that one count makes"), _STD),
        takes_ranges=True,
    ),
    "digitized": Noise(
        "white noise, then rounding to steps and cutting at the ends of a range",
        ("DigitizedNoise",), ops.DigitizedNoise,
        (Parameter("std", _POSITIVE, "standard deviation before rounding"),
         Parameter("step", values.number(least=0), "one digital unit; 0 for no rounding"),
         Parameter("low", values.number(), "end of the range", is_needed=False),
         Parameter("high", values.number(), "end of the range", is_needed=False)),
    ),
}  # fmt: skip


class Settled(NamedTuple):
    """A noise model and its parameters as texts by name, checked."""

    name: str
    texts: Mapping[str, str]
    values: Mapping[str, Any]

    def model(self) -> NoiseModel | str:
        """The noise model, or "estimate"."""
        return NOISES[self.name].make(**self.values)


def settled(text: str) -> Settled:
    """What ``--noise TEXT`` says: a number, or NAME, NAME:VALUE,... or NAME:PARAMETER=VALUE,....

    Raises:
        ValueError: no such noise, a parameter that is missing, wrong or not one of it.
    """
    if _is_number(text) or (":" not in text and text not in NOISES and _may_be_file(text)):
        name, rest = "gaussian", text
    else:
        name, _, rest = text.partition(":")
    if name not in NOISES:
        raise ValueError(
            f"--noise {text}: needs a standard deviation in units of y, or one of "
            f"{', '.join(NOISES)}{nearest(name, NOISES)}"
        )
    row, texts = NOISES[name], {}
    names = [parameter.name for parameter in row.parameters]
    parts = rest.split(",") if rest else []
    for number, part in enumerate(parts):
        key, equals, value = part.partition("=")
        if not equals:
            if number >= len(names):
                raise ValueError(f"--noise {text}: {name} takes {', '.join(names)} and no more")
            key, value = names[number], part
        if key not in names:
            raise ValueError(f"--noise {text}: {name} takes {', '.join(names)}, not {key}")
        texts[key] = value
    return Settled(name, texts, _checked(f"--noise {text}", row, texts))


def text_of(parameters: Mapping[str, Any]) -> str:
    """The text of ``--noise`` for the table [noise] of a problem file.

    Raises:
        ValueError: an unknown model or parameter.
    """
    rest = {str(name): str(value) for name, value in parameters.items()}
    name = rest.pop("model", "gaussian")
    if name not in NOISES:
        raise ValueError(f"[noise] model: needs one of {', '.join(NOISES)}{nearest(name, NOISES)}")
    names = [parameter.name for parameter in NOISES[name].parameters]
    for key in rest:
        if key not in names:
            raise ValueError(
                f"[noise] {key}: {name} takes model, {', '.join(names)}{nearest(key, names)}"
            )
    return name + (":" if rest else "") + ",".join(f"{key}={rest[key]}" for key in rest)


def _checked(where: str, row: Noise, texts: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for parameter in row.parameters:
        if parameter.name in texts:
            try:
                value = parameter.kind.read(texts[parameter.name])
            except ValueError as error:
                raise ValueError(f"{where}: {parameter.name} {error}") from None
            if isinstance(value, Unknown) and not row.takes_ranges:
                raise ValueError(
                    f"{where}: {parameter.name} must be known; a range is for estimate and counts"
                )
            found[parameter.name] = value
        elif parameter.is_needed:
            raise ValueError(f"{where}: needs {parameter.name}, the {parameter.help}")
    return found


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) or True
    except ValueError:
        return False

"""An instrument by name, as a user asked for it: checked first, made for an image and its data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tweedie_inverse import operators as ops
from tweedie_inverse.app.catalogue.instruments import INSTRUMENTS, Instrument, kernel_size
from tweedie_inverse.app.catalogue.options import OPTIONS, SIZE
from tweedie_inverse.app.catalogue.suggestions import nearest
from tweedie_inverse.app.catalogue.values import Stored, Unknown
from tweedie_inverse.operators import LinearOperator, NoiseModel, Operator


@dataclass(frozen=True)
class Asked:
    """An instrument and the values of its options.

    Attributes:
        name: in `INSTRUMENTS`.
        values: of its options by keyword, those that are given.
        unknown: the ranges among them.
        size: height and width of the image, where they are given.
        noise: its noise model; None where it is not known yet.
    """

    name: str
    values: Mapping[str, Any]
    unknown: Mapping[str, Unknown]
    size: tuple[int, int] | None
    noise: NoiseModel | None

    @property
    def instrument(self) -> Instrument:
        return INSTRUMENTS[self.name]

    @property
    def files(self) -> dict[str, Path]:
        """The files that options name, by option."""
        return {
            f"--{name.replace('_', '-')}": value.path
            for name, value in self.values.items()
            if isinstance(value, Stored)
        }

    def made(
        self, prior_shape: Sequence[int], measurement: Sequence[int] | None = None
    ) -> Operator:
        """The operator for images of a prior, seen in a measurement of this shape.

        Args:
            prior_shape: ``(channels, height, width)``, or that of vectors for a matrix.
            measurement: its shape, with or without a batch axis; None where there is none yet.

        Raises:
            ValueError: what the shapes leave open is not given, or does not fit them.
        """
        told = {} if measurement is None else self.instrument.of_measurement(tuple(measurement))
        values = {**told, **self.values}
        for name in ("angles", "measurements"):
            if name in self.instrument.options and name not in values:
                raise ValueError(f"--operator {self.name}: needs --{name}")
        shape = self._image(prior_shape, measurement)
        try:
            operator = self._operator(shape, values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"--operator {self.name}: {error}") from error
        if self.noise is not None:
            self.noise.refuse_shape(f"--operator {self.name}", operator.range_shape)
            operator.noise = self.noise
        return operator

    def _operator(self, shape: Any, values: Mapping[str, Any]) -> Operator:
        make = self.instrument.make
        if not self.unknown:
            return make(shape, values)
        # A kernel has the same shape whatever its width: that of the largest.
        if "kernel-size" in self.instrument.options and "padding" in self.instrument.options:
            highest = {**values, **{name: one.high for name, one in self.unknown.items()}}
            values = {**values, "kernel_size": kernel_size(highest)}
            values = {name: value for name, value in values.items() if value is not None}

        def of(**numbers: float) -> LinearOperator:
            operator = make(shape, {**values, **numbers})
            if not isinstance(operator, LinearOperator):
                raise ValueError("numbers of this instrument cannot be unknown; it is not linear")
            return operator

        ranges: dict[str, Any] = {name: (one.low, one.high) for name, one in self.unknown.items()}
        return ops.parametric(of, **ranges)

    def _image(self, prior_shape: Sequence[int], measurement: Sequence[int] | None) -> Any:
        """The shape of the image."""
        shape = tuple(prior_shape)
        if len(shape) != 3:
            if self.name != "matrix" or self.size is not None:
                raise ValueError(
                    f"--operator {self.name}: the prior is for arrays of shape {shape}, and this "
                    "instrument sees images (channels, height, width)"
                )
            return shape
        if self.size is not None:
            return (shape[0], *self.size)
        if measurement is None or len(measurement) < 2:
            return shape
        sides = (int(measurement[-2]), int(measurement[-1]))
        highest = {**self.values, **{name: one.high for name, one in self.unknown.items()}}
        return (shape[0], *(self.instrument.sides(sides, highest) or shape[1:]))


def asked_for(name: str, texts: Mapping[str, str | None], noise: NoiseModel | None) -> Asked:
    """The instrument `name` with options as texts, by name; None where one is not given.

    Raises:
        ValueError: no such instrument, an option that it does not take or that is wrong, one that
            is missing, or two of which only one can be.
    """
    if name not in INSTRUMENTS:
        raise ValueError(
            f"--operator {name}: needs FILE.py:NAME, with a file that exists, or one of "
            f"{', '.join(INSTRUMENTS)}{nearest(name, INSTRUMENTS)}"
        )
    instrument = INSTRUMENTS[name]
    given = {option: text for option, text in texts.items() if text is not None}
    size = given.pop(SIZE.name, None)
    _refuse_strangers(name, instrument, given)
    _refuse_gaps(name, instrument, given)
    values = {OPTIONS[option].keyword: read(option, text) for option, text in given.items()}
    unknown = {key: value for key, value in values.items() if isinstance(value, Unknown)}
    return Asked(name, values, unknown, None if size is None else read(SIZE.name, size), noise)


def read(option: str, text: str) -> Any:
    """The value of an option.

    Raises:
        ValueError: it is none, which the message says with the option's name.
    """
    row = SIZE if option == SIZE.name else OPTIONS[option]
    try:
        value = row.kind.read(text)
    except ValueError as error:
        raise ValueError(f"--{option}: {error}") from None
    if isinstance(value, Unknown) and not row.can_be_unknown:
        raise ValueError(f"--{option} {text}: cannot be unknown; give a number")
    return value


def _refuse_strangers(name: str, instrument: Instrument, given: Mapping[str, str]) -> None:
    for option in given:
        if option not in instrument.options:
            of = [other for other, row in INSTRUMENTS.items() if option in row.options]
            takes = ", ".join(f"--{one}" for one in instrument.options) or "no options"
            raise ValueError(
                f"--{option}: is an option of --operator {' and '.join(of)}; {name} takes {takes}"
            )


def _refuse_gaps(name: str, instrument: Instrument, given: Mapping[str, str]) -> None:
    for group in instrument.needs:
        found = [option for option in group if option in given]
        dashed = [f"--{option}" for option in group]
        if not found:
            one_of = "one of " if len(group) > 1 else ""
            raise ValueError(f"--operator {name}: needs {one_of}{', '.join(dashed)}")
        if len(found) > 1:
            both = " and ".join(f"--{option}" for option in found)
            raise ValueError(f"--operator {name}: takes one of {', '.join(dashed)}, not {both}")
    for option, others in instrument.only_with.items():
        if option in given and not any(other in given for other in others):
            with_ = " or ".join(f"--{other}" for other in others)
            raise ValueError(f"--{option}: means something only with {with_}")
    for option, others in instrument.then_needs.items():
        missing = [f"--{other}" for other in others if option in given and other not in given]
        if missing:
            raise ValueError(f"--{option}: needs {', '.join(missing)} beside it")

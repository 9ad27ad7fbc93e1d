"""Kinds of an operator's numbers, by name: geometric ones, and those that the image can follow."""

from collections.abc import Collection

from tweedie_inverse.conditional.first_guess import followed_numbers, geometric_numbers
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.pilot import is_sought

Names = tuple[str, ...]


def geometric(given: Names | None, problem: Problem, instrument: Instrument, prior: Prior) -> Names:
    """Names of the geometric numbers, given or found."""
    if given is not None:
        return _known("geometric", given, instrument)
    if not is_sought(instrument, prior):
        return ()
    return _named(geometric_numbers(problem, *prior.moments(), instrument.start()), instrument)


def followed(
    given: Names | None, problem: Problem, instrument: Instrument, prior: Prior, among: Names
) -> Names:
    """Names of the numbers that the image can follow, given or found."""
    if given is not None:
        return _known("followed", given, instrument)
    if prior.error_is_exact or not is_sought(instrument, prior):
        return ()  # the exact joint law needs no such care
    start, places = instrument.start(), places_of(among, instrument)
    return _named(followed_numbers(problem, *prior.moments(), start, places), instrument)


def places_of(names: Names | None, instrument: Instrument) -> list[int]:
    """Which of the coordinates these are."""
    all_names = _all(instrument)
    return [instrument.levels + all_names.index(name) for name in names or ()]


def _named(places: Collection[int], instrument: Instrument) -> Names:
    names = _all(instrument)
    return tuple(names[which - instrument.levels] for which in sorted(places))


def _known(setting: str, given: Names, instrument: Instrument) -> Names:
    """Names that were given, if they are those of unknowns."""
    for name in set(given) - set(_all(instrument)):
        raise ValueError(
            f"UnknownInstrument({setting}={given}): {name!r} is no unknown of "
            f"{instrument.operator!r}"
        )
    return tuple(given)


def _all(instrument: Instrument) -> list[str]:
    return list(getattr(instrument.operator, "unknowns", ()))

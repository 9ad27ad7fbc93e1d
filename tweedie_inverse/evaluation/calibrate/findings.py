"""Ranks in words: which statistics are off, and which way."""

from collections.abc import Sequence

from torch import Tensor

from tweedie_inverse.evaluation.calibrate.families import Family, slices
from tweedie_inverse.evaluation.calibrate.relative import DISTANCES, NEAREST

# Beyond this many standard deviations a direction is worth a word.
_CLEAR = 2.5


def findings(
    sums: Tensor,
    families: Sequence[Family],
    p_values: dict[str, float],
    level: float,
    *,
    failed: bool,
) -> tuple[str, ...]:
    """One line for each family that is off by itself, the clearest first.

    Args:
        sums: ``(orders, statistics)``, of the truths.
        p_values: by family.
        level: at which a family is off, shared among them (Holm's method).
        failed: whether all of them together are off; the clearest family is then named at least.
    """
    found = []
    pairs = zip(families, slices(families), strict=True)
    ordered = sorted(
        pairs, key=lambda pair: (p_values[pair[0].name], -float(sums[:2, pair[1]].abs().max()))
    )
    for step, (family, place) in enumerate(ordered):
        p = p_values[family.name]
        if p > level / (len(families) - step) and not (failed and step == 0):
            break
        found.append(f"{family.name} (p = {p:.2g}): {_words(family, sums[:, place])}")
    return tuple(found)


def _words(family: Family, sums: Tensor) -> str:
    """Which way the statistics of a family are off."""
    shift, spread = sums[0].double(), sums[1].double()
    if family.name == NEAREST and float(shift[0]) > 0:
        return (
            "truths lie further from every sample than these from each other, as if a part of "
            "the posterior were missing"
        )
    if not family.alike:
        return (
            "; ".join(
                said
                for name, a, b in zip(family.columns, shift.tolist(), spread.tolist(), strict=True)
                if (said := _one(name, a, b))
            )
            or "the ranks are not uniform"
        )
    root = len(shift) ** 0.5
    said = _one("they", float(shift.sum()) / root, float(spread.sum()) / root)
    place = int(shift.abs().argmax())
    if not said and abs(float(shift[place])) > _CLEAR:
        said = _one(family.columns[place], float(shift[place]), 0.0)
    return said or "the ranks are not uniform"


def _one(name: str, shift: float, spread: float) -> str:
    """The larger one of the two, if it is clear."""
    if max(abs(shift), abs(spread)) < _CLEAR:
        return ""
    if abs(shift) >= abs(spread):
        if name in (*DISTANCES, NEAREST):
            return f"samples spread too {'little' if shift > 0 else 'much'} ({name})"
        if name == "log-likelihood":
            worse = (
                "fit y worse than the truth does"
                if shift > 0
                else ("fit y better than the truth does")
            )
            return f"samples {worse}"
        subject = "samples are" if name == "they" else f"{name} of the samples is"
        return f"{subject} too {'low' if shift > 0 else 'high'}"
    subject = "samples spread" if name == "they" else f"{name} of the samples spreads"
    return f"{subject} too {'little' if spread > 0 else 'much'}"

"""A regression gate: does any method do worse than before, by more than is accepted and by chance?

Each row is one method on one task.  That its loss grew by more than the margin is tested one-sided
on the paired images, at a level that holds for all rows together (`paired.holm`).  What the images
do not exclude is said as well, because few of them let much pass.
"""

import math

from tweedie_inverse.benchmarks.harness.comparison import LEVEL, Change, Comparison, Margin


def gate(found: Comparison) -> tuple[bool, list[str]]:
    """Whether nothing is significantly worse than the margin allows, and why.

    Raises:
        ValueError: the problems differ, or some have too few images to be judged.
    """
    if found.only_old or found.only_new:
        sides = (("OLD", found.only_old), ("NEW", found.only_new))
        lines = [f"only in {side}: {line}" for side, missing in sides for line in missing]
        more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
        raise ValueError(f"gate: the problems differ: {'; '.join(lines[:3])}{more}")
    few = [row for row in found.changes if not row.failed and row.change.pairs < 2]
    if few:
        one = few[0].key
        raise ValueError(
            f"gate: {one.method} on {one.suite}: {one.task} has one image, which tells no chance "
            "from change; run two images or more"
        )
    worse = [row for row in found.changes if row.is_worse]
    lines = [_charge(row, found) for row in worse]
    lines.append(_not_excluded(found))
    return not worse, lines


def _charge(row: Change, found: Comparison) -> str:
    where = f"{row.key.suite}: {row.key.task}: {row.key.method}"
    if row.failed:
        images = ", ".join(map(str, row.failed))
        return f"{where}: failed on images {images}, which it solved before"
    digits = found.metric.digits
    return (
        f"{where}: {found.metric.head} {row.old:.{digits}f} became {row.new:.{digits}f}, worse by "
        f"more than {found.margin} (p = {row.raised_worse:.2g})"
    )


def _not_excluded(found: Comparison) -> str:
    """What a passed gate leaves open: the largest deterioration that the images do not exclude."""
    share = LEVEL / len(found.changes)
    judged = [row for row in found.changes if row.change.pairs > 1]
    if not judged:
        return "nothing else could be judged"
    open_ends = [
        (_beyond(row, share, found.margin), row) for row in judged if not math.isnan(row.worse.mean)
    ]
    most, row = max(open_ends, key=lambda pair: pair[0])
    amount = f"{100 * most:.1f} %" if found.margin.is_share else f"{most:.3g}"
    return (
        f"with {100 * (1 - LEVEL):g} % confidence no row is worse by more than {amount} (widest: "
        f"{row.key.suite}: {row.key.task}: {row.key.method}, {row.change.pairs} images)"
    )


def _beyond(row: Change, level: float, margin: Margin) -> float:
    """Upper end of what the loss may have grown by, as the margin is given."""
    worst = row.worse.upper(level)
    if not margin.is_share:
        return max(0.0, worst + margin.value)
    return max(0.0, worst / abs(row.old) + margin.value) if row.old else math.inf


def margin_of(text: str) -> Margin:
    """``2%`` of the old value, or an absolute number in units of the metric.

    Raises:
        ValueError: neither.
    """
    number = text.strip()
    is_share = number.endswith("%")
    try:
        value = float(number.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"--worse-than {text}: needs a number of 0 or more, such as 2% or 0.001")
    return Margin(value / 100 if is_share else value, is_share)

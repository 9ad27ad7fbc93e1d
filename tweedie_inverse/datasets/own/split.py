"""Which files are held out: whole groups, by their names, never by crop."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from tweedie_inverse.datasets.own.facts import Facts

# Held-out images, or crops of larger ones that do not overlap, without which nothing is measured.
LEAST = 16


class Split(NamedTuple):
    """Numbers of files."""

    trained: list[int]
    held_out: list[int]


def split(facts: Sequence[Facts], crops: Sequence[int], share: float, seed: int) -> Split:
    """Hold out `share` of the images and at least 16, or fewer larger ones that hold 16 crops.

    Args:
        facts: of the files.
        crops: how many crops that do not overlap each file holds, 0 for one that is not used.
        share: of the images.
        seed: another one holds out others.

    Raises:
        ValueError: there are too few images to hold any out.
    """
    groups: dict[str, list[int]] = {}
    for number, one in enumerate(facts):
        if crops[number]:
            groups.setdefault(one.group, []).append(number)
    order = sorted(groups, key=lambda group: _rank(group, seed))
    images = {group: sum(len(facts[n].used) for n in groups[group]) for group in groups}
    total, room = sum(images.values()), sum(crops)
    chosen, held, held_crops = [], 0, 0
    for group in order:
        if held >= share * total and (held >= LEAST or held_crops >= LEAST):
            break
        chosen.append(group)
        held += images[group]
        held_crops += sum(crops[number] for number in groups[group])
    if len(order) < 2 or 2 * len(chosen) > len(order) or held_crops < LEAST:
        kind = "image" if total == len(order) else "volume or group"
        raise ValueError(
            f"train: {len(order)} {kind}{'s' * (len(order) != 1)} with room for {room} crops that "
            f"do not overlap {'is' if len(order) == 1 else 'are'} too few: {share:.0%} and at "
            f"least {LEAST} crops are held out, by whole {kind}s and no more than half of them. "
            "Give more images, or a smaller --size (size=)"
        )
    held_out = sorted(number for group in chosen for number in groups[group])
    trained = sorted(number for group in order if group not in chosen for number in groups[group])
    return Split(trained, held_out)


def _rank(group: str, seed: int) -> str:
    """A place that a group keeps when others come or go."""
    return hashlib.sha256(f"{seed} {group}".encode()).hexdigest()

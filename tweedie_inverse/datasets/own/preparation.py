"""Where images are from, what is done to them, and which of them cannot be made one."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from tweedie_inverse.datasets.own.facts import Facts

# Files that are left out are named up to so many.
_NAMED = 5


class Source(Protocol):
    """Where images are from: facts of all files, and their numbers on demand."""

    name: str
    facts: list[Facts]

    def load(self, number: int) -> Tensor: ...


class Preparation(NamedTuple):
    """What is done to images before they are trained on.

    Attributes:
        size: of the square crops, in pixels.
        resize: what the shorter side of every image becomes first; 0 leaves images as they are.
        colours: "as-found", "grey" or "colour".
        value_range: the values that become 0 and 1; None finds them.
        flips, rotations: left and right at random; by random quarters of a turn.
        held_out_share: of the images.
        seed: of what is held out, of the order and of the crops.
    """

    size: int = 64
    resize: int = 0
    colours: str = "as-found"
    value_range: tuple[float, float] | None = None
    flips: bool = False
    rotations: bool = False
    held_out_share: float = 0.1
    seed: int = 0


def channels_of(facts: Sequence[Facts], colours: str) -> int:
    """1 or 3, for all images.

    Raises:
        ValueError: they differ, and none was asked for.
    """
    if colours != "as-found":
        return 3 if colours == "colour" else 1
    grey, colour = (sum(one.channels == channels for one in facts) for channels in (1, 3))
    if grey and colour:
        raise ValueError(
            f"train: {grey} files are grey and {colour} in colour. Say --colours grey, which takes "
            "the brightness of the latter, or --colours colour, which makes three equal channels "
            "of the former (colours=), or train on one kind"
        )
    return 3 if colour else 1


def too_small(facts: Sequence[Facts], preparation: Preparation) -> str:
    largest = max(facts, key=lambda one: min(one.height, one.width))
    size, resize = preparation.size, preparation.resize
    if resize:
        return (
            f"train(resize={resize}, size={size}): crops of {size} need a resize of {size} or more"
        )
    return (
        f"train(size={size}): all images are smaller than the crops, the largest is "
        f"{largest.height}x{largest.width} ({largest.name}). Give --resize {size} (resize={size}), "
        f"which scales the shorter side to {size} pixels, or a smaller --size"
    )


def listed(skipped: Sequence[tuple[str, str]]) -> str:
    """The first of them with their reasons, and how many."""
    shown = "; ".join(f"{name}: {reason}" for name, reason in skipped[:_NAMED])
    more = len(skipped) - _NAMED
    return f"{len(skipped)} files ({shown}{f'; and {more} more' if more > 0 else ''})"

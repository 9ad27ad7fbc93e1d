"""What a calibration has found, as numbers that a prior keeps: how wide its error bars must be.

Plain data: how it is measured is the affair of `evaluation.calibrate`, and how intervals are made
of it that of `solving.recalibrated`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Scores are counted up to these; the next higher one is taken, half a percent apart.
GRID = torch.logspace(-2, 2, 1843, dtype=torch.float64)

_NUMBERS = ("below", "scores", "class_below", "class_counts")
# Names of `Scaling.made_with`.
MADE_WITH = ("operator", "noise", "walk", "steps", "num_samples")


@dataclass(frozen=True, eq=False, repr=False)
class Scaling:
    """Scores ``|truth - mean| / std`` of the truths of a calibration, which scale intervals.

    Attributes:
        made_with: what they were measured with, in words with checksums: operator, noise, walk,
            steps, num_samples.
        prior: name and checksum of the prior, as it is without `NetworkPrior.faster`.
        shape: of an image.
        truths: where they come from, in words.
        count: how many.
        below: ``(grid,)``, share of the pixels of all truths with scores up to `GRID`.
        scores: ``(truths, statistics)``, of each statistic.
        names: of the statistics, with the first and the last of their columns.
        classes: identity of the classes of pixels, empty where there are none.
        class_below: ``(classes, grid)``, as `below` of the pixels of each class.
        class_counts: ``(classes,)``, in how many truths each class was.
    """

    made_with: Mapping[str, str]
    prior: tuple[str, str]
    shape: tuple[int, ...]
    truths: str
    count: int
    below: Tensor
    scores: Tensor
    names: Mapping[str, tuple[int, int]]
    classes: str
    class_below: Tensor
    class_counts: Tensor

    @property
    def key(self) -> str:
        """Operator, noise, walk, steps and samples in one line: its name among others."""
        made = self.made_with
        return (
            f"{made['operator']}; {made['noise']}; {made['walk']}, {made['steps']} steps, "
            f"{made['num_samples']} samples"
        )

    def __repr__(self) -> str:
        return f"Scaling({self.count} truths, {self.prior[0]}, {self.key})"

    def tensors(self) -> dict[str, Tensor]:
        """The numbers, for a file."""
        return {name: getattr(self, name) for name in _NUMBERS}

    def notes(self) -> dict[str, Any]:
        """All else, for the file's header, as JSON has it."""
        return {name: value for name, value in vars(self).items() if name not in _NUMBERS}

    @staticmethod
    def of_file(tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> "Scaling":
        """From what `tensors` and `notes` gave.

        Raises:
            ValueError: something is missing, or of another shape.
        """
        try:
            found = Scaling(
                made_with={name: str(notes["made_with"][name]) for name in MADE_WITH},
                prior=(str(notes["prior"][0]), str(notes["prior"][1])),
                shape=tuple(map(int, notes["shape"])),
                truths=str(notes["truths"]),
                count=int(notes["count"]),
                names={name: (int(a), int(b)) for name, (a, b) in notes["names"].items()},
                classes=str(notes["classes"]),
                **{name: tensors[name] for name in _NUMBERS},
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError(f"the calibration in this file is damaged ({error!r})") from None
        classes, fits = len(found.class_counts), found.below.shape == GRID.shape
        fits &= found.class_below.shape == (classes, len(GRID))
        fits &= found.scores.ndim == 2 and len(found.scores) == found.count
        if not fits:
            raise ValueError("the calibration in this file is damaged (numbers of other shapes)")
        return found


class Scaled(ABC):
    """Whatever can say how wide error bars must be, first of all a `Calibration`."""

    @property
    @abstractmethod
    def scaling(self) -> Scaling:
        """Its numbers."""

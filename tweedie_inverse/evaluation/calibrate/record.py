"""What is kept of one truth and its samples: numbers to rank and scores, not the images."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.evaluation.calibrate.conformal import below, scores_of
from tweedie_inverse.evaluation.calibrate.faults import Planted, plant
from tweedie_inverse.evaluation.calibrate.quantities import Quantities
from tweedie_inverse.evaluation.calibrate.relative import relative
from tweedie_inverse.evaluation.scores import crps_of, energy_score_of
from tweedie_inverse.runtime.atomic import replace
from tweedie_inverse.solving.pixel_classes import Classes, rows_of

# Images of more numbers are not kept.
KEPT = 2**12


@dataclass(frozen=True)
class Record:
    """One truth and its samples, or several, with a leading axis then.

    Attributes:
        values: ``(S + 1, statistics)``, of the truth first.
        places: ``(*shape)``, share of the samples below the truth at every pixel, ties halved.
        spread, error: ``(*shape)``, sample variance, and squared error of the samples' mean.
        below: ``(grid,)``, share of the pixels with scores up to `scaling.GRID`; with classes
            ``(1 + classes.MOST, grid)``, of all pixels and of each class, NaN where it has none.
        halves: ``(2, *shape)``, sample variance of either half of the samples.
        crps, energy_score: scalars, fair estimates, in data units.
        fits: 1 where the samples were consistent with y, 0 where not, -1 if nobody judged.
        evaluations: of the network, a sample; NaN where not counted.
        images: ``(S + 1, n)``, the truth first; n is 0 where they have more than `KEPT` numbers.
        y: their measurement, likewise.
        planted: samples under a fault, by its name.
    """

    values: Tensor
    places: Tensor
    spread: Tensor
    error: Tensor
    below: Tensor
    halves: Tensor
    crps: Tensor
    energy_score: Tensor
    fits: Tensor
    evaluations: Tensor
    images: Tensor
    y: Tensor
    planted: dict[str, Planted]

    @staticmethod
    def of(
        truth: Tensor,
        samples: Tensor,
        y: Tensor,
        quantities: Quantities,
        key: tuple[int, int],
        *,
        fits: int = -1,
        evaluations: float = float("nan"),
        plants: bool = True,
        classes: Classes | None = None,
    ) -> "Record":
        """Measure truth ``(*shape)`` and samples ``(S, *shape)``; `plants` faults or does not."""
        x = torch.cat([truth[None].to(samples), samples])
        own, flat = quantities(x, y), x.double().cpu().flatten(1)
        everyone = torch.ones(len(x), dtype=torch.bool)
        truth, drawn = flat[0].reshape(truth.shape), flat[1:].reshape(samples.shape)
        places = (drawn < truth).double().mean(0) + (drawn == truth).double().mean(0) / 2
        return Record(
            torch.cat([own, relative(flat, flat, everyone, key)], dim=1),
            places.float(),
            drawn.var(0).float(),
            (drawn.mean(0) - truth).square().float(),
            _below(scores_of(truth, drawn), None if classes is None else classes.of(samples)),
            torch.stack([half.var(0) for half in drawn.tensor_split(2)]).float(),
            crps_of(drawn, truth).mean(),
            energy_score_of(flat[1:], flat[0]),
            torch.tensor(fits),
            torch.tensor(evaluations, dtype=torch.float64),
            *_kept(x, y),
            plant(samples, y, own[1:], quantities, key) if plants else {},
        )

    def tensors(self) -> dict[str, Tensor]:
        """By name; those of planted faults begin with theirs."""
        found: dict[str, Tensor] = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "planted"
        }
        for name, planted in self.planted.items():
            found |= {f"{name}/{key}": value for key, value in planted._asdict().items()}
        return found

    @staticmethod
    def of_tensors(tensors: dict[str, Tensor]) -> "Record":
        """From what `tensors` gave."""
        plain: dict[str, Any] = {key: value for key, value in tensors.items() if "/" not in key}
        faults = list(dict.fromkeys(key.rpartition("/")[0] for key in tensors if "/" in key))
        planted = {
            fault: Planted(*(tensors[f"{fault}/{field}"] for field in Planted._fields))
            for fault in faults
        }
        return Record(**plain, planted=planted)

    @staticmethod
    def stacked(records: Sequence["Record"]) -> "Record":
        """All truths in one, with a leading axis."""
        tables = [record.tensors() for record in records]
        return Record.of_tensors(
            {name: torch.stack([table[name] for table in tables]) for name in tables[0]}
        )

    def save(self, path: Path) -> None:
        from safetensors.torch import save

        # Faults share what is the same for them, and a file does not.
        replace(path, save({name: t.clone().contiguous() for name, t in self.tensors().items()}))

    @staticmethod
    def load(path: Path) -> "Record":
        """Raises a `ValueError` where the file is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return Record.of_tensors(load(path.read_bytes()))
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged; delete it, and it is made again") from error


def is_kept(image: Tensor, y: Tensor) -> bool:
    """Whether both are small enough to be kept."""
    return max(image.numel(), y.numel()) <= KEPT


def _kept(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images and measurement for the kernel Stein test, which looks at all of them together."""
    if is_kept(x[0], y):
        return x.flatten(1).cpu(), y.cpu()
    return x.flatten(1)[:, :0].cpu(), y.flatten()[:0].cpu()


def _below(scores: Tensor, labels: Tensor | None) -> Tensor:
    """`Record.below` of one truth."""
    if labels is None:
        return below(scores)
    return torch.stack([below(scores[row]) for row in rows_of(labels)])

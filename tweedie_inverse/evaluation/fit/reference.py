"""`fit_reference`: measurements that prior, operator and noise do make, to hold others against."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import flag
from tweedie_inverse.evaluation.calibrate.sources import seed_of
from tweedie_inverse.evaluation.fit.judge import judge
from tweedie_inverse.evaluation.fit.plan import SAMPLES, STEPS, Plan, prepare_plan
from tweedie_inverse.evaluation.fit.report import FitReport, checked_level, report_of
from tweedie_inverse.evaluation.fit.statistics import FAMILIES, Named, Statistics
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.named import PriorLike
from tweedie_inverse.runtime import notebook, tensor_file
from tweedie_inverse.runtime.atomic import ready
from tweedie_inverse.solving.validation import check_measurement
from tweedie_inverse.walks.base import Walk

_FORMAT = "tweedie-inverse fit reference 1"


class Columns(NamedTuple):
    """What each statistic is.

    Attributes:
        names, families: of every column.
        slices: of every family the columns of each kind.
    """

    names: tuple[str, ...]
    families: tuple[str, ...]
    slices: tuple[tuple[slice, ...], ...]

    @staticmethod
    def of(named: Sequence[Named]) -> "Columns":
        """In the order of what `Statistics` gives."""
        kinds: dict[str, list[slice]] = {family: [] for family in FAMILIES}
        first = 0
        for one in named:
            kinds[one.family].append(slice(first, first + len(one.names)))
            first += len(one.names)
        names = [name for one in named for name in one.names]
        families = [one.family for one in named for _ in one.names]
        return Columns(tuple(names), tuple(families), tuple(map(tuple, kinds.values())))


class FitReference:
    """References of one operator, prior and walk, for any number of measurements.

    Attributes:
        count: how many there are.
        values: ``(count, statistics)`` float64.
    """

    def __init__(self, plan: Plan, statistics: Statistics, columns: Columns, values: Tensor):
        self._plan, self._statistics, self._columns = plan, statistics, columns
        self.values = values

    def __repr__(self) -> str:
        plan = self._plan
        return (
            f"FitReference({self.count} measurements of {plan.truths.words}; {plan.solving.words}, "
            f"{plan.settings['num_samples']} samples)"
        )

    @property
    def count(self) -> int:
        return len(self.values)

    def check(self, y: Any, *, level: float = 0.05) -> FitReport:
        """Would prior, operator and noise have made this measurement?

        Args:
            y: ``(*range_shape)``, one measurement, as for `solve`.
            level: share of false alarms.

        Raises:
            ValueError: several measurements; a level that so few references cannot show; else as
                `solve`.

        Cost: ``num_samples * (steps + 3)`` network evaluations.
        """
        return self.check_each(one_measurement(y, self._plan.operator), level=level)[0]

    def check_each(self, y: Any, *, level: float = 0.05) -> list[FitReport]:
        """`check` of each of the measurements ``(batch, *range_shape)``, solved together.

        Each is held to the references by itself.  All share them: of many, a share of `level` is an
        alarm on average over references, and it may be twice that with one set of them.
        """
        level = checked_level(level, self.count)
        given, _ = check_measurement(y, self._plan.operator)
        given = given.to(device=self._plan.prior.device, dtype=self._plan.truths.dtype)
        found = []
        for first in range(0, len(given), self._plan.together):
            block = given[first : first + self._plan.together]
            seeds = [
                seed_of("check_fit measurement", self._plan.seed, first + k)
                for k in range(len(block))
            ]
            values = _values_of(self._plan, self._statistics, block, seeds)
            found += [self._judged(row, level) for row in values]
        return found

    def _judged(self, row: Tensor, level: float) -> FitReport:
        found = judge(torch.cat([row[None], self.values]), self._columns.slices)
        plan = self._plan
        return report_of(found, self._columns, level, self.count, plan.truths.words)


def one_measurement(y: Any, operator: Operator) -> Tensor:
    """With a batch axis of one; a `ValueError` where there are several, or it is none."""
    given, _ = check_measurement(y, operator)
    if len(given) != 1:
        raise ValueError(
            f"check_fit: needs one measurement, got {len(given)}; fit_reference(...).check_each(y) "
            "takes several"
        )
    return given


def fit_reference(
    operator: Operator,
    prior: PriorLike,
    *,
    count: int | None = None,
    num_samples: int = SAMPLES,
    images: Any = None,
    method: str | Walk = "auto",
    steps: int | None = STEPS,
    noise: NoiseModel | float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    file: str | Path | None = None,
    progress: bool = False,
) -> FitReference:
    """Make the references of `check_fit`, or read them: they do not depend on any measurement.

    Images are drawn from the prior, measured with the operator and its noise, and solved.

    Args:
        operator, prior, method, noise, batch_size: as for `solve`.
        count: references; 59 by default, or as many as there are images.  The smallest p-value is
            ``1 / (count + 1)``.
        num_samples, steps: of each measurement, fewer than `solve` takes; None is its number.
        images: ``(count, *shape)`` to be measured instead of draws of the prior.  The question is
            then whether a measurement is like those of these images, however well the prior knows
            them.
        seed: fixes everything.
        file: where references are kept, block by block.  Run again to go on, to add to them, or to
            have them at once.
        progress: show a progress bar.

    Raises:
        ValueError, TypeError: anything wrong with the input, before the first walk; fewer than 19
            references; a file of other settings.
        WalkDivergedError: a walk became NaN or infinite.

    Cost: ``count * (50 + num_samples * (steps + 3))`` network evaluations; 50 less where the prior
    has exact draws or `images` are given.
    """
    show = flag("fit_reference", "progress", progress)
    plan = prepare_plan(
        operator,
        prior,
        count=count,
        num_samples=num_samples,
        seed=seed,
        images=images,
        method=method,
        steps=steps,
        noise=noise,
        batch_size=batch_size,
        file=file,
    )
    return made(plan, show)


def made(plan: Plan, show: bool) -> FitReference:
    """The references of a checked call."""
    kept = _kept(plan)
    levels = plan.truths.levels() if kept is None else kept[0]
    statistics = Statistics(plan.operator, plan.noise, plan.prior, levels)
    with _progress_bar(show, plan) as bar:
        return _completed(plan, statistics, None if kept is None else kept[1], bar.update)


@torch.no_grad()
def _completed(
    plan: Plan, statistics: Statistics, values: Tensor | None, tell: Callable[[int], None]
) -> FitReference:
    """All references, those that are missing made block by block."""
    there = 0 if values is None else len(values)
    tell(min(there, plan.count))
    columns = _columns(plan, statistics)
    parts = [] if values is None else [values]
    for first in range(there, plan.count, plan.together):
        numbers = range(first, min(first + plan.together, plan.count))
        truths = plan.truths.draw(numbers)
        seeds = [seed_of("check_fit noise", plan.seed, number) for number in numbers]
        y = torch.stack([plan.measured(x, one) for x, one in zip(truths, seeds, strict=True)])
        walks = [seed_of("check_fit solve", plan.seed, number) for number in numbers]
        parts.append(_values_of(plan, statistics, y, walks))
        if plan.file is not None:
            _keep(plan, statistics.levels, torch.cat(parts))
        tell(len(numbers))
    return FitReference(plan, statistics, columns, torch.cat(parts)[: plan.count])


@torch.no_grad()
def _values_of(plan: Plan, statistics: Statistics, y: Tensor, seeds: list[int]) -> Tensor:
    """The statistics of measurements, ``(batch, statistics)`` on the CPU."""
    named = statistics(y, plan.solving(y, seeds).samples)
    return torch.cat([one.values.double().cpu() for one in named], dim=1)


@torch.no_grad()
def _columns(plan: Plan, statistics: Statistics) -> Columns:
    """Names of the statistics; they do not depend on the numbers, and are found with zeros."""
    like = torch.zeros((), dtype=plan.truths.dtype, device=plan.prior.device)
    y = like.expand(1, *plan.operator.range_shape)
    named = statistics(y, like.expand(1, 1, *plan.operator.domain_shape))
    return Columns.of(named)


def _progress_bar(show: bool, plan: Plan):
    """One step a reference."""
    return notebook.progress_bar(
        total=plan.count, disable=not show, unit="reference", desc="check_fit"
    )


# The file.


def _keep(plan: Plan, levels: Sequence[float], values: Tensor) -> None:
    assert plan.file is not None
    tensors = {"values": values, "levels": torch.tensor(levels, dtype=torch.float64)}
    tensor_file.write(plan.file, _FORMAT, tensors, {"settings": dict(plan.settings)})


def _kept(plan: Plan) -> tuple[tuple[float, ...], Tensor] | None:
    """Noise levels and values of the file; None where there is none.

    Raises:
        ValueError: it is no such file, or one of other settings, or cannot be written.
    """
    if plan.file is None:
        return None
    ready(plan.file)
    if not plan.file.exists():
        return None
    tensors, notes = tensor_file.read(
        plan.file, _FORMAT, caller="fit_reference", need="a file of references"
    )
    there, wanted = notes["settings"], json.loads(json.dumps(dict(plan.settings), default=str))
    other = [f"{k}: {there.get(k)} there, {wanted[k]}" for k in wanted if there.get(k) != wanted[k]]
    if other:
        raise ValueError(
            f"fit_reference(file={str(plan.file)!r}): holds references of other settings "
            f"({'; '.join(other)} now). Use the same, or another file"
        )
    return tuple(tensors["levels"].tolist()), tensors["values"]

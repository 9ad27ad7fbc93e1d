"""From the records of all truths to the certificate."""

import torch
from torch import Tensor

from tweedie_inverse.evaluation.calibrate import relative
from tweedie_inverse.evaluation.calibrate.conformal import scores_of
from tweedie_inverse.evaluation.calibrate.curves import (
    coverage_curve,
    expected_coverage,
    rank_band,
)
from tweedie_inverse.evaluation.calibrate.families import Family, slices
from tweedie_inverse.evaluation.calibrate.findings import findings
from tweedie_inverse.evaluation.calibrate.limits import not_tested
from tweedie_inverse.evaluation.calibrate.null import Null
from tweedie_inverse.evaluation.calibrate.plan import Plan
from tweedie_inverse.evaluation.calibrate.power import power
from tweedie_inverse.evaluation.calibrate.ranks import pooled_ranks
from tweedie_inverse.evaluation.calibrate.record import Record
from tweedie_inverse.evaluation.calibrate.result import Calibration
from tweedie_inverse.evaluation.calibrate.stein_gate import stein_test
from tweedie_inverse.evaluation.scores import spread_over_skill_of

_BINS = 12


def judge(plan: Plan, record: Record, level: float) -> Calibration:
    """Ranks, p-values, curves, scores and power of all truths of a plan."""
    families = families_of(plan, record)
    ranks = pooled_ranks(record.values, plan.seed)
    null = Null(ranks, families, plan.seed)
    truths = torch.zeros(1, len(ranks), dtype=torch.long)
    sums = null.sums(ranks, truths)
    judged = null.judge(sums)
    p = float(judged.combined[0])
    p_values = {
        family.name: float(one) for family, one in zip(families, judged.families[0], strict=True)
    }
    places = {family.name: place for family, place in zip(families, slices(families), strict=True)}
    stein = stein_test(plan, record, level)
    seen = power(record, families, level, plan.seed)
    return Calibration(
        p_value=p,
        p_values=p_values,
        level=level,
        findings=findings(sums[0], families, p_values, level, failed=p <= level),
        power={one.fault: one for one in seen},
        scores=_scores(record, ranks[:, 0, places[relative.NEAREST]]),
        coverage=coverage_curve(ranks[:, :, places["pixels"]], null.choices),
        expected_coverage=expected_coverage(
            ranks[:, :, places[relative.RANDOM_POINTS]], null.choices
        ),
        rank_band=rank_band(len(ranks), ranks.shape[1], plan.seed),
        ranks=ranks[:, 0],
        errors=scores_of(record.values[:, 0], record.values[:, 1:].movedim(1, 0)).float(),
        below=record.below.nanmean(0),
        families=families,
        places=record.places.mean(0),
        spread=record.spread.mean(0),
        error=record.error.mean(0),
        groups=_groups(record.halves, record.error),
        count=len(ranks),
        num_samples=plan.num_samples,
        settings=dict(plan.settings),
        inconsistent=int((record.fits == 0).sum()),
        evaluations=float(record.evaluations.mean()),
        truths=plan.source.words,
        stein=stein,
        not_tested=not_tested(plan, stein),
        class_counts=None if plan.classes is None else _having(record.below),
    )


def _having(below: Tensor) -> Tensor:
    """In how many truths each class is, ``(classes,)``."""
    return (~below[:, 1:, 0].isnan()).sum(0)


def families_of(plan: Plan, record: Record) -> tuple[Family, ...]:
    """All families in the order of the record's values."""
    zeros = torch.zeros(2, *plan.quantities.shape)
    sizes = {name: plan.quantities.of_user(name, zeros).shape[1] for name in plan.quantities.own}
    found = (*plan.quantities.families(sizes), *relative.families())
    assert sum(len(family.columns) for family in found) == record.values.shape[2]
    return found


def _scores(record: Record, nearest: Tensor) -> dict[str, float]:
    from scipy.stats import beta

    count = record.values.shape[1] - 1
    apart = int((nearest == count).sum())
    # Of a right sampler 1 truth of S + 1 lies further from its nearest sample than all the others.
    chance = 1 / (count + 1)
    upper = float(beta.ppf(0.95, apart + 1, max(len(nearest) - apart, 1)))
    return {
        "crps": float(record.crps.mean()),
        "energy score": float(record.energy_score.mean()),
        "spread over skill": float(spread_over_skill_of(record.spread, record.error, count)),
        "missing mass": max(0.0, (apart / len(nearest) - chance) / (1 - chance)),
        "missing mass, at most": max(0.0, (upper - chance) / (1 - chance)),
    }


def _groups(halves: Tensor, error: Tensor) -> Tensor:
    """Mean spread and error of values alike in spread, ``(bins, 2)``, as standard deviations.

    One half of the samples says which values are alike and the other how much they spread: sorted
    by itself, a spread of few samples would be high where it is high by chance.
    """
    sorting, counted = halves.unbind(1)
    order = sorting.flatten().argsort()
    pairs = torch.stack([counted.flatten()[order], error.flatten()[order]], dim=1).double()
    parts = pairs.tensor_split(min(_BINS, len(pairs)))
    return torch.stack([part.mean(0) for part in parts]).sqrt()

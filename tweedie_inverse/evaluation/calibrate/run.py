"""`calibrate`: are the error bars of this operator, this prior and this walk right?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tweedie_inverse.boundary.arguments import flag, number
from tweedie_inverse.evaluation.calibrate.judge import judge
from tweedie_inverse.evaluation.calibrate.plan import SAMPLES, Plan, prepare_plan
from tweedie_inverse.evaluation.calibrate.quantities import Statistic
from tweedie_inverse.evaluation.calibrate.result import Calibration
from tweedie_inverse.evaluation.calibrate.samplers import OwnSampler
from tweedie_inverse.evaluation.calibrate.work import gathered, settle, work
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.named import PriorLike
from tweedie_inverse.runtime import notebook
from tweedie_inverse.walks.base import Walk


def calibrate(
    operator: Operator,
    prior: PriorLike,
    *,
    count: int | None = None,
    num_samples: int = SAMPLES,
    statistics: Mapping[str, Statistic] | None = None,
    budget: int | None = None,
    seed: int = 0,
    images: Any = None,
    method: str | Walk = "auto",
    steps: int | None = None,
    noise: NoiseModel | float | None = None,
    sampler: OwnSampler | None = None,
    instrument: Operator | None = None,
    batch_size: int | None = None,
    level: float = 0.05,
    power: bool = True,
    folder: str | Path | None = None,
    classes: Any = None,
    progress: bool = False,
) -> Calibration:
    """Test the error bars of a solver by simulation, and say with which power.

    Truths are drawn from the prior, measured and solved; then every truth is ranked among its
    samples in many statistics.  Under a right sampler the ranks are uniform; one permutation test
    of all of them together gives the verdict, at an exact level.

    Args:
        operator, prior, method, steps, noise, batch_size: as for `solve`, which is tested.
        count: truths; 100 by default, or as many images as there are if they are fewer.
        num_samples: samples of each truth, 5 or more.  For the same cost more truths tell more than
            more samples do.
        statistics: your own, by name: ``(walkers, *shape) -> (walkers,)`` or ``(walkers, n)``;
            added to those that are always there (docs/calibration.md).
        budget: network evaluations in all (samples, where `sampler` is given); truths are left out
            to keep it.
        seed: fixes truths, measurements and samples; each truth has streams of its own.
        images: ``(count, *shape)``, truths of yours (a torch dataset is one, too) instead of draws;
            the test then judges whether
            the prior fits them, too.  None of them should be known to the network.
        sampler: another method instead of `solve`: ``sampler(y, count, seed)`` returns samples
            ``(count, *shape)`` of one measurement ``(*range_shape)``.
        instrument: what really measures, where it is not what the solver is told.
        level: of the verdict: the share of false alarms.
        power: plant the faults; without, the certificate does not say what it would have seen.
        folder: where finished truths are kept; run again to go on, or to add truths.
        classes: of pixels, for `Calibration.recalibrated`, which then has intervals with a promise
            for each: labels ``(*shape)`` or ``(height, width)``, whole numbers from 0 to 15, or a
            function of the samples ``(S, *shape)`` of one measurement that returns such labels.
        progress: show a progress bar.

    Returns:
        A `Calibration`: `.passed`, `.p_value`, `.verdict`, `.plot()`, `.report(path)` and
        `.recalibrated(posterior)`; print it for all findings.

    Raises:
        ValueError, TypeError: anything wrong with the input, before the first truth; fewer than 20
            truths, or a budget that does not pay for them.
        WalkDivergedError: a walk became NaN or infinite.

    Cost: ``count * (num_samples * steps + 100 + 5)`` network evaluations; 100 less a truth where
    the prior has exact draws or `images` are given, and 5 less where the kernel Stein test needs
    no network or is not tried.  For the power a few more applications of the
    operator.

    Examples:
        >>> found = ti.calibrate(operator, prior, count=20, num_samples=5, steps=8, power=False)
        >>> found.passed
        True
    """
    progress = flag("calibrate", "progress", progress)
    level = checked_level(level)
    plan = prepare_plan(
        operator,
        prior,
        count=count,
        num_samples=num_samples,
        statistics=statistics,
        budget=budget,
        seed=seed,
        images=images,
        method=method,
        steps=steps,
        noise=noise,
        sampler=sampler,
        instrument=instrument,
        batch_size=batch_size,
        folder=folder,
        plants=flag("calibrate", "power", power),
        classes=classes,
    )
    if plan.folder is not None:
        settle(plan.folder, plan)
    with progress_bar(progress, plan) as bar:
        found = work(plan, range(plan.count), bar.update)
    return judge(plan, gathered(plan, found), level)


def progress_bar(show: bool, plan: Plan):
    """One step a truth."""
    return notebook.progress_bar(total=plan.count, disable=not show, unit="truth", desc="calibrate")


def checked_level(level: float) -> float:
    """The share of false alarms; raises where it is none."""
    return number("calibrate", "level", level, above=0, high=0.5)

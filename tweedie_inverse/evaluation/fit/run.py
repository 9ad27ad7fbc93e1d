"""`check_fit`: would this prior, with this operator and noise, have made this measurement?"""

from pathlib import Path
from typing import Any

from tweedie_inverse.boundary.arguments import flag
from tweedie_inverse.evaluation.fit.plan import SAMPLES, STEPS, prepare_plan
from tweedie_inverse.evaluation.fit.reference import made, one_measurement
from tweedie_inverse.evaluation.fit.report import FitReport, checked_level
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.named import PriorLike, prior_of
from tweedie_inverse.walks.base import Walk


def check_fit(
    y: Any,
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
    level: float = 0.05,
    progress: bool = False,
) -> FitReport:
    """Raise an alarm for a measurement that prior, operator and noise would not have made.

    A prior-predictive check: measurements of the prior's own images are made and solved as `y` is,
    and `y` is ranked among them by its residuals ``y - A x``, those of the denoiser,
    ``D(x + sigma n, sigma) - x``, its posterior samples and its own numbers, each as a whole, by
    frequency and by place.  For several measurements make the references once, by
    `fit_reference`, whose arguments these are.

    Args:
        y: ``(*range_shape)``, one measurement, as for `solve`.
        level: share of false alarms: that of measurements like the references.
        file: where references are kept; with it, the next measurement costs its own walk only.

    Returns:
        A `FitReport`: `.passed`, `.p_value`, `.p_values` by family, `.worst`; print it.

    Raises:
        ValueError, TypeError: anything wrong with the input, before the first walk; references too
            few for the level.

    Cost: that of `fit_reference`, and as much for `y` as for one reference.

    Examples:
        >>> 0 < ti.check_fit(y, operator, prior).p_value <= 1
        True
    """
    show = flag("check_fit", "progress", progress)
    prior = prior_of("check_fit", prior, like=y)
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
    level = checked_level(level, plan.count)
    one_measurement(y, operator)  # before the references, which take long
    return made(plan, show).check(y, level=level)

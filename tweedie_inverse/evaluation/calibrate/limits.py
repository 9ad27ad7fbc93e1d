"""What a calibration cannot see, in words."""

from tweedie_inverse.evaluation.calibrate.faults import unplanted
from tweedie_inverse.evaluation.calibrate.plan import Plan
from tweedie_inverse.evaluation.calibrate.stein_gate import BLIND, Stein


def not_tested(plan: Plan, stein: Stein) -> tuple[str, ...]:
    """One line for each."""
    found = [
        "whether the prior fits your own images and measurements: truths are " + plan.source.words
        if plan.source.images is None
        else f"the walk by itself: truths are {plan.source.words}",
        "whether the operator and its noise describe your instrument: the measurements are "
        "simulated by them",
        "a single posterior: the test is of all of them on average over truths, and faults that "
        "cancel on average over y leave the ranks uniform in every statistic that does not look at "
        "y",
        "faults that no statistic of the list looks at, such as in fine structure that is in no "
        "region, functional or distance; give your own with statistics=",
        f"a missing mode by the kernel Stein test: {BLIND}"
        if stein.p_value is not None
        else stein.words,
    ]
    if plan.sampler.is_population:
        found.append(
            "dependence between the samples of a population: the test takes those that it draws "
            "from it for independent, and a small population fails it for this alone"
        )
    for name, why in unplanted(plan.quantities.likelihood).items():
        found.append(f"power against {name}: not planted, because {why}")
    return tuple(found)

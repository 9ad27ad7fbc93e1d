"""A checked call of `calibrate`: everything that can be wrong is found before the first truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count as whole_number
from tweedie_inverse.boundary.arguments import function, instance, positive
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import batch_of, dataset_tensor, refuse_type
from tweedie_inverse.boundary.datasets import is_dataset
from tweedie_inverse.evaluation.calibrate.quantities import Likelihood, Quantities, Statistic
from tweedie_inverse.evaluation.calibrate.record import is_kept
from tweedie_inverse.evaluation.calibrate.samplers import (
    Own,
    OwnSampler,
    Sampler,
    Solving,
)
from tweedie_inverse.evaluation.calibrate.sources import Source, measured, seed_of
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.named import PriorLike, prior_of
from tweedie_inverse.runtime.digest import code_of, digest
from tweedie_inverse.solving.origin import checksum, name_of, plain_checksum
from tweedie_inverse.solving.pixel_classes import Classes
from tweedie_inverse.solving.validation import resolve_noise
from tweedie_inverse.walks.base import Walk

# Chosen on exact posteriors, docs/results/calibrate-power.md: truths tell more than samples do.
COUNT, SAMPLES = 100, 15
LEAST_TRUTHS, LEAST_SAMPLES = 20, 5
# Evaluations for a truth that the network's own sampler draws.
TRUTH_STEPS = 100
# Evaluations of a network's score for the kernel Stein test of a truth, at most.
STEIN_EVALUATIONS = 5


@dataclass(frozen=True)
class Plan:
    """What is the same for all truths.

    Attributes:
        instrument: what makes the measurements; the solver is told of `quantities.likelihood`.
        noise: of the measurements, where the instrument has no model of its own.
        classes: of the pixels, if any were given.
    """

    source: Source
    instrument: Operator
    noise: NoiseModel
    sampler: Sampler
    quantities: Quantities
    count: int
    num_samples: int
    seed: int
    folder: Path | None
    plants: bool
    settings: Mapping[str, Any]
    classes: Classes | None = None

    def measured(self, x: Tensor, number: int) -> Tensor:
        """The measurement of truth ``(*shape)`` with this number."""
        seed = seed_of("calibrate measurement", self.seed, number)
        return measured(self.instrument, self.instrument.noise or self.noise, x, seed)


def prepare_plan(
    operator: Operator,
    prior: PriorLike,
    *,
    count: int | None,
    num_samples: int,
    statistics: Mapping[str, Statistic] | None,
    budget: int | None,
    seed: int,
    images: Any,
    method: str | Walk,
    steps: int | None,
    noise: NoiseModel | float | None,
    sampler: OwnSampler | None,
    instrument: Operator | None,
    batch_size: int | None,
    folder: str | Path | None,
    plants: bool,
    classes: Any = None,
) -> Plan:
    """Check the arguments of `calibrate`, described there."""
    instance("calibrate", "operator", operator, Operator, need="an operator")
    prior = prior_of("calibrate", prior, like=images)
    num_samples = whole_number("calibrate", "num_samples", num_samples, least=LEAST_SAMPLES)
    seed = checked_seed("calibrate", "seed", seed)
    told = instance("calibrate", "instrument", instrument or operator, Operator, need="an operator")
    for one in (operator, told):
        _refuse_operator(one, operator)
    prior = prior.for_shape(operator.domain_shape)
    given = None if images is None else _images(images, operator, count)
    source = Source(prior, given, "calibrate truth", TRUTH_STEPS)
    example = source.draw([0], seed)[0].to(prior.device)
    y = told.forward(example[None])
    model = resolve_noise(noise, operator, y)
    y = (told.noise or model).sample(y, seed=0)[0]
    drawing: Sampler
    if sampler is not None:
        need = "a function (y, count, seed) -> samples (count, *shape)"
        function("calibrate", "sampler", sampler, need=need)
        drawing = Own(sampler, operator.domain_shape, num_samples)
    else:
        drawing = Solving(
            operator,
            prior,
            num_samples,
            method=method,
            steps=steps,
            noise=noise,
            batch_size=batch_size,
            example=y,
        )
    cost = drawing.cost + source.evaluations
    if sampler is None and not source.has_exact_prior and is_kept(example, y):
        cost += STEIN_EVALUATIONS
    number = _affordable(count, budget, cost, source)
    own = _own(statistics)
    quantities = Quantities(operator.domain_shape, Likelihood(operator, model), prior, seed, own)
    for name in own:  # a fault in them must not show after the first solve
        quantities.of_user(name, torch.stack([example, example]))
    labelled = None
    if classes is not None:
        labelled = Classes.checked("calibrate", classes, tuple(operator.domain_shape))
        # A function's labels are judged before the first solve.
        labelled.of(torch.stack([example] * num_samples))
    settings = {
        "operator": f"{operator!r}, {digest(operator)}",
        "instrument": f"{told!r}, {digest(told)}",
        "noise": f"{model!r}, {digest(model)}",
        "prior": f"{name_of(prior)}, {checksum(prior)}",
        "images": None if source.images is None else digest(source.images),
        "plain prior": plain_checksum(prior),
        "sampler": drawing.identity,
        "walk": drawing.walk,
        "steps": drawing.steps,
        "num_samples": num_samples,
        "seed": seed,
        "statistics": {name: code_of(one) for name, one in own.items()},
        "power": plants,
        "classes": None if labelled is None else labelled.identity,
    }
    place = None if folder is None else checked_path("calibrate", "folder", folder)
    return Plan(
        source,
        told,
        model,
        drawing,
        quantities,
        number,
        num_samples,
        seed,
        place,
        plants,
        settings,
        labelled,
    )


def _refuse_operator(one: Operator, operator: Operator) -> None:
    if one.images is not None:
        raise ValueError(
            "calibrate: needs one operator for all truths; take one of them, operator.select(0)"
        )
    shapes = (one.domain_shape, one.range_shape)
    if shapes != (operator.domain_shape, operator.range_shape):
        raise ValueError(
            f"calibrate(instrument=): needs the shapes of the operator, {operator.domain_shape} -> "
            f"{operator.range_shape}, got {one.domain_shape} -> {one.range_shape}"
        )


def _images(images: Any, operator: Operator, most: int | None) -> Tensor:
    if is_dataset(images):  # perhaps of millions
        images = dataset_tensor("calibrate", "images", images, most=most)
    found = batch_of(
        "calibrate(images=)",
        "images",
        images,
        operator.domain_shape,
        is_complex=operator.domain_is_complex,
    )
    refuse_type("calibrate(images=)", found)
    if len(found) < LEAST_TRUTHS:
        raise ValueError(
            f"calibrate(images=): needs {LEAST_TRUTHS} images or more, got {len(found)}"
        )
    return found


def _own(statistics: Mapping[str, Statistic] | None) -> dict[str, Statistic]:
    """The user's statistics by name."""
    need = "functions by name, such as {'mean': lambda x: x.flatten(1).mean(1)}"
    given = instance("calibrate", "statistics", statistics or {}, Mapping, need=need)
    for name, one in given.items():
        instance("calibrate", "statistics", name, str, need=need)
        function("calibrate", f"statistics[{name!r}]", one, need="a function of images")
    return dict(given)


def _affordable(count: int | None, budget: int | None, cost: float, source: Source) -> int:
    """How many truths are solved: as many as asked for, given, and paid for.

    Raises:
        ValueError: fewer than can be judged.
    """
    asked = COUNT if count is None else whole_number("calibrate", "count", count)
    number = asked
    if source.images is not None:
        if count is not None and count > len(source.images):
            raise ValueError(
                f"calibrate(count={count}): there are {len(source.images)} images; an image that "
                "is used twice is not a second truth"
            )
        number = min(number, len(source.images))
    if budget is not None:
        budget = int(positive("calibrate", "budget", budget, need="a number of evaluations"))
        number = min(number, int(budget // cost))
        if number < LEAST_TRUTHS:
            raise ValueError(
                f"calibrate(budget={budget}): pays for {number} truths at {cost:.0f} evaluations "
                f"each, and {LEAST_TRUTHS} are the least that can be judged, "
                f"{LEAST_TRUTHS * cost:.0f} evaluations; give more, or fewer steps or samples"
            )
    if number < LEAST_TRUTHS:
        raise ValueError(f"calibrate(count={number}): needs {LEAST_TRUTHS} truths or more")
    return number

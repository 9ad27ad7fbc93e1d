"""A checked call of `fit_reference`: what can be wrong is found before the first walk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count as whole_number
from tweedie_inverse.boundary.arguments import instance
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import batch_of, dataset_tensor, refuse_type
from tweedie_inverse.boundary.datasets import is_dataset
from tweedie_inverse.evaluation.calibrate.samplers import Solving
from tweedie_inverse.evaluation.calibrate.sources import measured
from tweedie_inverse.evaluation.fit.truths import Truths
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.named import PriorLike, prior_of
from tweedie_inverse.runtime.digest import digest
from tweedie_inverse.solving.origin import checksum, name_of
from tweedie_inverse.solving.validation import resolve_noise
from tweedie_inverse.walks.base import Walk

# Nineteen are the least of which one in twenty can be judged; of 59 an alarm is one of three ranks.
COUNT, LEAST = 59, 19
# Few samples of few steps do: measurement and references have the same, so that the level holds.
SAMPLES, STEPS = 2, 20


@dataclass(frozen=True)
class Plan:
    """What is the same for all references, and for the measurements that are held to them.

    Attributes:
        noise: that of the solver, which the references have, too.
        together: how many measurements are solved at once.
    """

    operator: Operator
    noise: NoiseModel
    prior: Prior
    truths: Truths
    solving: Solving
    count: int
    seed: int
    file: Path | None
    settings: Mapping[str, Any]

    @property
    def together(self) -> int:
        return self.solving.together()

    def measured(self, x: Tensor, seed: int) -> Tensor:
        """The measurement of a truth ``(*shape)``."""
        return measured(self.operator, self.noise, x, seed)


def prepare_plan(
    operator: Operator,
    prior: PriorLike,
    *,
    count: int | None,
    num_samples: int,
    seed: int,
    images: Any,
    method: str | Walk,
    steps: int | None,
    noise: NoiseModel | float | None,
    batch_size: int | None,
    file: str | Path | None,
) -> Plan:
    """Check the arguments of `fit_reference`, described there."""
    instance("fit_reference", "operator", operator, Operator, need="an operator")
    prior = prior_of("fit_reference", prior, like=images)
    if operator.images is not None:
        raise ValueError(
            "fit_reference: needs one operator for all references; take one of them, "
            "operator.select(0)"
        )
    num_samples = whole_number("fit_reference", "num_samples", num_samples)
    seed = checked_seed("fit_reference", "seed", seed)
    given = None if images is None else _images(images, operator, count)
    number = _count(count, given)
    place = None if file is None else checked_path("fit_reference", "file", file)
    prior = prior.for_shape(operator.domain_shape)
    truths = Truths(prior, given, seed)
    like = torch.zeros((1, *operator.domain_shape), dtype=truths.dtype, device=prior.device)
    y = operator.forward(like + torch.as_tensor(prior.centre).to(like))
    model = resolve_noise(noise, operator, y)
    solving = Solving(
        operator,
        prior,
        num_samples,
        method=method,
        steps=steps,
        noise=noise,
        batch_size=batch_size,
        example=model.sample(y, seed=0)[0],
    )
    settings = {
        "operator": f"{operator!r}, {digest(operator)}",
        "noise": f"{model!r}, {digest(model)}",
        "prior": f"{name_of(prior)}, {checksum(prior)}",
        "truths": truths.identity,
        "sampler": solving.identity,
        "num_samples": num_samples,
        "seed": seed,
    }
    return Plan(operator, model, prior, truths, solving, number, seed, place, settings)


def _images(images: Any, operator: Operator, most: int | None) -> Tensor:
    if is_dataset(images):  # perhaps of millions
        images = dataset_tensor("fit_reference", "images", images, most=most)
    caller = "fit_reference(images=)"
    shape, is_complex = operator.domain_shape, operator.domain_is_complex
    found = batch_of(caller, "images", images, shape, is_complex=is_complex)
    refuse_type(caller, found)
    if not bool(found.isfinite().all()):
        raise ValueError(f"{caller}: they hold NaN or infinity")
    return found


def _count(count: int | None, images: Tensor | None) -> int:
    """How many references: as many as asked for, or as there are images.

    Raises:
        ValueError: too few, or more than images.
    """
    there = COUNT if images is None else len(images)
    number = there if count is None else whole_number("fit_reference", "count", count)
    if images is not None and number > there:
        raise ValueError(
            f"fit_reference(count={number}): there are {there} images; an image that is used "
            "twice is not a second reference"
        )
    if number < LEAST:
        raise ValueError(
            f"fit_reference: needs {LEAST} references or more, got {number}; the smallest p-value "
            f"of {number} is 1/{number + 1}"
        )
    return number

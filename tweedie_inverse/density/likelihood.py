"""How likely images are under a prior: `likelihood`, by the variational bound or exactly."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, positive
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import refuse_type, tensor_of
from tweedie_inverse.density.bound import Bound
from tweedie_inverse.density.probability_flow import ProbabilityFlow
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.contract import hold_contracts
from tweedie_inverse.priors.named import PriorLike, prior_of
from tweedie_inverse.runtime.memory import in_parts

# Images that run together unless the user says otherwise: this many numbers.
_CHUNK_NUMBERS = 2**22
_METHODS: dict[str, Bound | ProbabilityFlow] = {"bound": Bound(), "flow": ProbabilityFlow()}


@dataclass(frozen=True)
class Likelihood:
    """The log-likelihood of images, or a lower bound of it.

    Attributes:
        value: ``(batch,)``, in nats an image: of the density in data units, or with `bin_width`
            of the probability of the bins.
        standard_error: ``(batch,)``, of the random noise levels and noises; not of the images.
        terms: ``(batch,)`` each, by name; they sum to `value`.
        dimensions: numbers in an image.
    """

    value: Tensor
    standard_error: Tensor
    terms: dict[str, Tensor]
    dimensions: int

    @property
    def mean(self) -> float:
        """Nats an image, averaged over the images."""
        return float(self.value.mean())

    @property
    def mean_standard_error(self) -> float:
        """Standard error of `mean` for these very images."""
        return float(self.standard_error.square().sum().sqrt()) / len(self.value)

    @property
    def bits_per_dimension(self) -> Tensor:
        """``(batch,)``, ``-value / (dimensions log 2)``; lower is likelier.

        Of a density (no `bin_width`) it can be negative, and is lower by the binary logarithm of
        the unit when the unit is made larger.
        """
        return -self.value / (self.dimensions * math.log(2))

    @property
    def mean_bits_per_dimension(self) -> tuple[float, float]:
        """Averaged over the images, with its standard error for these very images."""
        unit = self.dimensions * math.log(2)
        return -self.mean / unit, self.mean_standard_error / unit

    def __repr__(self) -> str:
        bits, error = self.mean_bits_per_dimension
        return (
            f"Likelihood({bits:.4f} +- {error:.4f} bits per dimension, {len(self.value)} images of "
            f"{self.dimensions} numbers)"
        )


def likelihood(
    prior: PriorLike,
    images: Any,
    *,
    method: str | Bound | ProbabilityFlow = "bound",
    bin_width: float | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Likelihood:
    """The log-likelihood of images under a prior, with its standard error and terms.

    The prior whose images cost the fewest bits per dimension is the one that fits.

    Args:
        prior: any prior, or the name of a shipped one; `"flow"` needs a denoiser that autograd can
            differentiate.
        images: ``(batch, *prior.shape)`` in data units, or a torch dataset of them.
        method: `"bound"`, the variational bound in continuous time; `"flow"`, exact by the
            probability-flow ODE; or `Bound` or `ProbabilityFlow` with settings of their own.
        bin_width: distance of neighbouring values of quantized images, in data units: uniform
            noise of that width is added, and the value is that of the bins, not of a density.
        seed: fixes noise levels and noises; each image has its own.
        batch_size: images that run together; changes memory and speed, and the adaptive steps of
            `"flow"`.  Where an accelerator's memory is too small, half as many run together, with
            a warning.

    Returns:
        A `Likelihood`: `.bits_per_dimension`, `.log_density`, their standard errors and terms,
        ``(batch,)`` each.

    Raises:
        ValueError, TypeError: anything wrong with the input, before the first evaluation.
        ArithmeticError: the probability flow did not arrive.
        torch.OutOfMemoryError: the accelerator's memory is too small for one image.

    Examples:
        >>> found = ti.likelihood(prior, prior.draw(2, seed=0))
        >>> found.bits_per_dimension.shape
        torch.Size([2])
    """
    images = tensor_of("likelihood", "images", images)
    refuse_type("likelihood(images=)", images)
    if bin_width is not None:
        bin_width = positive("likelihood", "bin_width", bin_width, need="a positive width")
    if batch_size is not None:
        need = "a positive number of images"
        batch_size = count("likelihood", "batch_size", batch_size, need=need)
    seed = checked_seed("likelihood", "seed", seed)
    prior = prior_of("likelihood", prior, like=images)
    chosen = _checked(prior, images, method)
    prior = prior.for_shape(tuple(images.shape[1:]))
    hold_contracts(prior, images)
    exact = isinstance(chosen, ProbabilityFlow) and chosen.trace == "exact" and bin_width is None
    repeats = 1 if exact else chosen.repeats
    chunk = batch_size or max(1, _CHUNK_NUMBERS // images[0].numel())

    def work(first: int, last: int) -> dict[str, Tensor]:
        repeated = []
        for repeat in range(repeats):
            streams = Streams([("likelihood", seed, i, repeat) for i in range(first, last)])
            given, volume = _dequantized(images[first:last], bin_width, seed, first, repeat)
            repeated.append({**chosen.terms(prior, given, streams), **volume})
        return {name: torch.stack([t[name] for t in repeated]) for name in repeated[0]}

    parts = list(in_parts(len(images), chunk, work))
    terms = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
    total = torch.stack(list(terms.values())).sum(0)  # (repeats, batch)
    error = torch.zeros_like(total[0])
    if repeats > 1:
        error = total.std(0) / math.sqrt(repeats)
    means = {name: term.mean(0) for name, term in terms.items()}
    return Likelihood(total.mean(0), error, means, images[0].numel())


def _dequantized(
    images: Tensor, width: float | None, seed: int, first: int, repeat: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Images spread evenly over their bins, and the logarithm of the bins' volume as a term.

    ``log P(bin) >= E log p(x + u) + n log width`` with u uniform (Theis et al. 2016).
    """
    if width is None:
        return images, {}
    draws = [
        torch.from_numpy(
            generator(("dequantization", seed, first + i, repeat)).random(images.shape[1:])
        )
        for i in range(len(images))
    ]
    spread = images + width * (torch.stack(draws).to(images) - 0.5)
    volume = images.new_full((len(images),), images[0].numel() * math.log(width))
    return spread, {"volume of the bins": volume}


def _checked(
    prior: Prior,
    images: Tensor,
    method: str | Bound | ProbabilityFlow,
) -> Bound | ProbabilityFlow:
    if images.ndim < 2 or len(images) == 0:
        raise ValueError(
            f"likelihood: needs images (batch, *{tuple(prior.shape)}), got {tuple(images.shape)}"
        )
    if not bool(images.isfinite().all()):
        raise ValueError("likelihood: images hold NaN or infinity")
    if isinstance(method, Bound | ProbabilityFlow):
        return method
    if not isinstance(method, str) or method not in _METHODS:
        raise ValueError(
            f"likelihood(method={method!r}): choose 'bound' or 'flow', or pass ti.Bound(...) or "
            "ti.ProbabilityFlow(...)"
        )
    return _METHODS[method]

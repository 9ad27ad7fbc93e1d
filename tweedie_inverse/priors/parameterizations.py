"""What a network sees of x, and what its output means."""

from typing import Literal

from torch import Tensor

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.priors.tweedie import (
    denoised_from_epsilon,
    denoised_from_flow,
    denoised_from_score,
    denoised_from_v,
)

Parameterization = Literal["x0", "epsilon", "v", "score", "edm", "flow"]
Coordinates = Literal["ve", "vp", "flow", "edm"]

# What a network of this kind is usually fed with; `coordinates=` overrides.
USUAL: dict[str, Coordinates] = {
    "x0": "ve",
    "epsilon": "vp",
    "v": "vp",
    "score": "ve",
    "edm": "edm",
    "flow": "flow",
}


def divisor(coordinates: Coordinates, sigma: Tensor, sigma_data: float) -> Tensor | float:
    """c, where the network sees ``x / c``; `sigma` ``(batch, 1, ..., 1)`` in its units."""
    if coordinates == "vp":
        return (1 + sigma**2).sqrt()
    if coordinates == "flow":
        return 1 + sigma
    if coordinates == "edm":
        return (sigma**2 + sigma_data**2).sqrt()
    return 1.0


def denoised_from(
    parameterization: Parameterization,
    x: Tensor,
    output: Tensor,
    sigma: Tensor,
    *,
    divisor: Tensor | float,
    sigma_data: float,
) -> Tensor:
    """D(x, sigma) from the network's output, all in its units; `divisor` as of the function."""
    match parameterization:
        case "x0":
            return output
        case "epsilon":
            return denoised_from_epsilon(x, output, sigma)
        case "v":
            return denoised_from_v(x, output, sigma)
        case "score":
            # Of z = x / c the score is c times that of x.
            return denoised_from_score(x, output / divisor, sigma)
        case "flow":
            return denoised_from_flow(x, output, sigma)
    total = sigma**2 + sigma_data**2  # edm: Karras et al. 2022, table 1
    skip, out = sigma_data**2 / total, sigma * sigma_data / total.sqrt()
    return skip * x + out * output


def trained_range(
    parameterization: Parameterization,
    timesteps: Tensor | None,
    scale: float,
    low: float | None,
    high: float | None,
) -> tuple[float, float]:
    """The trained range of a network in data units, from its timesteps where it is not given.

    Raises:
        ValueError: an empty range.
    """
    ends = (0.002, 80.0)
    if timesteps is not None:
        ends = (scale * float(timesteps[0]), scale * float(timesteps[-1]))
    if high is None and timesteps is None and parameterization != "edm":
        warn_user(
            f"NetworkPrior(sigma_max=): not given, so that noise levels up to {ends[1]:g} in "
            "data units are assumed. Beyond its training a network may amplify: say "
            "sigma_max=, and let ti.check_prior(prior, images) measure it"
        )
    low = ends[0] if low is None else number("NetworkPrior", "sigma_min", low)
    high = ends[1] if high is None else number("NetworkPrior", "sigma_max", high)
    if not 0 < low < high:
        raise ValueError(f"NetworkPrior: needs 0 < sigma_min < sigma_max, got {low} and {high}")
    return low, high

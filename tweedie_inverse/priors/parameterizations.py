"""What a network sees of x, and what its output means."""

from typing import Literal

from torch import Tensor

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

"""The training template: ``E[ w(sigma) || x0 - D(x0 + sigma n, sigma) ||^2 ]``.

Park et al. 2024, table 1 (v1): methods differ by the distribution of sigma (`noise_levels`), the
weight w (here) and the form of D (`NetworkPrior`), and by nothing else; `rows` names the triples.
"""

from collections.abc import Callable

from torch import Tensor

from tweedie_inverse.priors.network import NetworkPrior

Weight = Callable[[Tensor, float], Tensor]

# Each maps (sigma, sigma_data), both in network units, to w(sigma).
WEIGHTS: dict[str, Weight] = {
    "edm": lambda sigma, data: (sigma**2 + data**2) / (sigma * data) ** 2,
    "inverse-square": lambda sigma, data: sigma**-2,  # DDPM, and NCSN as actually trained
    "inverse-fourth": lambda sigma, data: sigma**-4,  # NCSN as printed
    "snr-plus-one": lambda sigma, data: 1 + sigma**-2,  # the plain error of v
    "flow": lambda sigma, data: (1 + 1 / sigma) ** 2,  # the plain error of n - x0
    "unit": lambda sigma, data: sigma.new_ones(sigma.shape),
}


def denoising_loss(
    prior: NetworkPrior, clean: Tensor, noise: Tensor, sigma: Tensor, weight: Weight
) -> Tensor:
    """The template's integrand, averaged over pixels.

    Args:
        prior: the network in its parameterization.
        clean: ``(batch, *shape)`` in data units.
        noise: standard normal, like `clean`.
        sigma: ``(batch,)`` in network units.

    Returns:
        ``(batch,)`` weighted squared errors in network units.
    """
    level = sigma * prior.scale
    noisy = clean + level.reshape(-1, 1, 1, 1) * noise
    error = (prior.denoise(noisy, level) - clean) / prior.scale
    return weight(sigma, prior.sigma_data) * error.square().mean(dim=(1, 2, 3))

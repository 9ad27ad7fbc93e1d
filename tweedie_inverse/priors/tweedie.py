"""Tweedie's formula and its relatives: one denoiser, five ways to write it.

Everything is in variance-exploding coordinates, ``x = x0 + sigma * n`` with ``n ~ N(0, I)``.  A
network trained in variance-preserving coordinates sees ``x / sqrt(1 + sigma^2)``, one trained for
flow matching sees ``x / (1 + sigma)``; only the prior adapter knows.

Sources: Park et al. 2024, section 2 (score); Luo 2022, section "Three equivalent interpretations"
(x0, epsilon, score); Salimans and Ho 2022 (v); Lipman et al. 2023 (flow).
"""

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number


def denoised_from_score(x: Tensor, score: Tensor, sigma: Tensor) -> Tensor:
    """``E[x0 | x] = x + sigma^2 * score`` (Tweedie)."""
    sigma = _column(x, score, sigma)
    return x + sigma**2 * score


def score_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """``score = (E[x0 | x] - x) / sigma^2`` (Tweedie)."""
    sigma = _column(x, denoised, sigma)
    return (denoised - x) / sigma**2


def denoised_from_epsilon(x: Tensor, epsilon: Tensor, sigma: Tensor) -> Tensor:
    """``E[x0 | x] = x - sigma * epsilon``, with ``epsilon = E[n | x]``."""
    return x - _column(x, epsilon, sigma) * epsilon


def epsilon_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """``epsilon = (x - E[x0 | x]) / sigma``."""
    return (x - denoised) / _column(x, denoised, sigma)


def denoised_from_v(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """``E[x0 | x] = (x / a - sigma * v) / a`` with ``a = sqrt(1 + sigma^2)``.

    ``v = (n - sigma * x0) / a`` is the velocity of the variance-preserving path.
    """
    sigma = _column(x, v, sigma)
    a = (1 + sigma**2).sqrt()
    return (x / a - sigma * v) / a


def v_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """Inverse of `denoised_from_v`."""
    sigma = _column(x, denoised, sigma)
    a = (1 + sigma**2).sqrt()
    return (x / a - a * denoised) / sigma


def denoised_from_flow(x: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """``E[x0 | x] = (x - sigma * velocity) / (1 + sigma)``, ``velocity = E[n - x0 | x]``.

    The straight path is ``(1 - t) x0 + t n`` with ``t = sigma / (1 + sigma)``.
    """
    sigma = _column(x, velocity, sigma)
    return (x - sigma * velocity) / (1 + sigma)


def flow_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """Inverse of `denoised_from_flow`."""
    sigma = _column(x, denoised, sigma)
    return (x - (1 + sigma) * denoised) / sigma


def _column(x: Tensor, other: Tensor, sigma: float | Tensor) -> Tensor:
    """``sigma`` as it broadcasts to x: one number, or one an image; nothing else would be meant.

    Raises:
        TypeError: no tensors, or no number.
        ValueError: two images of different shapes, or a sigma that is neither.
    """
    if not (isinstance(x, Tensor) and isinstance(other, Tensor)):
        raise TypeError("tweedie: needs tensors, noisy images and what a network says of them")
    if not x.is_floating_point():
        raise TypeError(f"tweedie: needs images of floating-point numbers, got {x.dtype}")
    if x.shape != other.shape:
        raise ValueError(
            f"tweedie: needs images of one shape, got {tuple(x.shape)} and {tuple(other.shape)}"
        )
    if not isinstance(sigma, Tensor):
        return torch.full((), number("tweedie", "sigma", sigma), dtype=x.dtype, device=x.device)
    if sigma.ndim == 1 and sigma.shape[0] in (1, x.shape[0] if x.ndim else 1):
        return sigma.reshape(-1, *[1] * (x.ndim - 1))
    if sigma.ndim not in (0, x.ndim):
        raise ValueError(
            f"tweedie: sigma must be a number or one value an image, shape ({len(x)},); got shape "
            f"{tuple(sigma.shape)}"
        )
    return sigma


def target_of(form: str, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """What a network of that form is trained to return, given the clean image and the noise.

    The mean over what is not known, given x, is what the functions above take.
    """
    match form:
        case "x0":
            return clean
        case "epsilon":
            return noise
        case "v":
            return (noise - sigma * clean) / (1 + sigma**2).sqrt()
        case "score":
            return -noise / sigma
        case "flow":
            return noise - clean
    raise ValueError(f"unknown form {form!r}; choose x0, epsilon, v, score or flow")

"""Tweedie's formula and its relatives: one denoiser, five ways to write it.

Everything is in variance-exploding coordinates, ``x = x0 + sigma * n`` with ``n ~ N(0, I)``.  A
network trained in variance-preserving coordinates sees ``x / sqrt(1 + sigma^2)``, one trained for
flow matching sees ``x / (1 + sigma)``; only the prior adapter knows.

Sources: Park et al. 2024, section 2 (score); Luo 2022, section "Three equivalent interpretations"
(x0, epsilon, score); Salimans and Ho 2022 (v); Lipman et al. 2023 (flow).
"""

from torch import Tensor


def denoised_from_score(x: Tensor, score: Tensor, sigma: Tensor) -> Tensor:
    """``E[x0 | x] = x + sigma^2 * score`` (Tweedie)."""
    return x + sigma**2 * score


def score_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """``score = (E[x0 | x] - x) / sigma^2`` (Tweedie)."""
    return (denoised - x) / sigma**2


def denoised_from_epsilon(x: Tensor, epsilon: Tensor, sigma: Tensor) -> Tensor:
    """``E[x0 | x] = x - sigma * epsilon``, with ``epsilon = E[n | x]``."""
    return x - sigma * epsilon


def epsilon_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """``epsilon = (x - E[x0 | x]) / sigma``."""
    return (x - denoised) / sigma


def denoised_from_v(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """``E[x0 | x] = (x / a - sigma * v) / a`` with ``a = sqrt(1 + sigma^2)``.

    ``v = (n - sigma * x0) / a`` is the velocity of the variance-preserving path.
    """
    a = (1 + sigma**2).sqrt()
    return (x / a - sigma * v) / a


def v_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """Inverse of `denoised_from_v`."""
    a = (1 + sigma**2).sqrt()
    return (x / a - a * denoised) / sigma


def denoised_from_flow(x: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """``E[x0 | x] = (x - sigma * velocity) / (1 + sigma)``, ``velocity = E[n - x0 | x]``.

    The straight path is ``(1 - t) x0 + t n`` with ``t = sigma / (1 + sigma)``.
    """
    return (x - sigma * velocity) / (1 + sigma)


def flow_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """Inverse of `denoised_from_flow`."""
    return (x - (1 + sigma) * denoised) / sigma


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

"""Whether Markov chains have mixed, and how exact their averages are (Vehtari et al. 2021).

Rank-normalized split R-hat, effective sample sizes and Monte Carlo standard errors of arrays
``(chains, draws, ...)``, such as traces of parameters; one number for each entry of ``...``.  The
samples of a `Posterior` are no chain: they are independent by construction, or a population with
weights, and `diagnostics.effective_sample_size` is theirs.

Source: Vehtari, Gelman, Simpson, Carpenter, Buerkner, "Rank-normalization, folding, and
localization: an improved R-hat", Bayesian Analysis 16 (2021).
"""

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import choice, number
from tweedie_inverse.boundary.arrays import real_tensor

__all__ = ["effective_sample_size", "r_hat", "standard_error"]

_LEAST_DRAWS = 4
_TAILS = (0.05, 0.95)
# Probability below -1 and below +1 standard deviation of a normal number.
_ONE_DEVIATION = (0.1586553, 0.8413447)
# Values that differ by less are one value.
_CONSTANT = 1e-15


def r_hat(draws: Tensor) -> Tensor:
    """Rank-normalized split R-hat, the larger one of location and of scale; ``(...)``, float64.

    1 where the chains agree; above 1.01 they should run on.  NaN where all draws are equal.

    Args:
        draws: ``(chains, draws, ...)``, one chain or more, four draws or more.

    Raises:
        ValueError: fewer axes or draws, NaN or infinity.

    Source: Vehtari et al. 2021.
    """
    halves = _split(_checked("r_hat", draws))
    folded = (halves - _quantile(halves, 0.5)).abs()
    return torch.maximum(_plain_r_hat(_normal_scores(halves)), _plain_r_hat(_normal_scores(folded)))


def effective_sample_size(draws: Tensor, of: str | float = "bulk") -> Tensor:
    """How many independent draws the chains are worth; ``(...)``, float64.

    Args:
        draws: ``(chains, draws, ...)``, one chain or more, four draws or more.
        of: "bulk" for location in general (of the normal scores of the ranks), "tail" for the 5 %
            and 95 % quantiles, whichever is worse; "mean" and "std" for these estimates; a
            probability for that quantile.

    Raises:
        ValueError: fewer axes or draws, NaN or infinity, or there is no such `of`.

    Source: Vehtari et al. 2021; Geyer's initial monotone sequence (1992).
    """
    values = _checked("effective_sample_size", draws)
    if not isinstance(of, str):
        return _size(_below(values, _level("effective_sample_size", of)))
    choice("effective_sample_size", "of", of, ("bulk", "tail", "mean", "std"))
    if of == "tail":
        return torch.minimum(*(_size(_below(values, level)) for level in _TAILS))
    if of == "bulk":
        return _geyer(_normal_scores(_split(values)))
    if of == "mean":
        return _size(values)
    return _size(_squares(values))


def standard_error(draws: Tensor, of: str | float = "mean") -> Tensor:
    """Monte Carlo standard error of an estimate from chains; ``(...)``, float64.

    Args:
        draws: ``(chains, draws, ...)``, one chain or more, four draws or more.
        of: "mean", "std", or a probability for that quantile.

    Raises:
        ValueError: fewer axes or draws, NaN or infinity, or there is no such `of`.

    Source: Vehtari et al. 2021; quantiles by the beta law of order statistics.
    """
    values = _checked("standard_error", draws)
    if not isinstance(of, str):
        return _of_quantile(values, _level("standard_error", of))
    if choice("standard_error", "of", of, ("mean", "std")) == "mean":
        return values.flatten(0, 1).std(0) / _size(values).sqrt()
    squares = _squares(values)
    variance = squares.mean((0, 1))
    scatter = (squares.square().mean((0, 1)) - variance.square()) / _size(squares)
    return (scatter / variance / 4).sqrt()


def _of_quantile(values: Tensor, level: float) -> Tensor:
    """Half the distance of the order statistics between which the quantile is in 68 %."""
    from scipy.stats import beta

    size = _size(_below(values, level)).numpy()
    ends = [beta.ppf(one, size * level + 1, size * (1 - level) + 1) for one in _ONE_DEVIATION]
    ordered = values.flatten(0, 1).sort(dim=0).values
    count = len(ordered)
    lower, upper = (torch.as_tensor(end * count - 1) for end in ends)
    first = ordered.gather(0, lower.clamp(min=0).floor().long()[None])[0]
    last = ordered.gather(0, upper.clamp(max=count - 1).ceil().long()[None])[0]
    return (last - first) / 2


def _checked(caller: str, draws: Tensor) -> Tensor:
    """Float64 on the CPU; not every device has float64."""
    found = real_tensor(caller, "draws", draws)
    if found.ndim < 2 or found.shape[1] < _LEAST_DRAWS or 0 in found.shape:
        one = "; one chain alone is draws[None]" if found.ndim == 1 else ""
        raise ValueError(
            f"{caller}: needs (chains, draws, ...) with {_LEAST_DRAWS} draws or more, got "
            f"{tuple(found.shape)}{one}"
        )
    return found.detach().cpu().double()


def _level(caller: str, of: float) -> float:
    need = "a name, or a probability between 0 and 1 for that quantile"
    return number(caller, "of", of, above=0.0, high=1 - 1e-12, need=need)


def _split(values: Tensor) -> Tensor:
    """Each chain as two, ``(2 chains, draws // 2, ...)``; the middle one of odd draws is left."""
    half = values.shape[1] // 2
    return torch.cat([values[:, :half], values[:, -half:]])


def _quantile(values: Tensor, level: float) -> Tensor:
    """Over chains and draws, linear between the order statistics from 0 to 1, ``(...)``."""
    ordered = values.flatten(0, 1).sort(dim=0).values
    count = len(ordered)
    place = count * level + 1 - level
    left = int(min(max(place, 1), count - 1))
    share = min(max(place - left, 0.0), 1.0)
    return (1 - share) * ordered[left - 1] + share * ordered[left]


def _below(values: Tensor, level: float) -> Tensor:
    """1 where a draw is not above the quantile, else 0."""
    return (values <= _quantile(values, level)).double()


def _squares(values: Tensor) -> Tensor:
    return (values - values.mean((0, 1))).square()


def _normal_scores(values: Tensor) -> Tensor:
    """Normal quantiles of the ranks among all draws of all chains; equal values share a rank."""
    flat = values.flatten(0, 1).movedim(0, -1).contiguous()
    ordered, count = flat.sort(dim=-1).values, flat.shape[-1]
    fewer = torch.searchsorted(ordered, flat)
    up_to = torch.searchsorted(ordered, flat, right=True)
    rank = (fewer + up_to + 1).double() / 2
    scores = torch.special.ndtri((rank - 3 / 8) / (count + 1 / 4))
    return scores.movedim(-1, 0).reshape(values.shape)


def _plain_r_hat(values: Tensor) -> Tensor:
    draws = values.shape[1]
    between, within = values.mean(1).var(0), values.var(1).mean(0)
    return ((draws * between / within + draws - 1) / draws).sqrt()


def _size(values: Tensor) -> Tensor:
    return _geyer(_split(values))


def _geyer(values: Tensor) -> Tensor:
    """Effective size from autocorrelations, summed in pairs until one is not positive."""
    chains, draws = values.shape[:2]
    covariance = _autocovariance(values).mean(0)
    within = covariance[0] * draws / (draws - 1)
    total = covariance[0] + (values.mean(1).var(0) if chains > 1 else 0)
    correlation = 1 - (within - covariance) / total
    correlation[0] = 1
    last = max(0, -(-(draws - 4) // 2))  # number of the last pair that is looked at
    pairs = correlation[0 : 2 * last + 2 : 2] + correlation[1 : 2 * last + 2 : 2]
    positive = (pairs > 0).long().cumprod(0).sum(0)
    end = positive.clamp(max=last)[None]  # the pair that ends the sum
    counted = torch.arange(last + 1).reshape(-1, *[1] * (pairs.ndim - 1)) < end
    smaller = pairs.cummin(0).values.where(counted, torch.zeros(()).double()).sum(0)
    even, pair = correlation.gather(0, 2 * end)[0], pairs.gather(0, end)[0]
    rest = even.where((even > 0) | (pair >= 0), torch.zeros(()).double())
    count = torch.tensor(float(chains * draws), dtype=torch.float64)
    time = (2 * smaller - 1 + rest).clamp(min=float(1 / count.log10()))
    spread = values.flatten(0, 1)
    constant = spread.amax(0) - spread.amin(0) < _CONSTANT
    return torch.where(constant, count, count / time)


def _autocovariance(values: Tensor) -> Tensor:
    """``(chains, draws, ...)`` at every lag, the sum over the draws divided by their number."""
    draws = values.shape[1]
    spectrum = torch.fft.rfft(values - values.mean(1, keepdim=True), n=2 * draws, dim=1)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.fft.irfft(power, n=2 * draws, dim=1)[:, :draws] / draws

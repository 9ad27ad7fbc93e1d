"""Which mistake was made: each is undone in turn, and one that makes the check pass is named.

Two mistakes at once are looked for only where no single one explains what was seen.
"""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tweedie_inverse.evaluation.prior_check.errors import measure, within
from tweedie_inverse.evaluation.prior_check.findings import findings_of
from tweedie_inverse.evaluation.prior_check.mistakes import Undone, mistakes_of
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import NetworkPrior, Prior

# Noise levels in units of the images' standard deviation: where priors differ from each other, and
# for the mistakes, because parameterizations differ most at large sigma.
CORE = (0.1, 0.25, 0.5, 1.0, 2.0)
_TRIED = (0.5, 1.0, 0.25, 4.0)
_IMAGES_TRIED, _PIXELS_TRIED = 6, 4096  # whichever are more images
# A mistake is suspected if undoing it divides the squared error by this, and not by chance.
# Undoing what was right makes the error larger on average, so that three standard errors are enough
# where the check failed.  Where it did not, more is asked for; of mistakes of degree still more,
# because real networks are not the best denoisers, and a little more contrast may suit one.
_CLEARLY, _STANDARD_ERRORS = 1.1, 3.0
_OF_DEGREE, _BY_CHANCE = 1.2, 1e-3
# Suspects that are nearly as good as the best one are named, too.
_ALIKE = 0.98
# Of so many single mistakes whose undoing helps most, a second one is looked for.
_BEGINNINGS = 3
# The smallest and the largest squared error that count: zero, infinity and NaN do not.
_LEAST, _WORST = math.exp(-50.0), math.exp(50.0)
# An error so many times larger at a single level shows that nothing was undone.
_WORSE = 1.5


class Suspect(NamedTuple):
    """A mistake, and by what factor undoing it reduces the squared error.

    Attributes:
        cure: what to do, with the settings of `NetworkPrior`; empty where the name says it all.
    """

    mistake: str
    improvement: float
    cure: str = ""


class Mended(NamedTuple):
    """A suspect, and the prior in which the mistake is undone."""

    suspect: Suspect
    prior: Prior


class _Trial(NamedTuple):
    """Images ``(count, *shape)``, and the same with noise of level `sigma`."""

    clean: Tensor
    noisy: Tensor
    sigma: float


class _Found(NamedTuple):
    """A mistake by its place in the list, and what undoing it does."""

    place: int
    undone: Undone
    improvement: float


def find_mistakes(
    prior: Prior, images: Tensor, spread: float, seed: int, *, failed: bool, explained: bool
) -> tuple[Mended, ...]:
    """The mistake whose undoing reduces the error most, and those that do as well.

    Args:
        images: ``(count, *shape)``, in data units; two or more.
        spread: standard deviation of their values.
        seed: of the noise.
        failed: whether the check failed as the prior is.
        explained: whether a smaller range would make it pass; if not, two mistakes are looked for
            where one does not explain it.
    """
    few = images[: max(_IMAGES_TRIED, _PIXELS_TRIED // images[0].numel())]
    tried = dict.fromkeys(level for r in _TRIED for level in within(prior, [r * spread]))
    trials = [
        _Trial(few, few + s * prior.coloured(normal(("mistakes", seed, i), few.shape).to(few)), s)
        for i, s in enumerate(tried)
    ]
    plain = prior.uncorrected()
    as_is = _squared_errors(plain, trials, None)
    assert as_is is not None
    found = _helping(plain, trials, as_is, failed=failed)
    named = _passing(plain, found, images, spread, seed)
    if named or not failed or explained:
        return named
    pairs: list[Mended] = []
    for first in found[:_BEGINNINGS]:
        halfway = _undone(plain, first.place).prior
        helping = _helping(halfway, trials, as_is, failed=failed)
        better = [one for one in helping if one.improvement > first.improvement]
        for second in _passing(halfway, better, images, spread, seed):
            mistakes = f"{first.undone.mistake}; and {second.suspect.mistake}"
            cure = "; ".join(filter(None, (first.undone.cure, second.suspect.cure)))
            suspect = Suspect(mistakes, second.suspect.improvement, cure)
            pairs.append(second._replace(suspect=suspect))
    return tuple(sorted(pairs, key=lambda m: -m.suspect.improvement)[:1])


def _helping(
    prior: Prior, trials: Sequence[_Trial], as_is: Tensor, *, failed: bool
) -> list[_Found]:
    """Mistakes whose undoing clearly reduces the error, best first, each name once."""
    from scipy.stats import t

    best: dict[str, _Found] = {}
    by_chance = float(t.ppf(1 - _BY_CHANCE, as_is.shape[1] - 1))
    errors = _STANDARD_ERRORS if failed else by_chance
    for place, undone in enumerate(mistakes_of(_remembering(prior))):
        squares = _squared_errors(undone.prior, trials, as_is)
        improvement = 1.0 if squares is None else _improvement(as_is, squares, errors)
        least = _CLEARLY if failed or undone.is_of_kind else _OF_DEGREE
        known = best.get(undone.mistake)
        if improvement > least and (known is None or improvement > known.improvement):
            best[undone.mistake] = _Found(place, undone, improvement)
    return sorted(best.values(), key=lambda one: -one.improvement)


def _passing(
    prior: Prior, found: Sequence[_Found], images: Tensor, spread: float, seed: int
) -> tuple[Mended, ...]:
    """The first that makes the check pass, and those that are as good and do so, too."""
    named: list[Mended] = []
    for one in found:
        if named and one.improvement < _ALIKE * named[0].suspect.improvement:
            break
        mended = _undone(prior, one.place).prior
        levels = within(mended, [ratio * spread for ratio in CORE])
        try:
            errors = measure(mended, images, levels, seed)
        except Exception as error:
            if _is_no_answer(error):
                raise
            continue
        if all(finding.passed for finding in findings_of(errors, spread)):
            suspect = Suspect(one.undone.mistake, one.improvement, one.undone.cure)
            named.append(Mended(suspect, mended))
    return tuple(named)


def _undone(prior: Prior, place: int) -> Undone:
    """The mistake at one place of the list, undone in the prior as it is."""
    return next(undone for i, undone in enumerate(mistakes_of(prior)) if i == place)


def _squared_errors(prior: Prior, trials: Sequence[_Trial], known: Tensor | None) -> Tensor | None:
    """Mean squared errors ``(levels, count)`` of each image at each noise level, float64.

    Args:
        known: those of the prior as it is.  Undoing a mistake helps at every level: None is
            returned as soon as one of them is clearly worse.
    """
    errors: list[Tensor] = []
    for clean, noisy, sigma in trials:
        try:
            denoised = prior.denoise(noisy, sigma)
        except Exception as raised:
            if known is None or _is_no_answer(raised):
                raise
            return None  # networks raise what they like at labels they have no place for
        error = (denoised.to(clean) - clean).double().square().flatten(1).mean(1)
        error = error.nan_to_num(nan=_WORST, posinf=_WORST).clamp(max=_WORST)
        if known is not None and float(error.mean()) > _WORSE * float(known[len(errors)].mean()):
            return None
        errors.append(error)
    return torch.stack(errors)


def _is_no_answer(error: Exception) -> bool:
    """Whether an error says nothing about the mistake that was undone: memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError)


def _improvement(as_is: Tensor, undone: Tensor, errors: float) -> float:
    """The factor between two tables of squared errors, geometric over the levels; 1 by chance.

    Args:
        as_is, undone: ``(levels, count)``, of the same images.
        errors: so many standard errors may be chance.
    """
    before, after = as_is.mean(1, keepdim=True), undone.mean(1, keepdim=True)
    logarithm = (before.log() - after.log()).mean()
    # To first order, the logarithm is the average over the images of its value plus this share.
    by_share = logarithm + (as_is / before - undone / after).mean(0)
    # Few large images differ from each other by more than a mistake changes any of them, and their
    # own logarithms tell; of small ones these scatter, because an error may be nearly zero.
    by_image = (as_is.clamp(min=_LEAST).log() - undone.clamp(min=_LEAST).log()).mean(0)
    clear = any(
        float(numbers.mean()) > errors * float(numbers.std()) / math.sqrt(len(numbers))
        for numbers in (by_share, by_image)
    )
    return math.exp(float(logarithm)) if clear and float(logarithm) > 0 else 1.0


class _Remembering(nn.Module):
    """A network that remembers its outputs.

    Parameterizations differ in what is made of the output, which need not be computed again.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.known: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        for known_x, known_label, output in self.known:
            if torch.equal(known_x, x) and torch.equal(known_label, label):
                return output
        output = self.module(x, label)
        self.known.append((x, label, output))
        return output


def _remembering(prior: Prior) -> Prior:
    if not isinstance(prior, NetworkPrior):
        return prior
    other = copy.copy(prior)
    other.module = _Remembering(prior.module)
    return other

"""The kernel Stein test behind its null gate: it is heard only where it has shown what it is worth.

A score that is a few percent off makes right draws fail.  The truth of every simulated problem is
one exact draw of its posterior; so the test must pass the truths, and must see a bias that is
planted in them, before anything is said of the samples, of which as many are tested.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.modes import with_gradients
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.evaluation.calibrate.plan import Plan
from tweedie_inverse.evaluation.calibrate.record import Record
from tweedie_inverse.evaluation.calibrate.stein import Frame, stein_p_value
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.analytic import Gaussian, GaussianMixture

# Truths that look less likely than this under the score are a reason not to trust it.
GATE = 0.1
# Biases in standard deviations of the pixels, one of which the test must see.
BIASES = (0.1, 0.15, 0.2)
_TOGETHER = 16
BLIND = "it is blind to a missing mode, whatever the score"

Score = Callable[[Tensor], Tensor]


class Stein(NamedTuple):
    """The kernel Stein test of a calibration.

    Attributes:
        p_value: of one sample of each truth; None where the gate was not passed.
        exact: p-value of the truths themselves.
        resolved: the smallest of `BIASES` that it sees in the truths, in standard deviations.
        score: where the score comes from, in words.
        reason: why it is not done; empty where it is.
    """

    p_value: float | None
    exact: float | None
    resolved: float | None
    score: str
    reason: str

    @property
    def words(self) -> str:
        """One line, in any case with what it cannot see."""
        if self.p_value is None:
            return f"kernel Stein test: not done, because {self.reason}; in any case {BLIND}"
        return (
            f"kernel Stein test: p = {self.p_value:.2g} with {self.score} (the truths pass it with "
            f"p = {self.exact:.2g}, and a bias of {self.resolved:g} standard deviations would "
            f"show); {BLIND}"
        )


def stein_test(plan: Plan, record: Record, level: float) -> Stein:
    """The test of all truths of a plan, if it passes its gate at this level."""
    if record.images.shape[2] == 0:
        return _refused("", "images or measurements have too many numbers to be kept for it")
    score, words = _score(plan, record.y.to(plan.source.prior.device))
    truths, tested = record.images[:, 0].double(), record.images[:, 1].double()
    frame = Frame.of(record.images[:, 2:].double())
    if not len(frame.scale):
        return _refused(words, "the samples of a measurement are all the same")
    noise = _smoothing(plan, truths)

    def along(x: Tensor) -> tuple[Tensor, Tensor]:
        return frame.coordinates(x + noise), frame.scores(score(x + noise))

    try:
        z, scores = along(truths)
    except ValueError as error:  # no density: a mixture of points, a variance of 0
        return _refused(words, f"there is no score ({error})")
    if not bool(scores.isfinite().all()):
        return _refused(words, "the score of the truths is not finite")
    weights = 1 / scores.square().mean(0).sqrt().clamp(min=1e-30)
    exact = stein_p_value(z, scores, weights, plan.seed)
    if exact < GATE:
        return _refused(
            words,
            f"{words} is not accurate enough: the truths, which are the exact draws that there "
            f"are, fail it (p = {exact:.2g})",
            exact,
        )
    spread = record.spread.flatten(1).double().sqrt()
    resolved = next(
        (b for b in BIASES if _seen(along(truths + b * spread), weights, plan.seed, level)), None
    )
    if resolved is None:
        return _refused(
            words,
            f"with {len(z)} truths it does not see a bias of {BIASES[-1]:g} standard deviations",
            exact,
        )
    p_value = stein_p_value(*along(tested), weights, plan.seed)
    return Stein(p_value, exact, resolved, words, "")


def _refused(score: str, reason: str, exact: float | None = None) -> Stein:
    return Stein(None, exact, None, score, reason)


def _seen(draws: tuple[Tensor, Tensor], weights: Tensor, seed: int, level: float) -> bool:
    return stein_p_value(*draws, weights, seed) <= level


def _has_exact_score(plan: Plan) -> bool:
    prior = plan.source.prior
    return isinstance(prior, Gaussian) or (isinstance(prior, GaussianMixture) and prior.std > 0)


def _smoothing(plan: Plan, x: Tensor) -> Tensor:
    """Noise of the level of a network's score: of an image without any it says little."""
    if _has_exact_score(plan):
        return torch.zeros_like(x)
    prior, white = plan.source.prior, normal(("calibrate stein noise", plan.seed), x.shape).to(x)
    noise = prior.coloured(white.reshape(len(x), *plan.quantities.shape))
    return prior.sigma_min * noise.reshape(x.shape)


def _score(plan: Plan, y: Tensor) -> tuple[Score, str]:
    """The gradient of every posterior's log density, images ``(truths, n)`` to the same."""
    likelihood, prior, shape = plan.quantities.likelihood, plan.source.prior, plan.quantities.shape
    is_exact = _has_exact_score(plan)
    dtype = torch.float64 if is_exact else torch.float32

    def of_prior(x: Tensor) -> Tensor:
        if not is_exact:
            parts = [prior.score(part, prior.sigma_min) for part in x.split(_TOGETHER)]
            return torch.cat(parts)
        assert isinstance(prior, Gaussian | GaussianMixture)
        with with_gradients():
            there = x.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(prior.log_prob(there).sum(), there)
        return gradient

    def score(x: Tensor) -> Tensor:
        images = x.reshape(-1, *shape).to(y.device, dtype)
        problem = Problem(y.to(dtype), likelihood.operator, likelihood.noise)
        with torch.no_grad():
            found = of_prior(images) + problem.gradient(images)
        return found.double().cpu().flatten(1)

    if is_exact:
        return score, "the exact score"
    return score, f"the denoiser's score at sigma {prior.sigma_min:.2g}"

"""A self-test of a wrapped network: does it denoise as it should, and if not, what is mixed up?

The denoiser with the smallest squared error is the posterior mean, so every mistake in scaling,
units or parameterization shows as an error that is larger than it need be.  The check measures the
error over the whole range of noise levels, holds it against a linear denoiser, and tries the usual
mistakes: if undoing one of them makes the error clearly smaller and the check pass, that mistake
was made.
"""

from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import advice_on_shape, real_tensor, refuse_type
from tweedie_inverse.evaluation.prior_check.errors import measure, within
from tweedie_inverse.evaluation.prior_check.findings import Finding, findings_of
from tweedie_inverse.evaluation.prior_check.report import PriorReport
from tweedie_inverse.evaluation.prior_check.search import CORE, Mended, find_mistakes
from tweedie_inverse.evaluation.prior_check.usable_range import usable_range
from tweedie_inverse.priors import Gaussian, GaussianMixture, Prior
from tweedie_inverse.priors.contract import hold_contracts
from tweedie_inverse.priors.error.credible import doubts_about_samples
from tweedie_inverse.priors.named import PriorLike, prior_of
from tweedie_inverse.sampling.sampling import sample
from tweedie_inverse.walks.base import WalkDivergedError

_BLIND = (
    "the images are the prior's own samples: a factor in sigma or a wrong range that makes it a "
    "consistent prior for other images cannot be seen, nor can mistakes be told apart; pass images="
)


@torch.no_grad()
def check_prior(prior: PriorLike, images: Any = None, *, seed: int = 0) -> PriorReport:
    """Test a prior on images it should know, and name the likely mistake.

    Args:
        prior: a prior, or the name of a shipped one.
        images: ``(count, *shape)``, in data units, eight or more, a tensor, an array or a torch
            dataset; default samples of the prior itself, which show less (`PriorReport.blind`).

    A network that breaks its contract (`boundary.contracts`) fails that check, and gets no other.

    Returns:
        A `PriorReport`: `.passed`, `.mended_prior()`; print it for the table of noise levels.

    Raises:
        ValueError: images of another shape, or fewer than two.

    Cost: three network evaluations, five an image, up to 16 more for each of the first 16, and
    some 60 for each of the first six (of more, if they are small), a few times as many where the
    check fails and no single mistake explains it; without images another 25 for each of 16.

    Examples:
        >>> ti.check_prior(prior, prior.draw(16, seed=0)).passed
        True
    """
    prior = prior_of("check_prior", prior, like=images)
    try:
        hold_contracts(prior, torch.zeros((), device=prior.device))
    except (ValueError, TypeError) as error:
        return PriorReport((Finding("contract", False, str(error)),), (), (), (), 1.0)
    seed, are_own = checked_seed("check_prior", "seed", seed), images is None
    images = _own_samples(prior, seed) if are_own else _checked(images, prior)
    blind = (_BLIND,) if are_own else ()
    if not bool(images.isfinite().all()):
        text = (
            "samples of the prior are not finite; the wrapping is wrong, pass images= to learn how"
        )
        return PriorReport((Finding("finite", False, text),), (), (), blind, 1.0)
    spread = float((images - images.mean()).square().mean().sqrt())
    errors = measure(prior, images, within(prior, [ratio * spread for ratio in CORE]), seed)
    usable = usable_range(prior, images, errors, spread, seed)
    findings = (*findings_of(errors, spread), usable.finding)
    if are_own:
        findings = (*findings, _like_its_data(prior, images))
    failed = not all(finding.passed for finding in findings)
    mended: tuple[Mended, ...] = ()
    if not are_own:
        mended = find_mistakes(prior, images, spread, seed, failed=failed, explained=usable.exists)
    levels = sorted((e.averages for e in (*errors, *usable.errors)), key=lambda e: e.sigma)
    return PriorReport(
        findings,
        tuple(one.suspect for one in mended),
        tuple(levels),
        blind,
        spread,
        (usable.low, usable.high) if usable.exists else None,
        prior,
        mended,
    )


def _checked(images: Any, prior: Prior) -> Tensor:
    """The user's images, two or more of the prior's shape, all finite."""
    images = real_tensor("check_prior", "images", images)
    if tuple(images.shape[1:]) != tuple(prior.shape) or len(images) < 2:
        raise ValueError(
            f"check_prior(images=): needs two or more images, shape (count, {prior.shape}), got "
            f"{tuple(images.shape)}{advice_on_shape(images.shape, prior.shape)}"
        )
    refuse_type("check_prior(images=)", images)
    return images


def _own_samples(prior: Prior, seed: int) -> Tensor:
    if isinstance(prior, Gaussian | GaussianMixture):
        return prior.draw(64, seed=seed)
    try:
        return sample(prior, 16, steps=25, seed=seed)
    except WalkDivergedError:
        return torch.full((16, *prior.shape), torch.nan)


def _like_its_data(prior: Prior, samples: Tensor) -> Finding:
    """Whether the prior's own samples lie where its data do, as far as that is known."""
    doubts = doubts_about_samples(prior, samples)
    text = "; ".join(doubts) or "they lie where its data do"
    return Finding("own samples", not doubts, text)

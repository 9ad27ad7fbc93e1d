"""What a walk is worth, with standard errors over images and seeds: rows of studies."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops

HEAD = "PSNR | CRPS | 90 % coverage | chi-square"
_DIGITS = (2, 5, 3, 3)


class Effort(NamedTuple):
    """How often, and with how much effort, a measurement is solved."""

    seeds: int
    samples: int
    steps: int


class Outcome(NamedTuple):
    """Scores of every image and seed, ``(images * seeds, 4)``, and the mean cost of a sample."""

    scores: Tensor
    evaluations: float
    products: float  # applications of A or its adjoint


def outcome(
    walk: ti.walks.Walk,
    prior: ti.priors.Prior,
    operator: ops.Operator,
    truths: Tensor,
    effort: Effort,
) -> Outcome:
    """Each seed has its own measurement of the truths ``(images, *shape)``, for every walk."""
    scores, costs = [], []
    for seed in range(effort.seeds):
        y = operator.measure(truths, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ti.PosteriorWarning)  # the columns say it
            found = ti.solve(
                y,
                operator,
                prior,
                method=walk,
                num_samples=effort.samples,
                steps=effort.steps,
                seed=seed,
            )
        scores.append(scores_of(found, truths))
        costs.append((found.stats.denoiser_calls, found.stats.operator_calls))
    evaluations, products = torch.tensor(costs, dtype=torch.float64).mean(0).tolist()
    return Outcome(torch.cat(scores), evaluations, products)


def scores_of(found: ti.Posterior, truths: Tensor) -> Tensor:
    """PSNR, CRPS, coverage and chi-square of each image, ``(images, 4)`` float64."""
    squares = (found.mean - truths).square().flatten(1).mean(1)
    return torch.stack(
        [
            -10 * squares.log10(),
            ti.calibration.crps(found, truths),
            ti.calibration.coverage(found, truths),
            found.diagnostics.residual_chi_square.mean(1),
        ],
        dim=1,
    ).double()


def cells(scores: Tensor) -> str:
    """Mean and standard error of each column of scores ``(count, 4)``, as cells of a table."""
    mean, error = scores.mean(0).tolist(), (scores.std(0) / len(scores) ** 0.5).tolist()
    several = zip(mean, error, _DIGITS, strict=True)
    return " | ".join(f"{m:.{d}f} +- {e:.{d}f}" for m, e, d in several)


def against(scores: Tensor, reference: Tensor) -> str:
    """CRPS relative to that of the same images and seeds, in per cent, with a standard error."""
    change = scores[:, 1].sum() / reference[:, 1].sum() - 1
    # Delta method for a ratio of sums over the same pairs.
    rest = scores[:, 1] - (1 + change) * reference[:, 1]
    error = rest.std() / len(rest) ** 0.5 / reference[:, 1].mean()
    return f"{100 * float(change):+.1f} +- {100 * float(error):.1f} %"

"""What a posterior is worth, with standard errors over images and seeds: rows of studies."""

import torch
from torch import Tensor

import tweedie_inverse as ti

HEAD = "PSNR | CRPS | 90 % coverage | chi-square"
_DIGITS = (2, 5, 3, 3)


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

"""Processes of every kind, and the law of the noised images that samplers should keep."""

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse.phase_space import processes
from tweedie_inverse.phase_space.processes import LinearProcess, Rate

PROCESSES = {
    "psld": processes.psld(),
    "cld": processes.cld(),
    "vp": processes.vp(),
    "oscillating": processes.psld(1.0, 2.0, mass=0.3),
    "rising": processes.psld(rate=Rate(2.0, 14.0)),
}
MIXTURE = ti.priors.GaussianMixture(
    torch.tensor([[-1.0, -0.5], [0.8, 0.9], [0.6, -1.0]]).double(),
    torch.tensor([0.3, 0.5, 0.2]).double(),
    0.3,
)


def true_law(process: LinearProcess, s: Tensor, t: float) -> Tensor:
    """Covariance of the phases of noised images, ``(pixels, k, k)``."""
    seen = process.given_image(t)
    outer = seen.direction[:, None] * seen.direction[None, :]
    return seen.covariance + s[:, None, None] * outer

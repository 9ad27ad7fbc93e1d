"""Guidance in phase space: a prior steered towards a class, in its whitened noise.

With L the factor of ``p(z_t | x0)`` and gamma the scale,

    classifier        epsilon - gamma L^T grad_z log p(class | z, t)
    classifier-free   (1 - gamma) epsilon(z) + gamma epsilon(z | class)

on all phases (Pandey and Mandt 2023, equation 13; Ho and Salimans 2022).  What is sampled at a
scale other than 0 and 1: see `tweedie_inverse.guidance`.  The classifier sees all phases and the
forward time t, as it was trained; the paper's code tells it ``1 - t``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import function, instance, number
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.phase_space.prior import PhaseSpaceNetwork, PhaseSpacePrior
from tweedie_inverse.phase_space.processes import act
from tweedie_inverse.priors.guidance import checked_label, given

# (z (batch, phases, *shape) in network units, t (batch,)) -> (batch, classes), logarithms of
# probabilities up to a constant for each image.
PhaseClassifier = Callable[[Tensor, Tensor], Tensor]


def classifier_free(
    prior: PhaseSpaceNetwork, label: int | Tensor, scale: float
) -> "PhaseClassifierFree":
    """Guidance of one class-conditional network, trained with label dropout.

    `label` is an int, or one an image, ``(batch,)``; all images must then run in one batch.
    """
    return PhaseClassifierFree(given(prior, label), prior, scale)


class _Guided(PhaseSpacePrior):
    """What both kinds share."""

    def __init__(self, leading: PhaseSpacePrior, scale: float):
        me = type(self).__name__
        instance(me, "prior", leading, PhaseSpacePrior, need="a phase-space prior")
        scale = number(me, "scale", scale, low=0, need="a number >= 0")
        self.leading, self.guide = leading, scale
        self.process, self.shape, self.centre = leading.process, leading.shape, leading.centre
        self.offset, self.scale = leading.offset, leading.scale
        self.time_min, self.time_max = leading.time_min, leading.time_max
        self.sigma_min, self.sigma_max = leading.sigma_min, leading.sigma_max

    @property
    def device(self) -> torch.device:
        return self.leading.device

    def denoising_error(self, sigma: float) -> Covariance:
        return self.leading.denoising_error(sigma)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        return self.leading.conditional_covariance(sigma, denoised)


class PhaseClassifierFree(_Guided):
    """A conditional and an unconditional prior of one process.

    Cost: two network evaluations for one of this prior; one at scale 0 and 1.
    """

    def __init__(self, conditional: PhaseSpacePrior, unconditional: PhaseSpacePrior, scale: float):
        if conditional.process is not unconditional.process:
            raise ValueError(
                "PhaseClassifierFree: both priors need one process, the same object; their noise "
                "is whitened by it"
            )
        super().__init__(unconditional if scale == 0 else conditional, scale)
        self.conditional, self.unconditional = conditional, unconditional

    def epsilon(self, z: Tensor, t: float | Tensor) -> Tensor:
        if self.guide in (0, 1):
            return self.leading.epsilon(z, t)
        without = self.unconditional.epsilon(z, t)
        return without + self.guide * (self.conditional.epsilon(z, t) - without)

    @property
    def error_is_measured(self) -> bool:
        return self.guide in (0, 1) and self.leading.error_is_measured


class ClassifierGuided(_Guided):
    """A prior and a classifier of noised states.

    Cost: one network evaluation, and one evaluation and gradient of the classifier.

    Args:
        label: an int, or one an image, ``(batch,)``; all images must then run in one batch.
    """

    def __init__(
        self,
        prior: PhaseSpacePrior,
        classifier: PhaseClassifier,
        label: int | Tensor,
        scale: float,
    ):
        super().__init__(prior, scale)
        need = "a function (phases, times) to logarithms of probabilities (batch, classes)"
        self.classifier = function("ClassifierGuided", "classifier", classifier, need=need)
        self.label = checked_label("ClassifierGuided", label)

    def epsilon(self, z: Tensor, t: float | Tensor) -> Tensor:
        epsilon = self.leading.epsilon(z, t)
        if self.guide == 0:
            return epsilon
        times = torch.as_tensor(t, dtype=torch.float64, device=z.device).expand(len(z))
        with torch.enable_grad():
            state = z if z.requires_grad else z.detach().requires_grad_(True)
            logits = torch.log_softmax(self.classifier(state, times), dim=1)
            wanted = torch.as_tensor(self.label, device=z.device).expand(len(z))
            share = logits.gather(1, wanted[:, None]).sum()
            # A derivative of this prior needs the second derivative of the classifier.
            (gradient,) = torch.autograd.grad(share, state, create_graph=z.requires_grad)
        return epsilon - self.guide * act(self.process.given_image(t).factor.mT, gradient)

    @property
    def error_is_measured(self) -> bool:
        return self.guide == 0 and self.leading.error_is_measured

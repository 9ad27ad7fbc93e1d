"""Guidance: a prior steered towards a class, as a prior that every walk takes.

Luo 2022, section "Guidance"; Dhariwal and Nichol 2021; Ho and Salimans 2022.  In scores, with the
scale gamma:

    classifier        s(x) + gamma * grad log p(class | x, sigma)
    classifier-free   (1 - gamma) s(x) + gamma s(x | class)

Scale 0 is the prior itself, scale 1 the class as it is (for an exact classifier both are the same),
more pushes away from the other classes; the ``w`` of Ho and Salimans is ``gamma - 1``.

What is sampled.  At every noise level both scores belong to the tilted density
``p_sigma(x)^(1 - gamma) p_sigma(x | class)^gamma``, and a walk that equilibrates at its last levels
(Langevin moves) samples that.  Unless gamma is 0 or 1 the tilted densities at different levels are
not noised versions of each other.  So a walk from noise down (`ddim`, `ddpm`) ends elsewhere: for
Gaussians of variance s (all) and c (class) the tilted variance is ``1 / (gamma / c + (1 - gamma) /
s)``, that of the deterministic walk ``c^gamma s^(1 - gamma)``.

The denoising error is that of the class, or of the unguided prior for a classifier: no x0 belongs
to a guided denoiser, so there is none to measure.  For a scale above 1 it errs on the large side:
the measurement counts for more than the prior.  `error_is_measured` is True for scale 1
(classifier-free) and 0 only.
"""

import copy
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import count, function, instance, number
from tweedie_inverse.boundary.arrays import tensor_of
from tweedie_inverse.boundary.contracts import Contract, called
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.residence import resident_on
from tweedie_inverse.priors.base import Prior, sigma_column
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.unet import UNet
from tweedie_inverse.runtime.ranks import Ranks

# (x (batch, *shape) in data units, sigma (batch,)) -> (batch, classes), logarithms of probabilities
# up to a constant for each image.
Classifier = Callable[[Tensor, Tensor], Tensor]


class HasModule(Protocol):
    """A prior made of one network."""

    module: nn.Module


AnyNetwork = TypeVar("AnyNetwork", bound=HasModule)


class OfClass(nn.Module):
    """A class-conditional network for a fixed class.

    Args:
        module: called as ``module(input, noise label, classes)``.
        label: an int, or one an image, ``(batch,)``.
    """

    def __init__(self, module: nn.Module, label: int | Tensor):
        super().__init__()
        self.module, self.label = module, label

    def forward(self, x: Tensor, noise_label: Tensor) -> Tensor:
        if isinstance(self.label, Tensor):
            classes = resident_on(self.label, x.device).expand(len(x))
        else:
            classes = torch.full((len(x),), self.label, device=x.device)
        return self.module(x, noise_label, classes)


def given(prior: AnyNetwork, label: int | Tensor) -> AnyNetwork:
    """A class-conditional network prior for one class, an ordinary or a phase-space one.

    Differs from the unconditional prior in the network's third argument only: it keeps the
    measured denoising error, which is then that of all classes together and errs on the large side.

    Raises:
        TypeError: no prior made of one network, or no number of a class.
        ValueError: a class that the network does not have, where it says how many there are.
    """
    module = getattr(prior, "module", None)
    if not isinstance(prior, Prior) or not isinstance(module, nn.Module):
        raise TypeError(
            f"given(prior=): needs a prior made of one network, got {type(prior).__name__}"
        )
    label = checked_label("given", label)
    if isinstance(module, UNet):
        _refuse_unknown(label, module.classes)
    conditional = copy.copy(prior)
    conditional.module = OfClass(module, label)
    return conditional


def checked_label(caller: str, label: int | Tensor) -> int | Tensor:
    """The number of a class, or one an image.

    Raises:
        TypeError: no whole numbers.
        ValueError: a negative one.
    """
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 1:
        numbers = tensor_of(caller, "label", label)
        if numbers.is_floating_point() or numbers.is_complex() or bool((numbers < 0).any()):
            raise TypeError(f"{caller}(label=): needs whole numbers from 0 on, one an image")
        return numbers
    return _class(caller, label)


def _refuse_unknown(label: int | Tensor, classes: int) -> None:
    largest = int(label.max()) if isinstance(label, Tensor) else label
    if largest > classes or not classes:  # the number behind the last one is "any class"
        has = f"has {classes} classes, 0 to {classes - 1}" if classes else "has no classes"
        raise ValueError(f"given(label={largest}): this network {has}")


def _class(caller: str, label: Any) -> int:
    return count(
        caller, "label", label, least=0, most=2**31, need="the number of a class, from 0 on"
    )


def classifier_free(prior: NetworkPrior, label: int, scale: float) -> "ClassifierFree":
    """Guidance of one class-conditional network, trained with label dropout."""
    return ClassifierFree(given(prior, label), prior, scale)


class _Guided(Prior):
    """What both kinds share: shape and range of a leading prior."""

    def __init__(self, leading: Prior, scale: float):
        scale = number(type(self).__name__, "scale", scale, low=0, need="a number >= 0")
        instance(type(self).__name__, "prior", leading, Prior, need="a prior")
        self.leading, self.scale = leading, scale
        self.shape, self.centre = tuple(leading.shape), leading.centre
        self.sigma_min, self.sigma_max = leading.sigma_min, leading.sigma_max
        self.any_sigma = leading.any_sigma
        self.value_range, self.units = leading.value_range, leading.units
        self.noise_covariance, self.probe_basis = leading.noise_covariance, leading.probe_basis

    @property
    def device(self) -> torch.device:
        return self.leading.device

    @property
    def ranks(self) -> Ranks:
        return self.leading.ranks

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        return self.leading.contracts(x, sigma)

    def denoising_error(self, sigma: float) -> Covariance:
        return self.leading.denoising_error(sigma)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        return self.leading.conditional_covariance(sigma, denoised)


class ClassifierFree(_Guided):
    """``D(x) + scale (D(x | class) - D(x))`` of a conditional and an unconditional prior.

    Cost: two network evaluations for one of this prior; one at scale 0 and 1.
    """

    def __init__(self, conditional: Prior, unconditional: Prior, scale: float):
        for name, prior in (("conditional", conditional), ("unconditional", unconditional)):
            instance("ClassifierFree", name, prior, Prior, need="a prior")
        if tuple(conditional.shape) != tuple(unconditional.shape):
            raise ValueError(
                f"ClassifierFree: both priors need images of one shape, got {conditional.shape} "
                f"and {unconditional.shape}"
            )
        scale = number("ClassifierFree", "scale", scale, low=0, need="a number >= 0")
        super().__init__(unconditional if scale == 0 else conditional, scale)
        self.conditional, self.unconditional = conditional, unconditional
        self.centre = unconditional.centre  # the start must not presume the class's own
        self.sigma_min = max(conditional.sigma_min, unconditional.sigma_min)
        self.sigma_max = min(conditional.sigma_max, unconditional.sigma_max)
        self.any_sigma = conditional.any_sigma and unconditional.any_sigma

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        if self.scale in (0, 1):
            return self.leading.denoise(x, sigma)
        without = self.unconditional.denoise(x, sigma)
        return without + self.scale * (self.conditional.denoise(x, sigma) - without)

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        if self.scale in (0, 1):
            return self.leading.contracts(x, sigma)
        return self.conditional.contracts(x, sigma) + self.unconditional.contracts(x, sigma)

    def uncorrected(self) -> "ClassifierFree":
        return ClassifierFree(
            self.conditional.uncorrected(), self.unconditional.uncorrected(), self.scale
        )

    @property
    def error_is_measured(self) -> bool:
        return self.scale in (0, 1) and self.leading.error_is_measured

    @property
    def error_is_exact(self) -> bool:
        return self.scale in (0, 1) and self.leading.error_is_exact

    def for_shape(self, shape: tuple[int, ...]) -> "ClassifierFree":
        fitting = self.conditional.for_shape(shape), self.unconditional.for_shape(shape)
        return ClassifierFree(*fitting, self.scale)


class ClassifierGuided(_Guided):
    """``D(x) + scale sigma^2 grad log p(class | x, sigma)``, p from a classifier of noisy images.

    Cost: one network evaluation, and one evaluation and gradient of the classifier.
    """

    def __init__(self, prior: Prior, classifier: Classifier, label: int, scale: float):
        super().__init__(prior, scale)
        need = "a function (images, sigma) to logarithms of probabilities (batch, classes)"
        self.prior = prior
        self.classifier = function("ClassifierGuided", "classifier", classifier, need=need)
        self.label = _class("ClassifierGuided", label)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        denoised = self.prior.denoise(x, sigma)
        if self.scale == 0:
            return denoised
        column = sigma_column(x, sigma)
        with torch.enable_grad():
            state = x if x.requires_grad else x.detach().requires_grad_(True)
            logits = self._logits(state, column.flatten())
            share = torch.log_softmax(logits, dim=1)[:, self.label].sum()
            # A derivative of this denoiser needs the second derivative of the classifier.
            (gradient,) = torch.autograd.grad(share, state, create_graph=x.requires_grad)
        return denoised + self.scale * column**2 * gradient

    def _logits(self, x: Tensor, sigma: Tensor) -> Tensor:
        logits = called("the classifier", self.classifier, x, sigma)
        needed = self.label + 1
        is_table = isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == len(x)
        if not is_table or logits.shape[1] < needed or not bool(logits.isfinite().all()):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"ClassifierGuided: the classifier must return finite numbers ({len(x)}, classes), "
                f"{needed} classes or more; it returned {got}"
            )
        if not logits.requires_grad:
            raise ValueError(
                "ClassifierGuided: the classifier's answer has no gradient with respect to the "
                "image; it must compute it with torch, without detach() and no_grad()"
            )
        return logits

    def uncorrected(self) -> "ClassifierGuided":
        return ClassifierGuided(self.prior.uncorrected(), self.classifier, self.label, self.scale)

    @property
    def error_is_measured(self) -> bool:
        return self.scale == 0 and self.prior.error_is_measured

    @property
    def error_is_exact(self) -> bool:
        return self.scale == 0 and self.prior.error_is_exact

    def for_shape(self, shape: tuple[int, ...]) -> "ClassifierGuided":
        fitting = self.prior.for_shape(shape)
        return ClassifierGuided(fitting, self.classifier, self.label, self.scale)

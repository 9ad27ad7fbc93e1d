"""Our operators as deepinv physics.

This module needs deepinv, so it is imported inside functions only.  The methods take deepinv's
``**kwargs``, parameters that it passes to every physics, and do not use them.
"""

from typing import Any

import torch
from deepinv.physics import DecomposablePhysics, LinearPhysics, NoiseModel, Physics, ZeroNoise
from torch import Tensor

from tweedie_inverse.numerics.autograd import linear_map
from tweedie_inverse.numerics.spectral import Spectrum
from tweedie_inverse.operators.base import LinearOperator, Operator
from tweedie_inverse.operators.noise import base as our_noise


class WrappedOperator:
    """What our operators have in common as physics: noise, and zeros in entries not observed."""

    operator: Operator
    noise_model: NoiseModel
    made_noise_model: tuple

    def noise(self, x: Tensor, **kwargs: Any) -> Tensor:
        y = self.noise_model(x, **kwargs)
        observed = self.operator.observed
        if observed is None or isinstance(self.noise_model, ZeroNoise):
            return y
        return torch.where(observed.to(y.device), y, torch.zeros_like(y))

    @property
    def is_unchanged(self) -> bool:
        """Whether the noise is still that of the operator."""
        return self.made_noise_model == _state(self.noise_model)


class OperatorPhysics(WrappedOperator, Physics):
    """An `Operator` as a deepinv physics."""

    def __init__(self, operator: Operator, noise_model: NoiseModel):
        super().__init__(noise_model=noise_model)
        self.operator, self.img_size = operator, operator.domain_shape
        self.made_noise_model = _state(noise_model)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: N802
        return self.operator.forward(x)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:  # noqa: N802
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.operator.forward(x), x, v)[0]


class _WrappedLinear(WrappedOperator):
    operator: LinearOperator

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: N802
        return linear_map(x, self.operator.forward, self.operator.adjoint)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: N802
        return linear_map(y, self.operator.adjoint, self.operator.forward)


class LinearOperatorPhysics(_WrappedLinear, LinearPhysics):
    """A `LinearOperator` as a deepinv linear physics."""

    def __init__(self, operator: LinearOperator, noise_model: NoiseModel):
        super().__init__(img_size=operator.domain_shape, noise_model=noise_model)
        self.operator = operator
        self.made_noise_model = _state(noise_model)


class DecomposableOperatorPhysics(_WrappedLinear, DecomposablePhysics):
    """A `LinearOperator` with a spectrum; `DDRM` and exact proximal steps need its factors."""

    def __init__(self, operator: LinearOperator, spectrum: Spectrum, noise_model: NoiseModel):
        one = torch.zeros(1, *operator.domain_shape)
        singular = spectrum.singular.float().expand_as(spectrum.basis.transform(one))
        super().__init__(
            U=spectrum.from_modes,
            U_adjoint=spectrum.to_modes,
            V=spectrum.basis.inverse,
            V_adjoint=spectrum.basis.transform,
            mask=singular.clone(),
            img_size=operator.domain_shape,
            noise_model=noise_model,
        )
        self.operator = operator
        self.made_noise_model = _state(noise_model)


class SampledNoise(NoiseModel):
    """A noise model of ours that deepinv has no counterpart for."""

    def __init__(self, noise: our_noise.NoiseModel):
        super().__init__(rng=torch.Generator())
        self.noise = noise

    def forward(self, input: Tensor, seed: int | None = None, **kwargs: Any) -> Tensor:
        self.rng_manual_seed(seed)
        drawn = torch.randint(2**62, (), generator=self.rng, device=self.rng.device)
        return self.noise.sample(input, seed=int(drawn))


def _state(model: NoiseModel) -> tuple:
    """What the law of a noise model depends on: the object and its parameters."""
    numbers = {name: value.tolist() for name, value in model.named_buffers()}
    numbers.pop("initial_random_state", None)
    return id(model), sorted(numbers.items())

"""Our operators as deepinv physics.  Needs deepinv: import this module inside functions only.

The methods take deepinv's ``**kwargs`` (parameters it passes to every physics) and have no use for
them.
"""

from typing import Any

import torch
from deepinv.physics import LinearPhysics, NoiseModel, Physics, ZeroNoise
from torch import Tensor

from . import noise as our_noise
from .autograd import linear_map
from .base import LinearOperator, Operator


class OperatorPhysics(Physics):
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

    def noise(self, x: Tensor, **kwargs: Any) -> Tensor:
        return _noisy(self, x, **kwargs)

    @property
    def is_unchanged(self) -> bool:
        """Whether the noise is still that of the operator."""
        return self.made_noise_model == _state(self.noise_model)


class LinearOperatorPhysics(LinearPhysics):
    """A `LinearOperator` as a deepinv linear physics."""

    def __init__(self, operator: LinearOperator, noise_model: NoiseModel):
        super().__init__(img_size=operator.domain_shape, noise_model=noise_model)
        self.operator = operator
        self.made_noise_model = _state(noise_model)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: N802
        return linear_map(x, self.operator.forward, self.operator.adjoint)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: N802
        return linear_map(y, self.operator.adjoint, self.operator.forward)

    def noise(self, x: Tensor, **kwargs: Any) -> Tensor:
        return _noisy(self, x, **kwargs)

    @property
    def is_unchanged(self) -> bool:
        """Whether the noise is still that of the operator."""
        return self.made_noise_model == _state(self.noise_model)


class SampledNoise(NoiseModel):
    """A noise model of ours that deepinv has no counterpart for."""

    def __init__(self, noise: our_noise.NoiseModel):
        super().__init__(rng=torch.Generator())
        self.noise = noise

    def forward(self, input: Tensor, seed: int | None = None, **kwargs: Any) -> Tensor:
        self.rng_manual_seed(seed)
        drawn = torch.randint(2**62, (), generator=self.rng, device=self.rng.device)
        return self.noise.sample(input, seed=int(drawn))


def _noisy(physics: Physics, ax: Tensor, **kwargs: Any) -> Tensor:
    y = physics.noise_model(ax, **kwargs)
    observed = physics.operator.observed
    if observed is None or isinstance(physics.noise_model, ZeroNoise):
        return y
    return torch.where(observed.to(y.device), y, torch.zeros_like(y))


def _state(model: NoiseModel) -> tuple:
    """What the law of a noise model depends on: the object and its parameters."""
    numbers = {name: value.tolist() for name, value in model.named_buffers()}
    numbers.pop("initial_random_state", None)
    return id(model), sorted(numbers.items())

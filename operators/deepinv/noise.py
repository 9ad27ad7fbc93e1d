"""deepinv's noise models and ours.

| deepinv | ours |
|---|---|
| `GaussianNoise(sigma)` | `GaussianNoise(sigma)`; sigma / sqrt(2) a channel of complex data |
| `PoissonNoise(gain)` | `PoissonNoise(gain)` |
| `PoissonNoise(gain, normalize=False)`: y in counts | `PoissonNoise(1)`, and A is divided by gain |
| `PoissonGaussianNoise(gain, sigma)` | `PoissonGaussianNoise(gain, sigma)` |
| `ZeroNoise`, sigma = 0 | None: the noise is not known |
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.operators.deepinv.layout import Layout, Part
from tweedie_inverse.operators.noise.base import GaussianNoise, NoiseModel
from tweedie_inverse.operators.noise.counts import PoissonGaussianNoise, PoissonNoise


class MappedNoise(NamedTuple):
    """Our noise model, and the divisor that brings ``A(x)`` of deepinv to its units."""

    model: NoiseModel | None
    divisor: float = 1.0


def noise_from_deepinv(physics: Any, layout: Layout) -> MappedNoise:
    """The noise of a physics whose measurements have `layout`.

    Raises:
        ValueError: ours has no counterpart, or the noise is not added to ``A(x)``.
    """
    from deepinv.physics import PhaseRetrieval, Physics, StackedPhysics, ZeroNoise

    leaves = physics.physics_list if isinstance(physics, StackedPhysics) else [physics]
    if all(isinstance(leaf.noise_model, ZeroNoise) for leaf in leaves):
        return MappedNoise(None)
    name = type(physics).__name__
    if type(physics).forward not in (Physics.forward, PhaseRetrieval.forward):
        raise _refusal(f"{name} has a forward() of its own, so what its noise does is not known")
    z = torch.tensor([-1e6, -1.5, -0.3, 0.0, 0.4, 1.5, 1e6])
    if any(not torch.equal(leaf.sensor(z.clone()), z) for leaf in leaves):
        raise _refusal(f"{name} has a sensor model, which changes the law of y")
    mapped = [
        _mapped(leaf.noise_model, part) for leaf, part in zip(leaves, layout.parts, strict=True)
    ]
    if len({(repr(entry.model), entry.divisor) for entry in mapped}) == 1:
        return mapped[0]
    models = [entry.model for entry in mapped]
    stds = [model.std for model in models if isinstance(model, GaussianNoise)]
    if len(stds) < len(models):
        raise _refusal(f"the parts of {name} have noise of different kinds, {models}")
    sizes = layout.sizes
    return MappedNoise(
        GaussianNoise(torch.cat([s.expand(n) for s, n in zip(stds, sizes, strict=True)]))
    )


def noise_to_deepinv(noise: NoiseModel | None) -> Any:
    """A deepinv noise model with random numbers of its own, so that no global state is touched."""
    from deepinv import physics

    from tweedie_inverse.operators.deepinv.physics import SampledNoise

    if noise is None:
        return physics.ZeroNoise()
    if isinstance(noise, GaussianNoise) and noise.is_white:
        return physics.GaussianNoise(float(noise.std), rng=torch.Generator())
    if isinstance(noise, PoissonNoise):
        return physics.PoissonNoise(noise.gain, clip_positive=True, rng=torch.Generator())
    if isinstance(noise, PoissonGaussianNoise):
        return physics.PoissonGaussianNoise(
            noise.gain, noise.std, clip_positive=True, rng=torch.Generator()
        )
    return SampledNoise(noise)


def _mapped(model: Any, part: Part) -> MappedNoise:
    from deepinv import physics

    from tweedie_inverse.operators.deepinv.physics import SampledNoise

    kind = type(model)  # a subclass may do anything
    if kind is SampledNoise:
        return MappedNoise(model.noise)
    if kind is physics.ZeroNoise:
        return MappedNoise(None)
    if kind is physics.GaussianNoise:
        sigma = _number("GaussianNoise.sigma", model.sigma)
        if sigma == 0:
            return MappedNoise(None)
        # torch shares the variance of a complex normal number between its two parts.
        return MappedNoise(GaussianNoise(sigma / math.sqrt(2 if part.kind == "complex" else 1)))
    if kind is physics.PoissonNoise and part.kind == "real":
        gain = _number("PoissonNoise.gain", model.gain)
        if model.normalize:
            return MappedNoise(PoissonNoise(gain))
        return MappedNoise(PoissonNoise(1), divisor=gain)
    if kind is physics.PoissonGaussianNoise and part.kind == "real":
        gain = _number("PoissonGaussianNoise.gain", model.gain)
        sigma = _number("PoissonGaussianNoise.sigma", model.sigma)
        return MappedNoise(PoissonGaussianNoise(gain, sigma) if sigma > 0 else PoissonNoise(gain))
    raise _refusal(f"noise model {kind.__name__} has no counterpart for these measurements")


def _number(name: str, value: Tensor) -> float:
    if value.numel() != 1:
        raise _refusal(f"{name} has {value.numel()} values, one an image")
    return float(value)


def _refusal(reason: str) -> ValueError:
    return ValueError(
        f"from_deepinv: {reason}. Pass noise=, such as noise=ops.GaussianNoise(std) with the std "
        "that describes your data, or a NoiseModel of your own"
    )

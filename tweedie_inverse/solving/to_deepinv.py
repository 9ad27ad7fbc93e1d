"""A posterior sampler where deepinv expects a reconstruction model (Tachella et al. 2025).

deepinv is imported inside the function, so that the package does not need it.
"""

from collections.abc import Sequence
from typing import Any

from tweedie_inverse.boundary.arguments import choice, count, flag, number, sizes
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.operators import GaussianNoise, NoiseModel
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.named import PriorLike, prior_of
from tweedie_inverse.walks import Walk

_ANSWERS = ("mean", "sample", "samples")


def deepinv_reconstructor(
    prior: PriorLike,
    *,
    returns: str = "mean",
    method: str | Walk = "auto",
    num_samples: int = 16,
    steps: int | None = None,
    noise: NoiseModel | float | str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    domain_shape: Sequence[int] | None = None,
    real_images: bool = False,
) -> Any:
    """`solve` as a `deepinv.models.Reconstructor`: ``model(y, physics)``, as in `deepinv.test`.

    The operator and its noise are those of the physics (`ops.from_deepinv`), read anew at every
    call, and the prior goes where y is.  ``model.posterior(y, physics)`` is the `Posterior`, and
    ``model.sample(y, physics)`` the mean and the variance, as of deepinv's own samplers.

    Every measurement has random numbers of its own: the first that a model sees those of number 0,
    and so on.  ``model(y, physics, seed=3)`` begins at number 0 of seed 3 and leaves the count.

    Args:
        prior, method, num_samples, steps, noise, batch_size: as for `solve`.  With
            ``returns="sample"`` one sample is drawn, whatever `num_samples` says.
        returns: ``"mean"``, the posterior mean ``(batch, *shape)``, which has the smallest squared
            error; ``"sample"``, one posterior sample ``(batch, *shape)``, which looks like an
            image, and which `deepinv.sampling.DiffusionSampler` takes; ``"samples"``, all of them,
            ``(batch, num_samples, *shape)``.
        noise: instead of the physics' own; needed where it has none.
        domain_shape: of an image, where the physics does not know it; default that of the prior.
        real_images: take the images of a physics of complex ones, such as `deepinv.physics.MRI`, to
            be real, so that a prior of real images fits; their imaginary channels are then 0.

    Raises:
        ImportError: deepinv is not installed.
        ValueError, TypeError: anything that `from_deepinv` or `solve` refuses, at the call.
    """
    try:
        import deepinv  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "deepinv_reconstructor: needs deepinv: pip install tweedie-inverse[networks]"
        ) from error
    from tweedie_inverse.solving.reconstructor import PosteriorReconstructor, Settings

    caller = "deepinv_reconstructor"
    if not isinstance(prior, Prior):
        prior = prior_of(caller, prior)
    choice(caller, "returns", returns, _ANSWERS)
    count(caller, "num_samples", num_samples, need="at least one sample")
    settings = Settings(
        returns=returns,
        method=method,
        num_samples=1 if returns == "sample" else num_samples,
        steps=steps,
        noise=_noise(caller, noise),
        batch_size=batch_size,
        seed=checked_seed(caller, "seed", seed),
        domain_shape=None if domain_shape is None else sizes(caller, "domain_shape", domain_shape),
        real_images=flag(caller, "real_images", real_images),
    )
    return PosteriorReconstructor(prior, settings)


def _noise(caller: str, given: NoiseModel | float | str | None) -> NoiseModel | None:
    """The model that stands for the argument; None for that of the physics."""
    if given is None or isinstance(given, NoiseModel):
        return given
    if given == "estimate":
        return GaussianNoise.unknown()
    need = "a number or a noise model such as ops.GaussianNoise(0.1), or 'estimate'"
    return GaussianNoise(number(caller, "noise", given, above=0, need=need))

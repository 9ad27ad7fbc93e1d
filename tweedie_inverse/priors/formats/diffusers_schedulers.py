"""What the scheduler of a diffusers pipeline says about its network.

Discrete schedulers: the network sees ``x / sqrt(1 + sigma^2)`` on [-1, 1] and a timestep.  The
score-SDE VE pipeline: it sees x on [0, 1] and sigma itself, and returns the score.
"""

from typing import Any

from torch import Tensor, nn

from tweedie_inverse.numerics.timesteps import levels_of_betas
from tweedie_inverse.priors.formats.base import Target, timestep_prior
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.parameterizations import Parameterization

PREDICTIONS: dict[str, Parameterization] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "sample": "x0",
}


def diffusers_prior(
    module: nn.Module,
    shape: tuple[int, ...],
    scheduler: dict[str, Any],
    prediction: str,
    target: Target,
    name: str = "diffusers",
    network_range: tuple[float, float] | None = None,
) -> NetworkPrior:
    """A module called like diffusers calls a U-Net, with its scheduler's configuration."""
    if scheduler["_class_name"] == "ScoreSdeVeScheduler":
        offset, scale = target.units(network_range or (0.0, 1.0))
        return NetworkPrior(
            module,
            "score",
            shape=shape,
            offset=offset,
            scale=scale,
            sigma_min=scheduler.get("sigma_min", 0.01) * scale,
            sigma_max=scheduler.get("sigma_max", 1348.0) * scale,
            centre=offset + 0.5 * scale,
            name=name,
        )
    table = noise_levels(scheduler, name)
    return timestep_prior(
        module, PREDICTIONS[prediction], shape, table, target, name, network_range or (-1.0, 1.0)
    )


def noise_levels(scheduler: dict[str, Any], name: str) -> Tensor:
    """Noise levels ``(timesteps,)`` of a scheduler's configuration, increasing, float64.

    They come from the betas of the scheduler itself: its ``alphas_cumprod``, the product of ``1 -
    beta``, is float32, in which ``1 - alphas_cumprod`` has lost half of its digits at small t.

    A last level without any signal (``rescale_betas_zero_snr``) is left out: it is infinite.

    Raises:
        ValueError: diffusers does not know the scheduler or its schedule, or it has no betas.
    """
    import diffusers

    kind = getattr(diffusers, scheduler["_class_name"], None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ValueError(
            f"load_prior({name!r}): diffusers {diffusers.__version__} has no scheduler "
            f"{scheduler['_class_name']!r}"
        )
    try:
        betas = vars(kind.from_config(scheduler)).get("betas")
    except NotImplementedError as error:
        raise ValueError(f"load_prior({name!r}): {error}") from error
    if not isinstance(betas, Tensor):
        raise ValueError(
            f"load_prior({name!r}): scheduler {scheduler['_class_name']} has no betas; known are "
            "those of DDPM, DDIM and their relatives, and ScoreSdeVeScheduler"
        )
    levels = levels_of_betas(betas)
    return levels[levels.isfinite()]

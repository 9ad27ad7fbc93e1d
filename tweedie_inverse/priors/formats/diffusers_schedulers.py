"""What the scheduler of a diffusers pipeline says about its network.

Discrete schedulers: the network sees ``x / sqrt(1 + sigma^2)`` on [-1, 1] and a timestep.  The
score-SDE VE pipeline: it sees x on [0, 1] and sigma itself, and returns the score.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tweedie_inverse.priors.formats.base import Target, timestep_prior
from tweedie_inverse.priors.network import NetworkPrior, Parameterization

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
) -> NetworkPrior:
    """A module called like diffusers calls a U-Net, with its scheduler's configuration."""
    if scheduler["_class_name"] == "ScoreSdeVeScheduler":
        offset, scale = target.units((0.0, 1.0))
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
    return timestep_prior(module, PREDICTIONS[prediction], shape, table, target, name)


def noise_levels(scheduler: dict[str, Any], name: str) -> Tensor:
    """Noise levels ``(timesteps,)`` of a scheduler's configuration, increasing, float64.

    A last level without any signal (``rescale_betas_zero_snr``) is left out: it is infinite.
    """
    if "beta_schedule" not in scheduler and "trained_betas" not in scheduler:
        raise ValueError(
            f"load_prior({name!r}): scheduler {scheduler['_class_name']} has no betas; known are "
            "those of DDPM, DDIM and their relatives, and ScoreSdeVeScheduler"
        )
    steps = scheduler.get("num_train_timesteps", 1000)
    first, last = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
    kind = scheduler.get("beta_schedule", "linear")
    even = torch.linspace(0, 1, steps, dtype=torch.float64)
    if scheduler.get("trained_betas") is not None:
        beta = torch.tensor(scheduler["trained_betas"], dtype=torch.float64)
    elif kind == "linear":
        beta = first + even * (last - first)
    elif kind == "scaled_linear":
        beta = (first**0.5 + even * (last**0.5 - first**0.5)) ** 2
    elif kind == "sigmoid":
        beta = torch.sigmoid(12 * even - 6) * (last - first) + first
    elif kind == "squaredcos_cap_v2":
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        bar = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
        beta = (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
    else:
        raise ValueError(f"load_prior({name!r}): beta schedule {kind!r} is not known")
    alpha_bar = torch.cumprod(1 - beta, 0)
    if scheduler.get("rescale_betas_zero_snr"):
        root = alpha_bar.sqrt()
        alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return ((1 - alpha_bar) / alpha_bar).sqrt()[:-1]
    return torch.expm1(-torch.log1p(-beta).cumsum(0)).sqrt()

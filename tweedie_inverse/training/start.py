"""Fine-tuning: the weights of a prior of this package as the start of another training run."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.unet import Attention, UNet
from tweedie_inverse.priors.zoo import list_priors, load_prior
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.fresh import fresh_unet


def start_from(network: nn.Module, name_or_path: str, parameterization: str) -> None:
    """Copy the weights of a prior into `network`, in place.

    A network for grey images may start from one for colour: what it sees counts for every channel,
    and its answer is their average.  Class embeddings and attention start afresh where the other
    has none; fresh attention changes nothing until it is trained.

    Raises:
        ValueError: another parameterization, or an architecture that does not fit.
    """
    prior = _loaded(name_or_path, parameterization)
    found, wanted = prior.module.state_dict(), network.state_dict()
    channels = wanted["first.weight"].shape[1]
    _refuse_channels(name_or_path, found["first.weight"].shape[1], channels)
    if channels == 1:
        found["first.weight"] = found["first.weight"].sum(1, keepdim=True)
        for name in ("last.weight", "last.bias"):
            found[name] = found[name].mean(0, keepdim=True)
    fresh = () if _attention(prior.module) else _attention(network)
    different = [
        name
        for name in {**found, **wanted}
        if _shape(found, name) != _shape(wanted, name) and not name.startswith(("of_class", *fresh))
    ]
    if different:
        name = different[0]
        raise ValueError(
            f"train(start={name_or_path!r}): its architecture is another, {name} is "
            f"{_shape(found, name)} there and {_shape(wanted, name)} here. Use its widths, blocks, "
            "and number of channels, or start afresh (--start none)"
        )
    with torch.no_grad():
        for name, value in wanted.items():
            if name in found and _shape(found, name) == tuple(value.shape):
                value.copy_(found[name])


def fitted_to_start(config: TrainingConfig, channels: int) -> TrainingConfig:
    """With the attention of the prior to start from, tried before anything is written.

    The start is tried on a network that is thrown away.

    Raises:
        ValueError: as of `start_from`.
    """
    if not config.start or config.process:
        return config
    if _attention(_loaded(config.start, config.parameterization).module):
        config = replace(config, attention=True)
    start_from(fresh_unet(config, channels, 0), config.start, config.parameterization)
    return config


def _loaded(name_or_path: str, parameterization: str) -> NetworkPrior:
    prior = load_prior(name_or_path)
    if not isinstance(prior, NetworkPrior):
        raise ValueError(
            f"train(start={name_or_path!r}): that is {prior!r}, whose network sees more than an "
            "image (momentum, in phase space); start from another, or afresh"
        )
    if prior.parameterization != parameterization:
        raise ValueError(
            f"train(start={name_or_path!r}): that prior is of parameterization "
            f"{prior.parameterization!r}, this run of {parameterization!r}; make them the same"
        )
    if not isinstance(prior.module, UNet):
        raise ValueError(
            f"train(start={name_or_path!r}): its network is a {type(prior.module).__name__}; only "
            "networks of this package, such as the shipped priors, can be trained on"
        )
    return prior


def _refuse_channels(name_or_path: str, theirs: int, ours: int) -> None:
    """Colour may become grey, but grey cannot become colour."""
    if theirs == ours or ours == 1:
        return
    kinds = {1: "grey images", 3: "colour images"}
    fitting = [card.name for card in list_priors() if card.shape[0] == ours]
    advice = f"start from {' or '.join(fitting)}" if fitting else "start afresh (--start none)"
    raise ValueError(
        f"train(start={name_or_path!r}): that prior is of "
        f"{kinds.get(theirs, f'{theirs} channels')}, these are "
        f"{kinds.get(ours, f'images of {ours} channels')}: {advice}"
        + ", or make the images grey (--colours grey)"
        * (theirs == 1)
    )


def _attention(network: nn.Module) -> tuple[str, ...]:
    """The beginnings of the names of its attention weights."""
    found = (name for name, part in network.named_modules() if isinstance(part, Attention))
    return tuple(f"{name}." for name in found)


def _shape(state: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None

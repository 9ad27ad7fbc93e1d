"""EDM networks (Karras et al. 2022): DDPM++, NCSN++ and ADM under one preconditioning.

Published as pickles that run code when read; `edm_convert` makes safetensors files of them.  The
same names are used by deepinv's files, whose networks of equal shape run them here.  The network
sees ``x / sqrt(sigma^2 + sigma_data^2)`` on [-1, 1] and ``log(sigma) / 4``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..network import NetworkPrior
from .base import Format, Source, Target, of_one_class
from .files import load_weights, ready


@dataclass(frozen=True)
class EDMArchitecture:
    """Arguments of deepinv's `NCSNpp` (kind ``"ncsn"`` or ``"ddpm"``) or `ADMUNet` (``"adm"``)."""

    kind: str
    img_resolution: int
    in_channels: int
    out_channels: int
    label_dim: int
    augment_dim: int
    model_channels: int
    channel_mult: tuple[int, ...]
    channel_mult_emb: int
    num_blocks: int
    attn_resolutions: tuple[int, ...]


def edm_architecture_of(state: Mapping[str, Tensor]) -> EDMArchitecture:
    """The architecture, from names and shapes alone."""
    found = {int(m[1]) for name in state if (m := re.match(r"enc\.(\d+)x\1_", name))}
    sizes = sorted(found, reverse=True)
    first = f"enc.{sizes[0]}x{sizes[0]}"
    adm = "out_conv.weight" in state
    embedding, noise = state["map_layer0.weight"].shape
    model = noise if adm else state[f"{first}_conv.weight"].shape[0]
    blocks = {int(m[1]) for name in state if (m := re.match(rf"{first}_block(\d+)\.", name))}
    last = "out_conv.weight" if adm else f"dec.{sizes[0]}x{sizes[0]}_aux_conv.weight"
    fourier = "ncsn" if "map_noise.freqs" in state else "ddpm"
    widths = [state[f"enc.{size}x{size}_block0.conv1.weight"].shape[0] for size in sizes]
    return EDMArchitecture(
        kind="adm" if adm else fourier,
        img_resolution=sizes[0],
        in_channels=state[f"{first}_conv.weight"].shape[1],
        out_channels=state[last].shape[0],
        label_dim=state["map_label.weight"].shape[1] if "map_label.weight" in state else 0,
        augment_dim=state["map_augment.weight"].shape[1] if "map_augment.weight" in state else 0,
        model_channels=model,
        channel_mult=tuple(width // model for width in widths),
        channel_mult_emb=embedding // model,
        num_blocks=len(blocks),
        attn_resolutions=tuple(
            size for size in sizes if f"enc.{size}x{size}_block0.qkv.weight" in state
        ),
    )


@dataclass(frozen=True)
class EDM(Format):
    """Settings of the preconditioning; the published models' by default.

    Attributes:
        class_label: which class, for a class-conditional network.
        sigma_data, sigma_min, sigma_max: on the network's range.
    """

    name: ClassVar[str] = "edm"
    class_label: int | None = None
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def recognises(self, source: Source) -> bool:
        state = _state(source)
        return "map_layer0.weight" in state or "emb_fourier.freqs" in state

    def describe(self, source: Source) -> dict[str, Any]:
        return vars(edm_architecture_of(_supported(source)))

    def load(self, source: Source, target: Target) -> NetworkPrior:
        assert source.checkpoint is not None
        state = _supported(source)
        found = edm_architecture_of(state)
        label = of_one_class(self.class_label, found.label_dim, source)
        with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
            network = _build(found)
        load_weights(network, state, source.checkpoint.path)
        return edm_prior(
            RawNetwork(ready(network, target.device), found.label_dim, label),
            (found.in_channels, found.img_resolution, found.img_resolution),
            target,
            self,
            source.name,
        )


def edm_prior(
    network: nn.Module, shape: tuple[int, ...], target: Target, settings: EDM, name: str = "edm"
) -> NetworkPrior:
    """The network inside EDM's preconditioning as a prior."""
    offset, scale = target.units((-1.0, 1.0))
    return NetworkPrior(
        network,
        "edm",
        shape=shape,
        offset=offset,
        scale=scale,
        sigma_data=settings.sigma_data,
        sigma_min=settings.sigma_min * scale,
        sigma_max=settings.sigma_max * scale,
        name=name,
    )


class RawNetwork(nn.Module):
    """The network inside the preconditioning, of one class."""

    def __init__(self, network: nn.Module, classes: int, class_label: int | None):
        super().__init__()
        self.network, self.classes, self.class_label = network, classes, class_label

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        labels = None
        if self.class_label is not None:
            labels = x.new_zeros(len(x), self.classes)
            labels[:, self.class_label] = 1
        return self.network.forward_unet(x, label, class_labels=labels)  # type: ignore[operator]


def _build(found: EDMArchitecture) -> nn.Module:
    try:
        from deepinv.models import ADMUNet, NCSNpp
    except ImportError as error:
        raise ImportError("load_prior: EDM networks need deepinv (pip install deepinv)") from error
    settings = {name: value for name, value in vars(found).items() if name != "kind"}
    if found.kind == "adm":
        return ADMUNet(pretrained=None, **settings)
    return NCSNpp(found.kind, pretrained=None, **settings)


def _state(source: Source) -> dict[str, Tensor]:
    """Weights of the raw network, without the preconditioning's prefix."""
    state = source.state
    for prefix in ("model.", "unet."):
        if state and all(name.startswith((prefix, "logvar_")) for name in state):
            return {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _supported(source: Source) -> dict[str, Tensor]:
    """The weights, unless the network is one that would be run wrongly."""
    assert source.checkpoint is not None
    state = _state(source)
    if "emb_fourier.freqs" in state:
        channels = state["out_conv.weight"].shape[0]
        what = "latent priors" if channels == 4 else "EDM2 networks"
        raise ValueError(f"load_prior({source.name!r}): {what} are not supported yet")
    told = json.loads(source.checkpoint.metadata.get("edm", "{}")).get("class", "EDMPrecond")
    if told != "EDMPrecond":
        raise ValueError(
            f"load_prior({source.name!r}): preconditioning {told} is not supported yet, only "
            "EDMPrecond"
        )
    return state

"""The networks of EDM (Karras et al. 2022): DDPM++, NCSN++ and ADM, run by deepinv's classes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tweedie_inverse.priors.exact import all_but, in_float32_or_better


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


class DeepinvCall(nn.Module):
    """``forward(x, label, class_labels)`` of a network of deepinv, without its preconditioning.

    The label is embedded in float32 or better whatever the type of the weights.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        network.get_submodule("map_noise").register_forward_hook(self._as_weights)

    def _as_weights(self, _: nn.Module, label: tuple[Tensor, ...], embedding: Tensor) -> Tensor:
        return embedding.to(self.network.get_parameter("map_layer0.weight").dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        waves = self.network.get_submodule("map_noise")
        return all_but([waves], lambda: super(DeepinvCall, self)._apply(fn, recurse))

    def forward(self, x: Tensor, label: Tensor, class_labels: Tensor | None = None) -> Tensor:
        label = in_float32_or_better(label)
        return self.network.forward_unet(x, label, class_labels=class_labels)  # type: ignore[operator]


def deepinv_network(found: EDMArchitecture) -> nn.Module:
    """The network, with initial weights.

    Raises:
        ImportError: deepinv is not installed.
    """
    try:
        from deepinv.models import ADMUNet, NCSNpp
    except ImportError as error:
        raise ImportError("load_prior: EDM networks need deepinv (pip install deepinv)") from error
    settings = {name: value for name, value in vars(found).items() if name != "kind"}
    if found.kind == "adm":
        return ADMUNet(pretrained=None, **settings)
    return NCSNpp(found.kind, pretrained=None, **settings)

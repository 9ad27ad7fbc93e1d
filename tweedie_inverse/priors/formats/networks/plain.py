"""Plain convolutional denoisers: DnCNN, FDnCNN, FFDNet, IRCNN, which differ in four settings.

All are 3 x 3 convolutions with ReLU between, some with batch normalization.  Sources: Zhang et al.
2017 (DnCNN), 2017 (IRCNN: dilated), 2018 (FFDNet: at half the resolution, with a map of the noise
level); Balke et al. 2022 (scico's DnCNN: periodic borders).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IRCNN_DILATIONS = (1, 2, 3, 4, 3, 2, 1)
IRCNN_STEP = 2 / 255  # one network of the bank for each


class Layer(NamedTuple):
    """Weights of one convolution ``(out, in, 3, 3)``, and of the normalization behind it."""

    weight: Tensor
    bias: Tensor | None = None
    norm: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Wiring:
    """How a stack of layers is used.

    Attributes:
        residual: the layers' output is the noise, which is subtracted; else it is the image.
        level_maps: so many channels of the layers' input, behind the image's, are the noise level.
        half_size: the layers see the four pixels of each 2 x 2 square as channels.
        circular: borders are periodic; else images continue with zeros.
        dilations: of each convolution; all 1 by default.
    """

    residual: bool = True
    level_maps: int = 0
    half_size: bool = False
    circular: bool = False
    dilations: Sequence[int] | None = None


class Plain(nn.Module):
    """``forward(x, sigma)``: ``x (batch, channels, h, w)`` on [0, 1], ``sigma (batch,)``."""

    def __init__(self, layers: Sequence[Layer], wiring: Wiring):
        super().__init__()
        self.wiring = wiring
        dilations = wiring.dilations or [1] * len(layers)
        parts: list[nn.Module] = []
        for layer, dilation in zip(layers, dilations, strict=True):
            parts += [*_filled(layer, dilation, wiring.circular), nn.ReLU()]
        self.model = nn.Sequential(*parts[:-1])

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        wiring, (height, width) = self.wiring, x.shape[-2:]
        h = x
        if wiring.half_size:
            h = F.pad(h, (0, width % 2, 0, height % 2), mode="replicate")
            h = F.pixel_unshuffle(h, 2)
        if wiring.level_maps:
            level = sigma.to(h).reshape(-1, 1, 1, 1).expand(-1, wiring.level_maps, *h.shape[2:])
            h = torch.cat([h, level], dim=1)
        h = self.model(h)
        if wiring.half_size:
            h = F.pixel_shuffle(h, 2)[..., :height, :width]
        # scico's network with a level map answers for the map as well.
        return x - h[:, : x.shape[1]] if wiring.residual else h


class Bank(nn.Module):
    """IRCNN: 25 networks, each for noise levels of a range of 2/255, the first up to 2/255."""

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        # Rounding of sigma must not reach the next network at the levels between two.
        number = torch.ceil(sigma / IRCNN_STEP - 1e-4).long() - 1
        number = number.clamp(0, len(self.networks) - 1)
        out = torch.empty_like(x)
        for index in number.unique().tolist():
            here = number == index
            out[here] = self.networks[index](x[here], sigma[here])
        return out


class PerChannel(nn.Module):
    """A grey denoiser for each channel of an image, as an image of its own."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        channels = x.shape[1]
        grey = x.reshape(-1, 1, *x.shape[2:])
        return self.network(grey, sigma.repeat_interleave(channels)).reshape(x.shape)


def _filled(layer: Layer, dilation: int, circular: bool) -> list[nn.Module]:
    """The convolution, and the normalization if there is one, with their weights."""
    made, given, height, _ = layer.weight.shape
    conv = nn.Conv2d(
        given,
        made,
        height,
        padding=dilation * (height // 2),
        dilation=dilation,
        bias=layer.bias is not None,
        padding_mode="circular" if circular else "zeros",
    )
    parts = {"weight": layer.weight} if layer.bias is None else layer._asdict()
    parts.pop("norm", None)
    conv.load_state_dict({name: value.float() for name, value in parts.items()})
    if layer.norm is None:
        return [conv]
    norm = nn.BatchNorm2d(made)
    norm.load_state_dict(
        {"num_batches_tracked": torch.zeros((), dtype=torch.long)}
        | {name: value.float() for name, value in layer.norm.items()}
    )
    return [conv, norm]

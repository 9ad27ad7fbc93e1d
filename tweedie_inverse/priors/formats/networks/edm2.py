"""The U-Net of EDM2 (Karras et al. 2024, configuration G), in the parameter names of its files.

No layer changes the magnitude of what it is given: weights are used at unit norm, sums and
concatenations are divided by the norm of their coefficients, SiLU by its gain on normal numbers.
There are no biases; a channel of ones stands for the only one.  (Training also writes the unit norm
back into the weights; here they stay as they are.)
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tweedie_inverse.priors.exact import Exact, in_float32_or_better

_SILU_GAIN = 0.596  # root of E silu(n)^2, n standard normal, as the paper rounds it
_SMALL = 1e-4


@dataclass(frozen=True)
class EDM2Architecture:
    """What the network is made of; what follows `channels_per_head` is not in the shapes.

    Attributes:
        widths: channels of each level, finest first.
        noise_features, embedding: of the noise level, before and after its linear map.
        blocks: residual blocks a level on the way down (one more on the way up).
        attention_levels: levels with attention, 0 is the finest.
        label_balance, concat_balance, res_balance, attn_balance: weight of the second of two
            parts: class embedding, main path at a concatenation, residual branch, attention.
        clip_act: largest activation.
    """

    image_size: int
    channels: int
    classes: int
    widths: tuple[int, ...]
    noise_features: int
    embedding: int
    blocks: int
    attention_levels: tuple[int, ...]
    channels_per_head: int = 64
    label_balance: float = 0.5
    concat_balance: float = 0.5
    res_balance: float = 0.3
    attn_balance: float = 0.3
    clip_act: float | None = 256.0


def edm2_architecture_of(state: Mapping[str, Tensor]) -> EDM2Architecture:
    """The architecture, from names (without ``unet.``) and shapes alone."""
    embedding, features = state["emb_noise.weight"].shape
    found = {int(m[1]) for name in state if (m := re.match(r"enc\.(\d+)x\1_block0\.", name))}
    sizes = sorted(found, reverse=True)
    first = rf"enc\.{sizes[0]}x{sizes[0]}_block(\d+)\."
    blocks = {m[1] for name in state if (m := re.match(first, name))}
    return EDM2Architecture(
        image_size=sizes[0],
        channels=state["out_conv.weight"].shape[0],
        classes=state["emb_label.weight"].shape[1] if "emb_label.weight" in state else 0,
        widths=tuple(state[f"enc.{s}x{s}_block0.conv_res0.weight"].shape[0] for s in sizes),
        noise_features=features,
        embedding=embedding,
        blocks=len(blocks),
        attention_levels=tuple(
            level for level, s in enumerate(sizes) if f"enc.{s}x{s}_block0.attn_qkv.weight" in state
        ),
    )


class EDM2UNet(nn.Module):
    """``forward(x, label, class_labels)``: the raw network inside EDM's preconditioning.

    ``x (batch, channels, h, w)``, ``label (batch,)``, ``class_labels (batch, classes)`` one-hot, or
    None for a network without classes.
    """

    def __init__(self, architecture: EDM2Architecture):
        super().__init__()
        a = self.architecture = architecture
        self.out_gain = nn.Parameter(torch.zeros(()))
        self.emb_fourier = _Waves(a.noise_features)
        self.emb_noise = _Unit(a.noise_features, a.embedding)
        self.emb_label = _Unit(a.classes, a.embedding) if a.classes else None
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        width, skips = a.widths[0], [a.widths[0]]
        for level, wider in enumerate(a.widths):
            name = self._prefix(level)
            if level == 0:
                self.enc[f"{name}_conv"] = _Unit(a.channels + 1, width, 3)
            else:
                self.enc[f"{name}_down"] = _Block(width, width, a, encoder=True)
                skips.append(width)
            for index in range(a.blocks):
                attention = level in a.attention_levels
                self.enc[f"{name}_block{index}"] = _Block(width, wider, a, attention, encoder=True)
                width = wider
                skips.append(width)
        for level, narrower in reversed(list(enumerate(a.widths))):
            name = self._prefix(level)
            if level == len(a.widths) - 1:
                self.dec[f"{name}_in0"] = _Block(width, width, a, attention=True)
                self.dec[f"{name}_in1"] = _Block(width, width, a)
            else:
                self.dec[f"{name}_up"] = _Block(width, width, a)
            for index in range(a.blocks + 1):
                attention = level in a.attention_levels
                wide = width + skips.pop()
                self.dec[f"{name}_block{index}"] = _Block(wide, narrower, a, attention)
                width = narrower
        self.out_conv = _Unit(width, a.channels, 3)

    def _prefix(self, level: int) -> str:
        size = self.architecture.image_size >> level
        return f"{size}x{size}"

    def forward(self, x: Tensor, label: Tensor, class_labels: Tensor | None = None) -> Tensor:
        a = self.architecture
        told = self.emb_noise(self.emb_fourier(label).to(x))
        if self.emb_label is not None:
            if class_labels is None:
                raise ValueError("EDM2UNet: a network with classes needs class_labels")
            of_class = self.emb_label(class_labels.to(x) * math.sqrt(a.classes))
            told = _sum(told, of_class, a.label_balance)
        told = _silu(told)
        h, skips = torch.cat([x, torch.ones_like(x[:, :1])], dim=1), []
        for name, layer in self.enc.items():
            if name.endswith("down"):
                h = F.avg_pool2d(h, 2)
            h = layer(h) if name.endswith("conv") else layer(h, told)
            skips.append(h)
        for name, layer in self.dec.items():
            if name.endswith("up"):
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            elif "block" in name:
                h = _concatenated(h, skips.pop(), a.concat_balance)
            h = layer(h, told)
        return self.out_conv(h, self.out_gain)


class _Waves(Exact):
    """``sqrt(2) cos(f label + phase)``, of magnitude one."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(features))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features))

    def forward(self, label: Tensor) -> Tensor:
        return math.sqrt(2) * torch.cos(
            in_float32_or_better(label)[:, None] * self.freqs + self.phases
        )


class _Unit(nn.Module):
    """A linear map, or a convolution, whose weights have norm `gain` for every output."""

    def __init__(self, channels: int, channels_out: int, size: int | None = None):
        super().__init__()
        window = () if size is None else (size, size)
        self.weight = nn.Parameter(torch.randn(channels_out, channels, *window))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        weight = _unit(self.weight, tuple(range(1, self.weight.ndim)))
        weight = weight * (gain / math.sqrt(weight[0].numel()))
        if weight.ndim == 2:
            return x @ weight.mT
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class _Block(nn.Module):
    """A residual block, then attention; the skip convolution comes first in the encoder."""

    def __init__(
        self,
        width: int,
        width_out: int,
        a: EDM2Architecture,
        attention: bool = False,
        *,
        encoder: bool = False,
    ):
        super().__init__()
        self.architecture, self.encoder = a, encoder
        self.heads = width_out // a.channels_per_head if attention else 0
        self.emb_gain = nn.Parameter(torch.zeros(()))
        self.conv_res0 = _Unit(width_out if encoder else width, width_out, 3)
        self.emb_linear = _Unit(a.embedding, width_out)
        self.conv_res1 = _Unit(width_out, width_out, 3)
        self.conv_skip = _Unit(width, width_out, 1) if width != width_out else None
        self.attn_qkv = _Unit(width_out, 3 * width_out, 1) if attention else None
        self.attn_proj = _Unit(width_out, width_out, 1) if attention else None

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        a = self.architecture
        if self.encoder:
            x = _unit(x if self.conv_skip is None else self.conv_skip(x), (1,))
        h = self.conv_res0(_silu(x))
        scale = 1 + self.emb_linear(told, self.emb_gain)
        h = self.conv_res1(_silu(h * scale[:, :, None, None]))
        if not self.encoder and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = _sum(x, h, a.res_balance)
        if self.attn_qkv is not None:
            x = _sum(x, self._attended(x), a.attn_balance)
        return x if a.clip_act is None else x.clamp(-a.clip_act, a.clip_act)

    def _attended(self, x: Tensor) -> Tensor:
        assert self.attn_qkv is not None
        assert self.attn_proj is not None
        # Queries, keys and values alternate channel by channel.
        all_three = self.attn_qkv(x).unflatten(1, (self.heads, -1, 3)).flatten(4)
        q, k, v = (part.mT for part in _unit(all_three, (2,)).unbind(3))
        h = F.scaled_dot_product_attention(q, k, v)  # (batch, heads, pixels, channels)
        return self.attn_proj(h.mT.reshape(x.shape))


def _unit(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Divided by the root mean square along `axes`."""
    return x / (_SMALL + x.square().mean(axes, keepdim=True).sqrt())


def _silu(x: Tensor) -> Tensor:
    return F.silu(x) / _SILU_GAIN


def _sum(x: Tensor, y: Tensor, balance: float) -> Tensor:
    return torch.lerp(x, y, balance) / math.hypot(1 - balance, balance)


def _concatenated(x: Tensor, y: Tensor, balance: float) -> Tensor:
    """Both parts contribute to what follows as the balance says, however wide they are."""
    widths = x.shape[1], y.shape[1]
    gain = math.sqrt(sum(widths)) / math.hypot(1 - balance, balance)
    parts = (x * (gain * (1 - balance) / math.sqrt(widths[0])),
             y * (gain * balance / math.sqrt(widths[1])))  # fmt: skip
    return torch.cat(parts, dim=1)

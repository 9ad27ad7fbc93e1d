"""A compact U-Net: residual blocks, group norm, noise level by scale and shift.

Without attention it is fully convolutional, so weights trained on 64x64 patches run on any larger
image.  With it, all places of an image see each other, which images of one object need.  The design
is the common one of Ho et al. 2020 and Karras et al. 2022, minus what small networks do not need.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tweedie_inverse.priors.exact import Exact, in_float32_or_better


class NoiseEmbedding(Exact):
    """Sines and cosines of the noise label, then a two-layer perceptron.

    The former are in float32 or better whatever the type of the weights.
    """

    frequencies: Tensor

    def __init__(self, features: int):
        super().__init__()
        # These cover both labels in use, log(sigma) / 4 and timesteps up to 1000.
        frequencies = torch.logspace(-3, math.log10(16.0), 32)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(64, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU()
        )

    def forward(self, label: Tensor) -> Tensor:
        label = in_float32_or_better(label)
        phase = label[:, None] * self.frequencies.to(label.dtype)
        waves = torch.cat([phase.sin(), phase.cos()], dim=1)
        return self.mlp(waves.to(self.get_parameter("mlp.0.weight").dtype))


class ResidualBlock(nn.Module):
    """norm - SiLU - conv - norm, scaled and shifted by the noise level - SiLU - conv, plus skip."""

    def __init__(self, channels_in: int, channels_out: int, features: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(features, 2 * channels_out)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)
        _zero(self.conv2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class Attention(nn.Module):
    """Every place of ``(batch, channels, h, w)`` looks at all others, with one head; plus skip."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.queries_keys_values = nn.Conv2d(channels, 3 * channels, 1)
        self.last = nn.Conv2d(channels, channels, 1)
        _zero(self.last)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        places = self.queries_keys_values(self.norm(x)).flatten(2).transpose(1, 2)
        seen = F.scaled_dot_product_attention(*places.chunk(3, dim=2))
        return x + self.last(seen.transpose(1, 2).reshape(x.shape))


class Chain(nn.ModuleList):
    """Blocks one after the other, which all receive the noise level."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            x = block(x, embedding)
        return x


def _zero(module: nn.Module) -> None:
    """A last layer of zeros: the block starts as the identity, the network as its input."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


class UNet(nn.Module):
    """``forward(x, label)``: ``x (batch, channels, h, w)``, ``label (batch,)`` -> like ``x``.

    Any image size is accepted; sizes that the down-sampling does not divide are padded by
    reflection and cropped again.  With `classes`, a third argument tells the class of each image,
    ``(batch,)`` from 0; `classes` itself, and no argument, is "any class".  `attention` is on the
    coarsest level, where its cost, which grows with the square of the number of pixels, is small.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (32, 64, 128, 160),
        blocks: tuple[int, ...] = (1, 2, 2, 2),
        features: int = 128,
        classes: int = 0,
        attention: bool = False,
    ):
        super().__init__()
        if len(widths) != len(blocks):
            raise ValueError(
                f"UNet(widths={widths}, blocks={blocks}): one number of blocks a width, please"
            )
        self.multiple = 2 ** (len(widths) - 1)
        self.embedding = NoiseEmbedding(features)
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        for width, count in zip(widths[:-1], blocks[:-1], strict=True):
            block_in = [ResidualBlock(width, width, features) for _ in range(count)]
            block_out = [
                ResidualBlock(2 * width if i == 0 else width, width, features) for i in range(count)
            ]
            self.down.append(Chain(block_in))
            self.up.append(Chain(block_out))
        for fine, coarse in pairwise(widths):
            self.shrink.append(nn.Conv2d(fine, coarse, 3, stride=2, padding=1))
            self.grow.append(nn.Conv2d(coarse, fine, 3, padding=1))
        self.middle = Chain(
            ResidualBlock(widths[-1], widths[-1], features) for _ in range(blocks[-1])
        )
        self.norm = nn.GroupNorm(8, widths[0])
        self.last = nn.Conv2d(widths[0], channels, 3, padding=1)
        _zero(self.last)
        self.classes = classes
        # Last, so that networks without these start from the same weights as ever.
        self.of_class = nn.Embedding(classes + 1, features) if classes else None
        if attention:
            self.middle.append(Attention(widths[-1]))

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None) -> Tensor:
        height, width = x.shape[-2:]
        pad_h, pad_w = -height % self.multiple, -width % self.multiple
        if pad_h or pad_w:
            x = F.pad(x, (0, pad_w, 0, pad_h), mode="reflect")
        embedding = self.embedding(label)
        if self.of_class is not None:
            if classes is None:
                classes = torch.full(label.shape, self.classes, device=x.device)
            embedding = embedding + self.of_class(classes)
        elif classes is not None:
            raise ValueError("UNet: was built without classes, but is asked for one")
        h = self.first(x)
        skips = []
        for down, shrink in zip(self.down, self.shrink, strict=True):
            h = down(h, embedding)
            skips.append(h)
            h = shrink(h)
        h = self.middle(h, embedding)
        for up, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            h = grow(F.interpolate(h, scale_factor=2.0, mode="nearest"))
            h = up(torch.cat([h, skips.pop()], dim=1), embedding)
        h = self.last(F.silu(self.norm(h)))
        return h[..., :height, :width]

"""NCSN++ and DDPM++ of Song et al. 2021, in the parameter names of score_sde and PSLD checkpoints.

Their modules are one numbered list, ``all_modules``.  With blocks of the older kind and without
rescaling it is also the network of Ho et al. 2020, as score_sde has it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tweedie_inverse.priors.exact import Exact, in_float32_or_better

Pyramid = Literal["none", "skip", "residual"]


@dataclass(frozen=True)
class Architecture:
    """What the network is made of.

    Attributes:
        channel_mult: width of each level, finest first, in units of `features`.
        blocks: residual blocks a level on the way down (one more on the way up).
        attention_levels: levels with attention, 0 is the finest.
        fourier: the label is embedded by random Fourier features of its logarithm, else by waves.
        biggan: up- and down-sampling inside residual blocks (BigGAN), else by convolutions (DDPM).
        fir: resampling with the filter (1, 3, 3, 1), else by nearest pixels and averages.
        pyramid_in, pyramid_out: how the image and the output are carried along all scales.
        concatenate: the input pyramid is concatenated, else added.
        rescale: sums of two branches are divided by sqrt(2).
    """

    in_channels: int
    out_channels: int
    features: int
    channel_mult: tuple[int, ...]
    blocks: int
    attention_levels: tuple[int, ...]
    fourier: bool
    biggan: bool = True
    fir: bool = False
    pyramid_in: Pyramid = "none"
    pyramid_out: Pyramid = "none"
    concatenate: bool = False
    rescale: bool = True

    @property
    def gain(self) -> float:
        """Of the sum of two branches."""
        return math.sqrt(0.5) if self.rescale else 1.0


class NCSNpp(nn.Module):
    """``forward(x, label)``: ``x (batch, in, h, w)`` on [-1, 1], ``label (batch,)``, positive.

    Returns ``(batch, out, h, w)``, without division by sigma.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        a = self.architecture = architecture
        f, widths = a.features, [a.features * mult for mult in a.channel_mult]
        modules: list[nn.Module] = [_Fourier(f)] if a.fourier else []
        modules += [nn.Linear(2 * f if a.fourier else f, 4 * f), nn.Linear(4 * f, 4 * f)]
        modules.append(_conv(a.in_channels, f))
        width, carried, skips = f, a.in_channels, [f]
        for level, wider in enumerate(widths):
            for _ in range(a.blocks):
                modules.append(_block(width, wider, a))
                width = wider
                if level in a.attention_levels:
                    modules.append(_Attention(width, a.gain))
                skips.append(width)
            if level < len(widths) - 1:
                modules.append(_block(width, width, a, "down") if a.biggan else _Resampled(
                    width, width, "down", a.fir
                ))  # fmt: skip
                if a.pyramid_in == "skip":
                    modules.append(_Combined(carried, width, a.concatenate))
                    width = 2 * width if a.concatenate else width
                elif a.pyramid_in == "residual":
                    modules.append(_Resampled(carried, width, "down", a.fir))
                    carried = width
                skips.append(width)
        modules += [_block(width, width, a), _Attention(width, a.gain), _block(width, width, a)]
        grown = 0
        for level, narrower in reversed(list(enumerate(widths))):
            for _ in range(a.blocks + 1):
                modules.append(_block(width + skips.pop(), narrower, a))
                width = narrower
            if level in a.attention_levels:
                modules.append(_Attention(width, a.gain))
            coarsest = level == len(widths) - 1
            if a.pyramid_out == "skip":
                modules += [_norm(width), _conv(width, a.out_channels)]
            elif a.pyramid_out == "residual" and coarsest:
                modules += [_norm(width), _conv(width, width)]
            elif a.pyramid_out == "residual":
                modules.append(_Resampled(grown, width, "up", a.fir))
            grown = width
            if level:
                modules.append(_block(width, width, a, "up") if a.biggan else _Resampled(
                    width, width, "up", a.fir
                ))  # fmt: skip
        if a.pyramid_out != "skip":
            modules += [_norm(width), _conv(width, a.out_channels)]
        self.all_modules = nn.ModuleList(modules)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        a, modules = self.architecture, iter(self.all_modules)
        label = in_float32_or_better(label)
        told = next(modules)(label.log()) if a.fourier else _waves(label, a.features)
        told = next(modules)(told.to(x))
        told = next(modules)(F.silu(told))
        skips, h = self._down(x, told, modules)
        h = next(modules)(h, told)
        h = next(modules)(h)
        h = next(modules)(h, told)
        return self._up(h, skips, told, modules)

    def _down(
        self, x: Tensor, told: Tensor, modules: Iterator[nn.Module]
    ) -> tuple[list[Tensor], Tensor]:
        a, carried = self.architecture, x
        skips = [next(modules)(x)]
        for level in range(len(a.channel_mult)):
            for _ in range(a.blocks):
                h = next(modules)(skips[-1], told)
                if level in a.attention_levels:
                    h = next(modules)(h)
                skips.append(h)
            if level < len(a.channel_mult) - 1:
                h = next(modules)(skips[-1], told) if a.biggan else next(modules)(skips[-1])
                if a.pyramid_in == "skip":
                    carried = _half(carried, a.fir)
                    h = next(modules)(carried, h)
                elif a.pyramid_in == "residual":
                    h = carried = a.gain * (next(modules)(carried) + h)
                skips.append(h)
        return skips, skips[-1]

    def _up(
        self, h: Tensor, skips: list[Tensor], told: Tensor, modules: Iterator[nn.Module]
    ) -> Tensor:
        a, pyramid = self.architecture, None
        for level in reversed(range(len(a.channel_mult))):
            for _ in range(a.blocks + 1):
                h = next(modules)(torch.cat([h, skips.pop()], dim=1), told)
            if level in a.attention_levels:
                h = next(modules)(h)
            if a.pyramid_out == "skip":
                here = next(modules)(h)
                here = next(modules)(F.silu(here))
                pyramid = here if pyramid is None else _double(pyramid, a.fir) + here
            elif a.pyramid_out == "residual" and pyramid is None:
                pyramid = next(modules)(h)
                pyramid = next(modules)(F.silu(pyramid))
            elif a.pyramid_out == "residual":
                h = pyramid = a.gain * (next(modules)(pyramid) + h)
            if level:
                h = next(modules)(h, told) if a.biggan else next(modules)(h)
        if a.pyramid_out == "skip":
            assert pyramid is not None
            return pyramid
        h = next(modules)(h)
        return next(modules)(F.silu(h))


class _Fourier(Exact):
    W: Tensor

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("W", 16 * torch.randn(features))

    def forward(self, log_label: Tensor) -> Tensor:
        phase = log_label[:, None] * self.W[None] * 2 * math.pi
        return torch.cat([phase.sin(), phase.cos()], dim=1)


class _Pointwise(nn.Module):
    def __init__(self, channels: int, channels_out: int):
        super().__init__()
        self.W = nn.Parameter(torch.randn(channels, channels_out) / channels**0.5)
        self.b = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bchw,cd->bdhw", x, self.W) + self.b[:, None, None]


class _Attention(nn.Module):
    def __init__(self, channels: int, gain: float):
        super().__init__()
        self.gain = gain
        self.GroupNorm_0 = _norm(channels)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (
            _Pointwise(channels, channels) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.GroupNorm_0(x)
        q, k, v = (f(h).flatten(2).mT[:, None] for f in (self.NIN_0, self.NIN_1, self.NIN_2))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.reshape(x.shape)
        return self.gain * (x + self.NIN_3(h))


class _Block(nn.Module):
    """norm - SiLU - (resample) - conv - plus embedding - norm - SiLU - conv, plus skip."""

    def __init__(self, width: int, width_out: int, a: Architecture, resample: str = ""):
        super().__init__()
        self.resample, self.fir, self.gain = resample, a.fir, a.gain
        self.GroupNorm_0 = _norm(width)
        self.Conv_0 = _conv(width, width_out)
        self.Dense_0 = nn.Linear(4 * a.features, width_out)
        self.GroupNorm_1 = _norm(width_out)
        self.Conv_1 = _conv(width_out, width_out)
        self.skip = ""
        if a.biggan and (width != width_out or resample):
            self.skip, self.Conv_2 = "Conv_2", nn.Conv2d(width, width_out, 1)
        elif width != width_out:
            self.skip, self.NIN_0 = "NIN_0", _Pointwise(width, width_out)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        h = F.silu(self.GroupNorm_0(x))
        if self.resample:
            change = _half if self.resample == "down" else _double
            h, x = change(h, self.fir), change(x, self.fir)
        h = self.Conv_0(h) + self.Dense_0(F.silu(told))[:, :, None, None]
        h = self.Conv_1(F.silu(self.GroupNorm_1(h)))
        x = self.get_submodule(self.skip)(x) if self.skip else x
        return self.gain * (x + h)


class _Combined(nn.Module):
    def __init__(self, channels: int, width: int, concatenate: bool):
        super().__init__()
        self.concatenate = concatenate
        self.Conv = nn.Conv2d(channels, width, 1)

    def forward(self, image: Tensor, h: Tensor) -> Tensor:
        told = self.Conv(image)
        return torch.cat([told, h], dim=1) if self.concatenate else told + h


class _Resampled(nn.Module):
    """A convolution with down- or up-sampling: filtered, or in the plain way of DDPM."""

    def __init__(self, channels: int, channels_out: int, direction: str, fir: bool):
        super().__init__()
        self.direction, self.fir = direction, fir
        convolution = nn.Conv2d(channels, channels_out, 3)
        if fir:
            self.Conv2d_0 = convolution
        else:
            self.Conv_0 = convolution

    def forward(self, x: Tensor) -> Tensor:
        convolution = self.Conv2d_0 if self.fir else self.Conv_0
        weight, bias = convolution.weight, convolution.bias
        if self.direction == "down" and self.fir:
            return F.conv2d(_filtered(x, (2, 2), 1.0), weight, bias, stride=2)
        if self.direction == "down":
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride=2)
        if self.fir:  # convolve between the zeros, then filter
            wide = F.conv_transpose2d(x, weight.flip(-2, -1).transpose(0, 1), stride=2)
            assert bias is not None
            return _filtered(wide, (1, 1), 4.0) + bias[:, None, None]
        return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)


def _block(width: int, width_out: int, a: Architecture, resample: str = "") -> _Block:
    return _Block(width, width_out, a, resample)


def _conv(channels: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels_out, 3, padding=1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


def _filtered(x: Tensor, pad: tuple[int, int], gain: float) -> Tensor:
    """Convolution of every channel with the outer product of (1, 3, 3, 1) / 8, times `gain`."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    kernel = (gain * taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (*pad, *pad)), kernel, groups=x.shape[1])


def _half(x: Tensor, fir: bool) -> Tensor:
    return _filtered(x, (1, 1), 1.0)[:, :, ::2, ::2] if fir else F.avg_pool2d(x, 2)


def _double(x: Tensor, fir: bool) -> Tensor:
    if not fir:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    spread[:, :, ::2, ::2] = x
    return _filtered(spread, (2, 1), 4.0)


def _waves(label: Tensor, width: int) -> Tensor:
    """Sines and cosines of the label ``(batch,)``, periods from 2 pi to 2 pi 10000."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=label.device)
    phase = label[:, None].float() * torch.exp(-math.log(10000) * steps / (half - 1))
    return F.pad(torch.cat([phase.sin(), phase.cos()], dim=1), (0, width % 2))

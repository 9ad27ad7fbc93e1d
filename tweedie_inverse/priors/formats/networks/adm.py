"""The U-Net of Dhariwal and Nichol 2021 (ADM), in the parameter names of its checkpoints.

`architecture_of` reads everything that shapes tell from a state dict; the number of attention heads
and the order of queries, keys and values leave no trace in shapes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Resampling = Literal["block", "convolution", "pooling"]


@dataclass(frozen=True)
class Architecture:
    """What the network is made of.

    Attributes:
        channel_mult: width of each level, finest first, in units of `model_channels`.
        blocks: residual blocks a level on the way down (one more on the way up).
        attention_levels: levels with attention, 0 is the finest.
        resampling: by residual blocks, by strided convolutions, or without weights.
        classes: 0 for an unconditional network.
        head_channels: of one attention head; `heads` instead fixes their number.
        new_attention_order: queries, keys and values are split before the heads.
    """

    in_channels: int
    out_channels: int
    model_channels: int
    channel_mult: tuple[float, ...]
    blocks: int
    attention_levels: tuple[int, ...]
    scale_shift_norm: bool
    resampling: Resampling
    classes: int = 0
    head_channels: int = 64
    heads: int | None = None
    new_attention_order: bool = False


def architecture_of(state: Mapping[str, Tensor]) -> Architecture:
    """The architecture, from names and shapes alone.

    Raises:
        ValueError: a name that every such checkpoint has is missing.
    """
    model = _shape(state, "time_embed.0.weight")[1]
    first = _shape(state, "input_blocks.0.0.weight")
    rows_in, rows_out = _count(state, "input_blocks."), _count(state, "output_blocks.")
    if not rows_out:
        raise ValueError(
            "load_prior: this is half of a U-Net, without output_blocks, as classifiers are; it "
            "is not a prior"
        )
    if max(rows_in, rows_out) > len(state):
        raise ValueError("load_prior: not an ADM checkpoint, its rows are numbered with gaps")
    resampling: Resampling = "pooling"
    growing = []
    for row in range(rows_out):
        for part in (1, 2):
            prefix = f"output_blocks.{row}.{part}"
            if f"{prefix}.in_layers.2.weight" in state:
                resampling = "block"
                growing.append(row)
            elif f"{prefix}.conv.weight" in state:
                resampling = "convolution"
                growing.append(row)
    if growing:
        blocks = growing[0]
    else:  # without weights the place of a down-sampling is a gap in the numbering
        present = {int(name.split(".")[1]) for name in state if name.startswith("input_blocks.")}
        gaps = [row for row in range(rows_in) if row not in present]
        blocks = (gaps[0] if gaps else rows_in) - 1
    levels = rows_out // (blocks + 1)
    starts = [1 + level * (blocks + 1) for level in range(levels)]
    widths = [_shape(state, f"input_blocks.{row}.0.out_layers.3.weight")[0] for row in starts]
    embedding = _shape(state, "input_blocks.1.0.emb_layers.1.weight")[0]
    classes = state["label_emb.weight"].shape[0] if "label_emb.weight" in state else 0
    return Architecture(
        in_channels=first[1],
        out_channels=_shape(state, "out.2.weight")[0],
        model_channels=model,
        channel_mult=tuple(_whole(width / model) for width in widths),
        blocks=blocks,
        attention_levels=tuple(
            level for level, row in enumerate(starts) if f"input_blocks.{row}.1.qkv.weight" in state
        ),
        scale_shift_norm=embedding == 2 * widths[0],
        resampling=resampling,
        classes=classes,
    )


class ADMUNet(nn.Module):
    """``forward(x, t, classes=None)``: ``x (batch, in, h, w)``, ``t (batch,)`` timesteps.

    Returns ``(batch, out, h, w)``; timesteps may be fractions.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        a = self.architecture = architecture
        features = 4 * a.model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(a.model_channels, features), nn.SiLU(), nn.Linear(features, features)
        )
        if a.classes:
            self.label_emb = nn.Embedding(a.classes, features)
        widths = [int(mult * a.model_channels) for mult in a.channel_mult]
        width = widths[0]
        self.input_blocks = nn.ModuleList(
            [_Row([nn.Conv2d(a.in_channels, width, 3, padding=1)])],
        )
        skips = [width]
        for level, wider in enumerate(widths):
            for _ in range(a.blocks):
                parts: list[nn.Module] = [_ResBlock(width, wider, a)]
                width = wider
                if level in a.attention_levels:
                    parts.append(_Attention(width, a))
                self.input_blocks.append(_Row(parts))
                skips.append(width)
            if level < len(widths) - 1:
                self.input_blocks.append(_Row([_shrink(width, a)]))
                skips.append(width)
        self.middle_block = _Row(
            [_ResBlock(width, width, a), _Attention(width, a), _ResBlock(width, width, a)]
        )
        self.output_blocks = nn.ModuleList()
        for level, narrower in reversed(list(enumerate(widths))):
            for index in range(a.blocks + 1):
                parts = [_ResBlock(width + skips.pop(), narrower, a)]
                width = narrower
                if level in a.attention_levels:
                    parts.append(_Attention(width, a))
                if level and index == a.blocks:
                    parts.append(_grow(width, a))
                self.output_blocks.append(_Row(parts))
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, a.out_channels, 3, padding=1)
        )

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        embedding = self.time_embed(_waves(t, self.architecture.model_channels).to(x))
        if classes is not None:
            embedding = embedding + self.label_emb(classes)
        skips = []
        for row in self.input_blocks:
            x = row(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for row in self.output_blocks:
            x = row(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.out(x)


class _Row(nn.ModuleList):
    """Layers one after the other; residual blocks are told the embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for part in self:
            x = part(x, embedding) if isinstance(part, _ResBlock) else part(x)
        return x


class _ResBlock(nn.Module):
    def __init__(self, width: int, width_out: int, a: Architecture, resample: str = ""):
        super().__init__()
        self.resample, self.scale_shift_norm = resample, a.scale_shift_norm
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, width_out, 3, padding=1)
        )
        told = 2 * width_out if a.scale_shift_norm else width_out
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * a.model_channels, told))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, width_out),
            nn.SiLU(),
            nn.Identity(),  # dropout, in training
            nn.Conv2d(width_out, width_out, 3, padding=1),
        )
        same = width == width_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(width, width_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm, activation, convolution = self.in_layers
        h = convolution(self._resampled(activation(norm(x))))
        told = self.emb_layers(embedding)[:, :, None, None]
        if self.scale_shift_norm:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + told)
        return self.skip_connection(self._resampled(x)) + h

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x


class _Attention(nn.Module):
    def __init__(self, width: int, a: Architecture):
        super().__init__()
        if a.heads is None and width % a.head_channels:
            raise ValueError(
                f"ADM network: {width} channels do not divide into attention heads of "
                f"{a.head_channels}; give format=ADM(heads=...) or ADM(head_channels=...)"
            )
        self.heads = a.heads or width // a.head_channels
        self.new_order = a.new_attention_order
        self.norm = nn.GroupNorm(32, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, width = x.shape[:2]
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        if self.new_order:
            qkv = qkv.reshape(batch, 3, self.heads, width // self.heads, -1)
            q, k, v = qkv.transpose(-2, -1).unbind(1)  # (batch, heads, pixels, channels)
        else:
            qkv = qkv.reshape(batch, self.heads, 3, width // self.heads, -1)
            q, k, v = qkv.transpose(-2, -1).unbind(2)
        h = F.scaled_dot_product_attention(q, k, v).transpose(-2, -1).reshape(flat.shape)
        return (flat + self.proj_out(h)).reshape(x.shape)


class _Shrink(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class _Grow(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _shrink(width: int, a: Architecture) -> nn.Module:
    if a.resampling == "block":
        return _ResBlock(width, width, a, resample="down")
    return _Shrink(width) if a.resampling == "convolution" else nn.AvgPool2d(2)


def _grow(width: int, a: Architecture) -> nn.Module:
    if a.resampling == "block":
        return _ResBlock(width, width, a, resample="up")
    return _Grow(width) if a.resampling == "convolution" else nn.Upsample(scale_factor=2.0)


def _waves(t: Tensor, width: int) -> Tensor:
    """Cosines and sines of the timestep ``(batch,)``, periods from 2 pi to 2 pi 10000."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    phase = t[:, None].float() * torch.exp(-math.log(10000) * steps / half)
    return F.pad(torch.cat([phase.cos(), phase.sin()], dim=1), (0, width % 2))


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state:
        raise ValueError(f"load_prior: not an ADM checkpoint, {name} is missing")
    return tuple(state[name].shape)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    rows = [name.split(".")[1] for name in state if name.startswith(prefix)]
    return 1 + max((int(row) for row in rows if row.isdigit()), default=-1)


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number

"""DRUNet, the denoiser of DPIR (Zhang et al. 2021): a U-Net of residual blocks without biases.

Names of the parts are those of its published weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DRUNet(nn.Module):
    """``forward(x, sigma)``: ``x (batch, channels, h, w)`` on [0, 1], ``sigma (batch,)``.

    Images whose sides are no multiples of 8 are continued by their last rows and columns.

    Args:
        channels: of the image; the noise level is one more channel of the input.
        widths: channels on the four levels.
        blocks: residual blocks of each level, down, and up again.
    """

    def __init__(self, channels: int, widths: Sequence[int], blocks: int):
        super().__init__()
        one, two, three, four = widths
        self.m_head = _conv(channels + 1, one)
        self.m_down1 = _down(one, two, blocks)
        self.m_down2 = _down(two, three, blocks)
        self.m_down3 = _down(three, four, blocks)
        self.m_body = nn.Sequential(*[_Residual(four) for _ in range(blocks)])
        self.m_up3 = _up(four, three, blocks)
        self.m_up2 = _up(three, two, blocks)
        self.m_up1 = _up(two, one, blocks)
        self.m_tail = _conv(one, channels)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        level = sigma.to(x).reshape(-1, 1, 1, 1).expand(len(x), 1, height, width)
        h = torch.cat([x, level], dim=1)
        h = F.pad(h, (0, -width % 8, 0, -height % 8), mode="replicate")
        h1 = self.m_head(h)
        h2 = self.m_down1(h1)
        h3 = self.m_down2(h2)
        h4 = self.m_down3(h3)
        h = self.m_up3(self.m_body(h4) + h4)
        h = self.m_up2(h + h3)
        h = self.m_up1(h + h2)
        return self.m_tail(h + h1)[..., :height, :width]


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.res = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res(x)


def _conv(given: int, made: int) -> nn.Conv2d:
    return nn.Conv2d(given, made, 3, padding=1, bias=False)


def _down(given: int, made: int, blocks: int) -> nn.Sequential:
    halving = nn.Conv2d(given, made, 2, stride=2, bias=False)
    return nn.Sequential(*[_Residual(given) for _ in range(blocks)], halving)


def _up(given: int, made: int, blocks: int) -> nn.Sequential:
    doubling = nn.ConvTranspose2d(given, made, 2, stride=2, bias=False)
    return nn.Sequential(doubling, *[_Residual(made) for _ in range(blocks)])

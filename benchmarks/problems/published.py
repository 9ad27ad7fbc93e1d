"""Published denoisers as priors, from a folder of their weights: nothing about them is measured.

    ffdnet     Zhang et al. 2018, colour, sigma 1/255 to 75/255 (weights of KAIR)
    dncnn6n    grey, with a noise map, sigma up to 0.2 (weights of scico, LANL)

The networks are written here because their publishers give weights and no package.  Each class
takes ``(x, label)`` as `NetworkPrior` calls it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from tweedie_inverse.priors.network import NetworkPrior

Weights = dict[str, Tensor]


class FFDNet(nn.Module):
    """Plain convolutions at half the resolution, the noise level as one more channel."""

    def __init__(self, weights: Weights):
        super().__init__()
        places = sorted({int(key.split(".")[1]) for key in weights})
        layers: list[nn.Module] = []
        for place in places:
            kernel = weights[f"model.{place}.weight"]
            layers += [nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])
        self.load_state_dict(weights)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        quarters = F.pixel_unshuffle(x, 2)
        level = sigma.reshape(-1, 1, 1, 1).expand(len(x), 1, *quarters.shape[2:])
        return F.pixel_shuffle(self.model(torch.cat([quarters, level], 1)), 2)


class DnCNN6N(nn.Module):
    """Six layers with batch norm and periodic borders; it answers with the noise."""

    def __init__(self, weights: Weights):
        super().__init__()
        self.start = _periodic(weights["params/conv_start/kernel"])
        self.end = _periodic(weights["params/conv_end/kernel"])
        self.blocks = nn.Sequential()
        for index in range(4):
            name = f"ConvBNBlock_{index}"
            norm = nn.BatchNorm2d(64)
            norm.load_state_dict(
                {
                    "weight": weights[f"params/{name}/BatchNorm_0/scale"],
                    "bias": weights[f"params/{name}/BatchNorm_0/bias"],
                    "running_mean": weights[f"batch_stats/{name}/BatchNorm_0/mean"],
                    "running_var": weights[f"batch_stats/{name}/BatchNorm_0/var"],
                },
                strict=False,
            )
            kernel = weights[f"params/{name}/Conv_0/kernel"]
            self.blocks.extend([_periodic(kernel), norm, nn.ReLU()])

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1).expand_as(x)
        noise = self.end(self.blocks(self.start(torch.cat([x, level], 1)).relu()))
        return x - noise[:, :1]


def _periodic(kernel: Tensor) -> nn.Conv2d:
    """A convolution without bias from a kernel ``(height, width, in, out)``."""
    kernel = kernel.permute(3, 2, 0, 1).contiguous()
    given, made = kernel.shape[1], kernel.shape[0]
    layer = nn.Conv2d(given, made, 3, padding=1, padding_mode="circular", bias=False)
    layer.weight = nn.Parameter(kernel)
    return layer


class Published(NamedTuple):
    """How a denoiser of images in [0, 1], which takes its noise level, is made of its file."""

    file: str
    network: Callable[[Weights], nn.Module]
    channels: int
    sigma_max: float


PUBLISHED = {
    "ffdnet": Published("ffdnet-color.safetensors", FFDNet, 3, 75 / 255),
    "dncnn6n": Published("scico-dncnn6N.safetensors", DnCNN6N, 1, 0.2),
}


def published_prior(name: str, folder: str | Path) -> NetworkPrior:
    """A published denoiser from the folder of its weights, for images of 64x64 and more.

    Raises:
        FileNotFoundError: the folder has no such file.
    """
    what = PUBLISHED[name]
    with torch.random.fork_rng(devices=[]):  # layers draw weights before they get their own
        network = what.network(load_file(Path(folder) / what.file))
    return NetworkPrior(
        network.eval().requires_grad_(False),
        "x0",
        shape=(what.channels, 64, 64),
        sigma_min=1 / 255,
        sigma_max=what.sigma_max,
        centre=0.5,
        fully_convolutional=True,
        name=name,
    )

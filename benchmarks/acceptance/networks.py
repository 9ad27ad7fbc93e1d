"""A network as large as ADM's at 256x256, as a prior whose answers are of use to a walk.

Weights are drawn, so that it denoises nothing.  It is evaluated all the same, and its output is
multiplied by zero and added to the answer of an exact denoiser of a Gaussian field: the time is
that of the network, the walk and its linear solves are those of an image.
"""

import torch
from torch import Tensor, nn

from tweedie_inverse.benchmarks.problems.priors import field_spectrum
from tweedie_inverse.priors.formats.networks.adm import ADMUNet, Architecture
from tweedie_inverse.priors.network import NetworkPrior

# guided-diffusion's unconditional network for 256x256, 550 million weights, and a small one.
_FULL = {"model_channels": 256, "channel_mult": (1, 1, 2, 2, 4, 4), "attention_levels": (3, 4, 5)}
_REDUCED = {"model_channels": 32, "channel_mult": (1, 2), "attention_levels": ()}


class Disguised(nn.Module):
    """D of a Gaussian field, at the cost of another network; the label is sigma."""

    spectrum: Tensor

    def __init__(self, network: nn.Module, spectrum: Tensor, mean: float):
        super().__init__()
        self.network, self.mean = network, mean
        self.register_buffer("spectrum", spectrum.float())

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        channels = x.shape[1]
        cost = self.network(x / (1 + label[:, None, None, None] ** 2).sqrt(), 250 * label.log1p())
        noise = label[:, None, None, None] ** 2
        filtered = torch.fft.fft2((x - self.mean).float()) * (
            self.spectrum / (self.spectrum + noise)
        )
        return self.mean + torch.fft.ifft2(filtered).real + 0 * cost[:, :channels]


def adm_size(channels: int, size: int, device: str, *, reduced: bool) -> NetworkPrior:
    """The prior of images ``(channels, size, size)``; no denoising error was measured for it."""
    settings = _REDUCED if reduced else _FULL
    architecture = Architecture(
        in_channels=channels,
        out_channels=2 * channels,
        blocks=1 if reduced else 2,
        scale_shift_norm=True,
        resampling="block",
        **settings,  # type: ignore[arg-type]
    )
    place = torch.device(device)
    used = [] if place.type != "cuda" else [place.index or 0]
    with torch.random.fork_rng(devices=used), place:
        network = ADMUNet(architecture).eval().requires_grad_(False)
    module = Disguised(network, field_spectrum(size), 0.5).to(device).eval()
    return NetworkPrior(
        module, "x0", shape=(channels, size, size), sigma_min=0.01, sigma_max=20.0, centre=0.5,
        name=f"ADM-size {size}x{size}",
    )  # fmt: skip

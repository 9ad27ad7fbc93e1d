"""Small networks of every kind, and files of them, for the tests of the formats."""

import os

import torch
from torch import nn

from tests.seeds import salted
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.formats.networks.adm import ADMUNet, Architecture


def seeded(make, seed=0):
    """Libraries draw initial weights from the global generator: lend them a copy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(salted(seed))
        network = make()
        with torch.no_grad():  # what starts at zero would hide mistakes
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return network.eval().requires_grad_(False)


def noisy(shape, sigma, count=2):
    """Images around 0.5, with noise."""
    clean = 0.5 + 0.2 * normal((1,), (count, *shape)).float()
    return clean + sigma * normal((2,), (count, *shape)).float()


def adm_architecture(channels, mult, blocks, attention, classes, **others):
    settings = {"scale_shift_norm": True, "resampling": "block", "out_channels": 6, **others}
    return Architecture(3, settings.pop("out_channels"), channels, mult, blocks, attention,
                        classes=classes, **settings)  # fmt: skip


SMALL_ADM = adm_architecture(64, (1, 2), 1, (1,), 0)


def save_adm(path, architecture=SMALL_ADM):
    network = seeded(lambda: ADMUNet(architecture))
    torch.save(network.state_dict(), path)
    return network


def small_unet(**others):
    import diffusers

    settings = {
        "sample_size": 16,
        "in_channels": 1,
        "out_channels": 1,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        **others,
    }
    return seeded(lambda: diffusers.UNet2DModel(**settings))


def save_pipeline(folder, unet, scheduler, pipeline="DDPMPipeline"):
    import diffusers

    getattr(diffusers, pipeline)(unet=unet, scheduler=scheduler).save_pretrained(folder)
    return folder


def deepinv_ncsnpp(**settings):
    from deepinv.models import NCSNpp

    return NCSNpp(
        img_resolution=16, in_channels=1, out_channels=1, augment_dim=0, model_channels=32,
        channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,), pretrained=None, **settings,
    )  # fmt: skip


def deepinv_admunet(**settings):
    from deepinv.models import ADMUNet

    settings = {"out_channels": 1, **settings}
    return ADMUNet(
        img_resolution=16, in_channels=1, model_channels=64, channel_mult=(1, 2),
        num_blocks=1, attn_resolutions=(8,), pretrained=None, **settings,
    )  # fmt: skip


class KarrasStyle(nn.Module):
    """D(x, sigma) on [-1, 1], sigma (batch,)."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, sigma):
        assert sigma.shape == (len(x),)
        return x - sigma.reshape(-1, 1, 1, 1) * torch.tanh(self.inner(x))


class KarrasWithDropout(nn.Module):
    """Left in training mode."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout()


class Malicious:
    def __reduce__(self):
        return os.makedirs, ("should-not-exist",)


def one_line(excinfo):
    return len(str(excinfo.value).splitlines()) == 1

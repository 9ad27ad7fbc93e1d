"""A network with random weights, fixed by the seed; the global random state stays as it is."""

import torch

from tweedie_inverse.priors.unet import UNet
from tweedie_inverse.training.config import TrainingConfig


def fresh_unet(config: TrainingConfig, channels: int, classes: int) -> UNet:
    """A network with random weights, fixed by the seed; the global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return UNet(
            channels, config.widths, config.blocks, classes=classes, attention=config.attention
        )

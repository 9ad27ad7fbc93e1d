"""ADM checkpoints (guided-diffusion, DPS, deepinv's DiffUNet): a bare state dict.

The network sees ``x / sqrt(1 + sigma^2)`` on [-1, 1] and a timestep of 0 to 999, and returns the
noise; with a learned variance it returns twice the channels, of which the first half is the noise
(Nichol and Dhariwal 2021).
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tweedie_inverse.numerics.timesteps import TABLES
from tweedie_inverse.priors.formats.base import Format, Source, Target, of_one_class, timestep_prior
from tweedie_inverse.priors.formats.files import load_weights, ready
from tweedie_inverse.priors.formats.networks.adm import ADMUNet, Architecture, architecture_of
from tweedie_inverse.priors.network import NetworkPrior


@dataclass(frozen=True)
class _Published:
    """What the published commands say beyond the shapes of their checkpoints."""

    image_size: int
    schedule: Literal["vp-linear", "cosine"] = "vp-linear"
    heads: int | None = None
    new_attention_order: bool = False


# By (model channels, channel multipliers, blocks, classes).
_PUBLISHED = {
    (192, (1, 2, 3, 4), 3, 1000): _Published(64, "cosine", new_attention_order=True),
    (256, (1, 1, 2, 3, 4), 2, 1000): _Published(128, heads=4),
    (256, (1, 1, 2, 2, 4, 4), 2, 1000): _Published(256),
    (256, (1, 1, 2, 2, 4, 4), 2, 0): _Published(256),
    (256, (0.5, 1, 1, 2, 2, 4, 4), 2, 1000): _Published(512),
    (128, (1, 1, 2, 2, 4, 4), 1, 0): _Published(256),  # ffhq_10m.pt of DPS
}

# Multipliers that the training scripts choose for an image size.
_SIZES = {
    (0.5, 1, 1, 2, 2, 4, 4): 512,
    (1, 1, 2, 2, 4, 4): 256,
    (1, 1, 2, 3, 4): 128,
    (1, 2, 3, 4): 64,
}


@dataclass(frozen=True)
class ADM(Format):
    """Settings that the file does not hold; None means what the published models use.

    Attributes:
        image_size: side of the images; needed where the channel multipliers are unusual.
        class_label: which class, for a class-conditional network.
        schedule: noise levels of the training steps, ``"vp-linear"`` or ``"cosine"``.
        heads, head_channels: number of attention heads, or channels of one; default 64 channels.
        new_attention_order: queries, keys and values are split before the heads.
    """

    name: ClassVar[str] = "adm"
    image_size: int | None = None
    class_label: int | None = None
    schedule: Literal["vp-linear", "cosine"] | None = None
    heads: int | None = None
    head_channels: int | None = None
    new_attention_order: bool | None = None

    def recognises(self, source: Source) -> bool:
        state = source.state
        return "time_embed.0.weight" in state and "input_blocks.0.0.weight" in state

    def describe(self, source: Source) -> dict[str, Any]:
        architecture, published = self._complete(source)
        rows = asdict(architecture)
        rows["image_size"] = published.image_size or "not in the file: format=ADM(image_size=...)"
        rows["schedule"] = published.schedule
        rows["learned variance"] = _learns_variance(architecture)
        return rows

    def load(self, source: Source, target: Target) -> NetworkPrior:
        architecture, published = self._complete(source)
        assert source.checkpoint is not None
        if architecture.in_channels == architecture.out_channels == 6:
            raise ValueError(
                f"load_prior({source.name!r}): this is an up-sampling network, which needs a small "
                "image as well; it is not a prior"
            )
        if not published.image_size:
            raise ValueError(
                f"load_prior({source.name!r}): channel multipliers {architecture.channel_mult} "
                "do not tell the image size; give format=ADM(image_size=...)"
            )
        label = of_one_class(self.class_label, architecture.classes, source)
        with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
            network = ADMUNet(architecture)
        load_weights(network, _without_tables(source.state), source.checkpoint.path)
        size = published.image_size
        return adm_prior(
            ready(network, target.device),
            (architecture.in_channels, size, size),
            target,
            schedule=published.schedule,
            class_label=label,
            name=source.name,
        )

    def _complete(self, source: Source) -> tuple[Architecture, _Published]:
        """Shapes, then what is known of published models, then what the user says."""
        found = architecture_of(source.state)
        key = (found.model_channels, found.channel_mult, found.blocks, found.classes)
        known = _PUBLISHED.get(key, _Published(_SIZES.get(found.channel_mult, 0)))
        heads = self.heads if self.head_channels is None else None
        if heads is None and self.head_channels is None:
            heads = known.heads
        order = self.new_attention_order
        architecture = replace(
            found,
            heads=heads,
            head_channels=self.head_channels or found.head_channels,
            new_attention_order=known.new_attention_order if order is None else order,
        )
        size, schedule = self.image_size or known.image_size, self.schedule or known.schedule
        return architecture, replace(known, image_size=size, schedule=schedule)


class NoiseOnly(nn.Module):
    """The noise of a network that returns it together with a variance.

    ``forward(x, t)`` returns the first ``channels``; `variance` the rest.
    """

    def __init__(self, network: nn.Module, channels: int, class_label: int | None = None):
        super().__init__()
        self.network, self.channels, self.class_label = network, channels, class_label

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self._output(x, t)[:, : self.channels]

    def variance(self, x: Tensor, t: Tensor) -> Tensor:
        """The learned-variance channels as the network returns them, ``(batch, channels, h, w)``.

        v from -1 to 1, per pixel: where the reverse step's log variance lies between its smallest
        and largest reasonable value (Nichol and Dhariwal 2021, equation 15).

        Raises:
            ValueError: the network has none.
        """
        rest = self._output(x, t)[:, self.channels :]
        if rest.shape[1] == 0:
            raise ValueError("variance: this network has no learned variance")
        return rest

    def _output(self, x: Tensor, t: Tensor) -> Tensor:
        if self.class_label is None:
            return self.network(x, t)
        classes = torch.full((len(x),), self.class_label, device=x.device)
        return self.network(x, t, classes)


def adm_prior(
    network: nn.Module,
    shape: tuple[int, ...],
    target: Target,
    *,
    schedule: str = "vp-linear",
    class_label: int | None = None,
    name: str = "adm",
) -> NetworkPrior:
    """Any network in ADM's convention as a prior."""
    noise = NoiseOnly(network, shape[0], class_label)
    return timestep_prior(noise, "epsilon", shape, TABLES[schedule](), target, name)


def _learns_variance(architecture: Architecture) -> bool:
    return architecture.out_channels == 2 * architecture.in_channels


def _without_tables(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """deepinv's DiffUNet keeps its noise levels among the weights."""
    return {name: value for name, value in state.items() if "alphas_cumprod" not in name}

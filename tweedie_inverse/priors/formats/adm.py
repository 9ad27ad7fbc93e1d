"""ADM checkpoints (guided-diffusion, improved-diffusion, DPS, deepinv's DiffUNet).

The network sees ``x / sqrt(1 + sigma^2)`` on [-1, 1] and the number of a training step, and returns
the noise; with a learned variance it returns twice the channels, of which the first half is the
noise (Nichol and Dhariwal 2021).  What shapes do not tell is known of published networks
(`adm_published`), and warned about for others.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tweedie_inverse.numerics.timesteps import cosine_table, vp_linear_table
from tweedie_inverse.priors.formats.adm_published import (
    OF_CONSISTENCY_MODELS,
    PUBLISHED,
    SIZES,
    Published,
    Schedule,
    shapes_of,
)
from tweedie_inverse.priors.formats.base import (
    Format,
    Source,
    Target,
    of_one_class,
    refuse_size,
    tell_unsaid,
    timestep_prior,
)
from tweedie_inverse.priors.formats.networks.adm import ADMUNet, Architecture, architecture_of
from tweedie_inverse.priors.formats.reading.files import filled, ready
from tweedie_inverse.priors.network import NetworkPrior

# Noise levels that deepinv's DiffUNet keeps among its weights.
_TABLE = ("sqrt_1m_alphas_cumprod", "sqrt_alphas_cumprod")


@dataclass(frozen=True)
class ADM(Format):
    """Settings that the file does not hold; None means what the published models use.

    A network that is none of them is read as is usual, with a warning that names each guess.

    Attributes:
        image_size: side of the images; needed where the channel multipliers are unusual.
        class_label: which class, for a class-conditional network.
        schedule: noise levels of the training steps, ``"vp-linear"`` or ``"cosine"``.
        steps: number of training steps; ``"vp-linear"`` betas are scaled by 1000 / steps.
        label_scale: the network is told this times the number of the step; 1000 / steps for
            improved-diffusion's ``rescale_timesteps``.
        heads, head_channels: number of attention heads, or channels of one.
        new_attention_order: queries, keys and values are split before the heads.
        parameterization: what is returned: the noise, the image (``predict_xstart``), or v.
        network_range: of the images it was trained on.
    """

    name: ClassVar[str] = "adm"
    image_size: int | None = None
    class_label: int | None = None
    schedule: Schedule | None = None
    steps: int | None = None
    label_scale: float | None = None
    heads: int | None = None
    head_channels: int | None = None
    new_attention_order: bool | None = None
    parameterization: Literal["epsilon", "x0", "v"] | None = None
    network_range: tuple[float, float] | None = None

    def recognises(self, source: Source) -> bool:
        state = source.state
        return "time_embed.0.weight" in state and "input_blocks.0.0.weight" in state

    def describe(self, source: Source) -> dict[str, Any]:
        architecture, known, unsaid = self._complete(source)
        rows = {"network": known.name, **asdict(architecture)}
        rows["image_size"] = known.image_size or "not in the file: format=ADM(image_size=...)"
        rows |= {n: getattr(known, n) for n in ("schedule", "steps", "label_scale")}
        rows["learned variance"] = _learns_variance(architecture)
        if unsaid:
            rows["not in the file"] = "; ".join(f"{n}= ({read})" for n, read in unsaid.items())
        return rows

    def load(self, source: Source, target: Target) -> NetworkPrior:
        architecture, known, unsaid = self._complete(source)
        assert source.checkpoint is not None
        _refuse(architecture, source)
        if not known.image_size:
            raise ValueError(
                f"load_prior({source.name!r}): channel multipliers {architecture.channel_mult} "
                "do not tell the image size; give format=ADM(image_size=...)"
            )
        refuse_size(known.image_size, len(architecture.channel_mult), source)
        label = of_one_class(self.class_label, architecture.classes, source)
        weights = {n: value for n, value in source.state.items() if n not in _TABLE}
        network = filled(lambda: ADMUNet(architecture), weights, source.checkpoint.path)
        tell_unsaid(source, unsaid, "ADM", "this is no published network")
        channels, size = architecture.in_channels, known.image_size
        noise = NoiseOnly(ready(network, target.device), channels, label, known.label_scale)
        return timestep_prior(
            noise,
            self.parameterization or "epsilon",
            (channels, size, size),
            self._levels(source, known),
            target,
            source.name,
            self.network_range or (-1.0, 1.0),
        )

    def _levels(self, source: Source, known: Published) -> Tensor:
        """Those of the schedule, unless the file has others; its own are in single precision."""
        state, levels = source.state, levels_of(known.schedule, known.steps)
        if self.schedule is None and self.steps is None and all(name in state for name in _TABLE):
            own = state[_TABLE[0]].double() / state[_TABLE[1]].double()
            if own.shape != levels.shape or not torch.allclose(own, levels, rtol=0.01, atol=0):
                return own
        return levels

    def _complete(self, source: Source) -> tuple[Architecture, Published, dict[str, str]]:
        """Shapes, then what is known of published models, then what the user says.

        The last of the three is what nobody says, and how it is read.
        """
        found = architecture_of(source.state)
        published = PUBLISHED.get(shapes_of(found))
        known = published or _usual(found, self.steps or 1000)
        unsaid = {} if published else self._unsaid(found, known, source)
        said = {n: getattr(self, n) for n in ("image_size", "schedule", "steps", "label_scale")}
        said["new_attention_order"] = self.new_attention_order
        known = replace(known, **{n: value for n, value in said.items() if value is not None})
        if self.head_channels is not None or self.heads is not None:
            channels = self.head_channels or known.head_channels
            heads = None if self.head_channels is not None else self.heads
            known = replace(known, heads=heads, head_channels=channels)
        names = ("heads", "head_channels", "new_attention_order")
        return replace(found, **{n: getattr(known, n) for n in names}), known, unsaid

    def _unsaid(self, found: Architecture, known: Published, source: Source) -> dict[str, str]:
        heads = str(known.heads or f"one for {known.head_channels} channels")
        levels = {
            "schedule": repr(known.schedule),
            "steps": str(known.steps),
        }
        if all(name in source.state for name in _TABLE):
            levels = {}  # they are in the file
        read = {
            "heads": heads if self.head_channels is None else "",
            "new_attention_order": str(known.new_attention_order),
            **levels,
            "label_scale": f"{known.label_scale:g}",
            "image_size": str(known.image_size) if known.image_size else "",
            "parameterization": "'epsilon'",
            "network_range": "(-1, 1)",
        }
        return {n: text for n, text in read.items() if text and getattr(self, n) is None}


def _usual(found: Architecture, steps: int) -> Published:
    """How a network that is not published is read.

    Training scripts have 4 heads unless told otherwise; with resampling in residual blocks they
    are mostly told the published 64 channels a head.  improved-diffusion, which has no such
    resampling, scales its labels to 1000.
    """
    levels = [*found.attention_levels, len(found.channel_mult) - 1]
    widths = [int(found.channel_mult[level] * found.model_channels) for level in levels]
    published_way = found.resampling == "block" and all(width % 64 == 0 for width in widths)
    heads = None if published_way else (4 if all(width % 4 == 0 for width in widths) else 1)
    scale = 1.0 if found.resampling == "block" else 1000 / steps
    size = SIZES.get(found.channel_mult, 0)
    return Published("not a published one", size, steps=steps, label_scale=scale, heads=heads)


def _refuse(found: Architecture, source: Source) -> None:
    """What has the names of such a network and is no prior of images."""
    channels, out = found.in_channels, found.out_channels
    reason = ""
    if channels == 6 and out in (3, 6):
        reason = (
            "this is an up-sampling network, which needs a small image as well; it is not a prior"
        )
    elif channels == 4 and out in (4, 8):
        reason = "latent priors are not supported yet; this package samples pixels"
    elif out not in (channels, 2 * channels):
        reason = (
            f"the network takes {channels} channels and returns {out}; a prior needs as many, or "
            "twice as many with a learned variance"
        )
    elif shapes_of(found) in OF_CONSISTENCY_MODELS:
        reason = (
            "these are the shapes of consistency_models' EDM and consistency networks, which are "
            "told log(sigma) / 4. Wrap the network in ti.priors.NetworkPrior(..., 'edm'), with "
            "its label times 1000"
        )
    if reason:
        raise ValueError(f"load_prior({source.name!r}): {reason}")


def levels_of(schedule: str, steps: int = 1000) -> Tensor:
    """Noise levels ``(steps,)`` of a schedule of both repositories, increasing.

    Raises:
        ValueError: so few steps that a beta of ``"vp-linear"`` passes 1.
    """
    if schedule == "cosine":
        return cosine_table(steps)
    if steps <= 20:
        raise ValueError(f"ADM(steps={steps}): vp-linear needs more than 20 steps")
    return vp_linear_table(0.1 / steps, 20 / steps, steps)


class NoiseOnly(nn.Module):
    """The noise of a network that returns it together with a variance.

    ``forward(x, t)`` returns the first ``channels``; `variance` the rest.  t is the number of a
    training step, of which the network is told `label_scale` times as much.
    """

    def __init__(
        self,
        network: nn.Module,
        channels: int,
        class_label: int | None = None,
        label_scale: float = 1.0,
    ):
        super().__init__()
        self.network, self.channels, self.class_label = network, channels, class_label
        self.label_scale = label_scale

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
        if self.label_scale != 1:
            t = self.label_scale * t
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
    return timestep_prior(noise, "epsilon", shape, levels_of(schedule), target, name)


def _learns_variance(architecture: Architecture) -> bool:
    return architecture.out_channels == 2 * architecture.in_channels

"""Checkpoints of score_sde_pytorch (NCSN++, DDPM++) and of PSLD, whose networks are the same.

VE: the network sees x on [0, 1], centred inside, is told sigma, and returns the score times sigma.
VP: it sees ``x / sqrt(1 + sigma^2)`` on [-1, 1], is told 999 t, and returns the noise.  The file's
moving average is a list in the order of the trained parameters.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..network import NetworkPrior
from .base import Format, Source, Target
from .files import Checkpoint, load_weights, read_checkpoint, ready
from .ncsnpp_network import Architecture, NCSNpp, architecture_of

# The VP process of Song et al. 2021: beta from 0.1 to 20, started at t = 0.001.
_BETA = (0.1, 20.0)
_FIRST_TIME = 1e-3


@dataclass(frozen=True)
class ScoreSDE(Format):
    """Settings that the file does not hold; None means what the published models use.

    Attributes:
        image_size: side of the images; default is the one whose attention is at 16x16.
        process: ``"ve"`` or ``"vp"``, both trained in continuous time; default by the embedding,
            which cannot tell VP from sub-VP (not supported) and warns.
        sigma_min, sigma_max: of a VE process, on [0, 1]; default the file's.
        moving_average: use it (`ema`) rather than the last weights.
    """

    name: ClassVar[str] = "score-sde"
    image_size: int | None = None
    process: Literal["ve", "vp"] | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    moving_average: bool = True

    def recognises(self, source: Source) -> bool:
        return any(name.startswith("all_modules.0.") for name in source.state)

    def describe(self, source: Source) -> dict[str, Any]:
        found = architecture_of(source.state)
        size = self.image_size or image_size_of(found) or "not in the file: image_size="
        return {**asdict(found), "image_size": size, "process": self._process(found)}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        assert source.checkpoint is not None
        found = architecture_of(source.state)
        size = self.image_size or image_size_of(found)
        if size is None or found.in_channels != found.out_channels:
            raise ValueError(
                f"load_prior({source.name!r}): needs an image size "
                "(format=ScoreSDE(image_size=...)) and as many channels out as in, got "
                f"{found.in_channels} in, {found.out_channels} out; PSLD "
                "networks have two sets of channels (format='psld')"
            )
        state = weights_of(source.checkpoint, moving_average=self.moving_average)
        network = ready(built(found, state, source.checkpoint.path), target.device)
        shape = (found.in_channels, size, size)
        if self._process(found) == "vp":
            if self.process is None:
                warnings.warn(
                    f"load_prior({source.name!r}): read as VP. A sub-VP network looks the same and "
                    "would come out wrong: make sure, then say format=ScoreSDE(process='vp')",
                    stacklevel=3,
                )
            return vp_prior(network, shape, target, source.name)
        if not found.fourier:
            raise ValueError(
                f"load_prior({source.name!r}): VE networks with discrete noise levels are not "
                "supported yet, only continuous ones (Fourier embedding)"
            )
        table = source.state.get("sigmas", torch.tensor([0.01, 50.0]))
        low = self.sigma_min or float(table.min())
        high = self.sigma_max or float(table.max())
        return ve_prior(network, shape, (low, high), target, source.name)

    def _process(self, found: Architecture) -> str:
        return self.process or ("ve" if found.fourier else "vp")


def psld_network(
    path: str | Path, *, sha256: str | None = None, device: torch.device | str = "cpu"
) -> NCSNpp:
    """The network of a PSLD checkpoint: ``forward(z, t)``, z position and momentum, t in (0, 1].

    Returns the noise of both, or of the momentum alone.  The constants of the process are not in
    the file: they are in the paper's tables, some in the file's name.
    """
    checkpoint = read_checkpoint(Path(path), sha256=sha256)
    state = of_psld(checkpoint.state)
    network = built(architecture_of(state), state, checkpoint.path)
    ready(network, device)
    return network


class VESigma(nn.Module):
    """``score = output / sigma``, of images on [0, 1] that the network sees on [-1, 1]."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.network(2 * x - 1, sigma) / sigma.reshape(-1, 1, 1, 1)


class VPTime(nn.Module):
    """Tells a VP network ``999 t`` where the prior tells sigma."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.network(x, 999 * vp_time(sigma))


def vp_time(sigma: Tensor) -> Tensor:
    """t with ``log(1 + sigma^2) = beta_0 t + (beta_1 - beta_0) t^2 / 2``."""
    low, slope = _BETA[0], _BETA[1] - _BETA[0]
    total = torch.log1p(sigma**2)
    return 2 * total / (low + (low**2 + 2 * slope * total).sqrt())  # no cancellation at small t


def ve_prior(
    network: nn.Module,
    shape: tuple[int, ...],
    sigmas: tuple[float, float],
    target: Target,
    name: str = "score-sde",
) -> NetworkPrior:
    """A network in the VE convention of score_sde, without its division by sigma."""
    offset, scale = target.units((0.0, 1.0))
    return NetworkPrior(
        VESigma(network),
        "score",
        shape=shape,
        offset=offset,
        scale=scale,
        sigma_min=sigmas[0] * scale,
        sigma_max=sigmas[1] * scale,
        centre=offset + 0.5 * scale,
        name=name,
    )


def vp_prior(
    network: nn.Module, shape: tuple[int, ...], target: Target, name: str = "score-sde"
) -> NetworkPrior:
    """A network in the VP convention of score_sde."""
    offset, scale = target.units((-1.0, 1.0))
    low, high = (
        math.sqrt(math.expm1(_BETA[0] * t + (_BETA[1] - _BETA[0]) * t**2 / 2))
        for t in (_FIRST_TIME, 1.0)
    )
    return NetworkPrior(
        VPTime(network),
        "epsilon",
        shape=shape,
        offset=offset,
        scale=scale,
        sigma_min=low * scale,
        sigma_max=high * scale,
        name=name,
    )


def image_size_of(found: Architecture) -> int | None:
    """The size whose finest attention is at 16x16, as in every published configuration."""
    return 16 << min(found.attention_levels) if found.attention_levels else None


def built(found: Architecture, state: Mapping[str, Tensor], path: Path) -> NCSNpp:
    """The network, filled."""
    with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
        network = NCSNpp(found)
    load_weights(network, {k: v for k, v in state.items() if k.startswith("all_modules.")}, path)
    return network


def weights_of(checkpoint: Checkpoint, *, moving_average: bool) -> dict[str, Tensor]:
    """The weights by name; the moving average, a list, in the order of the trained ones."""
    state, average = checkpoint.state, None
    if isinstance(checkpoint.content, Mapping):
        average = checkpoint.content.get("ema")
    if not moving_average or not isinstance(average, Mapping) or "shadow_params" not in average:
        return state
    trained = [n for n in state if n.startswith("all_modules.") and n != "all_modules.0.W"]
    values = average["shadow_params"]
    if [tuple(v.shape) for v in values] != [tuple(state[n].shape) for n in trained]:
        raise ValueError(
            f"load_prior: {checkpoint.path}: the moving average ({len(values)} tensors) does not "
            f"follow the order of the {len(trained)} weights; use ScoreSDE(moving_average=False)"
        )
    return {**state, **dict(zip(trained, values, strict=True))}


def of_psld(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The moving average if it is there, without its prefix."""
    for prefix in ("ema_score_fn.", "score_fn."):
        found = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        if found:
            return found
    raise ValueError("load_prior: not a PSLD checkpoint, it has no score_fn")

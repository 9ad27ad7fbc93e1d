"""Checkpoints of score_sde_pytorch (NCSN++, DDPM++) and of PSLD, whose networks are the same.

The file's moving average is a list in the order of the trained parameters; `song.py` says what the
networks are told and return.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tweedie_inverse.priors.formats.base import Format, Source, Target
from tweedie_inverse.priors.formats.files import Checkpoint, load_weights, read_checkpoint, ready
from tweedie_inverse.priors.formats.ncsnpp_shapes import architecture_of
from tweedie_inverse.priors.formats.networks.ncsnpp import Architecture, NCSNpp
from tweedie_inverse.priors.formats.song import subvp_prior, ve_prior, vp_prior
from tweedie_inverse.priors.network import NetworkPrior

Process = Literal["ve", "vp", "subvp"]


@dataclass(frozen=True)
class ScoreSDE(Format):
    """Settings that the file does not hold; None means what the published models use.

    Attributes:
        image_size: side of the images; default is the one whose attention is at 16x16.
        process: ``"ve"``, ``"vp"`` or ``"subvp"``; default ``"ve"`` for a Fourier embedding, else
            ``"vp"`` with a warning, since such a file may as well be sub-VP, or VE with discrete
            noise levels.
        discrete: trained at numbered noise levels rather than in continuous time
            (``training.continuous = False``); default only VE networks without Fourier embedding,
            which are never anything else.
        sigma_min, sigma_max: of a VE process, on [0, 1]; default the file's.
        moving_average: use it (`ema`) rather than the last weights.
        skip_rescale: sums of two branches are divided by sqrt(2); default those with BigGAN blocks,
            and not the older DDPM network.
    """

    name: ClassVar[str] = "score-sde"
    image_size: int | None = None
    process: Process | None = None
    discrete: bool | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    moving_average: bool = True
    skip_rescale: bool | None = None

    def recognises(self, source: Source) -> bool:
        return any(name.startswith("all_modules.0.") for name in source.state)

    def describe(self, source: Source) -> dict[str, Any]:
        found = self._architecture(source)
        size = self.image_size or image_size_of(found) or "not in the file: image_size="
        process, discrete = self._process(found, source)
        return {**asdict(found), "image_size": size, "process": process, "discrete": discrete}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        assert source.checkpoint is not None
        found = self._architecture(source)
        size = self.image_size or image_size_of(found)
        if size is None or found.in_channels != found.out_channels:
            raise ValueError(
                f"load_prior({source.name!r}): needs an image size "
                "(format=ScoreSDE(image_size=...)) and as many channels out as in, got "
                f"{found.in_channels} in, {found.out_channels} out; PSLD "
                "networks have two sets of channels (format='psld')"
            )
        process, discrete = self._process(found, source)
        state = weights_of(source.checkpoint, moving_average=self.moving_average)
        network = ready(built(found, state, source.checkpoint.path), target.device)
        shape = (found.in_channels, size, size)
        if process == "ve":
            levels = self._levels(source)
            return ve_prior(network, shape, levels, target, source.name, discrete=discrete)
        if self.process is None:
            warnings.warn(
                f"load_prior({source.name!r}): read as VP. A sub-VP network and a VE network with "
                "discrete noise levels look the same and would come out wrong: make sure, then say "
                "format=ScoreSDE(process='vp'), 'subvp' or 've'",
                stacklevel=3,
            )
        if process == "subvp":
            return subvp_prior(network, shape, target, source.name)
        return vp_prior(network, shape, target, source.name, discrete=discrete)

    def _architecture(self, source: Source) -> Architecture:
        found = architecture_of(source.state)
        rescale = found.rescale if self.skip_rescale is None else self.skip_rescale
        return replace(found, rescale=rescale)

    def _process(self, found: Architecture, source: Source) -> tuple[Process, bool]:
        """The process, and whether its noise levels are numbered."""
        process = self.process or ("ve" if found.fourier else "vp")
        numbered = process == "ve" and not found.fourier
        discrete = numbered if self.discrete is None else self.discrete
        if discrete and (found.fourier or process == "subvp"):
            raise ValueError(
                f"load_prior({source.name!r}): ScoreSDE(discrete=True) does not go with "
                f"{'a Fourier embedding' if found.fourier else 'sub-VP'}, which is trained in "
                "continuous time"
            )
        if numbered and not discrete:
            raise ValueError(
                f"load_prior({source.name!r}): a VE network in continuous time has a Fourier "
                "embedding, and this one has not; leave out ScoreSDE(discrete=False)"
            )
        return process, discrete

    def _levels(self, source: Source) -> Tensor:
        """Noise levels of a VE process on [0, 1], increasing: the file's, or a geometric row."""
        known = source.state.get("sigmas", torch.tensor([0.01, 50.0])).double().sort().values
        if self.sigma_min is None and self.sigma_max is None and len(known) > 2:
            return known
        low, high = self.sigma_min or float(known[0]), self.sigma_max or float(known[-1])
        count = len(known) if len(known) > 2 else 1000
        return torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64)


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

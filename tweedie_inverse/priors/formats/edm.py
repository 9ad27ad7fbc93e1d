"""EDM and EDM2 networks (Karras et al. 2022, 2024) and the baselines published with them.

Published as pickles that run code when read; `edm_convert` makes safetensors files of them.  The
networks of EDM are DDPM++, NCSN++ and ADM; deepinv's files have the same names, and its networks of
equal shape run them here.  `edm_preconditioning.py` says what they are told and return.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from tweedie_inverse.priors.formats.base import (
    Format,
    Source,
    Target,
    of_one_class,
    tell,
    tell_unsaid,
)
from tweedie_inverse.priors.formats.edm_preconditioning import (
    KINDS,
    Constants,
    Preconditioning,
    RawNetwork,
    constants_of,
    edm_prior,
)
from tweedie_inverse.priors.formats.networks.edm import (
    DeepinvCall,
    EDMArchitecture,
    deepinv_network,
    edm_architecture_of,
)
from tweedie_inverse.priors.formats.networks.edm2 import (
    EDM2Architecture,
    EDM2UNet,
    edm2_architecture_of,
)
from tweedie_inverse.priors.formats.reading.files import filled, ready
from tweedie_inverse.priors.network import NetworkPrior

# The class that wraps the network, as `edm_convert` found it; EDM2's is just called Precond.
_KIND_OF: dict[str, Preconditioning] = {
    "EDMPrecond": "edm",
    "Precond": "edm",
    "VPPrecond": "vp",
    "VEPrecond": "ve",
    "iDDPMPrecond": "iddpm",
}
# Settings of EDM2's network that have no weights.
_EDM2_SETTINGS = (
    "channels_per_head",
    "label_balance",
    "concat_balance",
    "res_balance",
    "attn_balance",
    "clip_act",
)


@dataclass(frozen=True)
class EDM(Format):
    """Settings of the preconditioning; None means the file's, or the published models'.

    Attributes:
        class_label: which class, for a class-conditional network.
        preconditioning: ``"edm"`` (also EDM2), ``"vp"``, ``"ve"`` or ``"iddpm"``; a converted file
            says, others are taken for edm with a warning.
        sigma_data, sigma_min, sigma_max: on the network's range, [-1, 1].
    """

    name: ClassVar[str] = "edm"
    class_label: int | None = None
    preconditioning: Preconditioning | None = None
    sigma_data: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None

    def recognises(self, source: Source) -> bool:
        state = _state(source)
        return "map_layer0.weight" in state or "emb_fourier.freqs" in state

    def describe(self, source: Source) -> dict[str, Any]:
        rows = asdict(_architecture(source))
        kind = self._kind(source)
        low, high = self._constants(source).trained_range(kind)
        rows |= {"preconditioning": kind, "sigma_min": low, "sigma_max": high}
        if unsaid := self._unsaid(source):
            rows["not in the file"] = "; ".join(f"{n}= ({read})" for n, read in unsaid.items())
        return rows

    def load(self, source: Source, target: Target) -> NetworkPrior:
        assert source.checkpoint is not None
        found = _architecture(source)
        kind, constants = self._kind(source), self._constants(source)
        channels, size, classes = _sizes(found)
        _refuse_channels(found, source)
        label = of_one_class(self.class_label, classes, source)
        network = self._network(found, source)
        tell_unsaid(
            source, self._unsaid(source), "EDM", "this file was not converted from a pickle"
        )
        return edm_prior(
            RawNetwork(ready(network, target.device), channels, classes, label),
            (channels, size, size),
            target,
            kind,
            constants,
            source.name,
        )

    def _network(self, found: EDMArchitecture | EDM2Architecture, source: Source) -> nn.Module:
        assert source.checkpoint is not None
        weights, path = _state(source), source.checkpoint.path
        if isinstance(found, EDM2Architecture):
            if not _header(source) and not _is_published(found):
                tell(
                    f"load_prior({source.name!r}): this is none of the published EDM2 networks, "
                    f"and the file does not say their settings without weights, read as "
                    f"{', '.join(f'{n} {getattr(found, n)}' for n in _EDM2_SETTINGS)}. A file that "
                    "tweedie-inverse convert makes from the pickle says them"
                )
            return filled(lambda: EDM2UNet(found), weights, path)
        return DeepinvCall(filled(lambda: deepinv_network(found), weights, path))

    def _unsaid(self, source: Source) -> dict[str, str]:
        """What neither the file nor the user says."""
        if _header(source) or self.preconditioning is not None:
            return {}
        found = _architecture(source)
        if isinstance(found, EDM2Architecture):  # which has only one
            known = self.sigma_data or _is_published(found)
            return {} if known else {"sigma_data": "0.5"}
        return {
            "preconditioning": "'edm', though the baselines 'vp', 've' and 'iddpm' look the same",
            **({} if self.sigma_data else {"sigma_data": "0.5"}),
        }

    def _kind(self, source: Source) -> Preconditioning:
        told = _header(source).get("class", "EDMPrecond")
        kind = self.preconditioning or _KIND_OF.get(told)
        if kind not in KINDS:
            raise ValueError(
                f"load_prior({source.name!r}): preconditioning {kind or told} is not known, only "
                f"{', '.join(_KIND_OF)}; give format=EDM(preconditioning=...), one of "
                f"{', '.join(KINDS)}"
            )
        return kind

    def _constants(self, source: Source) -> Constants:
        """The file's, except for what the user says."""
        found = constants_of(_header(source).get("settings", {}))
        return replace(
            found,
            sigma_data=self.sigma_data or found.sigma_data,
            sigma_min=self.sigma_min or found.sigma_min,
            sigma_max=self.sigma_max or found.sigma_max,
        )


def _state(source: Source) -> dict[str, Tensor]:
    """Weights of the raw network, without the preconditioning's prefix and its own tensors."""
    state = source.state
    for prefix in ("model.", "unet."):
        inner = {
            name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)
        }
        if inner and all(n.startswith((prefix, "logvar_")) or n == "u" for n in state):
            return inner
    return state


def _header(source: Source) -> dict[str, Any]:
    """What `edm_convert` noted: the class and settings of the preconditioning."""
    assert source.checkpoint is not None
    return json.loads(source.checkpoint.metadata.get("edm", "{}"))


def _architecture(source: Source) -> EDMArchitecture | EDM2Architecture:
    state = _state(source)
    if "emb_fourier.freqs" not in state:
        return edm_architecture_of(state)
    if state["out_conv.weight"].shape[0] == 4:
        raise ValueError(
            f"load_prior({source.name!r}): latent priors are not supported yet; this package "
            "samples pixels"
        )
    settings = _header(source).get("settings", {})
    if tuple(settings.get("resample_filter", (1, 1))) != (1, 1):
        raise ValueError(
            f"load_prior({source.name!r}): resample_filter {settings['resample_filter']} is not "
            "supported, only (1, 1) as in the published EDM2 networks"
        )
    known = {name: settings[name] for name in _EDM2_SETTINGS if name in settings}
    return replace(edm2_architecture_of(state), **known)


def _refuse_channels(found: EDMArchitecture | EDM2Architecture, source: Source) -> None:
    if isinstance(found, EDM2Architecture):
        size = found.image_size
        first = _state(source)[f"enc.{size}x{size}_conv.weight"].shape[1] - 1  # a channel of ones
        wanted, given, out = [found.channels], first, found.channels
    else:
        given, out = found.in_channels, found.out_channels
        wanted = [given, 2 * given]
    if out not in wanted or given != wanted[0]:
        raise ValueError(
            f"load_prior({source.name!r}): the network takes {given} channels and returns {out}; a "
            "prior needs as many, or twice as many with a learned variance"
        )


def _is_published(found: EDM2Architecture) -> bool:
    """ImageNet-64, configuration G in one of its sizes."""
    width = found.widths[0]
    return found.widths == (width, 2 * width, 3 * width, 4 * width) and (
        found.image_size,
        found.classes,
        found.blocks,
        found.attention_levels,
    ) == (64, 1000, 3, (2, 3))


def _sizes(found: EDMArchitecture | EDM2Architecture) -> tuple[int, int, int]:
    """Channels of an image, its side, and the number of classes."""
    if isinstance(found, EDM2Architecture):
        return found.channels, found.image_size, found.classes
    return found.in_channels, found.img_resolution, found.label_dim

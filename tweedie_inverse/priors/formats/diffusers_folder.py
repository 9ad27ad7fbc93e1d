"""diffusers pipelines and training runs: a U-Net and a scheduler in a folder, or a hub id.

`diffusers_files.py` says where they lie, `diffusers_schedulers.py` what the scheduler means for the
network.
"""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import choice
from tweedie_inverse.priors.exact import all_but
from tweedie_inverse.priors.formats.base import Format, Source, Target, of_one_class, tell
from tweedie_inverse.priors.formats.diffusers_files import (
    SCHEDULER,
    Network,
    find,
    has_scheduler,
    looks_like_diffusers,
    read_json,
    scheduler_of,
)
from tweedie_inverse.priors.formats.diffusers_schedulers import PREDICTIONS, diffusers_prior
from tweedie_inverse.priors.formats.reading.files import check_shapes, load_weights, ready
from tweedie_inverse.priors.network import NetworkPrior

_LOG = logging.getLogger("tweedie_inverse")
# Attention layers were called differently before diffusers 0.13.
_RENAMED = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}


@dataclass(frozen=True)
class Diffusers(Format):
    """Settings that the folder does not hold.

    Attributes:
        class_label: which class, for a class-conditional network.
        condition: ``(tokens, features)`` text or image embedding for a cross-attention network;
            default zeros, a null condition.
        prediction: ``"epsilon"``, ``"v_prediction"`` or ``"sample"``, against the scheduler's word.
        scheduler: that of the training, where the folder has none: a scheduler, its configuration,
            or the path of one.
        sample_size: side of the images, where the network's configuration does not say it.
        network_range: of the images it was trained on; default that of diffusers' own scripts and
            pipelines, [-1, 1], and [0, 1] for the score-SDE VE pipeline.
    """

    name: ClassVar[str] = "diffusers"
    class_label: int | None = None
    condition: Tensor | None = None
    prediction: str | None = None
    scheduler: Any = None
    sample_size: int | None = None
    network_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prediction is not None:
            choice("Diffusers", "prediction", self.prediction, tuple(PREDICTIONS))
        if self.scheduler is not None:
            _configuration(self.scheduler)

    def recognises(self, source: Source) -> bool:
        return source.folder is not None and looks_like_diffusers(source.folder)

    def describe(self, source: Source) -> dict[str, Any]:
        found = find(source)
        network, scheduler = found.configuration, {}
        if self.scheduler is not None or has_scheduler(found, source):
            scheduler = self._scheduler(found, source)
        keys = ("_class_name", "sample_size", "in_channels", "out_channels", "block_out_channels")
        rows = {name.strip("_"): network[name] for name in keys if name in network}
        rows["scheduler"] = scheduler.get("_class_name", "not in the folder: scheduler=")
        rows["prediction"] = self._prediction(scheduler, source)
        rows["classes"] = network.get("num_class_embeds")
        rows["weights"] = found.remark
        return rows

    def load(self, source: Source, target: Target) -> NetworkPrior:
        found = find(source)
        network, scheduler = found.configuration, self._scheduler(found, source)
        prediction = self._prediction(scheduler, source)
        height, width = self._size(found, source)
        channels = network["in_channels"]
        if network["out_channels"] not in (channels, 2 * channels):
            raise ValueError(
                f"load_prior({source.name!r}): the network takes {channels} channels and returns "
                f"{network['out_channels']}; a prior needs as many, or twice as many with a "
                "learned variance"
            )
        classes = network.get("num_class_embeds") or 0
        label = of_one_class(self.class_label, classes, source)
        _LOG.info("load_prior(%r): weights: %s", source.name, found.remark)
        _tell_of_the_average(found, source)
        adapter = UNetOutput(
            ready(_filled(found), target.device),
            channels,
            label,
            self._condition(network),
            target.device,
        )
        return diffusers_prior(
            adapter,
            (channels, height, width),
            scheduler,
            prediction,
            target,
            source.name,
            self.network_range,
        )

    def _scheduler(self, found: Network, source: Source) -> dict[str, Any]:
        if self.scheduler is None:
            scheduler = scheduler_of(found, source)
        else:
            scheduler = _configuration(self.scheduler)
        if "_class_name" not in scheduler:
            raise ValueError(f"load_prior({source.name!r}): the scheduler does not say its class")
        return scheduler

    def _size(self, found: Network, source: Source) -> tuple[int, int]:
        size = self.sample_size or found.configuration.get("sample_size")
        sides = (size, size) if isinstance(size, int) else tuple(size or ())
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(
                f"load_prior({source.name!r}): {found.folder / 'config.json'} has no sample_size; "
                "say the side of the images it was trained on, "
                "format=ti.priors.formats.Diffusers(sample_size=...)"
            )
        return sides

    def _prediction(self, scheduler: dict[str, Any], source: Source) -> str:
        prediction = self.prediction or scheduler.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS:
            raise ValueError(
                f"load_prior({source.name!r}): prediction {prediction!r} is not known, only "
                f"{', '.join(PREDICTIONS)}"
            )
        return prediction

    def _condition(self, network: dict[str, Any]) -> Tensor | None:
        if network["_class_name"] != "UNet2DConditionModel":
            return None
        if self.condition is not None:
            return self.condition[None]
        features = network.get("cross_attention_dim", 1280)
        if isinstance(features, list):
            features = features[0]
        return torch.zeros(1, 1, features)


class UNetOutput(nn.Module):
    """A diffusers U-Net as ``forward(x, t)``, of one class or condition, without the variance."""

    def __init__(
        self,
        unet: nn.Module,
        channels: int,
        class_label: int | None = None,
        condition: Tensor | None = None,
        device: torch.device | str = "cpu",
    ):
        super().__init__()
        self.unet, self.channels, self.class_label = unet, channels, class_label
        self.condition = None if condition is None else condition.to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Frequencies of the label keep their precision when the network is cast."""
        waves = [part for name, part in self.unet.named_children() if name == "time_proj"]
        return all_but(waves, lambda: super(UNetOutput, self)._apply(fn, recurse))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        labels = None
        if self.class_label is not None:
            labels = torch.full((len(x),), self.class_label, device=x.device)
        if self.condition is None:
            output = self.unet(x, t, class_labels=labels, return_dict=False)
        else:
            told = self.condition.to(x).expand(len(x), -1, -1)
            output = self.unet(x, t, told, class_labels=labels, return_dict=False)
        return output[0][:, : self.channels]


def _tell_of_the_average(found: Network, source: Source) -> None:
    if found.average and found.updates == 0:
        tell(
            f"load_prior({source.name!r}): takes {found.remark}, which was never updated, as its "
            "folder says; weights= names another"
        )


def _configuration(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler, given as such, as a scheduler, or as a path."""
    if isinstance(scheduler, str | Path):
        path = Path(scheduler)
        inside = [path / "scheduler" / SCHEDULER, path / SCHEDULER]
        return read_json(next((file for file in inside if file.is_file()), path))
    if isinstance(scheduler, dict):
        return scheduler
    config = getattr(scheduler, "config", None)
    if config is None:
        raise TypeError(
            f"Diffusers(scheduler={scheduler!r}): needs a scheduler of diffusers, its "
            "configuration, or the path of one"
        )
    return {**dict(config), "_class_name": type(scheduler).__name__}


def _build(configuration: dict[str, Any]) -> nn.Module:
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(
            "load_prior: diffusers networks need diffusers (pip install diffusers)"
        ) from error
    kind = {
        "UNet2DModel": diffusers.UNet2DModel,
        "UNet2DConditionModel": diffusers.UNet2DConditionModel,
    }[configuration["_class_name"]]
    known = inspect.signature(kind.__init__).parameters
    return kind.from_config({name: v for name, v in configuration.items() if name in known})


def _filled(found: Network) -> nn.Module:
    """The network with its weights; a configuration that these do not bear out builds nothing."""
    configuration, state = found.configuration, found.state()
    first = found.files[0]
    layers = [_count(configuration.get(name)) for name in _LAYERS]
    widths = _numbers(configuration.get("block_out_channels"))
    largest = max((max(value.shape, default=0) for value in state.values()), default=0)
    if max(layers) * len(widths) > len(state) or max(widths, default=0) > largest:
        raise ValueError(
            f"load_prior: {first}: {len(state)} weights, the largest side {largest}, are not those "
            f"of {str(widths)[:60]} channels with {max(layers)} layers a block, as config.json says"
        )
    with torch.device("meta"):
        without_memory = _build(configuration)
    renamed = _renamed(state, without_memory)
    check_shapes(without_memory, renamed, first)
    with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
        unet = _build(configuration)
    load_weights(unet, renamed, first)
    return unet


# What makes a network long.
_LAYERS = (
    "layers_per_block",
    "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
)


def _numbers(value: Any) -> list[int]:
    """The whole numbers in a setting that is one, or lists of them."""
    if isinstance(value, list):
        return [number for item in value[:10_000] for number in _numbers(item)]
    return [value] if isinstance(value, int) else []


def _count(value: Any) -> int:
    return max(_numbers(value), default=1)


def _renamed(state: dict[str, Tensor], unet: nn.Module) -> dict[str, Tensor]:
    known = unet.state_dict()
    renamed = {}
    for name, value in state.items():
        new = name
        if name not in known:
            for old, current in _RENAMED.items():
                new = new.replace(old, current)
        renamed[new] = value.reshape(known[new].shape) if _same_count(value, known, new) else value
    return renamed


def _same_count(value: Tensor, known: dict[str, Tensor], name: str) -> bool:
    """Old attention weights may be 1x1 convolutions."""
    return name in known and value.numel() == known[name].numel()

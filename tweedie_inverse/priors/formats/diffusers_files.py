"""Where the network, its weights and its scheduler lie in a folder of diffusers.

A pipeline has ``model_index.json``, the network in ``unet`` and a scheduler beside it; a training
run has ``checkpoint-500/unet`` and ``unet_ema``, often without any scheduler.  Weights are one
file, shards with an index, or a variant such as fp16.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tweedie_inverse.priors.formats.base import Source
from tweedie_inverse.priors.formats.reading.files import read_checkpoint
from tweedie_inverse.priors.formats.reading.names import numbers_in, says_average

NETWORKS = ("UNet2DModel", "UNet2DConditionModel")
SCHEDULER = "scheduler_config.json"
_STEM = "diffusion_pytorch_model"
_LATENT = ("vae", "vqvae", "movq")
_CHECKPOINT = re.compile(r"checkpoint[-_](\d+)")
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
# A configuration is some kilobytes; an index of shards has a line a weight.
_LARGEST_JSON = 2**25


@dataclass(frozen=True)
class Network:
    """A network in a folder.

    Attributes:
        key: of its folder, as ``weights=`` takes it; empty for the given folder itself.
        configuration: the network's ``config.json``.
        files: of its weights, one or all shards.
        average: whether these are averaged weights.
        remark: what was chosen, where there was a choice.
    """

    key: str
    folder: Path
    configuration: dict[str, Any]
    files: tuple[Path, ...]
    average: bool
    remark: str = ""

    @property
    def updates(self) -> int | None:
        """How often the average was updated, where the folder says it."""
        return numbers_in(self.configuration).updates

    def state(self) -> dict[str, Tensor]:
        """All weights; shards must not say anything twice."""
        state: dict[str, Tensor] = {}
        for file in self.files:
            part = read_checkpoint(file).state
            if twice := state.keys() & part.keys():
                raise ValueError(f"load_prior: {file} has {min(twice)} once more, as another shard")
            state |= part
        return state


def looks_like_diffusers(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("model_index.json", "config.json")):
        return True
    return any(_networks(_newest(folder)[0]))


def find(source: Source) -> Network:
    """The network to load, the average where there is one.

    Raises:
        ValueError: none, one of latents, or not the one that was asked for.
    """
    root = source.folder
    assert root is not None
    index = read_json(root / "model_index.json") if (root / "model_index.json").is_file() else {}
    if latent := [part for part in _LATENT if part in index or (root / part).is_dir()]:
        raise ValueError(
            f"load_prior({source.name!r}): latent priors are not supported yet (the pipeline "
            f"has a {latent[0]}); this package samples pixels"
        )
    folder, remark = (root, "") if index or (root / "config.json").is_file() else _newest(root)
    places = list(_networks(folder))
    if not places:
        inside = folder / "unet" if (folder / "unet").is_dir() else folder
        kind = read_json(inside / "config.json").get("_class_name")
        raise ValueError(
            f"load_prior({source.name!r}): network {kind} is not supported, only "
            f"{' and '.join(NETWORKS)}"
        )
    found = [_network(place, folder, source) for place in places]
    taken = _chosen(found, source)
    others = [
        f"{n.key!r} has the {'average' if n.average else 'raw ones'}"
        for n in found
        if n is not taken
    ]
    place = str(taken.files[0].relative_to(root))
    said = f"{'the average' if taken.average else 'those'} in {place!r}"
    said += f" and {len(taken.files) - 1} more shards" if len(taken.files) > 1 else ""
    remarks = [part for part in (remark, taken.remark, *others) if part]
    text = said + (f" ({'; '.join(remarks)})" if remarks else "")
    return Network(taken.key, taken.folder, taken.configuration, taken.files, taken.average, text)


def _newest(root: Path) -> tuple[Path, str]:
    """The last checkpoint of a training run, and what to say of it; else the folder itself."""
    runs = {
        int(match[1]): path
        for path in root.iterdir()
        if path.is_dir() and (match := _CHECKPOINT.fullmatch(path.name))
    }
    if not runs or any(_networks(root)):
        return root, ""
    newest = runs[max(runs)]
    return newest, f"{newest.name} is the newest of {len(runs)}" if len(runs) > 1 else ""


def _networks(folder: Path) -> Iterator[Path]:
    """Folders of networks: this one, or those in it, without other parts of a pipeline."""
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        config = place / "config.json"
        if config.is_file() and read_json(config).get("_class_name") in NETWORKS:
            yield place


def _chosen(found: list[Network], source: Source) -> Network:
    asked = source.weights
    fit = {
        None: found,
        "average": [n for n in found if n.average],
        "raw": [n for n in found if not n.average],
    }.get(asked, [n for n in found if n.key == asked])
    begun = [n for n in fit if n.updates != 0]  # an average that was never updated is none
    if not fit:
        there = ", ".join(repr(n.key or n.folder.name) for n in found)
        raise ValueError(
            f"load_prior({source.name!r}, weights={asked!r}): there are no such weights, found "
            f"{there}"
        )
    return max(begun or fit, key=lambda n: (n.average, n.folder.name == "unet"))


def _network(place: Path, folder: Path, source: Source) -> Network:
    key = "" if place == folder else place.name
    files, variant = _weights(place, source)
    average = says_average(place.name if key else "") or variant == "ema"
    remark = f"variant {variant}" if variant else ""
    return Network(key, place, read_json(place / "config.json"), files, average, remark)


def _weights(place: Path, source: Source) -> tuple[tuple[Path, ...], str]:
    """The files of weights in a network's folder, and their variant: full precision first."""
    for suffix in ("safetensors", "bin"):
        variants = {""}
        for path in place.glob(f"{_STEM}*.{suffix}*"):
            bare = _SHARD.sub("", path.name).removeprefix(_STEM)
            match = re.fullmatch(rf"(?:\.(\w+))?\.{suffix}(?:\.index(?:\.(\w+))?\.json)?", bare)
            if match is not None:
                variants.add(match[1] or match[2] or "")
        for variant in sorted(variants, key=lambda v: (v != "", "fp16" in v or "bf16" in v, v)):
            middle = f".{variant}" if variant else ""
            single = place / f"{_STEM}{middle}.{suffix}"
            if single.is_file():
                return (single,), variant
            index = place / f"{_STEM}.{suffix}.index{middle}.json"
            if index.is_file():
                return _shards(index), variant
    other = [
        path
        for path in sorted(place.iterdir())
        if path.suffix in (".safetensors", ".bin")
        and not path.name.startswith(("optimizer", "scheduler", "random_states", "scaler"))
    ]
    if len(other) == 1:
        return (other[0],), ""
    names = ", ".join(path.name for path in other[:5]) or "none"
    raise ValueError(
        f"load_prior({source.name!r}): no weights in {place}, looked for {_STEM}.safetensors, "
        f".bin, variants and shards with an index; other files of weights: {names}"
    )


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names; all must lie beside it."""
    named = read_json(index).get("weight_map")
    files = sorted(set(named.values())) if isinstance(named, dict) else []
    if not files or not all(isinstance(name, str) for name in files):
        raise ValueError(f"load_prior: {index} names no shards")
    outside = [n for n in files if n != Path(n).name or n in ("", ".", "..") or "\\" in n]
    if outside:
        raise ValueError(
            f"load_prior: refused {index}: it names {outside[0]!r}, which is outside its folder"
        )
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        raise ValueError(
            f"load_prior: {index.parent} lacks {len(missing)} of {len(files)} shards, first "
            f"{missing[0]}; fetch the folder again"
        )
    return tuple(index.parent / name for name in files)


def _scheduler_files(network: Network, source: Source) -> Iterator[Path]:
    """Beside the network or above it."""
    assert source.folder is not None
    for place in (network.folder, network.folder.parent, source.folder, source.folder.parent):
        for file in (place / "scheduler" / SCHEDULER, place / SCHEDULER):
            if file.is_file():
                yield file


def has_scheduler(network: Network, source: Source) -> bool:
    return any(True for _ in _scheduler_files(network, source))


def scheduler_of(network: Network, source: Source) -> dict[str, Any]:
    """The scheduler's configuration.

    Raises:
        ValueError: there is none.
    """
    for file in _scheduler_files(network, source):
        return read_json(file)
    raise ValueError(
        f"load_prior({source.name!r}): scheduler/scheduler_config.json is missing; it holds "
        "the noise levels, without which the network's timesteps mean nothing. Say which one it "
        "was trained with: format=ti.priors.formats.Diffusers(scheduler=...), a path, a "
        "configuration or a scheduler"
    )


def read_json(path: Path) -> dict[str, Any]:
    """A file of settings.

    Raises:
        ValueError: no such file, no JSON, or something else than settings.
    """
    if not path.is_file():
        raise ValueError(f"load_prior: {path} is missing; is this the folder of a pipeline?")
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"load_prior: {path} is too large for settings")
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"load_prior: {path} is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"load_prior: {path} holds no settings")
    return content

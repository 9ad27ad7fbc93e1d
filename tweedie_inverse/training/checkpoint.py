"""What a run leaves in its folder to go on from, and to make a prior of."""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.images import INDEX, TrainingImages, generated_images
from tweedie_inverse.training.tasks import Task, task_of

CHECKPOINT = "checkpoint.pt"


class Trained(NamedTuple):
    """A run as its checkpoint has it.

    Attributes:
        task: with the averaged weights.
        record: step, loss history, seconds, the machine that trained last, what it was trained
            on (`images`, empty for a data set of this package), and `checks`.
    """

    task: Task
    config: TrainingConfig
    record: dict[str, Any]


def build_task(config: TrainingConfig, images: TrainingImages | None = None) -> Task:
    """A fresh network for `images`, or the data set of `config`, and how it is trained."""
    images = generated_images(config) if images is None else images
    return task_of(config, images.shape, _classes(config, images))


def _classes(config: TrainingConfig, images: TrainingImages) -> int:
    """The number of classes of a conditional network; 0 for an unconditional one."""
    if config.conditional and not images.classes:
        raise ValueError(
            f"train(conditional=True): the images of data={config.data!r} have no classes; "
            "data='digits' has"
        )
    return images.classes if config.conditional else 0


def read(checkpoint: Path, device: str) -> dict[str, Any]:
    """The content of a checkpoint.

    Raises:
        ValueError: there is no such file, or it is damaged.
    """
    if not checkpoint.is_file():
        raise ValueError(f"train: there is no run in {checkpoint.parent}, it has no {CHECKPOINT}")
    try:
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        missing = {"config", "network", "average", "step"} - state.keys()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # torch names a dozen kinds of damage
        kind = type(error).__name__
        raise ValueError(
            f"train: {checkpoint} is truncated or no checkpoint of a run ({kind}). Put a copy in "
            "its place, or delete it to begin anew"
        ) from None
    if missing:
        raise ValueError(
            f"train: {checkpoint} is no checkpoint of a run: it has no {', '.join(sorted(missing))}"
        )
    return state


def load_run(folder: str | Path) -> Trained:
    """A run with its averaged network, in evaluation mode."""
    state = read(Path(folder) / CHECKPOINT, "cpu")
    settings = _settings(state)
    for name in ("widths", "blocks", "value_range"):
        settings[name] = tuple(settings[name])
    config, images = TrainingConfig(**settings), state.get("images") or {}
    task = task_of(config, tuple(images["shape"]), 0) if images else build_task(config)
    weights = {
        name.removeprefix("module."): value
        for name, value in state["average"].items()
        if name.startswith("module.")
    }
    task.prior.module.load_state_dict(weights)
    task.prior.module.eval().requires_grad_(False)
    for name, part in task.extras().items():
        part.load_state_dict(state[name])
    task.restored()
    record = {name: state[name] for name in ("step", "history", "seconds")}
    record |= {"machine": state.get("machine", "an unnamed machine"), "images": images}
    return Trained(task, config, {**record, "checks": state.get("checks", [])})


def load_trained(folder: str | Path):
    """The averaged network of a run, as a prior."""
    return load_run(folder).task.prior


def machine(device: str, processes: int = 1) -> str:
    """What a run is trained on, for its card."""
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        name = f"{threads} thread{'s' * (threads > 1)} of a {platform.machine()} CPU"
    return name if processes == 1 else f"{processes} processes, each on {name}"


def _settings(state: dict[str, Any]) -> dict[str, Any]:
    """All settings; a checkpoint from before a setting existed was trained with its default."""
    found = json.loads(state["config"])
    if "bfloat16" in found:  # as the precision was said once
        found["precision"] = "bf16" if found.pop("bfloat16") else "fp32"
    return {**json.loads(json.dumps(asdict(TrainingConfig()))), **found}


def refuse_other_run(
    state: dict[str, Any], config: TrainingConfig, images: dict[str, Any], checkpoint: Path
) -> None:
    """Only a run of the same settings and images goes on; its length may be another.

    Raises:
        ValueError: what differs, and what to do.
    """
    found, wanted = _settings(state), json.loads(json.dumps(asdict(config)))
    free = ["steps", "minutes"]
    known = state.get("images") or {}
    if known and images:  # known by their checksum, wherever the folder is
        free.append("data")
    different = [name for name in wanted if name not in free and found[name] != wanted[name]]
    if different:
        pairs = ", ".join(f"{n}: {found.get(n)} there, {wanted[n]} now" for n in different)
        raise ValueError(
            f"train: {checkpoint} belongs to a run with other settings ({pairs}). Use the same "
            "settings to resume it, or another folder"
        )
    if known.get("checksum") != images.get("checksum"):
        raise ValueError(
            f"train: the images have changed since the run in {checkpoint.parent} began: "
            f"{_first(known)} then, {_first(images)} now, of other content"
            f" ({INDEX} there lists them with their checksums). Restore them to resume the run, or "
            "use another folder (--start takes the prior file of this one)"
        )


def _first(record: dict[str, Any]) -> str:
    return record["statement"][0].split(" pixels")[0] if record else "a set of this package"

"""Train a network, with an exponential average of its weights; resumable.

Every batch is fixed by its step number, so a run that was stopped and resumed sees the same data
as one that was not.
"""

import dataclasses
import io
import json
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tweedie_inverse.datasets.digits import Digits
from tweedie_inverse.datasets.registry import Dataset, dataset
from tweedie_inverse.runtime.atomic import ready_folder, replace
from tweedie_inverse.runtime.locks import alone_in
from tweedie_inverse.training.config import TrainingConfig, learning_rate
from tweedie_inverse.training.tasks import Task, task_of

_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Progress:
    """One report of `train`: averages since the last report."""

    step: int
    loss: float
    seconds: float


class Trained(NamedTuple):
    """A run as its checkpoint has it.

    Attributes:
        task: with the averaged weights.
        record: step, loss history, seconds, and the machine that trained last.
    """

    task: Task
    config: TrainingConfig
    record: dict[str, Any]


def build_task(config: TrainingConfig) -> Task:
    """A fresh network for the data set of `config`, and how it is trained."""
    images = dataset(config.data, config.size)
    return task_of(config, images.shape, _classes(config, images))


def _classes(config: TrainingConfig, images: Dataset) -> int:
    """The number of classes of a conditional network; 0 for an unconditional one."""
    if not config.conditional:
        return 0
    if not isinstance(images, Digits):
        raise ValueError(
            f"train(conditional=True): the images of data={config.data!r} have no classes; "
            "data='digits' has"
        )
    return images.classes


def train(
    config: TrainingConfig,
    folder: str | Path,
    *,
    device: str = "cpu",
    report_every: int = 50,
    save_every: int = 250,
) -> Iterator[Progress]:
    """Train until `config.steps`, yielding progress; resumes from `folder` where it holds a run.

    The loop belongs to the caller: stop consuming and the last checkpoint stays usable.  The folder
    is locked until the loop ends or is closed.

    Args:
        report_every: steps between two reports.
        save_every: steps between two checkpoints; the last step is always saved.

    Raises:
        ValueError: the folder cannot be written to, another run is at work in it, or it holds a
            run of other settings or a damaged checkpoint.
        FloatingPointError: the gradient is not finite.
    """
    if min(report_every, save_every) < 1:
        raise ValueError(
            f"train(report_every={report_every}, save_every={save_every}): needs 1 step or more"
        )
    folder = Path(folder)
    ready_folder(folder)
    with alone_in(folder, "train"):
        yield from _train(config, folder, device, report_every, save_every)


def _train(
    config: TrainingConfig, folder: Path, device: str, report_every: int, save_every: int
) -> Iterator[Progress]:
    run = _Run(config, folder / _CHECKPOINT, device)
    images, losses = dataset(config.data, config.size), []
    while run.step < config.steps:
        losses.append(run.advance(images))
        last = run.step == config.steps
        report = None
        if run.step % report_every == 0 or last:
            report = Progress(run.step, sum(losses) / len(losses), run.seconds)
            run.history.append([report.step, report.loss])
            losses = []
        if run.step % save_every == 0 or last:
            run.save()
        if report is not None:
            yield report


class _Run:
    """A run in progress: the task, its optimizer, and how far it is."""

    def __init__(self, config: TrainingConfig, checkpoint: Path, device: str):
        self.config, self.checkpoint, self.device = config, checkpoint, device
        self.task = build_task(config)
        self.network = self.task.prior.module.to(device).to(memory_format=torch.channels_last)
        for part in self.task.extras().values():
            part.to(device)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.average)
        )
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.rate, betas=(0.9, 0.99)
        )
        for group in self.task.parameter_groups():
            self.optimizer.add_param_group(group)
        self.history: list[list[float]] = []
        self.step, self._spent = 0, 0.0
        if checkpoint.exists():
            self._resume()
        elif config.start:
            self.task.start_from(config.start)
            self.average.module.load_state_dict(self.network.state_dict())
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on the run, earlier parts included."""
        return self._spent + time.monotonic() - self._begin

    def advance(self, images: Dataset) -> float:
        """One step on its own batch; returns the loss."""
        config, generator = self.config, torch.Generator().manual_seed(self._seed())
        first = config.first_image + self.step * config.batch
        seeds = range(first, first + config.batch)
        clean = images.images(seeds).to(self.device)
        noise = torch.randn(len(clean), *self.task.noise_shape, generator=generator).to(clean)
        levels = self.task.draw_levels(config.batch, generator).to(self.device)
        labels = None
        if config.conditional:
            labels = dropped_labels(config, images, seeds, generator).to(self.device)
        self.optimizer.param_groups[0]["lr"] = learning_rate(config, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.backward(clean, noise, levels, labels, generator)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if not bool(norm.isfinite()):
            kept = f"; {self.checkpoint}, of the last save, is kept" * self.checkpoint.exists()
            raise FloatingPointError(
                f"train: the gradient became {float(norm)} at step {self.step}. Lower rate= (now "
                f"{config.rate}){kept}"
            )
        self.optimizer.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return loss.item()

    def _seed(self) -> int:
        return self.config.seed * 1_000_003 + self.step

    def _trained(self) -> dict[str, Any]:
        """Everything that has a state, by its name in the checkpoint."""
        return {
            "network": self.network,
            "average": self.average,
            "optimizer": self.optimizer,
            **self.task.extras(),
        }

    def save(self) -> None:
        """Write the checkpoint as a whole: a run killed meanwhile keeps its last one."""
        state = {
            "config": json.dumps(dataclasses.asdict(self.config)),
            **{name: part.state_dict() for name, part in self._trained().items()},
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
            "machine": machine(self.device),
        }
        content = io.BytesIO()
        torch.save(state, content)
        replace(self.checkpoint, content.getvalue())

    def _resume(self) -> None:
        state = _read(self.checkpoint, self.device)
        _refuse_other_run(json.loads(state["config"]), self.config, self.checkpoint)
        for name, part in self._trained().items():
            part.load_state_dict(state[name])
        self.step, self.history, self._spent = state["step"], state["history"], state["seconds"]


def _read(checkpoint: Path, device: str) -> dict[str, Any]:
    """What `_Run.save` wrote.

    Raises:
        ValueError: there is no such file, or it is damaged.
    """
    if not checkpoint.is_file():
        raise ValueError(f"train: there is no run in {checkpoint.parent}, it has no {_CHECKPOINT}")
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


def machine(device: str) -> str:
    """What a run is trained on, for its card."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' * (threads > 1)} of a {platform.machine()} CPU"


def dropped_labels(
    config: TrainingConfig, images: Dataset, seeds: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Classes ``(batch,)``; a share `label_dropout` of them is "any class"."""
    assert isinstance(images, Digits)
    dropped = torch.rand(len(seeds), generator=generator) < config.label_dropout
    return torch.where(dropped, images.classes, images.labels(seeds))


def load_run(folder: str | Path) -> Trained:
    """A run with its averaged network, in evaluation mode."""
    state = _read(Path(folder) / _CHECKPOINT, "cpu")
    settings = json.loads(state["config"])
    for name in ("widths", "blocks"):
        settings[name] = tuple(settings[name])
    config = TrainingConfig(**settings)
    task = build_task(config)
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
    return Trained(task, config, {**record, "machine": state.get("machine", "an unnamed machine")})


def load_trained(folder: str | Path):
    """The averaged network of a run, as a prior."""
    return load_run(folder).task.prior


def _refuse_other_run(found: dict, config: TrainingConfig, checkpoint: Path) -> None:
    wanted = json.loads(json.dumps(dataclasses.asdict(config)))
    # A checkpoint written before a setting existed was trained with its default.
    found = {**json.loads(json.dumps(dataclasses.asdict(TrainingConfig()))), **found}
    different = [name for name in wanted if name != "steps" and found[name] != wanted[name]]
    if different:
        pairs = ", ".join(f"{n}: {found.get(n)} there, {wanted[n]} now" for n in different)
        raise ValueError(
            f"train: {checkpoint} belongs to a run with other settings ({pairs}). Use the same "
            "settings to resume it, or another folder"
        )

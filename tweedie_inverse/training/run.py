"""A run in progress: the network, its optimizer and average, and how far it is."""

import io
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tweedie_inverse.runtime.atomic import replace
from tweedie_inverse.training.checkpoint import build_task, machine, read, refuse_other_run
from tweedie_inverse.training.config import TrainingConfig, learning_rate
from tweedie_inverse.training.images import TrainingImages
from tweedie_inverse.training.precision import LEAST_SCALE, loss_scaler
from tweedie_inverse.training.team import Team


class Run:
    """One process's part of a run; resumed where its checkpoint is there.

    Attributes:
        step: how many are done.
        done: the share of the run that is over, the same in every process.
        average: the network with the averaged weights.
        checks: of `watch`, as they are kept.
    """

    def __init__(
        self,
        config: TrainingConfig,
        checkpoint: Path,
        images: TrainingImages,
        device: str,
        team: Team,
    ):
        self.config, self.checkpoint, self.device = config, checkpoint, device
        self.images, self.team = images, team
        self.task = build_task(config, images)
        self.task.scaler = loss_scaler(config.precision, device)
        self.network = self.task.prior.module.to(device).to(memory_format=torch.channels_last)
        for part in self.task.extras().values():
            part.to(device)
        self.average = torch.optim.swa_utils.AveragedModel(self.network, multi_avg_fn=self._average)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.rate, betas=(0.9, 0.99)
        )
        for group in self.task.parameter_groups():
            self.optimizer.add_param_group(group)
        self.history: list[list[float]] = []
        self.checks: list[dict[str, Any]] = []
        self.step, self._spent = 0, 0.0
        if checkpoint.exists():
            self._resume()
        elif config.start:
            self.task.start_from(config.start)
            self.average.module.load_state_dict(self.network.state_dict())
        self._begin = time.monotonic()
        self.done = self._share()
        # An accelerator works on one batch while the next is read and cropped.
        self._ahead = _Ahead(self._batch, torch.device(device).type != "cpu")

    @property
    def seconds(self) -> float:
        """Time spent on the run, earlier parts included."""
        return self._spent + time.monotonic() - self._begin

    @property
    def is_over(self) -> bool:
        return self.done >= 1

    def _share(self) -> float:
        """How much of the run is over, by steps or by the clock."""
        if self.config.minutes:
            return self.seconds / (60 * self.config.minutes)
        return self.step / self.config.steps

    def _seeds(self, step: int) -> range:
        first = self.config.first_image + step * self.config.batch
        return range(first, first + self.config.batch)

    def _batch(self, step: int) -> Tensor:
        return self.images.images(self.team.mine_of(self._seeds(step)))

    def advance(self) -> float:
        """One step on its own batch; returns the loss."""
        config, team = self.config, self.team
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        clean = self._ahead.take(self.step).to(self.device)
        noise = torch.randn(config.batch, *self.task.noise_shape, generator=generator)
        levels = self.task.draw_levels(config.batch, generator)
        labels = None
        if config.conditional:
            labels = dropped_labels(config, self.images, self._seeds(self.step), generator)
            labels = team.mine(labels).to(self.device)
        if team.size > 1:  # what else a task draws is each process's own
            generator.manual_seed((config.seed * 1_000_003 + self.step) * team.size + team.rank)
        done = self.done if config.minutes else None
        self.optimizer.param_groups[0]["lr"] = learning_rate(config, self.step, done)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.backward(
            clean,
            team.mine(noise).to(clean),
            team.mine(levels).to(self.device),
            labels,
            generator,
        )
        mean = self._descend(loss)
        self.average.update_parameters(self.network)
        self.step += 1
        if not config.minutes:
            self.done = self._share()
        return mean

    @torch.no_grad()
    def _average(self, averages: Any, current: Any, _: Any) -> None:
        """An exponential average whose memory grows with the run, up to a decay of `average`."""
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(averages, current, 1 - decay)

    def _descend(self, loss: Tensor) -> float:
        """The step of the optimizer; returns the loss of the whole batch."""
        team, scaler = self.team, self.task.scaler
        # Processes have clocks of their own, and end at the first one's.
        clock = self._share() * team.size if team.leads else 0.0
        trained = [one for group in self.optimizer.param_groups for one in group["params"]]
        said = team.average(trained, torch.stack([loss.float(), loss.new_tensor(clock).float()]))
        scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if not bool(norm.isfinite()) and not (
            scaler.is_enabled() and scaler.get_scale() > LEAST_SCALE
        ):
            kept = f"; {self.checkpoint}, of the last save, is kept" * self.checkpoint.exists()
            raise FloatingPointError(
                f"train: the gradient became {float(norm)} at step {self.step}. Lower rate= (now "
                f"{self.config.rate}){kept}"
            )
        scaler.step(self.optimizer)
        scaler.update()
        mean, clock = said.tolist()
        if self.config.minutes:
            self.done = clock
        return mean

    def close(self) -> None:
        self._ahead.close()

    def _trained(self) -> dict[str, Any]:
        """Everything that has a state, by its name in the checkpoint."""
        found = {
            "network": self.network,
            "average": self.average,
            "optimizer": self.optimizer,
            **self.task.extras(),
        }
        return found | ({"scaler": self.task.scaler} if self.task.scaler.is_enabled() else {})

    def save(self) -> None:
        """Write the checkpoint as a whole: a run killed meanwhile keeps its last one."""
        state = {
            "config": json.dumps(asdict(self.config)),
            **{name: part.state_dict() for name, part in self._trained().items()},
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
            "machine": machine(self.device, self.team.size),
            "images": self.images.record(),
            "checks": self.checks,
        }
        content = io.BytesIO()
        torch.save(state, content)
        replace(self.checkpoint, content.getvalue())

    def _resume(self) -> None:
        state = read(self.checkpoint, self.device)
        refuse_other_run(state, self.config, self.images.record(), self.checkpoint)
        for name, part in self._trained().items():
            part.load_state_dict(state[name])
        self.step, self.history, self._spent = state["step"], state["history"], state["seconds"]
        self.checks = list(state.get("checks", []))


class _Ahead:
    """What is made for each step, the next one in a thread of its own."""

    def __init__(self, make: Callable[[int], Tensor], in_thread: bool):
        self._make = make
        self._pool = ThreadPoolExecutor(1) if in_thread else None
        self._next: tuple[int, Future[Tensor]] | None = None

    def take(self, step: int) -> Tensor:
        if self._pool is None:
            return self._make(step)
        ready = self._next
        found = ready[1].result() if ready and ready[0] == step else self._make(step)
        self._next = step + 1, self._pool.submit(self._make, step + 1)
        return found

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def dropped_labels(
    config: TrainingConfig,
    images: TrainingImages,
    seeds: Sequence[int],
    generator: torch.Generator,
) -> Tensor:
    """Classes ``(batch,)``; a share `label_dropout` of them is "any class"."""
    dropped = torch.rand(len(seeds), generator=generator) < config.label_dropout
    return torch.where(dropped, images.classes, images.labels(seeds))

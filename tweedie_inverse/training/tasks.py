"""What a training run trains: a network as a prior, and the loss of one batch.

The loop in `trainer` is the same for every task.  A task for another kind of prior is a subclass,
entered under the names of its forward processes in `PROCESSES`.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tweedie_inverse.priors.guidance import given
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.zoo import save_prior
from tweedie_inverse.runtime.atomic import replace
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.fresh import fresh_unet
from tweedie_inverse.training.learned_noise import LearnedLevels, descend, even_times
from tweedie_inverse.training.noise_levels import NOISE_LEVELS, NoiseLevels, Timesteps, quantiles
from tweedie_inverse.training.objective import WEIGHTS, denoising_loss
from tweedie_inverse.training.precision import reduced
from tweedie_inverse.training.start import start_from

# The learned schedule has few numbers, which need larger steps than the network's weights.
_LEVELS_RATE = 1e-2
# Range that samplers may use, in network units, cut to what training has seen: wide enough to
# start from noise.
_SIGMA_RANGE = (0.008, 40.0)


class Sections(NamedTuple):
    """The parts of a card that depend on the kind of prior."""

    introduction: str
    noise_levels: str  # one or more paragraphs, with their headings
    loss: str  # what the reported loss is


class Task(ABC):
    """A network being trained.

    Attributes:
        prior: the network as the prior that the run ends with.
        noise_shape: of the noise of one image in a batch.
    """

    prior: Any  # a Prior with `module`, `name`, `centre` and `error`
    noise_shape: tuple[int, ...]
    # Scales the loss in half precision; the loop gives the one of its device.
    scaler: torch.amp.GradScaler = torch.amp.GradScaler(enabled=False)

    def extras(self) -> dict[str, nn.Module]:
        """Trained beside the network, by their names in the checkpoint."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer beside the network's own."""
        return []

    @abstractmethod
    def start_from(self, name_or_path: str) -> None:
        """Begin with the weights of another prior."""

    @abstractmethod
    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise levels or times of a batch, ``(count,)``."""

    @abstractmethod
    def backward(
        self,
        clean: Tensor,
        noise: Tensor,
        levels: Tensor,
        labels: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """The loss of a batch, a detached scalar; the gradients are added to the parameters.

        Args:
            clean: ``(batch, *shape)`` in data units.
            noise: standard normal, ``(batch, *noise_shape)``.
            levels: from `draw_levels`.
            labels: classes ``(batch,)`` of a conditional network.
            generator: of any further random numbers.
        """

    def restored(self) -> None:  # noqa: B027  (most tasks have nothing to do)
        """Called when the trained state has been loaded, of the network and of the extras."""

    @abstractmethod
    def finish(self, any_size: bool) -> None:
        """Give the trained prior the range and form in which it is used.

        Args:
            any_size: whether what it was trained on looks alike in larger images.
        """

    @abstractmethod
    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Write the prior's file; `settings` completes its header."""

    @abstractmethod
    def sections(self) -> Sections:
        """What the card says of this kind of prior."""


class TemplateTask(Task):
    """A denoiser on the template: noise levels of a fixed distribution, weighted squared errors."""

    def __init__(self, config: TrainingConfig, shape: tuple[int, ...], classes: int):
        self._config, self._weight = config, WEIGHTS[config.weight]
        self.levels = self._levels()
        table = self.levels.table() if isinstance(self.levels, Timesteps) else None
        self.noise_shape = shape
        self.prior = NetworkPrior(
            fresh_unet(config, shape[0], classes),
            config.parameterization,
            shape=shape,
            timesteps=table,
            offset=config.offset,
            scale=config.scale,
            sigma_data=config.sigma_data,
            sigma_min=self.levels.sigma_min * config.scale,
            sigma_max=self.levels.sigma_max * config.scale,
        )

    def _levels(self) -> NoiseLevels:
        return NOISE_LEVELS[self._config.noise_levels]

    def start_from(self, name_or_path: str) -> None:
        start_from(self.prior.module, name_or_path, self._config.parameterization)

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        return self.levels.sample(count, generator)

    def backward(
        self,
        clean: Tensor,
        noise: Tensor,
        levels: Tensor,
        labels: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        prior = self.prior if labels is None else given(self.prior, labels)
        with reduced_precision(self._config, clean):
            loss = denoising_loss(prior, clean, noise, levels, self._weight).mean()
        self.scaler.scale(loss).backward()
        return loss.detach()

    def finish(self, any_size: bool) -> None:
        config, prior = self._config, self.prior
        prior.fully_convolutional = any_size and not config.attention
        low, high = (sigma * config.scale for sigma in _SIGMA_RANGE)
        prior.sigma_min = max(low, self.levels.sigma_min * config.scale)
        prior.sigma_max = min(high, self.levels.sigma_max * config.scale)

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        save_prior(path, self.prior, settings)

    def sections(self) -> Sections:
        config, prior = self._config, self.prior
        low, middle, high = (
            quantile * config.scale for quantile in quantiles(self.levels, (0.01, 0.5, 0.99))
        )
        larger = "yes" if prior.fully_convolutional else "no"
        return Sections(
            introduction=f"A denoiser of {prior.shape} images in [0, 1].  Larger images: {larger}.",
            noise_levels=f"""## Noise levels

Trained on `{config.noise_levels}`: 1 %, 50 % and 99 % quantiles of sigma are {low:.4f},
{middle:.3f} and {high:.2f} in data units.  Samplers use {prior.sigma_min:.4f} to
{prior.sigma_max:.1f}.""",
            loss="weighted squared error",
        )


class LearnedLevelsTask(TemplateTask):
    """A denoiser and its noise schedule, both on the variational bound."""

    levels: LearnedLevels

    def _levels(self) -> NoiseLevels:
        if self._config.weight != "inverse-square":
            raise ValueError(
                "train(noise_levels='learned'): the schedule is learned on the variational bound, "
                f"whose weight is 'inverse-square'; got weight={self._config.weight!r}"
            )
        if self._config.precision == "fp16":
            raise ValueError(
                "train(noise_levels='learned', precision='fp16'): the schedule's own gradients are "
                "not scaled; use precision='bf16'"
            )
        return LearnedLevels()

    def extras(self) -> dict[str, nn.Module]:
        return {"levels": self.levels}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.levels.parameters()), "lr": _LEVELS_RATE}]

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        return even_times(count, generator)

    def backward(
        self,
        clean: Tensor,
        noise: Tensor,
        levels: Tensor,
        labels: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        with reduced_precision(self._config, clean):
            return descend(self.prior, self.levels, clean, noise, levels, labels)

    def restored(self) -> None:
        scale = self._config.scale
        self.prior.sigma_min = self.levels.sigma_min * scale
        self.prior.sigma_max = self.levels.sigma_max * scale

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """The learned schedule goes beside the prior, as a table for `schedules.from_table`."""
        super().save(path, settings)
        content = io.BytesIO()
        np.save(content, self.levels.table() * self._config.scale)
        replace(path.with_suffix(".schedule.npy"), content.getvalue())


# (settings, shape of an image, number of classes) -> the task of a forward process, by its name.
PROCESSES: dict[str, Callable[[TrainingConfig, tuple[int, ...], int], Task]] = {}


def task_of(config: TrainingConfig, shape: tuple[int, ...], classes: int) -> Task:
    """A fresh network for images of `shape`, and how it is trained.

    Raises:
        ValueError: settings that do not go together.
    """
    if config.process:
        if config.process not in PROCESSES:
            raise ValueError(
                f"train(process={config.process!r}): choose one of {', '.join(sorted(PROCESSES))}, "
                "or leave it out for a network of one noise level"
            )
        return PROCESSES[config.process](config, shape, classes)
    kind = LearnedLevelsTask if config.noise_levels == "learned" else TemplateTask
    return kind(config, shape, classes)


def reduced_precision(config: TrainingConfig, clean: Tensor) -> torch.autocast:
    """The context of a forward pass: half the digits where the settings ask for it."""
    return reduced(config.precision, clean.device)

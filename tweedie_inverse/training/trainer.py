"""Train a network on the template, with an exponential average of its weights; resumable.

Every batch is fixed by its step number, so a run that was stopped and resumed sees the same data
as one that was not.
"""

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..guidance import given
from ..priors.network import NetworkPrior, Parameterization
from ..priors.networks import UNet
from ..priors.phase_space import PhaseSpaceNetwork
from .data import Dataset, dataset
from .digits import Digits
from .learned_noise import LearnedLevels, descend, even_times
from .noise_levels import NOISE_LEVELS, NoiseLevels, Timesteps
from .objective import WEIGHTS, denoising_loss
from .phase_space import build_phase_prior, phase_loss
from .start import start_from

# Of the learned schedule, whose few numbers need larger steps than the network's weights.
_LEVELS_RATE = 1e-2


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training run; stored in the checkpoint and on the card.

    A `conditional` network is told the class of an image, but for a share `label_dropout` of them,
    where it learns the unconditional denoiser that classifier-free guidance needs too.

    `noise_levels` "learned" trains the schedule too, and the network on the variational bound,
    which is the weight "inverse-square".

    `process` "psld", "cld" or "vp" trains in phase space, on the noise of position and momentum, by
    `objective` "hsm" or "dsm"; `gamma` and `nu` (0 is 4 + gamma) are the process's.
    `parameterization`, `noise_levels` and `weight` then have no say.

    `start` names a prior, shipped or a file, whose weights the run starts from; `first_image` is
    the seed of the first image, to go on with images that the other run has not seen.

    `steps` may be raised on resuming: the rate is constant after a warm-up and falls to zero over
    the last `cooldown` share of the steps.
    """

    data: str = "phantoms"
    size: int = 64
    steps: int = 5000
    batch: int = 32
    parameterization: Parameterization = "edm"
    noise_levels: str = "log-normal-wide"
    weight: str = "edm"
    rate: float = 1e-3
    warmup: int = 100
    cooldown: float = 0.3
    average: float = 0.999
    offset: float = 0.5
    scale: float = 0.5
    sigma_data: float = 0.5
    widths: tuple[int, ...] = (32, 64, 128, 160)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    attention: bool = False
    bfloat16: bool = False
    conditional: bool = False
    label_dropout: float = 0.1
    process: str = ""
    gamma: float = 0.01
    nu: float = 0.0
    objective: Literal["hsm", "dsm"] = "hsm"
    start: str = ""
    first_image: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """One report of `train`: averages since the last report."""

    step: int
    loss: float
    seconds: float


def build_prior(config: TrainingConfig) -> NetworkPrior | PhaseSpaceNetwork:
    """A fresh network in its parameterization or process, for the data set of `config`."""
    images = dataset(config.data, config.size)
    shape, classes = images.shape, _classes(config, images)
    if config.process:
        return build_phase_prior(config, shape, classes)
    levels = build_levels(config)
    table = levels.table() if isinstance(levels, Timesteps) else None
    with torch.random.fork_rng(devices=[]):  # initial weights, without touching the global state
        torch.manual_seed(config.seed)
        network = UNet(
            shape[0], config.widths, config.blocks, classes=classes, attention=config.attention
        )
    return NetworkPrior(
        network,
        config.parameterization,
        shape=shape,
        timesteps=table,
        offset=config.offset,
        scale=config.scale,
        sigma_data=config.sigma_data,
        sigma_min=levels.sigma_min * config.scale,
        sigma_max=levels.sigma_max * config.scale,
    )


def build_levels(config: TrainingConfig) -> NoiseLevels:
    """The distribution of noise levels; a learned one as it begins."""
    if config.noise_levels != "learned":
        return NOISE_LEVELS[config.noise_levels]
    if config.weight != "inverse-square":
        raise ValueError(
            "train(noise_levels='learned'): the schedule is learned on the variational bound, "
            f"whose weight is 'inverse-square'; got weight={config.weight!r}"
        )
    return LearnedLevels()


def _classes(config: TrainingConfig, images: Dataset) -> int:
    """Of a conditional network; 0 for another."""
    if not config.conditional:
        return 0
    if not isinstance(images, Digits):
        raise ValueError(
            f"train(conditional=True): the images of data={config.data!r} have no classes; "
            "data='digits' has"
        )
    return images.classes


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Warm-up, constant, linear cool-down."""
    remaining = (config.steps - step) / max(1.0, config.cooldown * config.steps)
    return config.rate * min(1.0, (step + 1) / config.warmup, remaining)


def train(
    config: TrainingConfig,
    folder: str | Path,
    *,
    device: str = "cpu",
    report_every: int = 50,
    save_every: int = 250,
) -> Iterator[Progress]:
    """Train until `config.steps`, yielding progress; resumes from `folder` where it holds a run.

    The loop belongs to the caller: stop consuming and the last checkpoint stays usable.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    prior = build_prior(config)
    network = prior.module.to(device).to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.average)
    )
    levels = build_levels(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.rate, betas=(0.9, 0.99))
    if isinstance(levels, LearnedLevels):
        levels.to(device)
        optimizer.add_param_group({"params": list(levels.parameters()), "lr": _LEVELS_RATE})
    step, history, spent = 0, [], 0.0
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        _refuse_other_run(json.loads(state["config"]), config, checkpoint)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        if isinstance(levels, LearnedLevels):
            levels.load_state_dict(state["levels"])
        step, history, spent = state["step"], state["history"], state["seconds"]
    elif config.start:
        start_from(network, config.start, config.parameterization)
        average.module.load_state_dict(network.state_dict())
    images = dataset(config.data, config.size)
    weight, losses, begin = WEIGHTS[config.weight], [], time.monotonic()
    while step < config.steps:
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        first = config.first_image + step * config.batch
        seeds = range(first, first + config.batch)
        clean = images.images(seeds).to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        draws = _draw_levels(levels, config.batch, generator).to(device)
        labels = None
        if config.conditional:
            labels = dropped_labels(config, images, seeds, generator).to(device)
        optimizer.param_groups[0]["lr"] = learning_rate(config, step)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.bfloat16):
            if isinstance(prior, PhaseSpaceNetwork):
                loss = phase_loss(prior, clean, labels, generator)
            elif isinstance(levels, LearnedLevels):
                loss = descend(prior, levels, clean, noise, draws, labels)
            else:
                asked = prior if labels is None else given(prior, labels)
                loss = denoising_loss(asked, clean, noise, draws, weight).mean()
        if loss.requires_grad:
            loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if not bool(norm.isfinite()):
            raise FloatingPointError(
                f"train: the gradient became {float(norm)} at step {step}. Lower rate= (now "
                f"{config.rate}); the checkpoint {checkpoint} of the last good step is kept"
            )
        optimizer.step()
        average.update_parameters(network)
        step += 1
        losses.append(loss.item())
        if step % report_every == 0 or step == config.steps:
            seconds = spent + time.monotonic() - begin
            report = Progress(step, sum(losses) / len(losses), seconds)
            history.append([report.step, report.loss])
            losses = []
            if step % save_every == 0 or step == config.steps:
                trained = {"network": network, "average": average, "optimizer": optimizer}
                if isinstance(levels, LearnedLevels):
                    trained["levels"] = levels
                _save(checkpoint, config, trained, step, history, seconds)
            yield report


def dropped_labels(
    config: TrainingConfig, images: Dataset, seeds: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Classes ``(batch,)``; a share `label_dropout` of them is "any class"."""
    assert isinstance(images, Digits)
    dropped = torch.rand(len(seeds), generator=generator) < config.label_dropout
    return torch.where(dropped, images.classes, images.labels(seeds))


def load_trained(
    folder: str | Path,
) -> tuple[NetworkPrior | PhaseSpaceNetwork, TrainingConfig, dict]:
    """The averaged network of a run as a prior, its settings, and its record.

    The record holds step, loss history, seconds, and the distribution of noise levels.
    """
    state = torch.load(Path(folder) / "checkpoint.pt", map_location="cpu", weights_only=True)
    settings = json.loads(state["config"])
    for name in ("widths", "blocks"):
        settings[name] = tuple(settings[name])
    config = TrainingConfig(**settings)
    prior = build_prior(config)
    weights = {
        name.removeprefix("module."): value
        for name, value in state["average"].items()
        if name.startswith("module.")
    }
    prior.module.load_state_dict(weights)
    prior.module.eval().requires_grad_(False)
    levels = build_levels(config)
    if isinstance(levels, LearnedLevels):
        levels.load_state_dict(state["levels"])
        prior.sigma_min, prior.sigma_max = (
            sigma * config.scale for sigma in (levels.sigma_min, levels.sigma_max)
        )
    record = {name: state[name] for name in ("step", "history", "seconds")}
    record["levels"] = levels
    return prior, config, record


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


def _draw_levels(levels: NoiseLevels, count: int, generator: torch.Generator) -> Tensor:
    """Noise levels ``(count,)``; times, where the levels are learned."""
    if isinstance(levels, LearnedLevels):
        return even_times(count, generator)
    return levels.sample(count, generator)


def _save(checkpoint: Path, config, trained: dict, step: int, history: list, seconds) -> None:
    """Write beside, then rename: a run killed while saving keeps its last checkpoint."""
    state = {
        "config": json.dumps(dataclasses.asdict(config)),
        **{name: part.state_dict() for name, part in trained.items()},
        "step": step,
        "history": history,
        "seconds": seconds,
    }
    beside = checkpoint.with_suffix(".tmp")
    torch.save(state, beside)
    os.replace(beside, checkpoint)

"""From a finished run in phase space to a prior file and its card."""

import dataclasses
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..priors.formats.phase_native import save_phase_prior
from ..priors.measure_error import measure_denoising_error
from ..priors.phase_space import PhaseSpaceNetwork
from .data import held_out
from .phase_space import TIME_TRAINED
from .seeds import HELD_OUT_SEED

if TYPE_CHECKING:
    from .trainer import TrainingConfig

# Largest noise level of posterior walks, in network units: x0 = x - sigma epsilon amplifies the
# error of the predicted noise.
SIGMA_MAX = 20.0
_EVALUATED = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_LICENCE = "BSD-3-Clause (weights)"
# Settings of the trainer that have no say here.
_OTHERS = ("parameterization", "noise_levels", "weight", "sigma_data", "start")


def export_phase_prior(
    prior: PhaseSpaceNetwork,
    config: "TrainingConfig",
    record: dict,
    path: Path,
    *,
    count: int = 512,
) -> Path:
    """Write `path` and the card beside it; returns `path`.

    Cost: `count` network evaluations for each of 24 levels, and 128 for the evaluation.
    """
    images = held_out(config.data, config.size, count)
    prior.name, prior.centre = path.stem, float(images.mean())
    prior.sigma_max = min(prior.sigma_max, SIGMA_MAX * config.scale)
    prior.consistent = True  # it leaves x0 as it is, and samplers with few steps need it
    prior.error = measure_denoising_error(prior, images)
    settings = {
        "widths": config.widths,
        "blocks": config.blocks,
        "attention": config.attention,
        "classes": prior.module.classes,
        "data": f"{config.data} at {config.size}x{config.size}",
        "licence": _LICENCE,
        "value_range": (0.0, 1.0),
    }
    save_phase_prior(path, prior, settings)
    path.with_suffix(".md").write_text(_card(prior, config, record, images[:128]))
    return path


@torch.no_grad()
def _denoising_table(prior: PhaseSpaceNetwork, images: Tensor) -> str:
    rows = ["| sigma | time | noisy, dB | denoised, dB |", "|---|---|---|---|"]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    for sigma in _EVALUATED:
        noisy = images + sigma * noise
        before, after = (
            float(-10 * (image - images).square().mean(dim=(1, 2, 3)).log10().mean())
            for image in (noisy, prior.denoise(noisy, sigma))
        )
        time = float(prior.process.time_of(sigma / prior.scale))
        rows.append(f"| {sigma} | {time:.4f} | {before:.2f} | {after:.2f} |")
    return "\n".join(rows)


def _card(prior: PhaseSpaceNetwork, config: "TrainingConfig", record: dict, images: Tensor) -> str:
    process = prior.process
    stride = max(1, len(record["history"]) // 12)
    history = record["history"][stride - 1 :: stride]
    settings = "\n".join(
        f"| {k} | {v} |" for k, v in dataclasses.asdict(config).items() if k not in _OTHERS
    )
    curve = "\n".join(f"| {step} | {loss:.4f} |" for step, loss in history)
    parameters = sum(p.numel() for p in prior.module.parameters())
    classes = prior.module.classes
    told = (
        f"It can be told one of {classes} classes (`ti.guidance.given(prior, label)`); without\n"
        f"one it draws from all of them: labels were left out {config.label_dropout:.0%} of the "
        "time."
        if classes
        else "It knows no classes."
    )
    matrices = "\n".join(
        f"| {letter} | {matrix.tolist()} |"
        for letter, matrix in (
            ("D", process.diffusion),
            ("Q", process.rotation),
            ("S", process.stationary),
            ("covariance at t = 0 given the image", process.initial),
        )
    )
    return f"""# {prior.name}

A phase-space prior of {prior.shape} images in [0, 1]: a prediction of the noise of position and
momentum, {parameters / 1e6:.2f} million parameters, stored in half precision.

{told}

## Data

{config.data} at {config.size}x{config.size}.  Seeds of the training images: {config.first_image} to
{config.first_image + record["step"] * config.batch - 1}; held out: seeds from {HELD_OUT_SEED} on.

## Process

`{process.name}` with beta from {process.rate.first} to {
        process.rate.last
    }; per pixel, in network units
`(x - {prior.offset}) / {prior.scale}`:

| matrix | value |
|---|---|
{matrices}

The part of the predicted noise that the state determines is replaced by what it is
(`consistent`).

## Noise levels

Trained for times from {TIME_TRAINED} to 1; samplers end at {prior.time_min}.  Posterior walks use
effective levels from {prior.sigma_min:.4f} to {prior.sigma_max:.1f} in data units.

## Denoising on held-out images

PSNR, mean over {len(images)} images (mean pixel {
        float(images.mean()):.3f}), with the linear correction
that was fitted together with the denoising error on these and further held-out images.

{_denoising_table(prior, images)}

The denoising error is measured on held-out images, as variances in a 2-D cosine basis at 24 noise
levels, and stored with the weights.

## Training

{record["step"]} steps in {record["seconds"] / 60:.0f} minutes on one thread of a {
        platform.machine()
    } CPU.

| setting | value |
|---|---|
{settings}

Loss (mean squared error of the predicted noise, average of 50 steps):

| step | loss |
|---|---|
{curve}

## Licence

{_LICENCE}.
"""

"""From a finished training run to a prior file and its card: measure, then write both."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count as whole
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.error import Form
from tweedie_inverse.priors.error.measure import measure_denoising_error
from tweedie_inverse.runtime.atomic import ready, replace
from tweedie_inverse.training.checkpoint import Trained, load_run
from tweedie_inverse.training.images import TrainingImages, generated_images
from tweedie_inverse.training.own import own_images

_EVALUATED = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_SHOWN = 128  # held-out images in the card's table
# A spectrum with a variance for every frequency needs so many images, one for rows and one for
# columns so many, else there is one for the length of the frequency.
_FULL, _SEPARABLE = 100, 30


def ready_to_export(folder: str | Path, name: str, images: int) -> None:
    """Check before a run what `export` will need after it, and that its files can be written.

    Raises:
        ValueError: no image to measure on, a name that is no file's, or no place to write.
    """
    whole("train", "held_out", images)
    if not name or name != Path(name).name:
        raise ValueError(
            f"train(name={name!r}): needs a name without folders, of the files in {folder}"
        )
    path = prior_file(folder, name)
    ready(path, path.with_suffix(".md"))


def prior_file(folder: str | Path, name: str) -> Path:
    """Where `export` writes the prior."""
    return Path(folder) / f"{name}.safetensors"


def export(
    folder: str | Path,
    name: str,
    *,
    count: int = 512,
    images: TrainingImages | None = None,
    licence: str = "",
    device: str = "cpu",
) -> Path:
    """Write ``<folder>/<name>.safetensors`` and ``.md``; returns the path of the first.

    A learned schedule goes beside them as ``<name>.schedule.npy``, a table in data units for
    `schedules.from_table`.

    Args:
        count: held-out images that the denoising error is measured on, or as many as there are.
        images: that the run was trained on; default those that its settings name.
        licence: of the weights, for the card.
        device: to measure on.

    Cost: `count` network evaluations for each of 24 levels, and 128 for the evaluation.

    Raises:
        ValueError: as of `ready_to_export`; there is no run, or its checkpoint is damaged.
    """
    ready_to_export(folder, name, count)
    run = load_run(folder)
    config, prior = run.config, run.task.prior
    images = _images_of(run, folder) if images is None else images
    held_out = images.held_out(count)
    prior.name, prior.centre = name, float(held_out.mean())
    run.task.finish(images.any_size)
    prior.module.to(device)
    held_out = held_out.to(device)
    prior.error = measure_denoising_error(prior, held_out, form=form_for(images, len(held_out)))
    text = card(run, images, held_out, images.licence(licence))
    prior.module.to("cpu")
    settings = {
        "widths": config.widths,
        "blocks": config.blocks,
        "attention": config.attention,
        "classes": prior.module.classes,
        "data": images.in_short(),
        "licence": images.licence(licence),
        "value_range": (0.0, 1.0),
    }
    path = prior_file(folder, name)
    run.task.save(path, settings)
    replace(path.with_suffix(".md"), text.encode())
    return path


def _images_of(run: Trained, folder: str | Path) -> TrainingImages:
    """The images that a run was trained on, found again.

    Raises:
        ValueError: they were in memory, or have changed.
    """
    known, config = run.record["images"], run.config
    if not known:
        return generated_images(config)
    if not Path(config.data).is_dir():
        raise ValueError(
            f"export: the images of the run in {folder} ({known['statement'][0]}) are not there "
            "any more; give them as images="
        )
    images = own_images(config.data, config, folder)
    if images.record()["checksum"] != known["checksum"]:
        raise ValueError(
            f"export: the images in {config.data} have changed since the run in {folder}"
        )
    return images


def form_for(images: TrainingImages, count: int) -> Form:
    """The finest spectrum that so many different images can tell."""
    different = min(count, images.held or count)
    if different >= _FULL:
        return "full"
    return "separable" if different >= _SEPARABLE else "radial"


@torch.no_grad()
def _denoising_table(prior: Prior, images: Tensor) -> str:
    rows = ["| sigma | noisy, dB | denoised, dB |", "|---|---|---|"]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    for sigma in _EVALUATED:
        noisy = images + sigma * noise
        before, after = (
            float(psnr(seen, images).mean()) for seen in (noisy, prior.denoise(noisy, sigma))
        )
        rows.append(f"| {sigma} | {before:.2f} | {after:.2f} |")
    return "\n".join(rows)


def card(run: Trained, images: TrainingImages, held_out: Tensor, licence: str) -> str:
    """What a user must know about a prior, in markdown."""
    config, record, prior = run.config, run.record, run.task.prior
    sections, shown = run.task.sections(), held_out[:_SHOWN]
    parameters = sum(p.numel() for p in prior.module.parameters())
    last = config.first_image + record["step"] * config.batch - 1
    colour = " of decorrelated colour channels" if prior.shape[0] > 1 else ""
    # Only the name of a file: a card travels, the folder does not.
    start, data = Path(config.start).stem, Path(config.data).name
    plain = dataclasses.replace(config, start=start, data=data)
    rows = dataclasses.asdict(plain)
    del rows["steps" if config.minutes else "minutes"]  # a run ends by one of them
    settings = "\n".join(f"| {k} | {v} |" for k, v in rows.items())
    stride = max(1, len(record["history"]) // 12)
    history = record["history"][stride - 1 :: stride]
    curve = "\n".join(f"| {step} | {loss:.4f} |" for step, loss in history)
    of_images = f" (crops of {min(images.held, len(held_out))} images)" if images.held else ""
    warning = record["checks"][-1]["warning"] if record["checks"] else ""
    warning = f"\nWarning of the run's end: {warning}.\n" if warning else ""
    return f"""# {prior.name}

{sections.introduction}

{parameters / 1e6:.2f} million parameters, stored in half precision.  {_classes(run)}

## Data

{images.provenance(config.first_image, last)}
{sections.noise_levels}

## Denoising on held-out images

PSNR, mean over {len(shown)} images (mean pixel {float(shown.mean()):.3f}), with the linear
correction that was fitted together with the denoising error on
{len(held_out)} held-out images{of_images}, these among them.
{warning}
{_denoising_table(prior, shown)}

The denoising error is measured on held-out images, as variances in a 2-D cosine basis{colour}
at 24 noise levels, and for places of every contrast; both are stored with the weights.

## Training

{record["step"]} steps in {record["seconds"] / 60:.0f} minutes on {record["machine"]};
precision of the passes: {config.precision}.

| setting | value |
|---|---|
{settings}

Loss ({sections.loss}, average of 50 steps):

| step | loss |
|---|---|
{curve}

## Licence

{licence}.  Not for diagnosis{"" if record["images"] else ": the phantoms are not anatomy"}.
"""


def _classes(run: Trained) -> str:
    classes = run.task.prior.module.classes
    if not classes:
        return "The network knows no classes."
    return (
        f"The network takes one of {classes} classes (`ti.guidance.given(prior, label)`); without "
        f"one it draws from all of them: labels were left out {run.config.label_dropout:.0%} of "
        "the time."
    )

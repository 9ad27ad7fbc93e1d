"""`train`: a prior from one's own images, in one call."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tweedie_inverse.boundary.arguments import flag, instance
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.zoo import load_prior
from tweedie_inverse.runtime.devices import usable
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.export import ready_to_export
from tweedie_inverse.training.own import AUTO, own_images, start_of
from tweedie_inverse.training.session import CHECK_EVERY, complete
from tweedie_inverse.training.start import fitted_to_start
from tweedie_inverse.training.team import device_in_team, join_team, leave_team


def train(
    images: Any,
    out: str | Path,
    *,
    start: str | None = AUTO,
    size: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    value_range: tuple[float, float] | None = None,
    device: str = "cpu",
    seed: int | None = None,
    name: str | None = None,
    licence: str = "",
    held_out: int = 512,
    config: TrainingConfig | None = None,
    progress: bool = True,
) -> Prior:
    """Train a prior on images of one's own, or go on with the run in `out`; returns the prior.

    A tenth of the images is held out: on them the denoising error is measured, which the walks
    use, and during the run whether the network still learns (samples.png and loss.png in `out`).
    The prior's data units are [0, 1], whatever the files' own; the card beside it says how these
    are mapped.

    Example::

        prior = ti.train("folder/of/images", "runs/mine", minutes=50)

    Args:
        images: the path of a folder, read with the folders below it (PNG, JPEG, TIFF, DICOM,
            NIfTI, FITS, HDF5, npz, npy); a tensor or array ``(n, channels, height, width)`` or
            ``(n, height, width)`` with 1 or 3 channels; or a `torch.utils.data.Dataset` whose items
            are images ``(channels, height, width)`` or begin with one.
        out: the folder of the run: checkpoint, prior file and card, pictures.
        start: the prior whose weights are the start: a shipped name, a file of this package, None
            for random ones.  Default: texture-64 for grey images, photo-64 for colour.
        size: pixels along a side of the random crops, 64.
        steps: of training, 5000; or `minutes`, after which the run ends, the measurement at its
            end not counted.
        batch: images a step, 32; of all processes together under torchrun.
        value_range: the values that become 0 and 1; found and printed where it is None.
        device: such as "cuda".
        seed: of the held-out images, crops, noise and first weights, 0.
        name: of the prior; default that of the folder.
        licence: of the weights, for the card.
        held_out: crops that the denoising error is measured on, or as many as there are; one
            network evaluation each for 24 noise levels.
        config: all other settings; the arguments above come before it.
        progress: print what was found, and show a bar.

    Raises:
        TypeError, ValueError: a wrong argument, images that cannot be trained on (the message says
            what to do), a run of other settings or images in `out`; before any training.
    """
    me = "train"
    folder = checked_path(me, "out", out)
    config = TrainingConfig() if config is None else config
    instance(me, "config", config, TrainingConfig, need="a TrainingConfig")
    progress = flag(me, "progress", progress)
    if steps is not None and minutes is not None:
        raise ValueError(f"train(steps={steps}, minutes={minutes}): give one of them")
    given = {"size": size, "steps": steps, "minutes": minutes, "batch": batch, "seed": seed}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if steps is not None:
        changes["minutes"] = 0.0
    if value_range is not None:
        changes["value_range"] = tuple(value_range)
    is_folder = isinstance(images, str | os.PathLike)
    changes["data"] = str(images) if is_folder else "own images"
    wanted = start if start != AUTO or not config.start else config.start
    config = replace(config, start="", **changes)
    device = usable(device_in_team(device), me)
    name = folder.resolve().name if name is None else name
    ready_to_export(folder, name, held_out)
    found = own_images(images, config, folder)
    config = replace(config, start=start_of(wanted, found.shape[0]))
    config = fitted_to_start(config, found.shape[0])
    team = join_team(device)
    if progress and team.leads:
        print("\n".join([*found.statement(), f"start: {config.start or 'random weights'}"]))
    path = complete(
        config,
        folder,
        name,
        images=found,
        device=device,
        held_out=held_out,
        licence=licence,
        check_every=CHECK_EVERY,
        team=team,
        progress=progress,
    )
    leave_team(team)
    return load_prior(path, device=device)

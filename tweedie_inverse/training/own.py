"""The user's own images as a run asks for them, from whatever they come in."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tweedie_inverse.datasets.own.arrays import Array, TorchDataset, one_array
from tweedie_inverse.datasets.own.folder import Folder, known_facts
from tweedie_inverse.datasets.own.images import OwnImages
from tweedie_inverse.datasets.own.preparation import Preparation, Source
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.images import INDEX, Own

# The shipped priors to start from, by the number of channels; their networks take images of any
# size, and have the default widths and blocks.
_STARTS = {1: "texture-64", 3: "photo-64"}
AUTO, NONE = "auto", "none"


def own_images(
    images: Any,
    config: TrainingConfig,
    folder: str | Path,
    told: Callable[[int, int], None] | None = None,
) -> Own:
    """A folder's path, an array, or a torch data set, prepared as the settings say.

    Args:
        folder: of the run; what it knows of the files from an earlier time is used.
        told: as of `Folder`.

    Raises:
        FileNotFoundError, TypeError, ValueError: nothing that can be trained on; the reason.
    """
    source: Source
    if isinstance(images, str | os.PathLike):
        by_folder = config.held_out_by == "folder"
        known = known_facts(Path(folder) / INDEX)
        source = Folder(Path(images), known=known, by_folder=by_folder, told=told)
    elif config.held_out_by == "folder":
        raise ValueError("train(held_out_by='folder'): images that are not in files have no folder")
    else:
        source = Array(images) if one_array(images) else TorchDataset(images)
    low_high = config.value_range
    preparation = Preparation(
        size=config.size,
        resize=config.resize,
        colours=config.colours,
        value_range=(low_high[0], low_high[1]) if low_high else None,
        flips=config.flips,
        rotations=config.rotations,
        held_out_share=config.held_out_share,
        seed=config.seed,
    )
    return Own(OwnImages(source, preparation))


def start_of(asked: str | None, channels: int) -> str:
    """The prior whose weights a run starts from; "auto" is the shipped one that fits, "" none.

    Raises:
        ValueError: there is none for so many channels.
    """
    if asked in (None, "", NONE):
        return ""
    if asked != AUTO:
        return str(asked)
    if channels not in _STARTS:
        raise ValueError(
            f"train(start='auto'): no shipped prior has {channels} channels; say start=None "
            "(--start none)"
        )
    return _STARTS[channels]

"""Three sections through the middle of volumes, side by side."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

_PLANES = ("axial", "coronal", "sagittal")


def sections(volume: Tensor) -> list[Tensor]:
    """Axial, coronal and sagittal, ``(height, width)``, of ``(1, depth, height, width)``."""
    middle = [n // 2 for n in volume.shape[1:]]
    return [volume[0].select(axis, place) for axis, place in enumerate(middle)]


def draw_sections(volumes: Mapping[str, Tensor], path: Path, ratio: float) -> None:
    """A column for each volume, a row for each plane, on one grey scale from 0 to 1.

    Args:
        volumes: ``(1, depth, height, width)`` each, by title.
        ratio: distance of slices over the side of a pixel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _, depth, height, width = next(iter(volumes.values())).shape
    tall = depth * ratio
    heights = [height, tall, tall]
    scale = 2.2 / width
    size = (2.3 * len(volumes) + 0.2, scale * sum(heights) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(volumes), squeeze=False, height_ratios=heights)
    for column, (title, volume) in enumerate(volumes.items()):
        for row, section in enumerate(sections(volume.cpu())):
            axis = axes[row, column]
            aspect = 1.0 if row == 0 else ratio
            axis.imshow(section.numpy(), cmap="gray", vmin=0, vmax=1, aspect=aspect, origin="upper")
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(_PLANES[row], fontsize=9)
        axes[0, column].set_title(title, fontsize=9, wrap=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)

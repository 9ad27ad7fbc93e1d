"""A figure that notebooks show by themselves, without pyplot and its global state.

matplotlib is imported here, and this file only by what draws.
"""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 110


class Picture(Figure):
    """A figure on a canvas of its own; ``_repr_png_`` is what IPython asks an object for."""

    def __init__(self, width: float, height: float):
        super().__init__(figsize=(width, height), dpi=_DPI)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        return self.png(_DPI)

    def png(self, dots: int) -> bytes:
        """The bytes of a PNG with so many dots an inch."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=dots)
        return file.getvalue()

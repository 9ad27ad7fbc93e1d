"""What a notebook offers: a display to draw on, and progress bars that fit."""

import sys
from importlib.util import find_spec
from typing import Any


def has_display() -> bool:
    """Whether a notebook shows what this process displays; nothing is imported to find out."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return getattr(shell, "kernel", None) is not None  # a terminal has none


def progress_bar(*arguments: Any, **settings: Any) -> Any:
    """A bar of tqdm: a widget in a notebook where ipywidgets is installed, else a line of text.

    `tqdm.auto` would warn in a notebook without ipywidgets; a line of text serves there as well.
    """
    if has_display() and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm.std import tqdm  # type: ignore[assignment]
    return tqdm(*arguments, **settings)

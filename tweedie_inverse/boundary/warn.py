"""Warnings that point at the user's own line, however deep in the package they are given."""

import sys
import warnings

_PACKAGE = __name__.split(".")[0]


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn the user, at the line of his own that called this package."""
    depth, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)

"""Forward processes from the complete recipe, and what their noised states tell of the image."""

from .instances import cld, psld, vp
from .observation import Observation
from .recipe import LinearProcess, Rate, Transition, act, from_sde

__all__ = [
    "LinearProcess",
    "Observation",
    "Rate",
    "Transition",
    "act",
    "cld",
    "from_sde",
    "psld",
    "vp",
]

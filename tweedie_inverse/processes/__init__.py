"""Forward processes from the complete recipe, and what their noised states tell of the image."""

from .instances import cld, psld, vp
from .observation import Observation
from .recipe import LinearProcess, Rate, Transition, act, from_sde
from .state_dependent import StateDependent

__all__ = [
    "LinearProcess",
    "Observation",
    "Rate",
    "StateDependent",
    "Transition",
    "act",
    "cld",
    "from_sde",
    "psld",
    "vp",
]

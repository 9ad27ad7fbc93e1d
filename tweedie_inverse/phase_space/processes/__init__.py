"""Forward processes from the complete recipe, and what their noised states tell of the image.

Laws only: no network and no walk.
"""

from tweedie_inverse.phase_space.processes.instances import cld, psld, vp
from tweedie_inverse.phase_space.processes.observation import Observation
from tweedie_inverse.phase_space.processes.recipe import (
    LinearProcess,
    Rate,
    Transition,
    act,
    from_sde,
)
from tweedie_inverse.phase_space.processes.state_dependent import StateDependent

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

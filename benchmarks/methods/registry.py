"""All methods by name, and the settings that `tune` may try; a line adds a method."""

from typing import Any

from tweedie_inverse.benchmarks.methods import baselines
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.methods.classical import PseudoInverse, Wiener
from tweedie_inverse.benchmarks.methods.ours import Decoupled, Langevin, Particle

METHODS: dict[str, Method] = {
    "decoupled": Decoupled(),
    "decoupled-20": Decoupled(evaluations=20),
    "isotropic": Decoupled(error="isotropic"),
    "langevin": Langevin(),
    "particle": Particle(),
    "dps": baselines.DPS(),
    "pigdm": baselines.PiGDM(),
    "moment-matching": baselines.MomentMatching(),
    "diffpir": baselines.DiffPIR(),
    "ddrm": baselines.DDRM(),
    "ula": baselines.ULA(),
    "pnp-hqs": baselines.PnP(),
    "pnp-admm": baselines.PnPADMM(),
    "tv": baselines.TotalVariation(),
    "wiener": Wiener(),
    "pseudo-inverse": PseudoInverse(),
}


# The settings that `tune` may try, eight combinations or more; a method without a line has none.
SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "decoupled": {"rho": (3.0, 5.0, 7.0, 10.0), "error": ("auto", "average")},
    "decoupled-20": {"rho": (3.0, 5.0, 7.0, 10.0), "error": ("auto", "average")},
    "isotropic": {"rho": (1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0)},
    "langevin": {"step_size": (0.02, 0.05, 0.1, 0.2, 0.38, 0.5, 0.65, 0.8)},
    "particle": {"path": ("tweedie", "wiener"), "correctors": (0, 1, 2, 3)},
    "dps": {"weight": (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)},
    "pigdm": {"weight": (0.1, 0.3, 0.6, 1.0), "conjugate_gradients": (3, 20)},
    "moment-matching": {"conjugate_gradients": (1, 2, 3, 5), "weight": (0.5, 1.0)},
    "diffpir": {"zeta": (0.0, 0.1, 0.3, 0.6, 1.0), "lambda_": (1.0, 3.0, 7.0, 15.0, 25.0)},
    "ddrm": {"eta": (0.5, 0.7, 0.85, 1.0), "etab": (0.5, 0.8, 1.0)},
    "ula": {"sigma": (0.01, 0.02, 0.05, 0.1), "step": (0.25, 0.5, 0.9)},
    "pnp-hqs": {"noise_factor": (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)},
    "pnp-admm": {"noise_factor": (0.35, 0.7, 1.0, 2.0), "first_sigma": (0.1, 49 / 255, 0.4)},
    "tv": {"weight": (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)},
}

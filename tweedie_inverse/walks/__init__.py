"""Conditional walks, unconditional recipes, and integrators that are more than a template step."""

from ..crowd import Crowd, Group
from .base import Info, Level, PopulationInfo, Walk
from .decoupled import Decoupled
from .integrators import INTEGRATORS, Churn, Coloured, Heun, Integrator, Multistep, Template
from .langevin import Langevin
from .particle import Particle
from .recipes import (
    PAPER_SETTINGS,
    RECIPES,
    Recipe,
    consistent,
    ddim,
    ddpm,
    ncsn,
    simple,
    uncertainty_of,
)
from .template import template_step

__all__ = [
    "INTEGRATORS",
    "PAPER_SETTINGS",
    "RECIPES",
    "Churn",
    "Coloured",
    "Crowd",
    "Decoupled",
    "Group",
    "Heun",
    "Info",
    "Integrator",
    "Langevin",
    "Level",
    "Multistep",
    "Particle",
    "PopulationInfo",
    "Recipe",
    "Template",
    "Walk",
    "consistent",
    "ddim",
    "ddpm",
    "ncsn",
    "simple",
    "template_step",
    "uncertainty_of",
]

"""Conditional walks, unconditional recipes, and integrators that are more than a template step.

A walk is a pure step between noise levels: it knows no concrete prior or operator, and no loop.
"""

from tweedie_inverse.walks.base import Info, Level, PopulationInfo, Walk
from tweedie_inverse.walks.communicator import Communicator, ProcessGroup, SingleProcess
from tweedie_inverse.walks.decoupled import Decoupled
from tweedie_inverse.walks.integrators import (
    INTEGRATORS,
    Churn,
    Coloured,
    Heun,
    Integrator,
    Multistep,
    Template,
)
from tweedie_inverse.walks.langevin import Langevin
from tweedie_inverse.walks.particle import Particle
from tweedie_inverse.walks.recipes import (
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
from tweedie_inverse.walks.template import template_step
from tweedie_inverse.walks.unknown import UnknownInstrument

__all__ = [
    "INTEGRATORS",
    "PAPER_SETTINGS",
    "RECIPES",
    "Churn",
    "Coloured",
    "Communicator",
    "Decoupled",
    "Heun",
    "Info",
    "Integrator",
    "Langevin",
    "Level",
    "Multistep",
    "Particle",
    "PopulationInfo",
    "ProcessGroup",
    "Recipe",
    "SingleProcess",
    "Template",
    "UnknownInstrument",
    "Walk",
    "consistent",
    "ddim",
    "ddpm",
    "ncsn",
    "simple",
    "template_step",
    "uncertainty_of",
]

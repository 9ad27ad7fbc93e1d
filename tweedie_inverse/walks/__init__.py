"""Conditional walks and unconditional recipes."""

from .base import Info, Level, Walk
from .decoupled import Decoupled
from .langevin import Langevin
from .recipes import RECIPES, Recipe
from .template import template_step

__all__ = ["RECIPES", "Decoupled", "Info", "Langevin", "Level", "Recipe", "Walk", "template_step"]

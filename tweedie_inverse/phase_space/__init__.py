"""Walks in phase space: unconditional samplers, guidance and inpainting by replacement."""

from . import grids
from .guidance import ClassifierGuided, PhaseClassifierFree, classifier_free
from .inpainting import Known
from .sampling import PhaseStep, sample, trajectory
from .steps import (
    GDDIM,
    SAMPLERS,
    AdaptiveFlow,
    Conjugate,
    EulerMaruyama,
    Sampler,
    SymmetricSplitting,
)

__all__ = [
    "GDDIM",
    "SAMPLERS",
    "AdaptiveFlow",
    "ClassifierGuided",
    "Conjugate",
    "EulerMaruyama",
    "Known",
    "PhaseClassifierFree",
    "PhaseStep",
    "Sampler",
    "SymmetricSplitting",
    "classifier_free",
    "grids",
    "sample",
    "trajectory",
]

"""Walks in phase space: unconditional samplers, guidance and inpainting by replacement."""

from . import grids
from .guidance import ClassifierGuided, PhaseClassifierFree, classifier_free, given
from .inpainting import Known
from .sampling import PhaseStep, sample, trajectory
from .steps import (
    GDDIM,
    SAMPLERS,
    Conjugate,
    EulerMaruyama,
    ProbabilityFlow,
    Sampler,
    SymmetricSplitting,
)

__all__ = [
    "GDDIM",
    "SAMPLERS",
    "ClassifierGuided",
    "Conjugate",
    "EulerMaruyama",
    "Known",
    "PhaseClassifierFree",
    "PhaseStep",
    "ProbabilityFlow",
    "Sampler",
    "SymmetricSplitting",
    "classifier_free",
    "given",
    "grids",
    "sample",
    "trajectory",
]

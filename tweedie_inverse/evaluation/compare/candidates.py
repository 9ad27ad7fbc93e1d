"""The candidates of a comparison: the one argument that is a list, each with a name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.named import prior_of
from tweedie_inverse.solving.origin import name_of
from tweedie_inverse.solving.setup import Run, prepare
from tweedie_inverse.walks.base import Walk


@dataclass(frozen=True)
class Candidate:
    """One way in which y may have been made."""

    name: str
    operator: Operator
    prior: Prior
    noise: NoiseModel | float | None


def candidates_of(y: Any, operator: Any, prior: Any, noise: Any) -> tuple[str, list[Candidate]]:
    """What is compared, in a word, and the candidates; priors by name are loaded where y is.

    Raises:
        ValueError: none or several of the arguments are lists, one is empty, or names are the same.
    """
    given = {"operator": operator, "prior": prior, "noise": noise}
    listed = [name for name, value in given.items() if _is_list(value)]
    if len(listed) != 1:
        found = "none is one" if not listed else f"{' and '.join(listed)} are"
        raise ValueError(
            "compare: needs a list or a dict of candidates for one of operator, prior and noise; "
            f"{found}. For combinations, list operators with a noise model each"
        )
    kind = listed[0]
    named = _named(kind, given[kind])
    if not named:
        raise ValueError(f"compare({kind}=): needs at least one candidate, got none")
    if len({name for name, _ in named}) < len(named):
        raise ValueError(f"compare({kind}=): two candidates have one name; give a dict of names")
    if kind != "prior":
        given["prior"] = prior_of("compare", prior, like=y)
    else:
        named = [
            (name, prior_of(f"compare: candidate {name!r}", value, like=y)) for name, value in named
        ]
    return kind, [Candidate(name, **{**given, kind: value}) for name, value in named]


def checked_runs(
    y: Any, candidates: Sequence[Candidate], walk: Walk, num_samples: int, steps: int | None
) -> list[Run]:
    """Every candidate's call of `solve`, checked; raises before the first walk.

    Raises:
        ValueError, TypeError: as of `solve`, with the candidate's name; candidates that observe
            different entries of y, whose densities are not of the same numbers.
    """
    runs: list[Run] = []
    for one in candidates:
        try:
            run = prepare(y, one.operator, one.prior, walk, num_samples, steps, 0, one.noise)
        except (ValueError, TypeError) as error:
            raise type(error)(f"compare: candidate {one.name!r}: {error}") from error
        if runs and not torch.equal(_seen(run), _seen(runs[0])):
            raise ValueError(
                f"compare: candidates {candidates[0].name!r} and {one.name!r} observe different "
                "entries of y, so that their densities cannot be compared. Leave out what one of "
                "them does not observe, by ops.Mask, from all"
            )
        runs.append(run)
    return runs


def _seen(run: Run) -> Tensor:
    """The observed entries, ``(*range_shape)``, boolean."""
    observed = run.operator.observed
    if observed is None:
        return torch.ones(run.operator.range_shape, dtype=torch.bool)
    return observed.cpu().expand(run.operator.range_shape)


def _is_list(value: Any) -> bool:
    if isinstance(value, np.ndarray | Tensor):
        return value.ndim == 1
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str)


def _named(kind: str, values: Any) -> list[tuple[str, Any]]:
    if isinstance(values, Mapping):
        return [(str(name), value) for name, value in values.items()]
    values = values.tolist() if isinstance(values, np.ndarray | Tensor) else list(values)
    names = [_name(kind, value) for value in values]
    if len(set(names)) < len(names):  # numbers tell apart what prints alike
        names = [f"{name} #{place}" for place, name in enumerate(names, 1)]
    return list(zip(names, values, strict=True))


def _name(kind: str, value: Any) -> str:
    """What a candidate of a list is called."""
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        return f"{kind} {float(value):g}"
    if isinstance(value, Prior):
        return name_of(value)
    return str(value) if isinstance(value, str | Path) else repr(value)
